//! Limits on servers that stop, die, lose data, run out of memory or change their role, under
//! requests over HTTP: a limit is never exceeded, and an answer is never 500.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use actix_web::web;
use apikey_runtime::{
    ApiKeyManager, Config, DefaultPolicy, Guarded, KeyId, KeyStore, LimiterFallback, NewKey,
    Policy, Quota, Rate, RedisStore, RoutePolicy,
};
use apikey_test_support::http::{Answer, Client, Server};
use apikey_test_support::machine::Machine;
use apikey_test_support::servers::redis::{self, RedisServer};
use apikey_test_support::{PATIENCE, SLACK, soon, within};

/// Outlasts every fault.
const LONG: Duration = Duration::from_secs(60);

/// Enough for a charge on a busy disk.
const TIMEOUT: Duration = Duration::from_secs(4);

struct Local;

impl RoutePolicy for Local {
    const POLICY: Policy = Policy::new().on_limiter_down(LimiterFallback::Local);
}

async fn plain(_: Guarded<DefaultPolicy, ()>) -> &'static str {
    "in"
}

async fn local(_: Guarded<Local, ()>) -> &'static str {
    "in"
}

/// A manager on a store, and a server that it guards.
struct Scene {
    manager: ApiKeyManager,
    server: Server,
}

impl Scene {
    async fn on(store: Arc<dyn KeyStore>) -> Self {
        // Usage is written many times while a test runs.
        let config = Config::builder()
            .store_timeout(TIMEOUT)
            .usage_flush_interval(Duration::from_millis(100));
        let manager = ApiKeyManager::builder().config(config.build().unwrap());
        let manager = manager.shared_store(store);
        let manager = manager.start().await.unwrap();
        let served = manager.clone();
        let server = Server::start(move |app| {
            served.init_app(app);
            app.route("/plain", web::get().to(plain));
            app.route("/local", web::get().to(local));
        });
        Self { manager, server }
    }

    /// Creates a key with this many credits and a rate that does not limit them, and warms the
    /// cache.
    async fn key(&self, credits: u64) -> NewKey {
        let key = self
            .manager
            .create("a")
            .limit("rate", Rate::per_second(1_000));
        let key = key
            .limit("credits", Quota::lifetime(credits))
            .await
            .unwrap();
        self.warm(&key).await;
        key
    }

