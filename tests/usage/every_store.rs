//! Usage on every store: it equals what clients counted, whichever of two managers they asked, even
//! across restarts; when a key was last used, and how long usage is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, HttpServer, get};
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::usage::{Outcome, UsageReport};
use apikey_runtime::{ApiKeyManager, Config, KeyId, KeyStore, Quota, Timestamp, api_key_required};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::http::{Client, Server};
use apikey_test_support::store::GateStore;
use apikey_test_support::{PATIENCE, within};

const LEASE: Duration = Duration::from_millis(500);

const HOUR: Duration = Duration::from_secs(3_600);

/// The shortest permitted interval: many batches are written while a test runs.
const SOON: Duration = Duration::from_millis(100);

const OWNER: &str = "42";

#[get("/plain")]
#[api_key_required]
async fn plain() -> &'static str {
    "in"
}

#[get("/orders/{id}")]
#[api_key_required]
async fn order() -> &'static str {
    "in"
}

#[get("/dear")]
#[api_key_required(cost = 5)]
async fn dear() -> &'static str {
    "in"
}

#[get("/admin")]
#[api_key_required(scope = "admin")]
async fn admin() -> &'static str {
    "in"
}

#[get("/written")]
#[api_key_required(methods(POST))]
async fn written() -> &'static str {
    "in"
}

#[get("/rated")]
#[api_key_required(rate_limit = "1/hour", burst = 5)]
async fn rated() -> &'static str {
    "in"
}

/// Paths, with the route's pattern and the cost of a request.
const PATHS: [(&str, &str, u64); 7] = [
    ("/plain", "/plain", 1),
    ("/orders/17", "/orders/{id}", 1),
    ("/orders/%7Bid%7D", "/orders/{id}", 1),
    ("/dear", "/dear", 5),
    ("/admin", "/admin", 1),
    ("/written", "/written", 1),
    ("/rated", "/rated", 1),
];

/// With several workers.
fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    let factory = move || {
        App::new()
            .configure(|app| manager.init_app(app))
            .service((plain, order, dear, admin, written, rated))
    };
    let server = HttpServer::new(factory).workers(4).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    Server::of(server.addrs()[0], server.run())
}

async fn start(store: Arc<dyn KeyStore>, clock: &Arc<ManualClock>) -> ApiKeyManager {
    start_with(store, clock, SOON).await
}

async fn start_with(
    store: Arc<dyn KeyStore>,
    clock: &Arc<ManualClock>,
    interval: Duration,
) -> ApiKeyManager {
    let config = Config::builder()
        .store_timeout(PATIENCE)
        .usage_flush_interval(interval)
        .usage_retention(HOUR)
        .build();
    ApiKeyManager::builder()
        .config(config.unwrap())
        .shared_store(store)
        .clock(Arc::clone(clock) as Arc<dyn Clock>)
        .start()
        .await
        .unwrap()
}

/// Requests and their cost, by key, route and outcome.
type Ledger = BTreeMap<(KeyId, String, String), (u64, u64)>;

fn add(ledger: &mut Ledger, more: Ledger) {
    for (place, (requests, cost)) in more {
        let sum = ledger.entry(place).or_default();
        *sum = (sum.0 + requests, sum.1 + cost);
    }
}

fn requests(ledger: &Ledger) -> u64 {
    ledger.values().map(|(requests, _)| requests).sum()
}

/// Sends this many requests over one connection, alternating between paths and keys, and records
/// the outcomes.
async fn client(server: &Server, keys: &[(KeyId, String)], first: usize, times: usize) -> Ledger {
    let mut client = Client::connect(server.address).await;
    let mut ledger = Ledger::new();
    for time in first..first + times {
        let (id, key) = &keys[time % keys.len()];
        let (path, route, cost) = PATHS[time % PATHS.len()];
        let bearer = format!("Bearer {key}");
        let answer = client.get(path, &[("Authorization", &bearer)]).await;
        let (outcome, cost) = match answer.status {
            200 => ("allowed".to_owned(), cost),
            403 | 429 => (answer.problem(), 0),
            status => panic!("{status} at {path}"),
        };
        let sum = ledger.entry((*id, route.to_owned(), outcome)).or_default();
        *sum = (sum.0 + 1, sum.1 + cost);
    }
    ledger
}

