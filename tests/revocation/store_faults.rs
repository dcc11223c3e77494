//! A store that is down, slow or far behind: 503, and never 200 or 401. And polls that denials
//! request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::get;
use apikey_runtime::clock::ManualClock;
use apikey_runtime::store::WriteOptions;
use apikey_runtime::{
    ApiKey, ApiKeyManager, Config, DenyReason, KeyStore, MemoryStore, Policy, ScopeExpr,
    SqliteStore, api_key_required,
};
use apikey_test_support::http::Server;
use apikey_test_support::store::{Call, Fault, GateStore, StaleStore};
use apikey_test_support::{PATIENCE, SLACK, forge, manager_at, manager_on, soon, within};

const LONG: Duration = Duration::from_secs(60);

/// Short enough for a test to wait for its end, and longer than a pause of a busy machine.
const LEASE: Duration = Duration::from_secs(2);

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

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        app.service((who, fresh));
    })
}

async fn impatient(store: Arc<dyn KeyStore>) -> ApiKeyManager {
    let config = Config::builder()
        .store_timeout(Duration::from_secs(1))
        .build()
        .unwrap();
    ApiKeyManager::builder()
        .config(config)
        .shared_store(store)
        .start()
        .await
        .unwrap()
}

async fn refusal(manager: &ApiKeyManager, key: &str) -> Option<DenyReason> {
    soon(manager.verify(key))
        .await
        .err()
        .map(|denied| denied.reason())
}

#[actix_web::test]
async fn x01_with_the_store_down_a_key_that_is_not_in_memory_is_503() {
    for fault in [
        Fault::Unavailable,
        Fault::Backend,
        Fault::AnswerLost,
        Fault::Hangs,
    ] {
        let store = GateStore::new();
        let manager = impatient(store.clone()).await;
        let key = manager.create("a").await.unwrap();
        let server = serve(&manager);
        store.fail(Call::Find, fault);
        for key in [key.expose_secret(), &forge::unknown()] {
            for path in ["/who", "/fresh"] {
                let began = Instant::now();
                let answer = server.get(path, key).await;
                answer.refused(503, "store-unavailable");
                assert_eq!(answer.header("retry-after"), Some("1"), "{fault:?}");
                assert_eq!(answer.header("www-authenticate"), None);
                assert!(began.elapsed() < SLACK, "{fault:?}");
            }
        }
        // Requests that do not need the store are answered as before.
        server.get("/who", None).await.refused(401, "missing-key");
        server
            .get("/who", "nonsense")
            .await
            .refused(401, "invalid-key");
        store.heal();
        // Errors are not cached.
        server.get("/who", key.expose_secret()).await.says("a");
        server
            .get("/who", forge::unknown().as_str())
            .await
            .refused(401, "invalid-key");
    }
}

