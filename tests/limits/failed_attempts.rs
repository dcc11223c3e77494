//! R-12, the limit on failed attempts: an address with too many of them is denied before the store
//! is asked, and other addresses are not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, get, test};
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::{
    ApiKey, ApiKeyManager, Config, ConfigBuilder, DenyReason, KeyStore, MemoryStore, NewKey,
    api_key_required,
};
use apikey_test_support::http::{Answer, Client, Server};
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{forge, manager_on, soon};

/// A burst of five, and one more every ten seconds.
const RATE: &str = "6/minute burst 5";

const STEP: Duration = Duration::from_secs(10);

/// Outlasts the test, so that managers do not poll by themselves.
const LEASE: Duration = Duration::from_secs(60);

#[get("/who")]
#[api_key_required]
async fn who(key: ApiKey) -> String {
    key.label().to_owned()
}

#[get("/fresh")]
#[api_key_required(fresh)]
async fn fresh(key: ApiKey) -> String {
    key.label().to_owned()
}

#[get("/live")]
#[api_key_required(environment = "live")]
async fn live() -> &'static str {
    "live"
}

#[get("/fresh-live")]
#[api_key_required(environment = "live", fresh)]
async fn fresh_live() -> &'static str {
    "live"
}

#[get("/admin")]
#[api_key_required(scope = "admin")]
async fn admin() -> &'static str {
    "admin"
}

/// A manager under a clock that stands still, its store, and a server.
struct House {
    manager: ApiKeyManager,
    store: Arc<GateStore>,
    clock: Arc<ManualClock>,
    server: Server,
    /// Created by another manager: this one has not cached it.
    key: NewKey,
}

impl House {
    async fn under(rate: &str) -> Self {
        Self::with(Config::builder().failed_attempts(rate)).await
    }

    async fn with(config: ConfigBuilder) -> Self {
        let inner: Arc<dyn KeyStore> = Arc::new(MemoryStore::new().with_lease(LEASE));
        let key = manager_on(Arc::clone(&inner)).await.create("a").await;
        let store = GateStore::around(inner);
        // Time does not pass by itself: attempts expire when the test advances the clock.
        let clock = Arc::new(ManualClock::starting_now());
        let manager = ApiKeyManager::builder()
            .config(config.build().unwrap())
            .shared_store(store.clone())
            .clock(Arc::clone(&clock) as Arc<dyn Clock>)
            .start()
            .await
            .unwrap();
        let serving = manager.clone();
        let server = Server::start(move |app| {
            serving.init_app(app);
            app.service((who, fresh, admin, live, fresh_live));
        });
        Self {
            manager,
            store,
            clock,
            server,
            key: key.unwrap(),
        }
    }

    fn secret(&self) -> &str {
        self.key.expose_secret()
    }

    fn reads(&self) -> usize {
        self.store.count(Call::Find)
    }

    /// Sends `GET /who` as if it came from `address`, according to the proxies.
    async fn from(&self, address: &str, key: &str) -> Answer {
        let bearer = format!("Bearer {key}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("X-Forwarded-For", address),
        ];
        self.server.get_with("/who", &headers).await
    }

    /// Sends bad keys from `address` until it is denied; returns how many were checked.
    async fn flood_from(&self, address: &str) -> usize {
        for number in 0..100 {
            match self.from(address, &guess(number)).await.status {
                401 => {}
                429 => return number,
                status => panic!("{status}"),
            }
        }
        100
    }
}

/// Trusts proxies on this machine.
fn proxied() -> ConfigBuilder {
    Config::builder()
        .failed_attempts(RATE)
        .trusted_proxies(["127.0.0.0/8"])
        .forwarded_header("X-Forwarded-For")
}

/// Returns a well-formed unknown key; different numbers give different keys.
fn guess(number: usize) -> String {
    forge::key("my_api", &format!("{number:022}"), &"y".repeat(64))
}

async fn show(client: &mut Client, path: &str, key: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    client.get(path, &[("Authorization", &bearer)]).await
}

/// Sends 300 bad keys over one connection; returns for how many of them the store was asked.
async fn flood(house: &House) -> usize {
    let before = house.reads();
    let mut client = house.server.connect().await;
    for number in 0..300 {
        let answer = show(&mut client, "/who", &guess(number)).await;
        assert!([401, 429].contains(&answer.status), "{answer:?}");
    }
    house.reads() - before
}

#[actix_web::test]
async fn r12_a_flood_of_bad_keys_reaches_the_store_as_often_as_is_configured() {
    let house = House::under(RATE).await;
    assert_eq!(flood(&house).await, 5);
    let answer = house.server.get("/who", guess(0).as_str()).await;
    answer.refused(429, "too-many-failed-attempts");
    assert_eq!(answer.header("retry-after"), Some("10"));
    assert_eq!(answer.header("www-authenticate"), None);
    house.clock.advance(STEP);
    assert_eq!(flood(&house).await, 1);

    // Control: without the limit each of them is a read.
    let house = House::under("off").await;
    assert_eq!(flood(&house).await, 300);
}

