//! The most live keys of an owner in a file, exact from any number of processes.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::clock::ManualClock;
use apikey_runtime::store::{
    AuditQuery, AuditStore, ChangeLog, KeyPatch, OwnerRevocation, OwnerStore, StoreError,
    WriteOptions,
};
use apikey_runtime::{KeyStore, SqliteStore, Timestamp};

use crate::{Place, at, because, id, number, owned, record, run};

fn bound(max: u32) -> WriteOptions {
    WriteOptions::new().with_max_live_keys(Some(max))
}

fn is_full(result: &Result<(), StoreError>, max: u32) -> bool {
    matches!(result, Err(StoreError::TooManyKeys { max: found }) if *found == max)
}

/// Names the file to the child process; without it the child's test does nothing.
const FILE: &str = "APIKEY_TEST_LIVE_KEYS_FILE";
const FIRST: &str = "APIKEY_TEST_LIVE_KEYS_FIRST";

const PROCESSES: u128 = 9;
const TRIES: u128 = 10;
const MAX: u32 = 25;

/// The child process; not a test by itself.
#[tokio::test]
async fn child_that_adds_keys_up_to_the_bound() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let first: u128 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = SqliteStore::new(file);
    store.start().await.unwrap();
    for number in first..first + TRIES {
        let added = store.insert(&owned(number, "acme"), &bound(MAX)).await;
        assert!(added.is_ok() || is_full(&added, MAX), "{added:?}");
    }
}

fn child(place: &Place, first: u128) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "live_keys::child_that_adds_keys_up_to_the_bound"])
        .env(FILE, place.file())
        .env(FIRST, first.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn nine_processes_add_exactly_as_many_keys_as_the_owner_may_have() {
    let place = Place::new();
    let store = place.store().await;
    let children: Vec<_> = (0..PROCESSES)
        .map(|process| child(&place, 1 + process * TRIES))
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let mut tool = place.tool().await;
    assert_eq!(number(&mut tool, "SELECT count(*) FROM api_keys").await, 25);
    assert_eq!(store.count_live_keys("acme", 100).await.unwrap(), MAX);
    let entries = "SELECT count(*) FROM api_key_audit WHERE action = 'created'";
    assert_eq!(number(&mut tool, entries).await, 25);
}

/// Creates a store with `count` keys of `acme`, and its clock.
async fn stocked(count: u128) -> (Place, SqliteStore, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(at(10_000)));
    let place = Place::new();
    let store = SqliteStore::new(place.file()).clock(Arc::clone(&clock) as _);
    store.start().await.unwrap();
    for number in 1..=count {
        store
            .insert(&owned(number, "acme"), &WriteOptions::new())
            .await
            .unwrap();
    }
    (place, store, clock)
}

fn to_owner(owner: &str) -> KeyPatch {
    let mut patch = KeyPatch::new();
    patch.owner = Some(Some(owner.to_owned()));
    patch
}

fn until(end: Option<Timestamp>) -> KeyPatch {
    let mut patch = KeyPatch::new();
    patch.expires = Some(end);
    patch
}

#[tokio::test]
async fn each_write_that_makes_a_key_live_counts_the_others() {
    let (_place, store, clock) = stocked(2).await;
    let mut expired = owned(3, "acme");
    expired.expires = Some(at(10_000));
    // It is not live, so it does not count, and is not counted.
    store.insert(&expired, &bound(2)).await.unwrap();
    let mut revoked = owned(4, "acme");
    revoked.revoked = Some(because("imported"));
    store.insert(&revoked, &bound(2)).await.unwrap();
    store.insert(&owned(5, "b"), &bound(2)).await.unwrap();
    store.insert(&record(6), &bound(0)).await.unwrap();
    assert_eq!(store.count_live_keys("acme", 10).await.unwrap(), 2);
    assert_eq!(store.count_live_keys("acme", 1).await.unwrap(), 1);
    assert_eq!(store.count_live_keys("none", 10).await.unwrap(), 0);

    let epoch = async || store.changes(None, None).await.unwrap().cursor;
    let entries = async || {
        let page = store.read_audit(&AuditQuery::newest(1_000)).await;
        page.unwrap().entries
    };
    let (before, log) = (epoch().await, entries().await);
    assert!(is_full(
        &store.insert(&owned(7, "acme"), &bound(2)).await,
        2
    ));
    for (key, patch) in [
        (5, to_owner("acme")),
        (6, to_owner("acme")),
        (3, until(Some(at(10_001)))),
        (3, until(None)),
    ] {
        let was = store.find(&id(key)).await.unwrap();
        let updated = store.update(&id(key), &patch, &bound(2)).await;
        assert!(is_full(&updated, 2), "{key}: {updated:?}");
        assert_eq!(store.find(&id(key)).await.unwrap(), was);
    }
    // Nothing was changed.
    assert_eq!((epoch().await, entries().await), (before, log));
    assert_eq!(store.find(&id(7)).await.unwrap(), None);

    // What is live already stays, and so does what does not become live.
    for (key, patch) in [
        (1, until(Some(at(90_000)))),
        (1, to_owner("acme")),
        (2, KeyPatch::new()),
        (3, until(Some(at(9_999)))),
        (3, to_owner("acme")),
        (4, until(None)),
        (5, to_owner("c")),
    ] {
        let updated = store.update(&id(key), &patch, &bound(0)).await;
        assert_eq!(updated.is_ok(), key != 5, "{key}: {updated:?}");
    }
    // A key that is given away, or expires, leaves room.
    clock.advance(Duration::from_secs(80));
    assert_eq!(store.count_live_keys("acme", 10).await.unwrap(), 1);
    store
        .update(&id(5), &to_owner("acme"), &bound(2))
        .await
        .unwrap();
    assert!(is_full(
        &store.update(&id(1), &until(None), &bound(2)).await,
        2
    ));
}

