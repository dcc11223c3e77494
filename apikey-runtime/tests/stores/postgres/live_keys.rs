//! The most live keys of an owner, from several nodes at once.

use std::sync::Arc;

use apikey_runtime::store::{KeyPatch, OwnerStore, StoreError, WriteOptions};
use apikey_runtime::{KeyStore, PostgresStore};
use apikey_test_support::servers::postgres::Postgres;
use tokio::task::JoinSet;

use super::owners::to_owner;
use super::{Place, for_reason, number, place, run, until_waiting};
use crate::{at, because, id, owned};

const NODES: u128 = 9;

fn max(keys: u32) -> WriteOptions {
    WriteOptions::new().with_max_live_keys(Some(keys))
}

/// Returns a patch that sets another end.
fn until(end: Option<i64>) -> KeyPatch {
    let mut patch = KeyPatch::new();
    patch.expires = Some(end.map(at));
    patch
}

fn is_refused(outcome: &Result<(), StoreError>, most: u32) -> bool {
    matches!(outcome, Err(StoreError::TooManyKeys { max }) if *max == most)
}

/// Nine nodes, each with connections of its own, add keys to one owner in each way: new ones, another owner's, and expired
/// ones that end later.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nine_nodes_at_the_edge_admit_exactly_the_most_live_keys() {
    const MOST: u32 = 20;
    let Some(server) = Postgres::start() else {
        return;
    };
    let place = Place::on(&server).await;
    let first = place.started().await;
    for node in 0..NODES {
        for key in 0..4 {
            let base = 1_000 * (node + 1);
            let other = owned(base + 100 + key, &format!("other {node}"));
            first.insert(&other, &WriteOptions::new()).await.unwrap();
            let mut expired = owned(base + 200 + key, "a");
            expired.expires = Some(at(5));
            first.insert(&expired, &max(0)).await.unwrap();
        }
    }
    let mut nodes = JoinSet::new();
    for node in 0..NODES {
        let store = place.started().await;
        nodes.spawn(async move { add_in_each_way(&store, 1_000 * (node + 1), MOST).await });
    }
    let admitted: u32 = nodes.join_all().await.into_iter().sum();
    assert_eq!(admitted, MOST);
    assert_eq!(first.count_live_keys("a", 100).await.unwrap(), MOST);
    let mut tool = place.tool().await;
    let audited = "SELECT count(*) FROM api_key_audit WHERE owner = 'a' AND (action <> 'created' OR fields NOT LIKE '%expires_at%')";
    assert_eq!(number(&mut tool, audited).await, i64::from(MOST));
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(number(&mut tool, deadlocks).await, 0);
    // A place is free again for each way in which a key ends.
    let refused = first.insert(&owned(1, "a"), &max(MOST)).await;
    assert!(is_refused(&refused, MOST), "{refused:?}");
    let all = for_reason(3_000, "lost");
    first
        .revoke_owner_keys("a", &all, &Default::default())
        .await
        .unwrap();
    first.insert(&owned(1, "a"), &max(1)).await.unwrap();
    let refused = first.insert(&owned(2, "a"), &max(1)).await;
    assert!(is_refused(&refused, 1), "{refused:?}");
    first
        .revoke(&id(1), &because("lost"), &max(1))
        .await
        .unwrap();
    first.insert(&owned(2, "a"), &max(1)).await.unwrap();
}

/// Returns how many keys were admitted. A failure of any other kind is one of the test.
async fn add_in_each_way(store: &PostgresStore, base: u128, most: u32) -> u32 {
    let mut admitted = 0;
    for key in 0..4 {
        let outcomes = [
            store.insert(&owned(base + key, "a"), &max(most)).await,
            store
                .update(&id(base + 100 + key), &to_owner("a"), &max(most))
                .await,
            store
                .update(&id(base + 200 + key), &until(None), &max(most))
                .await,
        ];
        for outcome in outcomes {
            match outcome {
                Ok(()) => admitted += 1,
                refused => assert!(is_refused(&refused, most), "{refused:?}"),
            }
        }
    }
    admitted
}

const OPEN_INSERT: &str = "BEGIN; SELECT set_config('apikey.origin', '{\"max_live_keys\":2}', TRUE); \
    INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, enabled, version) \
    VALUES ('0000000000000000000009', 'p', 'l', 'a', 'd', '', '{}', 0, TRUE, 1)";

