//! Revocation: afterwards, every check that starts denies the key.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use actix_web::get;
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::{
    ApiKey, ApiKeyManager, DenyReason, Error, KeyId, KeyState, MemoryStore, SqliteStore,
    api_key_required,
};
use apikey_test_support::http::Server;
use apikey_test_support::store::{Call, Fault, GateStore, StaleStore};
use apikey_test_support::{PATIENCE, SLACK, later, manager_at, manager_on, soon, within};

/// Outlasts every test, so that effects before its end have other causes.
const LONG: Duration = Duration::from_secs(60);

/// The default lease of a store.
const LEASE: Duration = Duration::from_millis(200);

fn leased(lease: Duration) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new().with_lease(lease))
}

async fn refusal(manager: &ApiKeyManager, key: &str) -> Option<DenyReason> {
    soon(manager.verify(key))
        .await
        .err()
        .map(|denied| denied.reason())
}

/// Revokes the key while 64 readers check it. Returns how many checks that started after `revoke`
/// returned were allowed.
async fn accepted_after(manager: &ApiKeyManager) -> usize {
    let key = manager.create("a").await.unwrap();
    let (returned, stop) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let [late, early, denied] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    let mut readers = Vec::new();
    for _ in 0..64 {
        let (manager, secret) = (manager.clone(), key.expose_secret().to_owned());
        let (returned, stop) = (Arc::clone(&returned), Arc::clone(&stop));
        let (late, early, denied) = (Arc::clone(&late), Arc::clone(&early), Arc::clone(&denied));
        readers.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            while !stop.load(SeqCst) {
                let started_after = returned.load(SeqCst);
                let is_allowed = runtime.block_on(manager.verify(&secret)).is_ok();
                match (is_allowed, started_after) {
                    (true, true) => late.fetch_add(1, SeqCst),
                    (true, false) => early.fetch_add(1, SeqCst),
                    (false, _) => denied.fetch_add(usize::from(started_after), SeqCst),
                };
                std::thread::yield_now();
            }
        }));
    }
    let warm = within(PATIENCE, async || early.load(SeqCst) > 500).await;
    assert!(warm.is_some(), "the readers read");
    assert!(manager.revoke(key.id()).await.unwrap());
    returned.store(true, SeqCst);
    let checked = || late.load(SeqCst) + denied.load(SeqCst);
    let have_checked = within(PATIENCE, async || checked() > 64).await;
    assert!(have_checked.is_some(), "the readers read on");
    stop.store(true, SeqCst);
    for reader in readers {
        reader.join().unwrap();
    }
    late.load(SeqCst)
}

