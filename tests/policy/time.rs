//! Keys and time, under a clock that the tests set.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::{
    ApiKeyManager, DenyReason, Error, KeyStore, MemoryStore, Quota, SqliteStore, Timestamp,
};
use apikey_test_support::manager_at;
use apikey_test_support::store::{Call, GateStore};

const HOUR: Duration = Duration::from_secs(3600);

const HOUR_MILLIS: i64 = 3_600_000;

fn a_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)))
}

async fn on(store: Arc<dyn KeyStore>, clock: &Arc<ManualClock>) -> ApiKeyManager {
    manager_at(store, clock.clone() as Arc<dyn Clock>).await
}

/// Returns why a key is denied; `None` if it is allowed.
async fn refusal(manager: &ApiKeyManager, key: &str) -> Option<DenyReason> {
    manager
        .verify(key)
        .await
        .err()
        .map(|denied| denied.reason())
}

#[actix_web::test]
async fn the_time_of_a_manager_is_that_of_its_clock() {
    let clock = a_clock();
    let manager = on(Arc::new(MemoryStore::new()), &clock).await;
    let began = clock.read().now;
    assert_eq!(manager.now(), began);
    clock.advance(HOUR);
    assert_eq!(Some(manager.now()), began.checked_add(HOUR));
}

#[actix_web::test]
async fn e02_at_the_very_millisecond_of_its_end_a_key_is_expired_in_every_store() {
    let folder = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn KeyStore>; 2] = [
        Arc::new(MemoryStore::new()),
        Arc::new(SqliteStore::new(folder.path().join("keys.db"))),
    ];
    for store in stores {
        let clock = a_clock();
        let manager = on(store, &clock).await;
        let start = clock.read().now;
        let at = |millis| start.checked_add(Duration::from_millis(millis)).unwrap();
        let key = manager
            .create("a")
            .not_before(at(50))
            .expires_at(at(100))
            .await
            .unwrap();
        // Checks from the cache, and from the store.
        let both = async |expected: Option<DenyReason>| {
            assert_eq!(refusal(&manager, key.expose_secret()).await, expected);
            let policy = apikey_runtime::Policy::new().fresh();
            let fresh = manager.verify_for(key.expose_secret(), &policy).await;
            assert_eq!(fresh.err().map(|denied| denied.reason()), expected);
        };
        clock.advance(Duration::from_millis(49));
        both(Some(DenyReason::NotYetValid)).await;
        clock.advance(Duration::from_millis(1));
        both(None).await;
        clock.advance(Duration::from_millis(49));
        both(None).await;
        clock.advance(Duration::from_millis(1));
        both(Some(DenyReason::Expired)).await;
        clock.advance(HOUR);
        both(Some(DenyReason::Expired)).await;
        manager.shutdown().await.unwrap();
    }
}

#[actix_web::test]
async fn e04_a_lifetime_that_time_cannot_tell_is_an_error_and_nothing_is_stored() {
    let store = GateStore::new();
    let manager = on(store.clone(), &a_clock()).await;
    for life in [
        Duration::MAX,
        Duration::from_secs(u64::MAX),
        Duration::from_millis(i64::MAX as u64),
        Duration::ZERO,
    ] {
        let outcome = manager.create("a").expires_in(life).await;
        assert!(
            matches!(outcome, Err(Error::InvalidArgument(_))),
            "{life:?}: {outcome:?}"
        );
    }
    for past in [Timestamp::from_millis(i64::MIN), Timestamp::from_millis(0)] {
        assert!(matches!(
            manager.create("a").expires_at(past).await,
            Err(Error::InvalidArgument(_))
        ));
    }
    assert_eq!(store.count(Call::Insert), 0);

    let key = manager.create("a").await.unwrap();
    let outcome = manager.rotate(key.id()).grace(Duration::MAX).await;
    assert!(
        matches!(outcome, Err(Error::InvalidArgument(_))),
        "{outcome:?}"
    );
    assert_eq!(store.count(Call::Update), 0);
    assert!(manager.verify(key.expose_secret()).await.is_ok());

    let until_the_end = manager
        .create("b")
        .expires_at(Timestamp::MAX)
        .await
        .unwrap();
    assert!(manager.verify(until_the_end.expose_secret()).await.is_ok());
}