#[actix_web::test]
async fn r12_the_default_is_a_thousand_in_a_minute() {
    let house = House::with(Config::builder()).await;
    let mut client = house.server.connect().await;
    for number in 0..1_000 {
        let answer = show(&mut client, "/who", &guess(number)).await;
        assert_eq!(answer.status, 401, "{number}");
    }
    let answer = show(&mut client, "/who", &guess(1_000)).await;
    answer.refused(429, "too-many-failed-attempts");
    // 60 ms, rounded up to whole seconds.
    assert_eq!(answer.header("retry-after"), Some("1"));
    house.clock.advance(Duration::from_millis(60));
    let answer = show(&mut client, "/who", &guess(1_000)).await;
    assert_eq!(answer.status, 401);
}

#[actix_web::test]
async fn r12_the_wait_is_told_in_whole_seconds_rounded_up() {
    for (rate, told) in [
        ("7/minute burst 1", "9"),
        ("6/minute burst 1", "10"),
        ("100/minute burst 1", "1"),
    ] {
        let house = House::under(rate).await;
        house
            .server
            .get("/who", guess(0).as_str())
            .await
            .refused(401, "invalid-key");
        let answer = house.server.get("/who", guess(1).as_str()).await;
        answer.refused(429, "too-many-failed-attempts");
        assert_eq!(answer.header("retry-after"), Some(told), "{rate}");
    }
}

/// A key of another environment is denied as an invalid one. The control is a wrong secret of it.
#[actix_web::test]
async fn r12_a_right_secret_is_no_guess_in_another_environment() {
    for path in ["/live", "/fresh-live"] {
        let house = House::under(RATE).await;
        for _ in 0..10 {
            let answer = house.server.get(path, house.secret()).await;
            answer.refused(401, "invalid-key");
        }
        let rotating = house.manager.rotate(house.key.id()).grace(STEP);
        rotating.await.unwrap();
        for _ in 0..10 {
            let answer = house.server.get(path, house.secret()).await;
            answer.refused(401, "invalid-key");
        }
        let wrong = forge::wrong_secret(house.secret());
        for _ in 0..5 {
            let answer = house.server.get(path, wrong.as_str()).await;
            answer.refused(401, "invalid-key");
        }
        let answer = house.server.get(path, wrong.as_str()).await;
        answer.refused(429, "too-many-failed-attempts");
    }
}

#[actix_web::test]
async fn r12_a_right_key_in_memory_passes_from_the_address_of_the_flood() {
    let house = House::under(RATE).await;
    house.server.get("/who", house.secret()).await.says("a");
    assert_eq!(flood(&house).await, 5);
    let before = house.store.count_all();
    house.server.get("/who", house.secret()).await.says("a");
    // Requests that need the store are denied until the wait is over.
    let late = house.server.get("/fresh", house.secret()).await;
    late.refused(429, "too-many-failed-attempts");
    assert_eq!(house.store.count_all(), before);
    house.clock.advance(STEP);
    house.server.get("/fresh", house.secret()).await.says("a");
}

#[actix_web::test]
async fn r12_guesses_at_an_id_lock_out_the_guesser_and_not_the_key() {
    let house = House::with(proxied()).await;
    let (guesser, owner) = ("203.0.113.9", "192.0.2.7");
    for _ in 0..5 {
        let answer = house
            .from(guesser, &forge::wrong_secret(house.secret()))
            .await;
        answer.refused(401, "invalid-key");
    }
    let polls = house.store.count(Call::Changes);
    let reads = house.reads();
    let answer = house
        .from(guesser, &forge::wrong_secret(house.secret()))
        .await;
    answer.refused(429, "too-many-failed-attempts");
    // Neither a read nor a poll.
    assert_eq!(
        (house.reads(), house.store.count(Call::Changes)),
        (reads, polls)
    );
    house.from(owner, house.secret()).await.says("a");

    // The same if the key is not cached yet.
    let house = House::with(proxied()).await;
    assert_eq!(house.flood_from(guesser).await, 5);
    house
        .from(guesser, house.secret())
        .await
        .refused(429, "too-many-failed-attempts");
    house.from(owner, house.secret()).await.says("a");
    // The key is cached now, and passes from any address.
    house.from(guesser, house.secret()).await.says("a");
}

#[actix_web::test]
async fn r12_an_unknown_id_that_is_remembered_counts_each_time() {
    let house = House::under(RATE).await;
    for _ in 0..5 {
        let answer = house.server.get("/who", forge::unknown().as_str()).await;
        answer.refused(401, "invalid-key");
    }
    assert_eq!(house.reads(), 1, "it is cached");
    let answer = house.server.get("/who", forge::unknown().as_str()).await;
    answer.refused(429, "too-many-failed-attempts");
}

