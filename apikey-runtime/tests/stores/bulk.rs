//! Bulk changes of a file, and a change log that somebody edited, with managers that follow it.

use std::time::Duration;

use apikey_runtime::store::{
    ChangeLog, ChangeSet, ChangedItem, Cursor, Membership, NodeId, WriteOptions,
};
use apikey_runtime::{ApiKeyManager, Config, DenyReason, KeyStore, NewKey, SqliteStore};
use apikey_test_support::{PATIENCE, soon, within};
use sqlx::SqliteConnection;

use crate::{Place, at, connection, id, number, record, run};

/// Starts a manager with a store of its own, as each process has.
async fn manager(place: &Place, lease: Duration) -> ApiKeyManager {
    let store = SqliteStore::new(place.file()).lease(lease);
    // On a busy machine, the answer of a step must not be lost: its keys would not be counted.
    let patient = Config::builder().store_timeout(Duration::from_secs(30));
    let builder = ApiKeyManager::builder().config(patient.build().unwrap());
    builder.store(store).start().await.unwrap()
}

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let answer = soon(manager.verify(key.expose_secret())).await;
    answer.err().map(|denied| denied.reason())
}

/// Whatever happened to the entries of a revocation, a node that follows the log does not accept
/// the key beyond its lease, and trusts its cache again afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_an_entry_or_has_one_of_another_kind_hides_no_revocation() {
    const NEWEST: &str = "(SELECT max(epoch) FROM api_key_changes)";
    let place = Place::new();
    let node = manager(&place, Duration::from_millis(200)).await;
    let mut tool = place.tool().await;
    let cases = [
        (
            "the newest is gone",
            "DELETE FROM api_key_changes WHERE epoch = NEWEST",
        ),
        (
            "one in the middle is gone",
            "UPDATE api_keys SET label = 'other' WHERE label = 'bystander'; \
             DELETE FROM api_key_changes WHERE epoch = NEWEST - 1",
        ),
        (
            "one of a full page is gone",
            "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1500) \
             INSERT INTO api_key_changes (key_id) SELECT '0000000000000000000001' FROM n; \
             DELETE FROM api_key_changes WHERE epoch = NEWEST - 1500",
        ),
        (
            "a later release logged it",
            "UPDATE api_key_changes SET kind = 'later', key_id = 'acme' WHERE epoch = NEWEST",
        ),
        (
            "anything changed",
            "UPDATE api_key_changes SET kind = 'all', key_id = '' WHERE epoch = NEWEST",
        ),
        (
            "its id cannot be read",
            "UPDATE api_key_changes SET key_id = 'broken' WHERE epoch = NEWEST",
        ),
    ];
    node.create("bystander").await.unwrap();
    for (case, sql) in cases {
        let key = node.create("a").await.unwrap();
        let kept = node.create("kept").await.unwrap();
        // From here on, polls do not evict the key because of its insert.
        let settled = within(PATIENCE, async || {
            let before = node.health().cache_misses;
            refusal(&node, &key).await.is_none() && node.health().cache_misses == before
        });
        assert!(settled.await.is_some(), "{case}");
        let sql = format!(
            "BEGIN IMMEDIATE; UPDATE api_keys SET revoked_at = 1 WHERE id = '{}'; {}; COMMIT",
            key.id(),
            sql.replace("NEWEST", NEWEST)
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut tool)
            .await
            .unwrap();
        let denied = within(PATIENCE, async || {
            refusal(&node, &key).await == Some(DenyReason::Revoked)
        });
        assert!(denied.await.is_some(), "{case}: accepted beyond the lease");
        assert!(
            soon(node.revoke(kept.id()).confirmed())
                .await
                .unwrap()
                .value
        );
        assert_eq!(
            refusal(&node, &kept).await,
            Some(DenyReason::Revoked),
            "{case}"
        );
    }
}

/// A kind that this build does not know is not skipped: a node that acknowledged it has evicted
/// everything.
#[tokio::test]
async fn an_unknown_kind_is_a_resync_with_the_newest_cursor() {
    let place = Place::new();
    let store = place.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let since = store.changes(None, None).await.unwrap().cursor;
    let mut tool = place.tool().await;
    let unknown = "INSERT INTO api_key_changes (key_id, kind) VALUES ('acme', 'later')";
    run(&mut tool, unknown).await.unwrap();
    store.join(&NodeId::from_u128(1)).await.unwrap();
    let changes = store.changes(Some(&since), None).await.unwrap();
    assert_eq!(changes.set, ChangeSet::Resync);
    assert_eq!(changes.cursor.epoch, since.epoch + 2);
    assert_eq!(
        (changes.head, changes.required_protocol),
        (since.epoch + 2, 2)
    );
    store.join(&NodeId::from_u128(2)).await.unwrap();
    let next = store.changes(Some(&changes.cursor), None).await.unwrap();
    assert_eq!(next.set, ChangeSet::Entries(vec![ChangedItem::Member]));
    let protocol = "UPDATE api_key_meta SET required_protocol = 3";
    run(&mut tool, protocol).await.unwrap();
    let next = store.changes(Some(&changes.cursor), None).await.unwrap();
    assert_eq!(next.required_protocol, 3);
}

