//! The last use of each secret of a key, and the networks from which a key was used, on every store.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::get;
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::usage::{LastUsed, MAX_NETWORKS};
use apikey_runtime::{ApiKeyManager, Config, KeyId, Timestamp, api_key_required};
use apikey_test_support::PATIENCE;
use apikey_test_support::fleet::Fleet;
use apikey_test_support::http::Server;

const LEASE: Duration = Duration::from_millis(500);

const HOUR: Duration = Duration::from_secs(3_600);

const MINUTE: Duration = Duration::from_secs(60);

#[get("/plain")]
#[api_key_required]
async fn plain() -> &'static str {
    "in"
}

/// Creates a manager behind a proxy. It writes usage when that is read, and when it stops.
async fn start(fleet: &Fleet, clock: &Arc<ManualClock>, precision: &str) -> ApiKeyManager {
    let config = Config::builder()
        .store_timeout(PATIENCE)
        .usage_flush_interval(HOUR)
        .usage_retention(48 * HOUR)
        .usage_network_precision(precision)
        .trusted_proxies(["127.0.0.0/8"])
        .forwarded_header("X-Forwarded-For")
        .build();
    ApiKeyManager::builder()
        .config(config.unwrap())
        .shared_store(fleet.store())
        .clock(Arc::clone(clock) as Arc<dyn Clock>)
        .start()
        .await
        .unwrap()
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        app.service(plain);
    })
}

/// Uses a secret from an address. Returns the time.
async fn use_it(
    server: &Server,
    clock: &ManualClock,
    secret: &str,
    address: &str,
) -> Option<Timestamp> {
    clock.advance(MINUTE);
    let bearer = format!("Bearer {secret}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("X-Forwarded-For", address),
    ];
    let answer = server.get_with("/plain", &headers).await;
    assert_eq!(answer.status, 200);
    Some(clock.read().now)
}

/// Returns the last use, after each manager has written what it counted.
async fn last_used(managers: [&ApiKeyManager; 2], id: KeyId) -> LastUsed {
    managers[0].last_used(id).await.unwrap();
    managers[1].last_used(id).await.unwrap().unwrap()
}

fn text(network: Option<impl ToString>) -> Option<String> {
    network.map(|network| network.to_string())
}

#[actix_web::test]
async fn in_a_grace_the_last_uses_of_the_old_and_the_new_secret_are_told_apart() {
    for fleet in Fleet::every(LEASE).await {
        let name = fleet.name;
        let clock = Arc::new(ManualClock::starting_now());
        let one = start(&fleet, &clock, "24/48").await;
        let two = start(&fleet, &clock, "24/48").await;
        let both = [&one, &two];
        let (first, second) = (serve(&one), serve(&two));
        let old = one.create("a").await.unwrap();
        let (id, secret) = (old.id(), old.expose_secret());
        let before = use_it(&first, &clock, secret, "192.0.2.1").await;
        let used = last_used(both, id).await;
        assert_eq!((used.current_at, used.superseded_at), (before, None));

        // The new secret was not used: the last use is of the old one, before the rotation.
        let new = two.rotate(id).grace(48 * HOUR).await.unwrap();
        let used = last_used(both, id).await;
        assert_eq!(
            (used.current_at, used.superseded_at),
            (None, before),
            "{name}"
        );

        // Each is used at each node.
        for server in [&first, &second] {
            use_it(server, &clock, secret, "198.51.100.1").await;
            use_it(server, &clock, new.expose_secret(), "203.0.113.1").await;
        }
        let superseded = use_it(&first, &clock, secret, "198.51.100.7").await;
        let current = use_it(&second, &clock, new.expose_secret(), "203.0.113.7").await;
        let used = last_used(both, id).await;
        assert_eq!(
            (used.current_at, used.superseded_at),
            (current, superseded),
            "{name}"
        );
        assert_eq!(Some(used.at), current);
        assert_eq!(text(used.network).as_deref(), Some("203.0.113.0/24"));
        let of_old = text(used.superseded_network);
        assert_eq!(of_old.as_deref(), Some("198.51.100.0/24"), "{name}");

        // The old one may come last, and a clock that is set back takes nothing back.
        let superseded = use_it(&second, &clock, secret, "198.51.100.7").await;
        clock.step_wall(-7_200_000);
        use_it(&first, &clock, new.expose_secret(), "203.0.113.7").await;
        let used = last_used(both, id).await;
        assert!(used.current_at >= current, "{name}");
        assert!(used.superseded_at >= superseded, "{name}");
        let (current, superseded) = (used.current_at, used.superseded_at);

        // After the next rotation, the first secret is not one of the two.
        clock.step_wall(7_200_000);
        let newest = one.rotate(id).grace(48 * HOUR).await.unwrap();
        let used = last_used(both, id).await;
        assert_eq!(
            (used.current_at, used.superseded_at),
            (None, current),
            "{name}"
        );
        assert_eq!(Some(used.at), current.max(superseded));
        let current = use_it(&second, &clock, newest.expose_secret(), "192.0.2.1").await;
        let used = last_used(both, id).await;
        assert_eq!(used.current_at, current, "{name}");

        // A node that starts now reads the same, and a purge leaves nothing.
        let third = start(&fleet, &clock, "24/48").await;
        assert_eq!(third.last_used(id).await.unwrap(), Some(used), "{name}");
        assert_eq!(third.networks_of(id).await.unwrap().len(), 3, "{name}");
        one.revoke(id).await.unwrap();
        clock.advance(HOUR);
        one.purge(clock.read().now).await.unwrap();
        assert_eq!(third.last_used(id).await.unwrap(), None, "{name}");
        assert_eq!(third.networks_of(id).await.unwrap(), [], "{name}");
        for manager in [&one, &two, &third] {
            manager.shutdown().await.unwrap();
        }
    }
}

