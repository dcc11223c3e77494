//! Calls that wait, fail at their commit, or are abandoned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ChangeLog, ChangeSet, KeyPatch, Membership, NodeId, OwnerStore, StoreError, WriteOptions,
};
use apikey_runtime::{ApiKeyManager, KeyStore, PostgresStore};
use apikey_test_support::{PATIENCE, SLACK, within};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::faults::{DEADLINE, is_unavailable};
use super::{connection, cursor, for_reason, history, number, place, run, until_waiting};
use crate::{because, id, owned, record};

/// Reads that wait for a lock, as for a slow disk, take all connections except those of polls.
#[tokio::test]
async fn a_flood_of_reads_puts_no_poll_off() {
    let place = place!();
    let store = Arc::new(place.store());
    store.start().await.unwrap();
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "BEGIN; LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE",
    )
    .await
    .unwrap();
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let store = Arc::clone(&store);
        calls.spawn(async move { store.find(&id(number)).await });
    }
    sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    store.changes(None, None).await.unwrap();
    store.members().await.unwrap();
    assert!(began.elapsed() < SLACK, "{:?}", began.elapsed());
    assert!(calls.try_join_next().is_none(), "the flood is still there");
    run(&mut tool, "COMMIT").await.unwrap();
    while let Some(call) = calls.join_next().await {
        assert_eq!(call.unwrap().unwrap(), None);
    }
}

/// When a caller abandons a call, the server abandons it too, and does not execute it later.
#[tokio::test]
async fn an_abandoned_call_does_not_live_on_in_the_server() {
    let place = place!();
    // Longer than the test, so that the server does not give up by itself.
    let store = place.store().timeout(PATIENCE);
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = place.tool().await;
    run(&mut tool, "BEGIN; SELECT * FROM api_keys FOR UPDATE")
        .await
        .unwrap();
    const WAITING: &str = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) \
         WHERE NOT granted AND query LIKE '%UPDATE api_keys AS key SET revoked_at%' \
         AND query NOT LIKE '%pg_locks%' \
         AND pid IN (SELECT pid FROM pg_locks WHERE relation = 'api_keys'::regclass)";
    let mut other = place.tool().await;
    let (id_1, reason, options) = (id(1), because("lost"), WriteOptions::new());
    // The server notices soon after that nobody listens any more, so the look comes before.
    tokio::select! {
        revoked = store.revoke(&id_1, &reason, &options) => panic!("{revoked:?}"),
        seen = within(PATIENCE, async || number(&mut other, WAITING).await == 1) => {
            assert!(seen.is_some(), "it does not wait");
        }
    }
    let began = Instant::now();
    while number(&mut other, WAITING).await > 0 {
        assert!(began.elapsed() < SLACK, "it keeps waiting");
        sleep(Duration::from_millis(20)).await;
    }
    run(&mut tool, "COMMIT").await.unwrap();
    assert_eq!(store.find(&id(1)).await.unwrap().unwrap().revoked, None);
    assert!(
        store
            .revoke(&id(1), &because("lost"), &WriteOptions::new())
            .await
            .unwrap()
    );
}