#[actix_web::test]
async fn e07_a_wall_clock_that_jumps_ahead_locks_nobody_out_and_its_correction_is_believed() {
    let clock = a_clock();
    let manager = on(GateStore::new(), &clock).await;
    let endless = manager.create("endless").await.unwrap();
    let short = manager.create("short").expires_in(HOUR / 2).await.unwrap();
    for key in [&endless, &short] {
        assert_eq!(refusal(&manager, key.expose_secret()).await, None);
    }
    clock.step_wall(HOUR_MILLIS);
    // The wall clock is trusted: its new time may be the right one.
    assert_eq!(refusal(&manager, endless.expose_secret()).await, None);
    assert_eq!(
        refusal(&manager, short.expose_secret()).await,
        Some(DenyReason::Expired)
    );
    // New keys can be created, and are valid.
    let meanwhile = manager.create("meanwhile").await.unwrap();
    assert_eq!(refusal(&manager, meanwhile.expose_secret()).await, None);
    clock.step_wall(-HOUR_MILLIS);
    for key in [&endless, &short, &meanwhile] {
        assert_eq!(
            refusal(&manager, key.expose_secret()).await,
            None,
            "{}",
            key.label()
        );
    }
    // Revocation works under every clock.
    clock.step_wall(HOUR_MILLIS);
    manager.revoke(endless.id()).await.unwrap();
    clock.step_wall(-HOUR_MILLIS);
    assert_eq!(
        refusal(&manager, endless.expose_secret()).await,
        Some(DenyReason::Revoked)
    );
}

#[actix_web::test]
async fn e07_a_wall_clock_that_jumps_back_lets_nobody_live_longer_and_locks_nobody_out() {
    let clock = a_clock();
    let manager = on(GateStore::new(), &clock).await;
    let soon = clock
        .read()
        .now
        .checked_add(Duration::from_secs(60))
        .unwrap();
    let begun = manager.create("begun").not_before(soon).await.unwrap();
    let short = manager.create("short").expires_in(HOUR / 2).await.unwrap();
    let ended = manager
        .create("ended")
        .expires_in(Duration::from_secs(90))
        .await
        .unwrap();
    clock.advance(Duration::from_secs(100));
    let check = async || {
        assert_eq!(refusal(&manager, begun.expose_secret()).await, None);
        assert_eq!(refusal(&manager, short.expose_secret()).await, None);
        assert_eq!(
            refusal(&manager, ended.expose_secret()).await,
            Some(DenyReason::Expired)
        );
    };
    check().await;
    clock.step_wall(-HOUR_MILLIS);
    check().await;
    // The key expires half an hour after its creation, whatever the wall clock says.
    clock.advance(HOUR / 2 - Duration::from_secs(101));
    assert_eq!(refusal(&manager, short.expose_secret()).await, None);
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        refusal(&manager, short.expose_secret()).await,
        Some(DenyReason::Expired)
    );
}

#[actix_web::test]
async fn e12_a_key_in_memory_dies_on_time() {
    let clock = a_clock();
    let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(HOUR)));
    // The push of the manager's own change would cause a poll, which evicts the key once more.
    store.cut_push();
    let manager = on(store.clone(), &clock).await;
    let key = manager
        .create("a")
        .expires_in(Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(refusal(&manager, key.expose_secret()).await, None);
    let finds = store.count(Call::Find);
    clock.advance(Duration::from_millis(29_999));
    assert_eq!(refusal(&manager, key.expose_secret()).await, None);
    assert_eq!(store.count(Call::Find), finds, "from memory");
    store.go_down();
    clock.advance(Duration::from_millis(1));
    // Another manager may have moved the end.
    assert_eq!(
        refusal(&manager, key.expose_secret()).await,
        Some(DenyReason::StoreUnavailable)
    );
    store.heal();
    assert_eq!(
        refusal(&manager, key.expose_secret()).await,
        Some(DenyReason::Expired)
    );
}

#[actix_web::test]
async fn a_change_of_a_keys_end_is_judged_at_once() {
    let clock = a_clock();
    let manager = on(GateStore::new(), &clock).await;
    let key = manager.create("a").expires_in(HOUR).await.unwrap();
    assert_eq!(refusal(&manager, key.expose_secret()).await, None);
    manager
        .update(key.id())
        .expires_at(clock.read().now)
        .await
        .unwrap();
    assert_eq!(
        refusal(&manager, key.expose_secret()).await,
        Some(DenyReason::Expired)
    );
    manager.update(key.id()).never_expires().await.unwrap();
    clock.advance(HOUR * 24 * 365);
    assert_eq!(refusal(&manager, key.expose_secret()).await, None);
}