#[actix_web::test]
async fn r12_it_is_the_clients_address_that_counts_and_not_the_proxys() {
    let house = House::with(proxied()).await;
    assert_eq!(house.flood_from("203.0.113.9").await, 5);
    assert_eq!(house.flood_from("203.0.113.9").await, 0);
    assert_eq!(house.flood_from("203.0.113.10").await, 5);
    // Addresses that a client forges stand further left.
    assert_eq!(house.flood_from("192.0.2.1, 203.0.113.10").await, 0);
    // An unreadable address counts for the proxy: a client can cause it, such as by a quote in
    // `Forwarded`, and must not escape the limit by it.
    assert_eq!(house.flood_from("unknown").await, 5);
    assert_eq!(house.flood_from("_hidden").await, 0);
    house
        .server
        .get("/who", guess(7).as_str())
        .await
        .refused(429, "too-many-failed-attempts");
}

#[actix_web::test]
async fn r12_addresses_of_ipv6_count_by_64_bits_and_mapped_ones_as_ipv4() {
    let house = House::with(proxied()).await;
    assert_eq!(house.flood_from("2001:db8:1:2::1").await, 5);
    assert_eq!(
        house.flood_from("2001:db8:1:2:ffff:ffff:ffff:ffff").await,
        0
    );
    assert_eq!(house.flood_from("2001:db8:1:3::1").await, 5);
    assert_eq!(house.flood_from("203.0.113.9").await, 5);
    assert_eq!(house.flood_from("::ffff:203.0.113.9").await, 0);
    assert_eq!(house.flood_from("::ffff:203.0.113.10").await, 5);
    assert_eq!(house.flood_from("203.0.113.10").await, 0);
}

/// The same if the socket itself reports it, as one that listens on `::` does.
#[actix_web::test]
async fn r12_a_mapped_address_of_a_socket_is_one_of_ipv4() {
    let house = House::under(RATE).await;
    let app = App::new().configure(|app| house.manager.init_app(app));
    let app = test::init_service(app.service(who)).await;
    for (number, (peer, status)) in [
        ("192.0.2.7:1", 401),
        ("[::ffff:192.0.2.7]:2", 401),
        ("192.0.2.7:3", 401),
        ("[::ffff:192.0.2.7]:4", 401),
        ("192.0.2.7:5", 401),
        ("[::ffff:192.0.2.7]:6", 429),
        ("192.0.2.7:7", 429),
        ("192.0.2.8:8", 401),
    ]
    .into_iter()
    .enumerate()
    {
        let peer: SocketAddr = peer.parse().unwrap();
        let bearer = format!("Bearer {}", guess(number));
        let request = test::TestRequest::get()
            .uri("/who")
            .peer_addr(peer)
            .insert_header(("Authorization", bearer));
        let answer = test::call_service(&app, request.to_request()).await;
        assert_eq!(answer.status().as_u16(), status, "{peer}");
    }
}

#[actix_web::test]
async fn only_keys_that_are_none_count() {
    let house = House::under("1/hour").await;
    let manager = &house.manager;
    let late = manager
        .create("late")
        .expires_in(Duration::from_secs(1))
        .await
        .unwrap();
    let revoked = manager.create("revoked").await.unwrap();
    manager.revoke(revoked.id()).await.unwrap();
    house.clock.advance(Duration::from_secs(2));
    for _ in 0..5 {
        for (path, key, status, reason) in [
            ("/who", late.expose_secret(), 401, "expired-key"),
            ("/fresh", revoked.expose_secret(), 401, "revoked-key"),
            ("/admin", house.secret(), 403, "insufficient-scope"),
            ("/who", "nonsense", 401, "invalid-key"),
            // Another prefix: it never reaches the store.
            (
                "/who",
                &forge::key("other", &"0".repeat(22), &"y".repeat(64)),
                401,
                "invalid-key",
            ),
        ] {
            house.server.get(path, key).await.refused(status, reason);
        }
        house
            .server
            .get("/who", None)
            .await
            .refused(401, "missing-key");
    }
    house
        .server
        .get("/who", guess(0).as_str())
        .await
        .refused(401, "invalid-key");
    house
        .server
        .get("/who", guess(1).as_str())
        .await
        .refused(429, "too-many-failed-attempts");
}

#[actix_web::test]
async fn a_check_without_a_request_has_no_address_to_count_by() {
    let house = House::under("1/hour").await;
    for number in 0..20 {
        let refused = soon(house.manager.verify(&guess(number))).await;
        assert_eq!(refused.unwrap_err().reason(), DenyReason::InvalidKey);
    }
    // The application is not a client.
    house
        .server
        .get("/who", guess(0).as_str())
        .await
        .refused(401, "invalid-key");
    house
        .server
        .get("/who", guess(1).as_str())
        .await
        .refused(429, "too-many-failed-attempts");
    let refused = soon(house.manager.verify(&guess(2))).await;
    assert_eq!(refused.unwrap_err().reason(), DenyReason::InvalidKey);
}