/// The statement is done, and its commit waits for a locked counter: the call does not return `Ok`.
#[tokio::test]
async fn a_commit_that_fails_is_a_failure() {
    let place = place!();
    let store = place.store().timeout(DEADLINE);
    store.start().await.unwrap();
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&record(3), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = place.tool().await;
    run(&mut tool, "BEGIN; SELECT * FROM api_key_meta FOR UPDATE")
        .await
        .unwrap();
    assert!(is_unavailable(
        &store
            .revoke(&id(1), &because("lost"), &WriteOptions::new())
            .await
    ));
    // The server abandons the call by itself; until then it would get the lock next.
    let mut other = place.tool().await;
    while number(
        &mut other,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    .await
        > 0
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    run(&mut tool, "ROLLBACK").await.unwrap();

    let left = for_reason(3_000, "left");
    store
        .revoke_owner_keys("a", &left, &ChangeOrigin::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    run(
        &mut tool,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ \
            BEGIN RAISE EXCEPTION 'not today'; END $$; \
         CREATE CONSTRAINT TRIGGER zz_refused AFTER INSERT OR UPDATE OR DELETE ON api_keys \
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await
    .unwrap();
    for outcome in [
        store.insert(&record(2), &WriteOptions::new()).await,
        store
            .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
            .await,
        store
            .revoke(&id(3), &because("lost"), &WriteOptions::new())
            .await
            .map(drop),
        store.mark_revoked_keys().await.map(drop),
    ] {
        assert!(
            matches!(outcome, Err(StoreError::Backend { .. })),
            "{outcome:?}"
        );
    }
    run(&mut tool, "DROP TRIGGER zz_refused ON api_keys")
        .await
        .unwrap();
    let unmarked = "SELECT count(*) FROM api_keys WHERE revoked_at IS NULL AND version = 1";
    assert_eq!(number(&mut tool, unmarked).await, 2);
    assert_eq!(
        history(&store, &since).await,
        ChangeSet::Entries(Vec::new())
    );
}

/// A write that is given up and repeated on a slow disk would never succeed.
#[tokio::test]
async fn what_a_node_writes_about_itself_waits_longer_than_other_calls() {
    let place = place!();
    let store = place.store().timeout(DEADLINE);
    store.start().await.unwrap();
    let node = NodeId::from_u128(1);
    store.join(&node).await.unwrap();
    let (newest, record) = (cursor(&store).await, record(1));
    let options = WriteOptions::new();
    let mut tool = place.tool().await;
    run(&mut tool, "BEGIN; LOCK TABLE api_key_nodes, api_keys")
        .await
        .unwrap();
    let calls = async {
        tokio::join!(
            store.join(&node),
            store.acknowledge(&node, &newest),
            store.insert(&record, &options)
        )
    };
    let release = async {
        sleep(DEADLINE + Duration::from_millis(500)).await;
        run(&mut tool, "COMMIT").await.unwrap();
    };
    let ((joined, acknowledged, inserted), ()) = tokio::join!(calls, release);
    joined.unwrap();
    acknowledged.unwrap();
    assert!(is_unavailable(&inserted));
}

/// Two statements that lock each other's rows: the server rolls one back, and the store retries it.
#[tokio::test]
async fn a_statement_that_lost_a_deadlock_is_tried_again() {
    let place = place!();
    let store = Arc::new(place.started().await);
    for number in 1..=2 {
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
    }
    let mut tool = place.tool().await;
    // The statement that has waited longer for a lock is rolled back: the tool's own setting makes
    // it wait longer.
    run(
        &mut tool,
        "SET deadlock_timeout = '5s'; BEGIN; UPDATE api_keys SET label = 'x' WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    let left = for_reason(3_000, "left");
    store
        .revoke_owner_keys("a", &left, &ChangeOrigin::new())
        .await
        .unwrap();
    let marking = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.mark_revoked_keys().await }
    });
    let mut other = place.tool().await;
    while number(
        &mut other,
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'",
    )
    .await
        == 0
    {
        sleep(Duration::from_millis(5)).await;
    }
    run(
        &mut tool,
        "UPDATE api_keys SET label = 'x' WHERE id LIKE '%1'; COMMIT",
    )
    .await
    .unwrap();
    assert!(!marking.await.unwrap().unwrap());
    let marked = "SELECT count(*) FROM api_keys WHERE revoked_at = 3000 AND label = 'x'";
    assert_eq!(number(&mut other, marked).await, 2);
}

/// A pooler, or an operator, ends a session of the store.
#[tokio::test]
async fn sessions_that_are_ended_by_hand_cost_no_write() {
    let place = place!();
    let name = place.schema.replace(' ', "-");
    let url = format!("{}&application_name={name}", place.url());
    let store = PostgresStore::new(url);
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = '{name}'"
    );
    let mut tool = connection(&place.server.url()).await;
    assert!(number(&mut tool, &end).await > 0);
    sleep(Duration::from_millis(1_100)).await;
    assert!(
        store
            .revoke(&id(1), &because("lost"), &WriteOptions::new())
            .await
            .unwrap()
    );
    assert!(store.changes(None, None).await.is_ok());
}

/// The server ends a call that waits for too long, and the start makes it again.
#[tokio::test]
async fn a_manager_starts_after_the_server_ended_a_call_that_waited() {
    let place = place!();
    place.started().await.stop().await;
    let (mut tool, mut other) = (place.tool().await, place.tool().await);
    run(&mut tool, "BEGIN; LOCK TABLE api_key_nodes")
        .await
        .unwrap();
    let start = ApiKeyManager::builder().store(place.store());
    let release = async {
        until_waiting(&place, &mut tool, 1).await;
        const CANCEL: &str = "SELECT count(pg_cancel_backend(pid)) FROM pg_locks \
            WHERE NOT granted AND relation = 'api_key_nodes'::regclass";
        assert_eq!(number(&mut other, CANCEL).await, 1);
        // It waits again.
        until_waiting(&place, &mut tool, 1).await;
        run(&mut tool, "COMMIT").await.unwrap();
    };
    let (started, ()) = tokio::join!(async { start.start().await }, release);
    started.unwrap().shutdown().await.unwrap();
}