/// A disabled key counts, a suspended owner's do, and a revoked owner's do not, marked or not.
#[tokio::test]
async fn keys_that_may_come_back_count() {
    let (place, store, _clock) = stocked(2).await;
    let mut disable = KeyPatch::new();
    disable.enabled = Some(false);
    let none = WriteOptions::new();
    store.update(&id(1), &disable, &none).await.unwrap();
    let origin = ChangeOrigin::new();
    store
        .set_owner_suspended("acme", true, &origin)
        .await
        .unwrap();
    assert_eq!(store.count_live_keys("acme", 10).await.unwrap(), 2);
    assert!(is_full(
        &store.insert(&owned(3, "acme"), &bound(2)).await,
        2
    ));
    let left = OwnerRevocation::new(at(5_000));
    store
        .revoke_owner_keys("acme", &left, &origin)
        .await
        .unwrap();
    assert_eq!(store.count_live_keys("acme", 10).await.unwrap(), 0);
    // A dead key does not come back to life with another owner, nor with a later end.
    for patch in [to_owner("b"), until(None)] {
        store.update(&id(1), &patch, &bound(0)).await.unwrap();
    }
    store.insert(&owned(3, "acme"), &bound(1)).await.unwrap();
    assert!(is_full(
        &store.insert(&owned(4, "acme"), &bound(1)).await,
        1
    ));
    while store.mark_revoked_keys().await.unwrap() {}
    assert_eq!(store.count_live_keys("acme", 10).await.unwrap(), 1);
    assert!(store.revoke(&id(3), &because("lost"), &none).await.unwrap());
    store.insert(&owned(4, "acme"), &bound(1)).await.unwrap();
    // Statements by hand are exempt, and count.
    let mut tool = place.tool().await;
    let by_hand = "INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, enabled, version) \
        VALUES ('0000000000000000000009', 'p', 'l', 'acme', 'd', '', '{}', 0, 1, 1)";
    run(&mut tool, by_hand).await.unwrap();
    assert_eq!(store.count_live_keys("acme", 10).await.unwrap(), 2);
}

/// Another owner's key is not found, whatever its version.
#[tokio::test]
async fn the_owner_is_decided_before_the_version() {
    let (_place, store, _clock) = stocked(1).await;
    store
        .insert(&record(2), &WriteOptions::new())
        .await
        .unwrap();
    let expecting = |owner: &str, version| {
        let options = WriteOptions::new().with_expected_owner(Some(owner.to_owned()));
        options.with_expected_version(Some(version))
    };
    let none = KeyPatch::new();
    for (key, owner, version) in [
        (1, "b", 1),
        (1, "b", 9),
        (1, "ACME", 1),
        (2, "acme", 1),
        (2, "", 1),
    ] {
        let options = expecting(owner, version);
        let updated = store.update(&id(key), &none, &options).await;
        assert!(matches!(updated, Err(StoreError::NotFound)), "{updated:?}");
        let revoked = store.revoke(&id(key), &because("lost"), &options).await;
        assert!(matches!(revoked, Err(StoreError::NotFound)), "{revoked:?}");
    }
    for version in [0, 2, u64::MAX] {
        let options = expecting("acme", version);
        let updated = store.update(&id(1), &none, &options).await;
        assert!(matches!(updated, Err(StoreError::Conflict)), "{updated:?}");
        let revoked = store.revoke(&id(1), &because("lost"), &options).await;
        assert!(matches!(revoked, Err(StoreError::Conflict)), "{revoked:?}");
    }
    store
        .update(&id(1), &none, &expecting("acme", 1))
        .await
        .unwrap();
    let revoked = store
        .revoke(&id(1), &because("lost"), &expecting("acme", 2))
        .await;
    assert!(revoked.unwrap());
    // The condition holds for a key that is revoked already, too.
    let again = store
        .revoke(&id(1), &because("lost"), &expecting("b", 3))
        .await;
    assert!(matches!(again, Err(StoreError::NotFound)), "{again:?}");
}