#[actix_web::test]
async fn x01_a_store_that_panics_is_503_and_the_next_read_is_as_good_as_any() {
    let store = GateStore::new();
    let manager = impatient(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    store.fail(Call::Find, Fault::Panics);
    for _ in 0..2 {
        let reason = refusal(&manager, key.expose_secret()).await;
        assert_eq!(reason, Some(DenyReason::StoreUnavailable));
    }
    store.heal();
    assert_eq!(refusal(&manager, key.expose_secret()).await, None);
}

/// After the store goes down, the cached key is allowed until the lease ends, and then every answer
/// is 503.
async fn good_until_the_lease_ends(
    store: &GateStore,
    manager: &ApiKeyManager,
    fault: Fault,
) -> Result<(), String> {
    let key = manager.create("a").await.unwrap();
    let server = serve(manager);
    store.polled().await;
    server.get("/who", key.expose_secret()).await.says("a");

    store.fail(Call::Find, fault);
    store.fail(Call::Changes, fault);
    let down = Instant::now();
    let mut client = server.connect().await;
    let bearer = format!("Bearer {}", key.expose_secret());
    client
        .get("/who", &[("Authorization", &bearer)])
        .await
        .says("a");
    let mut ended = None;
    while down.elapsed() < LEASE * 2 {
        let began = down.elapsed();
        let answer = client.get("/who", &[("Authorization", &bearer)]).await;
        match (answer.status, ended) {
            (200, None) if began < LEASE => {}
            (503, _) => ended = ended.or(Some(began)),
            (status, _) => return Err(format!("{status} after {began:?}; 503 since {ended:?}")),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    store.heal();
    let back = within(PATIENCE, async || {
        refusal(manager, key.expose_secret()).await.is_none()
    });
    assert!(back.await.is_some());
    ended.map(|_| ()).ok_or("no end".to_owned())
}

#[actix_web::test]
async fn x02_with_the_store_down_a_key_in_memory_is_good_until_the_lease_ends_and_then_503() {
    for fault in [Fault::Unavailable, Fault::Hangs] {
        let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(LEASE)));
        let manager = impatient(store.clone()).await;
        good_until_the_lease_ends(&store, &manager, fault)
            .await
            .unwrap();
    }
    // Control: a store that repeats its first answers.
    let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(LEASE)));
    let manager = impatient(StaleStore::around(store.clone())).await;
    let outcome = good_until_the_lease_ends(&store, &manager, Fault::Unavailable).await;
    outcome.expect_err("the control");
}

#[actix_web::test]
async fn x02_a_store_that_answers_reads_and_no_polls_is_read_for_each_request() {
    let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(LEASE)));
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    store.fail(Call::Changes, Fault::Unavailable);
    tokio::time::sleep(LEASE * 2).await;
    let before = store.count(Call::Find);
    for _ in 0..5 {
        assert_eq!(refusal(&manager, key.expose_secret()).await, None);
    }
    // One that took longer than the lease was repeated.
    assert!(store.count(Call::Find) - before >= 5);
    manager.revoke(key.id()).await.unwrap();
    assert_eq!(
        refusal(&manager, key.expose_secret()).await,
        Some(DenyReason::Revoked)
    );
}

#[actix_web::test]
async fn a_warm_key_makes_no_call_of_the_store() {
    let inner = Arc::new(MemoryStore::new().with_lease(LONG));
    // By another manager and in advance, because the notification of a change would cause a poll.
    let key = manager_on(inner.clone()).await.create("a").await.unwrap();
    let store = GateStore::around(inner);
    let manager = manager_on(store.clone()).await;
    let server = serve(&manager);
    server.get("/who", key.expose_secret()).await.says("a");
    let before = (store.count_all(), store.count(Call::Changes));
    let mut client = server.connect().await;
    let bearer = format!("Bearer {}", key.expose_secret());
    for _ in 0..1_000 {
        client
            .get("/who", &[("Authorization", &bearer)])
            .await
            .says("a");
    }
    assert_eq!((store.count_all(), store.count(Call::Changes)), before);
    client
        .get("/fresh", &[("Authorization", &bearer)])
        .await
        .says("a");
    assert_eq!(
        store.count_all(),
        before.0 + 1,
        "control: the counter works"
    );
}

/// Two managers on one store under a lease that outlasts the test: this one learns of changes by
/// `there` only when it asks.
struct Two {
    here: ApiKeyManager,
    there: ApiKeyManager,
}

impl Two {
    async fn on(here: Arc<dyn KeyStore>, there: Arc<dyn KeyStore>) -> Self {
        Self {
            here: manager_on(here).await,
            there: manager_on(there).await,
        }
    }
}