/// A write at the edge beside one that has not committed yet. Returns whether it waited, and whether it was refused.
async fn beside(write: u32, spoil: &str) -> Option<(bool, bool)> {
    let server = super::server()?;
    let place = Place::on(server).await;
    let store = Arc::new(place.started().await);
    let mut tool = place.tool().await;
    store.insert(&owned(1, "a"), &max(1)).await.unwrap();
    store.insert(&owned(2, "b"), &max(1)).await.unwrap();
    let mut expired = owned(3, "a");
    expired.expires = Some(at(5));
    store.insert(&expired, &max(0)).await.unwrap();
    run(&mut tool, spoil).await.unwrap();
    run(&mut tool, OPEN_INSERT).await.unwrap();
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            match write {
                0 => store.insert(&owned(4, "a"), &max(2)).await,
                1 => store.update(&id(2), &to_owner("a"), &max(2)).await,
                _ => store.update(&id(3), &until(Some(i64::MAX)), &max(2)).await,
            }
        }
    });
    let waits = spoil.is_empty();
    if waits {
        until_waiting(&place, &mut tool, 1).await;
    } else {
        while !writing.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    run(&mut tool, "COMMIT").await.unwrap();
    let outcome = writing.await.unwrap();
    let live = store.count_live_keys("a", 10).await.unwrap();
    assert_eq!(live, if outcome.is_ok() { 3 } else { 2 });
    Some((waits, is_refused(&outcome, 2)))
}

const WITHOUT_TURNS: &str = "CREATE OR REPLACE FUNCTION api_key_owner_turn(name text) RETURNS bigint \
    LANGUAGE sql VOLATILE AS $$ SELECT (random() * 1000000000)::bigint $$";

#[tokio::test]
async fn a_write_waits_for_one_that_may_take_the_last_place() {
    for write in 0..3 {
        let Some(outcome) = beside(write, "").await else {
            return;
        };
        assert_eq!(outcome, (true, true), "{write}");
        // Negative control.
        let outcome = beside(write, WITHOUT_TURNS).await.unwrap();
        assert_eq!(outcome, (false, false), "{write}");
    }
}

/// The key comes to another owner while a write waits for it: the write counts the keys of that owner, in its turn.
#[tokio::test]
async fn a_write_follows_a_key_that_comes_to_another_owner() {
    let place = place!();
    let store = Arc::new(place.started().await);
    let (mut mover, mut other) = (place.tool().await, place.tool().await);
    store.insert(&owned(1, "b"), &max(1)).await.unwrap();
    let mut expired = owned(3, "a");
    expired.expires = Some(at(5));
    store.insert(&expired, &max(0)).await.unwrap();
    let give = "BEGIN; UPDATE api_keys SET owner = 'b' WHERE id LIKE '%3'";
    run(&mut mover, give).await.unwrap();
    run(&mut other, &OPEN_INSERT.replace("'a'", "'b'"))
        .await
        .unwrap();
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.update(&id(3), &until(None), &max(2)).await }
    });
    until_waiting(&place, &mut mover, 1).await;
    run(&mut mover, "COMMIT").await.unwrap();
    until_waiting(&place, &mut other, 1).await;
    run(&mut other, "COMMIT").await.unwrap();
    let outcome = writing.await.unwrap();
    assert!(is_refused(&outcome, 2), "{outcome:?}");
    assert_eq!(store.count_live_keys("b", 10).await.unwrap(), 2);
}

/// Only a write that makes a key live counts.
#[tokio::test]
async fn a_write_that_adds_no_live_key_is_never_one_too_many() {
    let place = place!();
    let store = place.started().await;
    store.insert(&owned(1, "a"), &max(1)).await.unwrap();
    // Live keys that stay, keys that are not live, and those without an owner.
    store
        .update(&id(1), &until(Some(i64::MAX)), &max(0))
        .await
        .unwrap();
    store.update(&id(1), &to_owner("a"), &max(0)).await.unwrap();
    store.insert(&crate::record(2), &max(0)).await.unwrap();
    let mut dead = owned(3, "a");
    dead.revoked = Some(because("lost"));
    store.insert(&dead, &max(0)).await.unwrap();
    store.update(&id(3), &until(None), &max(0)).await.unwrap();
    let mut expired = owned(4, "b");
    expired.expires = Some(at(5));
    store.insert(&expired, &max(0)).await.unwrap();
    store.update(&id(4), &to_owner("a"), &max(0)).await.unwrap();
    // A key that is there is a conflict, and no key too many.
    let again = store.insert(&owned(1, "a"), &max(1)).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "{again:?}");
    // SQL by hand is exempt, and is counted.
    let mut tool = place.tool().await;
    super::bulk::add(&mut tool, 50, 52, "'a'", "NULL").await;
    assert_eq!(store.count_live_keys("a", 10).await.unwrap(), 4);
    let refused = store.update(&id(4), &until(None), &max(4)).await;
    assert!(is_refused(&refused, 4), "{refused:?}");
    store.update(&id(4), &until(None), &max(5)).await.unwrap();
    assert_eq!(store.count_live_keys("nobody", 10).await.unwrap(), 0);
}
