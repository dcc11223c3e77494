//! The change log of a file.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::store::{
    ChangeLog, ChangeSet, Cursor, KeyPatch, Membership, NodeId, WriteOptions,
};
use apikey_runtime::{KeyStore, SqliteStore};
use apikey_test_support::{PATIENCE, within};

use crate::{Place, because, id, keys_in, number, record, run};

async fn history(store: &SqliteStore, since: &Cursor) -> ChangeSet {
    store.changes(Some(since), None).await.unwrap().set
}

async fn cursor(store: &SqliteStore) -> Cursor {
    store.changes(None, None).await.unwrap().cursor
}

/// V-19: the first to start commits last. SQLite makes the second wait, so the log has the order of
/// commits, and a reader in between sees neither.
#[tokio::test]
async fn v19_of_two_changes_in_flight_none_is_missed() {
    let place = Place::new();
    let store = Arc::new(place.store().await);
    for number in 1..=2 {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
    }
    let mut since = cursor(&store).await;
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "BEGIN IMMEDIATE; UPDATE api_keys SET enabled = 0 WHERE id LIKE '%1'",
    )
    .await
    .unwrap();
    let second = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            store
                .revoke(&id(2), &because("lost"), &WriteOptions::new())
                .await
        }
    });
    for _ in 0..10 {
        let changes = store.changes(Some(&since), None).await.unwrap();
        assert_eq!(changes.set, ChangeSet::Entries(Vec::new()));
        since = changes.cursor;
    }
    assert!(!second.is_finished(), "one transaction writes at a time");
    run(&mut tool, "COMMIT").await.unwrap();
    assert!(second.await.unwrap().unwrap());
    assert_eq!(
        history(&store, &since).await,
        ChangeSet::of_keys([id(1), id(2)])
    );
}

/// V-19, the other way round: a transaction that read before another's commit cannot write after
/// it.
#[tokio::test]
async fn v19_a_transaction_with_an_old_snapshot_does_not_commit() {
    let place = Place::new();
    let store = place.store().await;
    for number in 1..=2 {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
    }
    let mut tool = place.tool().await;
    run(&mut tool, "BEGIN; SELECT count(*) FROM api_keys")
        .await
        .unwrap();
    store
        .revoke(&id(2), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    let late = run(&mut tool, "UPDATE api_keys SET enabled = 0")
        .await
        .unwrap_err();
    assert!(late.to_string().contains("locked"), "{late}");
    run(&mut tool, "ROLLBACK").await.unwrap();
    assert!(store.find(&id(2)).await.unwrap().unwrap().enabled);
}

#[tokio::test]
async fn a_file_restored_from_an_older_copy_does_not_know_newer_cursors() {
    let place = Place::new();
    let store = place.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let shared = cursor(&store).await;
    store.stop().await;
    let copy = place.0.path().join("copy.db");
    std::fs::copy(place.file(), &copy).unwrap();

    store.start().await.unwrap();
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    let newer = cursor(&store).await;
    store.stop().await;
    std::fs::copy(&copy, place.file()).unwrap();

    store.start().await.unwrap();
    assert_eq!(
        history(&store, &newer).await,
        ChangeSet::Resync,
        "it is ahead"
    );
    store
        .insert(&record(2), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(
        cursor(&store).await.epoch,
        newer.epoch,
        "as many changes as before"
    );
    assert_eq!(
        history(&store, &newer).await,
        ChangeSet::Resync,
        "but others"
    );
    assert_eq!(
        history(&store, &shared).await,
        ChangeSet::of_keys([id(2)]),
        "from before the copy"
    );
    store.stop().await;
}

/// Even if a node does not acknowledge, and so keeps the log, it does not grow without end.
#[tokio::test]
async fn the_log_is_trimmed_to_a_million_changes() {
    let place = Place::new();
    let store = place.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    store
        .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = place.tool().await;
    let skip = "UPDATE sqlite_sequence SET seq = seq + 999998 WHERE name = 'api_key_changes'";
    run(&mut tool, skip).await.unwrap();
    store
        .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
        .await
        .unwrap();
    let least = "SELECT min(epoch) FROM api_key_changes";
    assert_eq!(number(&mut tool, least).await, since.epoch as i64 + 1);
    assert_eq!(history(&store, &since).await, ChangeSet::Resync);
    let present = cursor(&store).await;
    store
        .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(history(&store, &present).await, ChangeSet::of_keys([id(1)]));
}

/// A heartbeat removes what every node has acknowledged, a thousand rows at most.
#[tokio::test]
async fn heartbeats_trim_the_log_to_what_every_node_has_acknowledged() {
    let place = Place::new();
    let store = place.store().await;
    let [near, far] = [1, 2].map(NodeId::from_u128);
    store.join(&near).await.unwrap();
    store.join(&far).await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let behind = cursor(&store).await;
    store.acknowledge(&far, &behind).await.unwrap();
    let mut tool = place.tool().await;
    let changes = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
         INSERT INTO api_key_changes (key_id) SELECT '0000000000000000000001' FROM n";
    run(&mut tool, changes).await.unwrap();
    let newest = cursor(&store).await;
    let least = "SELECT min(epoch) FROM api_key_changes";
    let mut trimmed_to = async |epoch: u64| {
        let done = within(PATIENCE, async || {
            let before = number(&mut tool, least).await;
            store.acknowledge(&near, &newest).await.unwrap();
            let after = number(&mut tool, least).await;
            assert!(after <= before + 1_000 && after <= epoch as i64);
            after == epoch as i64
        });
        done.await.is_some()
    };
    assert!(
        trimmed_to(behind.epoch).await,
        "the far node's position stays"
    );
    assert_eq!(keys_in(history(&store, &behind).await).len(), 1_000);
    store.acknowledge(&far, &newest).await.unwrap();
    assert!(trimmed_to(newest.epoch).await);
    assert_eq!(keys_in(history(&store, &newest).await), []);
}

#[tokio::test]
async fn an_emptied_log_is_an_error_till_the_next_start_and_forgets_all_cursors() {
    let place = Place::new();
    let store = place.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let before = cursor(&store).await;
    let mut tool = place.tool().await;
    run(&mut tool, "DELETE FROM api_key_changes").await.unwrap();
    assert!(store.changes(Some(&before), None).await.is_err());
    store.stop().await;
    store.start().await.unwrap();
    assert!(
        cursor(&store).await.epoch > before.epoch,
        "the counter is not the log's"
    );
    assert_eq!(history(&store, &before).await, ChangeSet::Resync);
}

#[tokio::test]
async fn the_lease_is_a_row_of_the_file_that_all_use() {
    let place = Place::new();
    let lease = async |store: &SqliteStore| store.changes(None, None).await.unwrap().lease;
    let first = place.store().await;
    assert_eq!(lease(&first).await, Duration::from_millis(200));
    let second = SqliteStore::new(place.file()).lease(Duration::from_millis(1_500));
    second.start().await.unwrap();
    assert_eq!(lease(&first).await, Duration::from_millis(1_500));
    assert_eq!(lease(&second).await, Duration::from_millis(1_500));
    assert_eq!(
        lease(&place.store().await).await,
        Duration::from_millis(1_500),
        "a limit of 0"
    );
    for out in [
        Duration::from_millis(19),
        Duration::from_millis(60_001),
        Duration::ZERO,
    ] {
        let error = SqliteStore::new(place.file())
            .lease(out)
            .start()
            .await
            .unwrap_err();
        assert!(error.to_string().contains("20 ms to 60 s"), "{error}");
    }
}