async fn grants_work_at_once(two: &Two) -> Result<(), String> {
    static SCOPED: Policy = Policy::new().scopes(ScopeExpr::One("new"));
    static LIVE: Policy = Policy::new().environment("live");
    let Two { here, there } = two;
    let began = Instant::now();
    let accepted = async |what: &str, key: &str, policy: &Policy| {
        let outcome = soon(here.verify_for(key, policy)).await;
        outcome
            .map(|_| ())
            .map_err(|denied| format!("{what}: {denied}"))
    };
    let plain = Policy::new();

    let key = there.create("a").await.unwrap();
    accepted("created", key.expose_secret(), &plain).await?;

    assert!(here.verify_for(key.expose_secret(), &SCOPED).await.is_err());
    there.update(key.id()).scopes(["new"]).await.unwrap();
    accepted("a new scope", key.expose_secret(), &SCOPED).await?;

    assert!(here.verify_for(key.expose_secret(), &LIVE).await.is_err());
    there.update(key.id()).environment("live").await.unwrap();
    accepted("a new environment", key.expose_secret(), &LIVE).await?;

    let new = there.rotate(key.id()).await.unwrap();
    accepted("a new secret", new.expose_secret(), &plain).await?;

    there.disable(key.id()).await.unwrap();
    // Learned from the denial of the old secret, which causes a poll.
    assert!(here.verify(key.expose_secret()).await.is_err());
    assert_eq!(
        refusal(here, new.expose_secret()).await,
        Some(DenyReason::Disabled)
    );
    there.enable(key.id()).await.unwrap();
    accepted("switched on", new.expose_secret(), &plain).await?;

    there
        .update(key.id())
        .expires_at(apikey_runtime::Timestamp::from_millis(1))
        .await
        .unwrap();
    assert!(here.verify(key.expose_secret()).await.is_err());
    assert_eq!(
        refusal(here, new.expose_secret()).await,
        Some(DenyReason::Expired)
    );
    there.update(key.id()).never_expires().await.unwrap();
    accepted("a longer life", new.expose_secret(), &plain).await?;
    assert!(began.elapsed() < LONG / 2, "well before the lease ends");
    Ok(())
}

#[actix_web::test]
async fn a_grant_by_another_manager_works_at_once() {
    let shared = Arc::new(MemoryStore::new().with_lease(LONG));
    grants_work_at_once(&Two::on(shared.clone(), shared).await)
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let here = Arc::new(SqliteStore::new(&file).lease(LONG));
    grants_work_at_once(&Two::on(here, Arc::new(SqliteStore::new(&file))).await)
        .await
        .unwrap();
}

#[actix_web::test]
async fn a_cache_that_does_not_ask_what_changed_would_be_found_out() {
    let shared = Arc::new(MemoryStore::new().with_lease(LONG));
    let stale = StaleStore::around(shared.clone());
    grants_work_at_once(&Two::on(stale, shared).await)
        .await
        .expect_err("the control");
}

#[actix_web::test]
async fn a_key_that_was_unknown_a_moment_ago_works_within_a_second() {
    // The id is shown before the key exists: a record with the key's id is removed and restored
    // by hand. No secret of this library is known before its record is made.
    let shared = Arc::new(MemoryStore::new().with_lease(LONG));
    let (store, there) = (GateStore::around(shared.clone()), shared);
    store.cut_push();
    let clock = Arc::new(ManualClock::starting_now());
    let here = manager_at(store, clock.clone()).await;
    let maker = manager_on(Arc::new(MemoryStore::new())).await;
    let key = maker.create("a").await.unwrap();
    for _ in 0..3 {
        assert_eq!(
            refusal(&here, key.expose_secret()).await,
            Some(DenyReason::InvalidKey)
        );
    }
    there
        .insert(key.record(), &WriteOptions::new())
        .await
        .unwrap();
    clock.advance(Duration::from_millis(999));
    assert_eq!(
        refusal(&here, key.expose_secret()).await,
        Some(DenyReason::InvalidKey)
    );
    clock.advance(Duration::from_millis(1));
    assert_eq!(refusal(&here, key.expose_secret()).await, None);
}