#[actix_web::test]
async fn v01_no_check_that_starts_after_revoke_returned_accepts_the_key() {
    // Under a lease that does not end, and under one that ends all the time.
    for lease in [LONG, Duration::from_millis(3)] {
        let manager = manager_on(leased(lease)).await;
        for _ in 0..8 {
            assert_eq!(accepted_after(&manager).await, 0);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let manager = manager_on(Arc::new(SqliteStore::new(folder.path().join("keys.db")))).await;
    for _ in 0..4 {
        assert_eq!(accepted_after(&manager).await, 0);
    }
}

#[actix_web::test]
async fn v01_a_cache_without_rules_would_be_found_out() {
    let manager = manager_on(StaleStore::around(leased(LONG))).await;
    assert_ne!(accepted_after(&manager).await, 0);
}

#[actix_web::test]
async fn v01_all_keys_of_an_owner_and_purged_keys_die_at_once() {
    let manager = manager_on(leased(LONG)).await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(manager.create("a").owner("acme").await.unwrap());
    }
    let other = manager.create("b").owner("other").await.unwrap();
    for key in keys.iter().chain([&other]) {
        assert_eq!(refusal(&manager, key.expose_secret()).await, None);
    }
    assert!(manager.revoke_all("acme").reason("left").await.unwrap());
    for key in &keys {
        assert_eq!(
            refusal(&manager, key.expose_secret()).await,
            Some(DenyReason::Revoked)
        );
    }
    assert_eq!(refusal(&manager, other.expose_secret()).await, None);
    let ended = later(&manager).await;
    assert_eq!(manager.purge(ended).await.unwrap(), 3);
    for key in &keys {
        assert_eq!(
            refusal(&manager, key.expose_secret()).await,
            Some(DenyReason::InvalidKey)
        );
    }
}

/// Returns when, counted from the revocation, the last check began that allowed the key. The key is
/// checked as fast as possible, from before the revocation until `watch` after it.
async fn last_accepted(
    manager: &ApiKeyManager,
    key: &str,
    watch: Duration,
    revoke: impl Future<Output = ()>,
) -> Option<Duration> {
    assert_eq!(refusal(manager, key).await, None);
    let checks = async {
        let mut accepted = Instant::now();
        let end = async {
            revoke.await;
            Instant::now()
        };
        let mut end = Box::pin(end);
        let mut returned = None;
        loop {
            if returned.is_none() {
                let mut context = Context::from_waker(Waker::noop());
                if let std::task::Poll::Ready(at) = end.as_mut().poll(&mut context) {
                    returned = Some(at);
                }
            }
            let began = Instant::now();
            if manager.verify(key).await.is_ok() {
                accepted = began;
            }
            match returned {
                Some(returned) if began > returned + watch => return (accepted, returned),
                _ => tokio::time::sleep(Duration::from_micros(500)).await,
            }
        }
    };
    let (accepted, returned) = soon(checks).await;
    accepted.checked_duration_since(returned)
}

#[actix_web::test]
async fn v02_what_another_manager_revokes_on_the_same_file_is_dead_within_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let here = manager_on(Arc::new(SqliteStore::new(&file))).await;
    let there = manager_on(Arc::new(SqliteStore::new(&file))).await;
    for _ in 0..3 {
        let key = here.create("a").await.unwrap();
        let revoke = async { assert!(there.revoke(key.id()).await.unwrap()) };
        let late = last_accepted(&here, key.expose_secret(), LEASE * 2, revoke).await;
        assert!(late.is_none_or(|late| late < LEASE), "{late:?}");
        assert_eq!(
            refusal(&here, key.expose_secret()).await,
            Some(DenyReason::Revoked)
        );
    }
    // Control: a cache without a lease is detected.
    let stale = manager_on(StaleStore::around(Arc::new(SqliteStore::new(&file)))).await;
    let key = there.create("a").await.unwrap();
    let revoke = async { assert!(there.revoke(key.id()).await.unwrap()) };
    let late = last_accepted(&stale, key.expose_secret(), LEASE * 2, revoke).await;
    assert!(late.is_some_and(|late| late >= LEASE), "{late:?}");
}

const FILE: &str = "APIKEY_TEST_FILE";
const ID: &str = "APIKEY_TEST_ID";

/// Runs in a process that the test below starts; by itself it does nothing.
#[actix_web::test]
async fn the_other_process() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let id: KeyId = std::env::var(ID).unwrap().parse().unwrap();
    let manager = manager_on(Arc::new(SqliteStore::new(Path::new(&file)))).await;
    assert!(
        manager
            .revoke(id)
            .reason("by another process")
            .await
            .unwrap()
    );
    manager.shutdown().await.unwrap();
}

fn start_the_other_process(file: &Path, id: KeyId) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "instant::the_other_process"])
        .env(FILE, file)
        .env(ID, id.as_str())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[actix_web::test]
async fn v02_what_another_process_revokes_is_dead_within_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let manager = manager_on(Arc::new(SqliteStore::new(&file))).await;
    let key = manager.create("a").await.unwrap();
    // The commit happens before the process ends, which is what the test observes, so the lease
    // counts from an earlier time.
    let revoke = async {
        let mut child = start_the_other_process(&file, key.id());
        let mut status = None;
        let ended = within(PATIENCE, async || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended.await.is_some() && status.unwrap().success());
    };
    let late = last_accepted(&manager, key.expose_secret(), LEASE * 2, revoke).await;
    assert!(late.is_none_or(|late| late < LEASE), "{late:?}");
    let record = manager.get(key.id()).await.unwrap();
    assert_eq!(
        record.revoked.unwrap().reason.as_deref(),
        Some("by another process")
    );
}