/// A file with the tables of the first schema, in which a node of that release has worked.
async fn old_file(place: &Place) -> SqliteConnection {
    std::fs::File::create_new(place.file()).unwrap();
    let mut tool = connection(&place.file()).await;
    let schema = include_str!("../../src/store/sqlite/migrations/0100_initial.sql");
    run(&mut tool, "PRAGMA journal_mode = WAL").await.unwrap();
    run(&mut tool, schema).await.unwrap();
    run(
        &mut tool,
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000001', 'my_api', 'a label', 'sha256$00', '', '{}', 1000, 1, 1); \
         INSERT INTO api_key_nodes VALUES ('0000000000000000000007', 2, 5, 0); \
         INSERT INTO api_key_changes (key_id) VALUES ('')",
    )
    .await
    .unwrap();
    tool
}

#[tokio::test]
async fn a_file_of_the_first_schema_is_upgraded_and_its_cursors_stay() {
    let place = Place::new();
    let mut tool = old_file(&place).await;
    let tag: Vec<u8> = sqlx::query_scalar("SELECT tag FROM api_key_changes WHERE epoch = 2")
        .fetch_one(&mut tool)
        .await
        .unwrap();
    let store = place.store().await;
    assert_eq!(
        number(&mut tool, "SELECT schema_version FROM api_key_meta").await,
        108
    );
    let kinds: Vec<String> = sqlx::query_scalar("SELECT kind FROM api_key_changes ORDER BY epoch")
        .fetch_all(&mut tool)
        .await
        .unwrap();
    assert_eq!(kinds, ["all", "key", "member"]);
    let since = Cursor { epoch: 2, tag };
    let changes = store.changes(Some(&since), None).await.unwrap();
    assert_eq!(changes.set, ChangeSet::Entries(vec![ChangedItem::Member]));
    assert_eq!(changes.required_protocol, 2);
    // A process of the old release that still runs logs its join as it always did: not as a key.
    let old_join = "INSERT INTO api_key_changes (key_id) VALUES ('')";
    run(&mut tool, old_join).await.unwrap();
    let next = store.changes(Some(&changes.cursor), None).await.unwrap();
    assert_eq!(next.set, ChangeSet::Resync);
    assert_eq!(store.find(&id(1)).await.unwrap(), Some(record(1)));
    assert_eq!(store.members().await.unwrap().nodes.len(), 1);
    store.stop().await;

    let node = manager(&place, Duration::from_millis(200)).await;
    let key = node.create("a").owner("acme").await.unwrap();
    assert_eq!(refusal(&node, &key).await, None);
    assert!(soon(node.revoke_all("acme")).await.unwrap());
    assert_eq!(refusal(&node, &key).await, Some(DenyReason::Revoked));
    node.shutdown().await.unwrap();
    place.store().await;
}

/// The steps let other processes write. A node keeps its lease, and is not taken for dead.
#[tokio::test(flavor = "multi_thread")]
async fn another_process_keeps_its_lease_and_its_heartbeat_during_a_bulk_change() {
    const KEYS: i64 = 20_000;
    /// Longer than a busy machine keeps a poll waiting.
    const LEASE: Duration = Duration::from_secs(6);
    let place = Place::new();
    let here = manager(&place, LEASE).await;
    let there = manager(&place, LEASE).await;
    let kept = there.create("kept").await.unwrap();
    let mut tool = place.tool().await;
    let keys = "WITH RECURSIVE n (i) AS (VALUES (100000) UNION ALL SELECT i + 1 FROM n WHERE i < 119999) \
         INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, expires_at, enabled, version) \
         SELECT '0000000000000000' || i, 'p', 'l', 'd', '', '{}', 0, 1000, 1, 1 FROM n";
    run(&mut tool, keys).await.unwrap();
    let other = "CREATE TABLE another (n INTEGER)";
    run(&mut tool, other).await.unwrap();
    let epoch = "SELECT max(epoch) FROM api_key_changes";
    let before = number(&mut tool, epoch).await;
    let caught_up = within(PATIENCE, async || {
        let least = "SELECT min(acknowledged) FROM api_key_nodes";
        number(&mut tool, least).await >= before
    });
    assert!(caught_up.await.is_some());
    assert_eq!(refusal(&there, &kept).await, None);
    let misses = there.health().cache_misses;

    let purging = tokio::spawn({
        let here = here.clone();
        async move { here.purge(at(2_000)).await }
    });
    let mut let_in = 0;
    while !purging.is_finished() {
        assert!(
            there.health().lease_remaining.is_some(),
            "it keeps its lease"
        );
        let suspected = "SELECT count(*) FROM api_key_nodes WHERE suspected = 1";
        assert_eq!(number(&mut tool, suspected).await, 0);
        let write = "BEGIN IMMEDIATE; INSERT INTO another VALUES (1)";
        run(&mut tool, write).await.unwrap();
        let reached = number(&mut tool, epoch).await;
        run(&mut tool, "COMMIT").await.unwrap();
        let_in += usize::from(reached > before && reached < before + KEYS);
    }
    assert_eq!(purging.await.unwrap().unwrap(), KEYS as u64);
    assert!(let_in >= 5, "another writer got {let_in} turns");
    assert_eq!(refusal(&there, &kept).await, None);
    assert_eq!(
        there.health().cache_misses,
        misses,
        "only what was removed left the cache"
    );
    let left = "SELECT count(*) FROM api_keys";
    assert_eq!(number(&mut tool, left).await, 1);
}