    /// Caches the key, past the eviction that the notification of its creation causes.
    async fn warm(&self, key: &NewKey) {
        let free = Policy::new().cost(0);
        for _ in 0..20 {
            let known = self.manager.verify_for(key.expose_secret(), &free).await;
            known.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ask(&self, path: &str, key: &NewKey) -> Answer {
        soon(self.server.get(path, key.expose_secret())).await
    }

    async fn left(&self, id: KeyId) -> u64 {
        self.manager.limits(id).await.unwrap()[1].remaining
    }

    /// Waits until the store counts again, without a charge.
    async fn is_back(&self, key: &NewKey) {
        let counts = async || {
            let free = Policy::new().cost(0);
            let check = self.manager.verify_for(key.expose_secret(), &free).await;
            check.is_ok() && self.manager.limits(key.id()).await.is_ok()
        };
        assert!(within(PATIENCE, counts).await.is_some());
    }

    /// Asserts the number of allowed requests: a batch of usage was neither lost nor added twice.
    async fn was_used(&self, key: &NewKey, route: &str, times: u64) {
        let usage = self.manager.usage(key.id()).await.unwrap();
        let row = usage.by_route().into_iter().find(|row| row.route == route);
        assert_eq!(row.map(|row| row.counts.requests), Some(times));
    }

    /// Returns how many requests are allowed until the quota is used up.
    async fn rest(&self, key: &NewKey) -> u64 {
        let mut passed = 0;
        loop {
            match self.ask("/plain", key).await.status {
                200 => passed += 1,
                429 => return passed,
                status => panic!("{status}"),
            }
        }
    }
}

/// What clients were answered meanwhile.
#[derive(Debug, Default)]
struct Seen {
    passed: AtomicU64,
    limited: AtomicU64,
    /// 503: whether these were charged is unknown.
    unsure: AtomicU64,
}

impl Seen {
    fn note(&self, answer: &Answer) {
        let count = match answer.status {
            200 => &self.passed,
            429 => &self.limited,
            503 => {
                assert!(answer.header("retry-after").is_some());
                &self.unsure
            }
            _ => panic!("{answer:?}"),
        };
        count.fetch_add(1, SeqCst);
    }
}

/// Clients that repeat requests until they are stopped.
struct Load {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    clients: Vec<actix_web::rt::task::JoinHandle<()>>,
}

impl Load {
    fn start(scene: &Scene, key: &NewKey, pause: Duration) -> Self {
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let clients = (0..4).map(|_| {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            let (address, bearer) = (
                scene.server.address,
                format!("Bearer {}", key.expose_secret()),
            );
            actix_web::rt::spawn(async move {
                while !stop.load(SeqCst) {
                    // A connection that is kept may be closed as idle while a server restarts.
                    let mut client = Client::connect(address).await;
                    let headers = [("Authorization", bearer.as_str())];
                    seen.note(&soon(client.get("/plain", &headers)).await);
                    tokio::time::sleep(pause).await;
                }
            })
        });
        Self {
            clients: clients.collect(),
            seen,
            stop,
        }
    }

    async fn has(&self, count: impl Fn(&Seen) -> &AtomicU64, at_least: u64) {
        let comes = within(PATIENCE, async || {
            count(&self.seen).load(SeqCst) >= at_least
        });
        assert!(comes.await.is_some(), "{:?}", self.seen);
    }

    /// Returns how many were allowed, and how many had an unknown outcome.
    async fn end(self) -> (u64, u64) {
        self.stop.store(true, SeqCst);
        for client in self.clients {
            soon(client).await.unwrap();
        }
        (self.seen.passed.load(SeqCst), self.seen.unsure.load(SeqCst))
    }
}

#[actix_web::test]
async fn a_server_that_stands_still_is_answered_with_503_in_time_and_counts_no_request_twice() {
    for machine in Machine::every("a_server_that_stands_still") {
        let scene = Scene::on(machine.store(LONG)).await;
        let key = scene.key(100).await;
        let mut passed = 0;
        for _ in 0..10 {
            passed += u64::from(scene.ask("/plain", &key).await.status == 200);
        }
        assert_eq!((passed, scene.left(key.id()).await), (10, 90));
        let standstill = machine.freeze();
        let mut tried = 0;
        for _ in 0..2 {
            let began = Instant::now();
            let answers = tokio::join!(
                scene.ask("/plain", &key),
                scene.ask("/plain", &key),
                scene.ask("/plain", &key),
                scene.ask("/plain", &key),
            );
            for answer in [answers.0, answers.1, answers.2, answers.3] {
                answer.refused(503, "store-unavailable");
                assert_eq!(answer.header("retry-after"), Some("1"));
                tried += 1;
            }
            let took = began.elapsed();
            assert!(took < TIMEOUT + SLACK, "{}: {took:?}", machine.name());
        }
        drop(standstill);
        scene.is_back(&key).await;
        let used = 100 - scene.left(key.id()).await;
        let name = machine.name();
        assert!((passed..=passed + tried).contains(&used), "{name}: {used}");
        passed += scene.rest(&key).await;
        assert!((100 - tried..=100).contains(&passed), "{name}: {passed}");
        scene.was_used(&key, "/plain", passed).await;
        // It does not delay the shutdown, with requests in progress, either.
        let standstill = machine.freeze();
        let began = Instant::now();
        let end = async {
            // The request is on its way to the store by then.
            tokio::time::sleep(TIMEOUT / 2).await;
            soon(scene.manager.shutdown()).await
        };
        let (answer, ended) = tokio::join!(scene.ask("/local", &key), end);
        assert_eq!(answer.status, 200, "{name}");
        let took = began.elapsed();
        assert!(
            ended.is_ok() && took < TIMEOUT * 5 + SLACK,
            "{name}: {took:?}"
        );
        drop(standstill);
    }
}

#[actix_web::test]
async fn a_server_that_dies_and_comes_back_admits_no_more_than_the_quota() {
    const QUOTA: u64 = 400;
    for mut machine in Machine::every("a_server_that_dies_and_comes_back") {
        let scene = Scene::on(machine.store(LONG)).await;
        let key = scene.key(QUOTA).await;
        let load = Load::start(&scene, &key, Duration::from_millis(5));
        load.has(|seen| &seen.passed, 40).await;
        machine.kill();
        load.has(|seen| &seen.unsure, 8).await;
        machine.restart();
        load.has(|seen| &seen.limited, 8).await;
        let (passed, unsure) = load.end().await;
        let name = machine.name();
        assert!(passed <= QUOTA, "{name}: {passed} of {QUOTA}");
        // Charged without an answer: each client has one request in progress at a time.
        assert!(
            passed + unsure.min(8) >= QUOTA,
            "{name}: {passed}, {unsure}"
        );
        scene.was_used(&key, "/plain", passed).await;
    }
}

#[actix_web::test]
async fn a_route_that_counts_by_itself_answers_while_the_lease_holds() {
    for mut machine in Machine::every("a_route_that_counts_by_itself") {
        let scene = Scene::on(machine.store(LONG)).await;
        let key = scene.key(3).await;
        assert_eq!(scene.ask("/plain", &key).await.status, 200);
        machine.kill();
        for expected in [200, 200, 200, 429] {
            let answer = scene.ask("/local", &key).await;
            assert_eq!(answer.status, expected, "{}", machine.name());
            scene
                .ask("/plain", &key)
                .await
                .refused(503, "store-unavailable");
        }
        machine.restart();
        scene.is_back(&key).await;
        // The store has not counted any of these.
        assert_eq!(scene.left(key.id()).await, 2, "{}", machine.name());
        assert_eq!(scene.rest(&key).await, 2, "{}", machine.name());
    }
}

#[actix_web::test]
async fn scripts_that_redis_forgets_are_sent_again_and_charge_once() {
    if !redis::is_installed("scripts_that_redis_forgets") {
        return;
    }
    let server = RedisServer::start(&[]);
    let scene = Scene::on(Arc::new(RedisStore::new(server.url()).lease(LONG))).await;
    let key = scene.key(200).await;
    let load = Load::start(&scene, &key, Duration::ZERO);
    while load.seen.limited.load(SeqCst) == 0 {
        server.command(&["SCRIPT", "FLUSH"]).text();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (passed, unsure) = load.end().await;
    // If the script is lost twice within a call, the answer is 503, without a charge.
    assert_eq!(passed, 200, "{unsure} were asked to retry");
}

/// Writes fail, and checks that do not need a write go on, beyond the lease, too.
#[actix_web::test]
async fn a_redis_without_memory_answers_503_where_it_has_to_count_and_recovers() {
    const LEASE: Duration = Duration::from_millis(400);
    if !redis::is_installed("a_redis_without_memory") {
        return;
    }
    let server = RedisServer::start(redis::DURABLE);
    let scene = Scene::on(Arc::new(RedisStore::new(server.url()).lease(LEASE))).await;
    let free = scene.manager.create("free").await.unwrap();
    let key = scene.key(300).await;
    let load = Load::start(&scene, &key, Duration::from_millis(5));
    load.has(|seen| &seen.passed, 20).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).text();
    let full = Instant::now();
    let passed = load.seen.passed.load(SeqCst);
    while full.elapsed() < LEASE * 3 {
        assert_eq!(scene.ask("/plain", &free).await.status, 200);
    }
    load.has(|seen| &seen.unsure, 8).await;
    // Those that were in progress then.
    assert!(load.seen.passed.load(SeqCst) <= passed + 4);
    scene
        .ask("/plain", &key)
        .await
        .refused(503, "store-unavailable");
    assert_eq!(scene.ask("/local", &key).await.status, 200);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).text();
    load.has(|seen| &seen.limited, 8).await;
    let (passed, _) = load.end().await;
    assert_eq!(passed, 300, "denied requests were not charged");
    // Usage that could not be written meanwhile is not lost, either.
    scene.was_used(&key, "/local", 1).await;
    scene.was_used(&key, "/plain", 300).await;
}

/// The replica has the primary's data; the former primary does not allow any request.
#[actix_web::test]
async fn a_primary_that_is_demoted_admits_nobody_and_its_successor_counts_on() {
    if !redis::is_installed("a_primary_that_is_demoted") {
        return;
    }
    let old = RedisServer::start(redis::DURABLE);
    let new = RedisServer::start(redis::DURABLE);
    let follow = |server: &RedisServer, other: &RedisServer| {
        let port = other.port().to_string();
        server.command(&["REPLICAOF", "127.0.0.1", &port]).text();
    };
    follow(&new, &old);
    let before = Scene::on(Arc::new(RedisStore::new(old.url()).lease(LONG))).await;
    let key = before.key(100).await;
    let load = Load::start(&before, &key, Duration::from_millis(5));
    load.has(|seen| &seen.passed, 30).await;
    let linked = within(PATIENCE, async || {
        let info = new.command(&["INFO", "replication"]).text();
        info.contains("master_link_status:up")
    });
    assert!(linked.await.is_some());
    new.command(&["REPLICAOF", "NO", "ONE"]).text();
    // Writable, so that only its reported role prevents it.
    old.command(&["CONFIG", "SET", "replica-read-only", "no"])
        .text();
    follow(&old, &new);
    let (most, _) = load.end().await;
    for _ in 0..20 {
        before
            .ask("/plain", &key)
            .await
            .refused(503, "store-unavailable");
    }
    let after = Scene::on(Arc::new(RedisStore::new(new.url()).lease(LONG))).await;
    after.warm(&key).await;
    // Between the two commands both were primaries, and so they were for answers in transit: the
    // documentation says that a failover may lose these charges.
    let rest = after.rest(&key).await;
    assert!(
        (100 - most.min(100)..=100).contains(&rest),
        "{most} and {rest}"
    );
    let lost = (most + rest).saturating_sub(100);
    assert!(lost <= 40, "{lost} were allowed twice");
    assert_eq!(after.left(key.id()).await, 0);
    before
        .ask("/plain", &key)
        .await
        .refused(503, "store-unavailable");
}