#[get("/fresh")]
#[api_key_required(fresh)]
async fn fresh(key: ApiKey) -> String {
    key.label().to_owned()
}

#[get("/cached")]
#[api_key_required]
async fn cached(key: ApiKey) -> String {
    key.label().to_owned()
}

#[actix_web::test]
async fn v02_a_fresh_route_sees_another_managers_revocation_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let here = manager_on(Arc::new(SqliteStore::new(&file).lease(LONG))).await;
    let there = manager_on(Arc::new(SqliteStore::new(&file))).await;
    let configured = here.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.service((fresh, cached));
    });
    let is_trusted = async || {
        let key = here.create("a").await.unwrap();
        server.get("/fresh", key.expose_secret()).await.says("a");
        server.get("/cached", key.expose_secret()).await.says("a");
        there.revoke(key.id()).await.unwrap();
        // The control comes first: under this long lease, the cache is still trusted. On a busy
        // machine, the poll that follows the creation may come as late as this.
        if server.get("/cached", key.expose_secret()).await.status != 200 {
            return false;
        }
        server
            .get("/fresh", key.expose_secret())
            .await
            .refused(401, "revoked-key");
        // Other routes see the record that was read, too.
        server
            .get("/cached", key.expose_secret())
            .await
            .refused(401, "revoked-key");
        true
    };
    assert!(within(PATIENCE, is_trusted).await.is_some());
}

#[actix_web::test]
async fn v04_without_grace_the_old_secret_dies_at_once_and_the_new_works_at_once_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let here = manager_on(Arc::new(SqliteStore::new(&file).lease(LONG))).await;
    let there = manager_on(Arc::new(SqliteStore::new(&file))).await;
    let old = here.create("a").await.unwrap();
    for manager in [&here, &there] {
        assert_eq!(refusal(manager, old.expose_secret()).await, None);
    }
    let new = here.rotate(old.id()).await.unwrap();
    assert_eq!(
        refusal(&here, old.expose_secret()).await,
        Some(DenyReason::InvalidKey)
    );
    assert_eq!(refusal(&here, new.expose_secret()).await, None);
    // The other manager has cached the old record, under a lease of a minute.
    let began = Instant::now();
    assert_eq!(refusal(&there, new.expose_secret()).await, None);
    assert!(began.elapsed() < SLACK, "{:?}", began.elapsed());
    assert_eq!(
        refusal(&there, old.expose_secret()).await,
        Some(DenyReason::InvalidKey)
    );

    let newest = there.rotate(old.id()).grace(LONG).await.unwrap();
    for manager in [&here, &there] {
        assert_eq!(refusal(manager, newest.expose_secret()).await, None);
        assert_eq!(
            refusal(manager, new.expose_secret()).await,
            None,
            "in its grace period"
        );
        assert_eq!(
            refusal(manager, old.expose_secret()).await,
            Some(DenyReason::InvalidKey)
        );
    }
    // In real time, with a grace period that ends.
    let last = there
        .rotate(old.id())
        .grace(Duration::from_millis(100))
        .await
        .unwrap();
    let gone = within(PATIENCE, async || {
        refusal(&there, newest.expose_secret()).await.is_some()
    });
    assert!(gone.await.is_some());
    assert_eq!(refusal(&there, last.expose_secret()).await, None);
}