/// Runs several clients at the same time on both servers.
async fn day(servers: [&Server; 2], keys: &[(KeyId, String)], first: usize) -> Ledger {
    const TIMES: usize = 21;
    let [one, other] = servers;
    let clients = tokio::join!(
        client(one, keys, first, TIMES),
        client(other, keys, first + 1, TIMES),
        client(one, keys, first + 2, TIMES),
        client(other, keys, first + 3, TIMES),
        client(one, keys, first + 4, TIMES),
        client(other, keys, first + 5, TIMES),
    );
    let mut ledger = clients.0;
    for more in [clients.1, clients.2, clients.3, clients.4, clients.5] {
        add(&mut ledger, more);
    }
    ledger
}

/// Returns the same from a report, after a check that all its views have the same sums.
fn counted(report: &UsageReport) -> Ledger {
    let total = report.total();
    let total = (total.requests, total.cost, total.denials());
    let periods = [report.by_hour(), report.by_day()].map(|view| {
        let counts = view.into_iter().map(|one| one.counts);
        counts.collect::<Vec<_>>()
    });
    let routes = report.by_route().into_iter().map(|one| one.counts);
    let keys = report.by_key().into_iter().map(|one| one.counts);
    let views = periods
        .into_iter()
        .chain([routes.collect(), keys.collect()]);
    for view in views {
        let sum = view.iter().fold((0, 0, 0), |sum, one| {
            let refused = sum.2 + one.denials();
            (sum.0 + one.requests, sum.1 + one.cost, refused)
        });
        assert_eq!(sum, total);
    }
    let mut ledger = Ledger::new();
    for row in report.rows() {
        assert_eq!(row.outcome == Outcome::Allowed, row.cost > 0);
        let place = (row.key, row.route.clone(), row.outcome.code().to_owned());
        add(
            &mut ledger,
            Ledger::from([(place, (row.requests, row.cost))]),
        );
    }
    ledger
}

/// Runs two managers, of which one stops and restarts while the other is used. Returns what clients
/// counted, and what the store has in the end.
async fn add_up(fleet: &Fleet, forgets: bool) -> (Ledger, Ledger) {
    let clock = Arc::new(ManualClock::starting_now());
    let gate = GateStore::around(fleet.store());
    let one = start(Arc::clone(&gate) as Arc<dyn KeyStore>, &clock).await;
    let two = start(fleet.store(), &clock).await;
    let mut keys = Vec::new();
    for quota in [1_000, 30, 1_000] {
        let key = one.create("a").owner(OWNER);
        let key = key.limit("credits", Quota::lifetime(quota)).await.unwrap();
        keys.push((key.id(), key.expose_secret().to_owned()));
    }
    let (first, second) = (serve(&one), serve(&two));
    let mut ledger = day([&first, &second], &keys, 0).await;
    // Later requests belong to another hour, and perhaps to another day.
    clock.advance(HOUR);
    if forgets {
        gate.forget_a_batch();
    }
    add(&mut ledger, day([&first, &second], &keys, 3).await);
    drop(first);
    one.shutdown().await.unwrap();
    assert!(!forgets || gate.has_forgotten());
    add(&mut ledger, day([&second, &second], &keys, 1).await);
    let one = start(fleet.store(), &clock).await;
    let first = serve(&one);
    add(&mut ledger, day([&first, &second], &keys, 5).await);
    drop((first, second));
    for manager in [&one, &two] {
        manager.shutdown().await.unwrap();
    }
    let next = start(fleet.store(), &clock).await;
    (ledger, read(&next, &keys).await)
}

/// Returns the usage of these keys, read for each key and for their owner.
async fn read(manager: &ApiKeyManager, keys: &[(KeyId, String)]) -> Ledger {
    let mut ledger = Ledger::new();
    for (id, _) in keys {
        add(&mut ledger, counted(&manager.usage(*id).await.unwrap()));
    }
    let of_owner = manager.owner_usage(OWNER).await.unwrap();
    assert_eq!(counted(&of_owner), ledger);
    assert_eq!(of_owner.by_key().len(), keys.len());
    ledger
}