#[actix_web::test]
async fn v04_a_rotated_secret_dies_when_its_grace_ends_and_never_outlives_the_key() {
    let clock = a_clock();
    let manager = on(GateStore::new(), &clock).await;
    let old = manager.create("a").expires_in(HOUR).await.unwrap();
    assert_eq!(refusal(&manager, old.expose_secret()).await, None);

    let new = manager
        .rotate(old.id())
        .grace(Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(refusal(&manager, new.expose_secret()).await, None);
    assert_eq!(refusal(&manager, old.expose_secret()).await, None);
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(refusal(&manager, old.expose_secret()).await, None);
    clock.advance(Duration::from_millis(1));
    assert_eq!(
        refusal(&manager, old.expose_secret()).await,
        Some(DenyReason::InvalidKey)
    );
    assert_eq!(refusal(&manager, new.expose_secret()).await, None);

    // Once more, with a grace period that is longer than the key's lifetime: both secrets expire
    // with the key.
    let newest = manager.rotate(old.id()).grace(HOUR * 10).await.unwrap();
    assert_eq!(
        newest.record().previous.as_ref().unwrap().until,
        old.record().expires.unwrap()
    );
    assert_eq!(refusal(&manager, new.expose_secret()).await, None);
    assert_eq!(
        refusal(&manager, old.expose_secret()).await,
        Some(DenyReason::InvalidKey)
    );
    clock.advance(HOUR);
    assert_eq!(
        refusal(&manager, newest.expose_secret()).await,
        Some(DenyReason::Expired)
    );
    // The old secret after its grace period is like an unknown key's.
    assert_eq!(
        refusal(&manager, new.expose_secret()).await,
        Some(DenyReason::InvalidKey)
    );
}

/// A key that expires in the future, but not after it becomes valid, could never be used.
#[actix_web::test]
async fn a_change_after_which_a_key_could_never_be_used_is_refused_and_changes_nothing() {
    let clock = a_clock();
    let manager = on(Arc::new(MemoryStore::new()), &clock).await;
    let now = clock.read().now;
    let ahead = |hours: u32| now.checked_add(HOUR * hours).unwrap();
    let key = manager.create("a").not_before(ahead(2)).await.unwrap();
    let before = manager.get(key.id()).await.unwrap();
    for end in [1, 2] {
        let refused = manager.update(key.id()).expires_at(ahead(end)).await;
        assert!(
            matches!(refused, Err(Error::InvalidArgument(_))),
            "{refused:?}"
        );
    }
    assert_eq!(manager.get(key.id()).await.unwrap(), before);
    manager.update(key.id()).expires_at(ahead(3)).await.unwrap();
    let refused = manager.update(key.id()).not_before(ahead(3)).await;
    assert!(
        matches!(refused, Err(Error::InvalidArgument(_))),
        "{refused:?}"
    );
    // Control: valid times are accepted, and a key can expire now whenever it becomes valid.
    manager.update(key.id()).not_before(ahead(1)).await.unwrap();
    manager.update(key.id()).expires_at(now).await.unwrap();
    assert_eq!(
        refusal(&manager, key.expose_secret()).await,
        Some(DenyReason::Expired)
    );
}

/// Returns why the key's daily quota of 1 denies it, before and after a day of the manager's clock.
async fn around_midnight(store: Arc<dyn KeyStore>) -> [Option<DenyReason>; 3] {
    let clock = a_clock();
    let manager = on(store, &clock).await;
    let key = manager.create("a").limit("daily", Quota::per_day(1));
    let key = key.await.unwrap();
    let secret = key.expose_secret();
    let (first, second) = (
        refusal(&manager, secret).await,
        refusal(&manager, secret).await,
    );
    clock.advance(24 * HOUR);
    [first, second, refusal(&manager, secret).await]
}

#[actix_web::test]
async fn the_clock_of_a_manager_is_that_of_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn KeyStore>; 3] = [
        Arc::new(MemoryStore::new()),
        Arc::new(SqliteStore::new(folder.path().join("keys.db"))),
        GateStore::new(),
    ];
    for store in stores {
        let reasons = around_midnight(store).await;
        assert_eq!(reasons, [None, Some(DenyReason::QuotaExceeded), None]);
    }
}

/// The control: the quota ends by the store's clock, which stands still.
#[actix_web::test]
async fn a_store_with_a_clock_of_its_own_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let stores: [Arc<dyn KeyStore>; 2] = [
        Arc::new(MemoryStore::new().with_clock(a_clock())),
        Arc::new(SqliteStore::new(file).clock(a_clock())),
    ];
    for store in stores {
        let exceeded = Some(DenyReason::QuotaExceeded);
        assert_eq!(around_midnight(store).await, [None, exceeded, exceeded]);
    }
}