#[actix_web::test]
async fn the_latest_networks_of_a_key_are_kept_as_precisely_as_is_configured() {
    for fleet in Fleet::every(LEASE).await {
        let name = fleet.name;
        let clock = Arc::new(ManualClock::starting_now());
        let one = start(&fleet, &clock, "16/32").await;
        let two = start(&fleet, &clock, "16/32").await;
        let (first, second) = (serve(&one), serve(&two));
        let key = one.create("a").await.unwrap();
        let (id, secret) = (key.id(), key.expose_secret());
        let mut expected = Vec::new();
        for number in 0..30_u8 {
            let server = [&first, &second][usize::from(number % 2)];
            for host in [1, 2] {
                let address = Ipv4Addr::new(10, number, host, host).to_string();
                let at = use_it(server, &clock, secret, &address).await.unwrap();
                expected.insert(0, (format!("10.{number}.0.0/16"), at));
                expected.dedup_by(|earlier, one| one.0 == earlier.0);
            }
        }
        for address in ["2001:db8:1::1", "2001:db8:2::2", "10.20.3.3"] {
            let at = use_it(&first, &clock, secret, address).await.unwrap();
            let network = match address.starts_with("10.") {
                true => "10.20.0.0/16",
                false => "2001:db8::/32",
            };
            expected.retain(|(known, _)| known != network);
            expected.insert(0, (network.to_owned(), at));
        }
        expected.truncate(MAX_NETWORKS);
        let found = async || {
            two.networks_of(id).await.unwrap();
            let found = one.networks_of(id).await.unwrap();
            let found = found.iter().map(|used| (used.network.to_string(), used.at));
            found.collect::<Vec<_>>()
        };
        assert_eq!(found().await, expected, "{name}");
        // Neither a denial nor a check without an address has a network.
        let bearer = format!("Bearer {secret}x");
        let headers = [("Authorization", bearer.as_str())];
        assert_eq!(first.get_with("/plain", &headers).await.status, 401);
        one.verify(secret).await.unwrap();
        assert_eq!(found().await, expected, "{name}");
        one.shutdown().await.unwrap();
        two.shutdown().await.unwrap();
    }
}

#[actix_web::test]
async fn without_a_precision_no_network_is_kept() {
    for fleet in Fleet::every(LEASE).await {
        let clock = Arc::new(ManualClock::starting_now());
        let manager = start(&fleet, &clock, "off").await;
        let server = serve(&manager);
        let key = manager.create("a").await.unwrap();
        let at = use_it(&server, &clock, key.expose_secret(), "192.0.2.1").await;
        let used = manager.last_used(key.id()).await.unwrap().unwrap();
        assert_eq!((Some(used.at), used.network), (at, None), "{}", fleet.name);
        let networks = manager.networks_of(key.id()).await.unwrap();
        assert_eq!(networks, [], "{}", fleet.name);
        manager.shutdown().await.unwrap();
    }
}
