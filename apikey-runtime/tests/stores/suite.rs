//! S-02: one suite for all stores.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::conformance::{self, Report};
use apikey_runtime::store::{
    ChangeLog, ChangeSet, Cursor, KeyPatch, Membership, NodeId, WriteOptions,
};
use apikey_runtime::{KeyStore, MemoryStore, SqliteStore};

use apikey_test_support::store::RecordsOnly;

use crate::{Place, id, keys_in, record};

fn in_memory() -> Arc<dyn KeyStore> {
    Arc::new(MemoryStore::new())
}

pub(crate) fn passed_all(report: &Report) {
    assert!(
        report.passed.iter().copied().eq(conformance::checks()),
        "{report:?}"
    );
    assert!(report.skipped.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s02_the_store_in_memory_passes_on_many_threads() {
    passed_all(&conformance::run(|| async { in_memory() }).await);
}

#[tokio::test]
async fn s02_the_store_in_memory_passes_on_one_thread() {
    passed_all(&conformance::run(|| async { in_memory() }).await);
}

/// Creates a store in a new file within `place`.
fn in_file(place: &Place) -> Arc<dyn KeyStore> {
    let file = tempfile::NamedTempFile::new_in(place.0.path()).unwrap();
    let path = file.into_temp_path();
    // The name is reserved, and the store creates the file.
    let kept = path.to_path_buf();
    path.close().unwrap();
    Arc::new(SqliteStore::new(kept))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s02_the_store_in_a_file_passes_on_many_threads() {
    let place = Place::new();
    passed_all(&conformance::run(|| async { in_file(&place) }).await);
}

#[tokio::test]
async fn s02_the_store_in_a_file_passes_on_one_thread() {
    let place = Place::new();
    passed_all(&conformance::run(|| async { in_file(&place) }).await);
}

#[tokio::test]
async fn a_check_runs_by_its_name() {
    for name in conformance::checks() {
        assert!(
            conformance::check(name, || async { in_memory() }).await,
            "{name}"
        );
    }
}

#[tokio::test]
#[should_panic(expected = "no check has the name `nonsense`")]
async fn a_check_that_there_is_not_is_no_pass() {
    conformance::check("nonsense", || async { in_memory() }).await;
}

#[tokio::test]
async fn a_store_without_a_history_is_told_what_was_not_checked() {
    let make = || async { Arc::new(RecordsOnly::default()) as Arc<dyn KeyStore> };
    let report = conformance::run(make).await;
    assert_eq!(
        report.passed.len() + report.skipped.len(),
        conformance::checks().count()
    );
    // A store that has all of these skips no check.
    let parts = [
        "one record at a time",
        "change log",
        "member list",
        "keep owners",
        "audit log",
        "count limits",
        "keep usage",
        "keep notices",
        "keep shared secrets",
        "cannot be copied",
    ];
    for part in parts {
        let is_named = report.skipped.iter().any(|(_, why)| why.contains(part));
        assert!(is_named, "{part}: {report:?}");
    }
    for (check, why) in &report.skipped {
        let named = parts.iter().filter(|part| why.contains(**part));
        assert_eq!(named.count(), 1, "{check}: {why}");
    }
    assert!(!conformance::check(report.skipped[0].0, make).await);
}

#[tokio::test]
async fn the_log_in_memory_is_trimmed_to_what_every_node_has_acknowledged() {
    let store = MemoryStore::new().with_lease(Duration::from_secs(7));
    let ask = async |since: Option<&Cursor>| store.changes(since, None).await.unwrap();
    let start = ask(None).await;
    assert_eq!(start.lease, Duration::from_secs(7));
    let [near, far] = [1, 2].map(NodeId::from_u128);
    store.join(&near).await.unwrap();
    store.join(&far).await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let behind = ask(None).await.cursor;
    store.acknowledge(&far, &behind).await.unwrap();
    for _ in 0..1_500 {
        store
            .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
            .await
            .unwrap();
    }
    let newest = ask(None).await.cursor;
    // A node that has not acknowledged yet keeps the whole log.
    assert_eq!(ask(Some(&start.cursor)).await.cursor.epoch, 1_000);
    store.acknowledge(&near, &newest).await.unwrap();
    assert_eq!(ask(Some(&start.cursor)).await.set, ChangeSet::Resync);
    assert_eq!(
        keys_in(ask(Some(&behind)).await.set).len(),
        1_000,
        "the far node's position stays"
    );
    store.acknowledge(&far, &newest).await.unwrap();
    store.acknowledge(&far, &newest).await.unwrap();
    assert_eq!(ask(Some(&behind)).await.set, ChangeSet::Resync);
    assert_eq!(keys_in(ask(Some(&newest)).await.set), []);
}