#[actix_web::test]
async fn a_flood_of_wrong_secrets_makes_one_poll_in_50_ms_at_most() {
    let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(LONG)));
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let wrong = forge::wrong_secret(key.expose_secret());
    assert_eq!(refusal(&manager, key.expose_secret()).await, None);
    assert_eq!(
        refusal(&manager, &wrong).await,
        Some(DenyReason::InvalidKey)
    );
    assert_eq!(refusal(&manager, key.expose_secret()).await, None);

    let (polls, finds) = (store.count(Call::Changes), store.count(Call::Find));
    let began = Instant::now();
    let mut floods = Vec::new();
    for _ in 0..200 {
        let (manager, key) = (manager.clone(), key.expose_secret().to_owned());
        floods.push(actix_web::rt::spawn(async move {
            let mut refused = 0;
            while began.elapsed() < Duration::from_millis(600) {
                let wrong = forge::new_wrong_secret(&key);
                assert_eq!(
                    refusal(&manager, &wrong).await,
                    Some(DenyReason::InvalidKey)
                );
                refused += 1;
            }
            refused
        }));
    }
    // Clients that are not part of the flood are served from the cache meanwhile.
    for _ in 0..20 {
        assert_eq!(refusal(&manager, key.expose_secret()).await, None);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut refused = 0;
    for flood in floods {
        refused += soon(flood).await.unwrap();
    }
    let polls = store.count(Call::Changes) - polls;
    let allowed = (began.elapsed().as_millis() / 50) as usize + 2;
    assert!(
        (1..=allowed).contains(&polls),
        "{polls} polls, {allowed} allowed"
    );
    assert_eq!(store.count(Call::Find), finds);
    assert!(
        refused > polls * 10,
        "{refused} denials shared {polls} polls"
    );
}

#[actix_web::test]
async fn x03_an_answer_that_comes_too_late_is_not_waited_for() {
    let store = GateStore::new();
    let manager = impatient(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let gate = store.gate_before(Call::Find);
    assert_eq!(
        refusal(&manager, key.expose_secret()).await,
        Some(DenyReason::StoreUnavailable)
    );
    store.heal();
    // The next call does not wait for the one that hangs.
    assert_eq!(refusal(&manager, key.expose_secret()).await, None);
    gate.open();
    for outcome in [
        soon(async { manager.get(key.id()).await.map(|_| ()) }).await,
        soon(async { manager.update(key.id()).label("b").await.map(|_| ()) }).await,
    ] {
        outcome.unwrap();
    }
    for call in [
        Call::Find,
        Call::Update,
        Call::List,
        Call::Insert,
        Call::Purge,
    ] {
        store.fail(call, Fault::Hangs);
    }
    let at = apikey_runtime::Timestamp::from_millis(1);
    assert!(soon(async { manager.get(key.id()).await }).await.is_err());
    assert!(
        soon(async { manager.update(key.id()).label("c").await })
            .await
            .is_err()
    );
    assert!(soon(async { manager.create("d").await }).await.is_err());
    assert!(soon(async { manager.list().await }).await.is_err());
    assert!(soon(async { manager.purge(at).await }).await.is_err());
}

/// V-04: within its lease a node may trust its cache, but must not assume that nothing has changed:
/// if it cannot ask, it does not call the new secret of a rotated key wrong.
#[actix_web::test]
async fn v04_a_node_that_cannot_ask_what_changed_calls_no_fresh_secret_wrong() {
    let shared = Arc::new(MemoryStore::new());
    let here = manager_on(shared.clone()).await;
    let store = GateStore::around(shared);
    // The clock stands still, so the lease does not end.
    let clock = Arc::new(ManualClock::starting_now());
    let there = manager_at(store.clone(), clock).await;
    let key = here.create("a").await.unwrap();
    assert_eq!(refusal(&there, key.expose_secret()).await, None);

    store.go_down();
    let rotated = here.rotate(key.id()).await.unwrap();
    let secret = rotated.expose_secret();
    assert_eq!(
        refusal(&there, secret).await,
        Some(DenyReason::StoreUnavailable)
    );
    store.heal();
    assert_eq!(refusal(&there, secret).await, None);
    assert_eq!(
        refusal(&there, key.expose_secret()).await,
        Some(DenyReason::InvalidKey)
    );
}