#[actix_web::test]
async fn v10_an_error_at_any_step_of_revoke_is_never_ok() {
    let config = apikey_runtime::Config::builder().store_timeout(Duration::from_secs(1));
    let config = config.build().unwrap();
    for fault in [
        Fault::Unavailable,
        Fault::Backend,
        Fault::AnswerLost,
        Fault::Hangs,
    ] {
        let store = GateStore::around(leased(LONG));
        let builder = ApiKeyManager::builder().config(config.clone());
        let manager = builder.shared_store(store.clone()).start().await.unwrap();
        let key = manager.create("a").owner("acme").await.unwrap();
        assert_eq!(refusal(&manager, key.expose_secret()).await, None);
        store.fail(Call::Revoke, fault);
        store.fail(Call::RevokeOwnerKeys, fault);
        let outcome = soon(async { manager.revoke(key.id()).await }).await;
        assert!(
            matches!(outcome, Err(Error::Store(_))),
            "{fault:?}: {outcome:?}"
        );
        // A change that was possibly executed counts at once: the key is read again, and only a
        // record that shows the change is trusted.
        let done = fault == Fault::AnswerLost;
        let expected = done.then_some(DenyReason::Revoked);
        assert_eq!(
            refusal(&manager, key.expose_secret()).await,
            expected,
            "{fault:?}"
        );

        let other = manager.create("b").owner("acme").await.unwrap();
        assert_eq!(refusal(&manager, other.expose_secret()).await, None);
        let outcome = soon(async { manager.revoke_all("acme").await }).await;
        assert!(
            matches!(outcome, Err(Error::Store(_))),
            "{fault:?}: {outcome:?}"
        );
        assert_eq!(
            refusal(&manager, other.expose_secret()).await,
            expected,
            "{fault:?}"
        );
        // A retry succeeds.
        store.heal();
        assert!(manager.revoke(key.id()).await.is_ok());
        assert_eq!(
            refusal(&manager, key.expose_secret()).await,
            Some(DenyReason::Revoked)
        );
    }
}

#[actix_web::test]
async fn v10_a_store_that_panics_or_a_wrong_id_is_never_ok() {
    let store = GateStore::around(leased(LONG));
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    store.fail(Call::Revoke, Fault::Panics);
    let (revoking, id) = (manager.clone(), key.id());
    let outcome = tokio::spawn(async move { revoking.revoke(id).await }).await;
    assert!(!matches!(outcome, Ok(Ok(_))), "{outcome:?}");
    store.heal();
    // A panic in one call does not end the manager.
    assert!(manager.revoke(key.id()).await.unwrap());
    assert!(
        !manager.revoke(key.id()).await.unwrap(),
        "it was revoked before"
    );
    let id = KeyId::from_u128(1);
    assert!(matches!(manager.revoke(id).await, Err(Error::NotFound(found)) if found == id));
    assert!(matches!(
        manager.revoke(key.id()).reason("a\nb").await,
        Err(Error::InvalidArgument(_))
    ));
}

#[actix_web::test]
async fn v10_an_ended_manager_accepts_no_key_and_never_says_that_it_revoked_one() {
    // Repeated, because a thread takes a moment to end, in which a check could slip in.
    for _ in 0..100 {
        let manager = manager_on(leased(LONG)).await;
        let key = manager.create("a").await.unwrap();
        assert_eq!(refusal(&manager, key.expose_secret()).await, None);
        manager.shutdown().await.unwrap();
        let reason = refusal(&manager, key.expose_secret()).await;
        assert_eq!(reason, Some(DenyReason::StoreUnavailable));
        assert!(matches!(
            manager.revoke(key.id()).await,
            Err(Error::ShutDown)
        ));
        assert!(matches!(
            manager.revoke_all("a").await,
            Err(Error::ShutDown)
        ));
    }
}

#[actix_web::test]
async fn a_revoked_key_stays_revoked_under_every_clock_and_in_every_list() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = manager_at(leased(LEASE), clock.clone() as Arc<dyn Clock>).await;
    let key = manager.create("a").await.unwrap();
    manager.revoke(key.id()).await.unwrap();
    for jump in [-3_600_000, 3_600_000, 3_600_000] {
        clock.step_wall(jump);
        assert_eq!(
            refusal(&manager, key.expose_secret()).await,
            Some(DenyReason::Revoked)
        );
        let listed = manager.list().state(KeyState::Revoked).await.unwrap().keys;
        assert_eq!(
            listed.iter().map(|record| record.id).collect::<Vec<_>>(),
            [key.id()]
        );
    }
}