#[actix_web::test]
async fn sums_are_what_clients_counted_over_a_restart_of_one_of_two_managers() {
    for fleet in Fleet::every(LEASE).await {
        let (clients, stored) = add_up(&fleet, false).await;
        assert_eq!(requests(&clients), 4 * 6 * 21);
        // Control: the comparison covers all of these.
        let outcomes = clients.keys().map(|(_, _, outcome)| outcome.as_str());
        let outcomes: BTreeSet<_> = outcomes.collect();
        assert_eq!(outcomes.len(), 5, "{outcomes:?}");
        assert_eq!(stored, clients, "{}", fleet.name);
    }
}

/// Negative control: the same comparison detects a batch that a store did not add.
#[actix_web::test]
async fn a_store_that_drops_one_batch_is_found_out() {
    for fleet in Fleet::every(LEASE).await.into_iter().take(2) {
        let (clients, stored) = add_up(&fleet, true).await;
        assert!(requests(&stored) < requests(&clients), "{}", fleet.name);
    }
}

/// Both managers know of it, and an earlier use does not replace a later one.
#[actix_web::test]
async fn the_last_use_is_the_latest_of_all_managers() {
    for fleet in Fleet::every(LEASE).await {
        let clock = Arc::new(ManualClock::starting_now());
        // Their counts are written on a read, or when they stop.
        let [one, two] = [
            start_with(fleet.store(), &clock, HOUR).await,
            start_with(fleet.store(), &clock, HOUR).await,
        ];
        let key = one.create("a").await.unwrap();
        assert_eq!(two.last_used(key.id()).await.unwrap(), None);
        let (first, second) = (serve(&one), serve(&two));
        let secret = key.expose_secret();
        assert_eq!(first.get("/plain", secret).await.status, 200);
        clock.advance(Duration::from_secs(90));
        assert_eq!(second.get("/plain", secret).await.status, 200);
        let latest = clock.read().now;
        clock.advance(Duration::from_secs(90));
        // A denial is not a use.
        assert_eq!(first.get("/admin", secret).await.status, 403);
        two.shutdown().await.unwrap();
        // The first use is written now, after the second.
        let used = one.last_used(key.id()).await.unwrap().unwrap();
        assert_eq!(used.at, latest, "{}", fleet.name);
        let network = used.network.map(|network| network.to_string());
        assert_eq!(network.as_deref(), Some("127.0.0.0/24"), "{}", fleet.name);
        one.shutdown().await.unwrap();
    }
}

/// Usage older than the retention is pruned automatically, and nothing else is.
#[actix_web::test]
async fn usage_is_forgotten_when_its_time_is_over() {
    const THREE_DAYS: i64 = 3 * 24 * 3_600_000;
    for fleet in Fleet::every(LEASE).await {
        let present = Arc::new(ManualClock::starting_now());
        let today = present.read().now;
        let past = Timestamp::from_millis(today.as_millis() - THREE_DAYS);
        let old = start(fleet.store(), &Arc::new(ManualClock::at(past))).await;
        let key = old.create("a").await.unwrap();
        for _ in 0..3 {
            old.verify(key.expose_secret()).await.unwrap();
        }
        let then = old.usage(key.id()).await.unwrap().total().requests;
        // Redis itself expires usage, by its own clock.
        assert_eq!(then, if fleet.name == "redis" { 0 } else { 3 });
        old.shutdown().await.unwrap();
        let now = start(fleet.store(), &present).await;
        for _ in 0..5 {
            now.verify(key.expose_secret()).await.unwrap();
        }
        let forgotten = within(PATIENCE, async || {
            let tomorrow = today.checked_add(24 * HOUR).unwrap();
            let usage = now.usage(key.id()).between(past, tomorrow).await;
            usage.unwrap().total().requests == 5
        });
        assert!(forgotten.await.is_some(), "{}", fleet.name);
        // An hour that is retained is not pruned, even if it is the only one.
        tokio::time::sleep(SOON * 2).await;
        let kept = now.usage(key.id()).await.unwrap().total().requests;
        assert_eq!(kept, 5, "{}", fleet.name);
        now.shutdown().await.unwrap();
    }
}
