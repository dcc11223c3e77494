//! V-19: epochs are in commit order, and writers do not wait for a transaction that stays open.

use std::collections::HashSet;
use std::time::Duration;

use apikey_runtime::store::{
    ChangeLog, ChangeSet, ChangedItem, Cursor, KeyPatch, Membership, NodeId, WriteOptions,
};
use apikey_runtime::{KeyId, KeyStore, PostgresStore};
use apikey_test_support::servers::postgres::EPOCHS_FROM_A_SEQUENCE;
use apikey_test_support::{PATIENCE, soon};
use sqlx::PgConnection;
use tokio::time::timeout;

use super::bulk::{add, until_trimmed};
use super::{Place, changed, cursor, number, place, run};
use crate::{because, id, record};

/// Follows the change log, as a node does.
struct Follower {
    cursor: Cursor,
    heard: HashSet<KeyId>,
}

impl Follower {
    async fn poll(&mut self, store: &PostgresStore) {
        let changes = store.changes(Some(&self.cursor), None).await.unwrap();
        match changes.set {
            ChangeSet::Entries(items) => {
                self.heard
                    .extend(items.into_iter().filter_map(ChangedItem::key));
            }
            // A node that evicts everything now does not keep records from before, and does not
            // miss later changes.
            ChangeSet::Resync => {}
        }
        self.cursor = changes.cursor;
    }
}

/// Two concurrent transactions; the first to change a key commits last. Returns which of the two
/// keys a follower misses.
async fn missed(replace_log: Option<&str>) -> Option<Vec<KeyId>> {
    let server = super::server()?;
    let place = super::Place::on(server).await;
    let store = place.started().await;
    for number in 1..=2 {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
    }
    let (mut first, mut second) = (place.tool().await, place.tool().await);
    if let Some(sql) = replace_log {
        run(&mut first, sql).await.unwrap();
        store
            .insert(&record(3), &WriteOptions::new())
            .await
            .unwrap();
    }
    let mut follower = Follower {
        cursor: cursor(&store).await,
        heard: HashSet::new(),
    };
    run(
        &mut first,
        "BEGIN; UPDATE api_keys SET enabled = FALSE WHERE id LIKE '%1'",
    )
    .await
    .unwrap();
    run(
        &mut second,
        "BEGIN; UPDATE api_keys SET enabled = FALSE WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    follower.poll(&store).await;
    run(&mut second, "COMMIT").await.unwrap();
    follower.poll(&store).await;
    run(&mut first, "COMMIT").await.unwrap();
    follower.poll(&store).await;
    let missed = [id(1), id(2)]
        .into_iter()
        .filter(|id| !follower.heard.contains(id));
    Some(missed.collect())
}

#[tokio::test]
async fn v19_of_two_changes_in_flight_none_is_missed() {
    let Some(missed) = missed(None).await else {
        return;
    };
    assert_eq!(missed, []);
}

/// Negative control.
#[tokio::test]
async fn v19_with_a_sequence_the_change_that_commits_last_is_missed() {
    let Some(missed) = missed(Some(EPOCHS_FROM_A_SEQUENCE)).await else {
        return;
    };
    assert!(missed.contains(&id(1)), "{missed:?}");
}

#[tokio::test]
async fn a_transaction_that_stays_open_delays_no_change_of_another_key() {
    let place = place!();
    let store = place.started().await;
    for number in 1..=3 {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
    }
    let mut tool = place.tool().await;
    let since = cursor(&store).await;
    run(
        &mut tool,
        "BEGIN; UPDATE api_keys SET label = 'x' WHERE id LIKE '%1'; \
         UPDATE api_keys SET label = 'y' WHERE id LIKE '%1'",
    )
    .await
    .unwrap();
    let others = async {
        store
            .revoke(&id(2), &because("lost"), &WriteOptions::new())
            .await
            .unwrap();
        store
            .update(&id(3), &KeyPatch::new(), &WriteOptions::new())
            .await
            .unwrap();
        store
            .insert(&record(4), &WriteOptions::new())
            .await
            .unwrap();
        assert!(store.find(&id(1)).await.unwrap().is_some());
        assert_eq!(changed(&store, &since).await, [id(2), id(3), id(4)]);
    };
    timeout(PATIENCE, others).await.unwrap();
    run(&mut tool, "COMMIT").await.unwrap();
    assert_eq!(
        changed(&store, &since).await,
        [id(2), id(3), id(4), id(1), id(1)]
    );
}

/// If a session makes the triggers immediate, writers wait, and the order still holds.
#[tokio::test]
async fn v19_with_constraints_set_immediate_others_wait_and_none_is_missed() {
    let place = place!();
    let store = place.started().await;
    for number in 1..=2 {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
    }
    let since = cursor(&store).await;
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "BEGIN; SET CONSTRAINTS ALL IMMEDIATE; UPDATE api_keys SET label = 'x' WHERE id LIKE '%1'",
    )
    .await
    .unwrap();
    let reason = because("lost");
    let second_id = id(2);
    let options = WriteOptions::new();
    let mut second = std::pin::pin!(store.revoke(&second_id, &reason, &options));
    assert!(
        timeout(Duration::from_millis(300), &mut second)
            .await
            .is_err()
    );
    assert_eq!(changed(&store, &since).await, []);
    run(&mut tool, "COMMIT").await.unwrap();
    assert!(second.await.unwrap());
    assert_eq!(changed(&store, &since).await, [id(1), id(2)]);
}

/// A transaction under another isolation level must not number changes that it cannot see.
#[tokio::test]
async fn v19_a_transaction_with_an_old_snapshot_commits_in_order_or_not_at_all() {
    let place = place!();
    let store = place.started().await;
    for number in 1..=2 {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
    }
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut tool = place.tool().await;
        let begin = format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM api_keys");
        let change = "UPDATE api_keys SET enabled = NOT enabled WHERE id LIKE '%1'; COMMIT";
        run(&mut tool, &begin).await.unwrap();
        let since = cursor(&store).await;
        run(&mut tool, change).await.unwrap();
        assert_eq!(changed(&store, &since).await, [id(1)]);

        run(&mut tool, &begin).await.unwrap();
        store
            .update(&id(2), &KeyPatch::new(), &WriteOptions::new())
            .await
            .unwrap();
        let since = cursor(&store).await;
        assert_not_serialized(run(&mut tool, change).await);
        assert_eq!(changed(&store, &since).await, []);
    }
}

fn assert_not_serialized(outcome: Result<u64, sqlx::Error>) {
    let late = outcome.unwrap_err();
    let code = late.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("40001"), "{late}");
}

/// Begins transactions, lets `remove` log changes and remove what it logged, and then adds a key and commits: the numbers
/// that the old snapshot sees as free are behind every node's cursor.
async fn commit_after(
    place: &Place<'_>,
    store: &PostgresStore,
    mut remove: impl AsyncFnMut(&mut PgConnection),
) {
    let (mut tool, mut other) = (place.tool().await, place.tool().await);
    for (key, isolation) in [(100, "REPEATABLE READ"), (101, "SERIALIZABLE")] {
        let before = cursor(store).await;
        let begin =
            format!("BEGIN ISOLATION LEVEL {isolation}; SELECT max(epoch) FROM api_key_changes");
        run(&mut tool, &begin).await.unwrap();
        remove(&mut other).await;
        let free = format!(
            "SELECT count(*) FROM api_key_changes WHERE epoch = {}",
            before.epoch + 1
        );
        assert_eq!(number(&mut other, &free).await, 0);
        let newest = cursor(store).await;
        add(&mut tool, key, key, "NULL", "NULL").await;
        assert_not_serialized(run(&mut tool, "COMMIT").await);
        assert_eq!(changed(store, &newest).await, []);
        add(&mut tool, key, key, "NULL", "NULL").await;
        assert_eq!(changed(store, &newest).await.len(), 1, "after a retry");
    }
}

#[tokio::test]
async fn v19_a_transaction_that_began_before_a_trim_takes_no_number_again() {
    let place = place!();
    let store = place.started().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let node = NodeId::from_u128(1);
    store.join(&node).await.unwrap();
    commit_after(&place, &store, async |tool| {
        for _ in 0..3 {
            store
                .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
                .await
                .unwrap();
        }
        until_trimmed(&store, tool, &node, 1).await;
    })
    .await;
}

#[tokio::test]
async fn v19_a_transaction_that_began_before_the_log_was_full_takes_no_number_again() {
    let place = place!();
    let store = place.started().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let mut millions = 1..;
    commit_after(&place, &store, async |tool| {
        let filled = format!(
            "INSERT INTO api_key_changes (epoch, key_id) VALUES ({}, '')",
            millions.next().unwrap() * 1_000_000 + 10_999
        );
        run(tool, &filled).await.unwrap();
        store
            .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn v19_a_transaction_that_began_before_truncations_takes_no_number_again() {
    let place = place!();
    let store = place.started().await;
    commit_after(&place, &store, async |tool| {
        for _ in 0..2 {
            run(tool, "TRUNCATE api_keys").await.unwrap();
        }
    })
    .await;
}

/// A database with another default isolation level: the store's own statements set theirs.
#[tokio::test]
async fn v19_writers_at_once_under_another_default_isolation_all_commit() {
    let place = place!();
    let url = format!(
        "{}%20-cdefault_transaction_isolation%3Dserializable",
        place.url()
    );
    let mut tool = super::connection(&url).await;
    let asked =
        "SELECT count(*) WHERE current_setting('default_transaction_isolation') = 'serializable'";
    assert_eq!(number(&mut tool, asked).await, 1);
    let store = std::sync::Arc::new(PostgresStore::new(url));
    store.start().await.unwrap();
    let since = cursor(&*store).await;
    let writers: Vec<_> = (0..40)
        .map(|number| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move { store.insert(&record(number), &WriteOptions::new()).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let heard: HashSet<KeyId> = changed(&*store, &since).await.into_iter().collect();
    assert_eq!(heard.len(), 40);
}

/// A change notifies listeners, even one by hand; one that is rolled back does not.
#[tokio::test]
async fn a_change_by_hand_is_pushed_at_its_commit() {
    let place = place!();
    let store = place.store();
    let mut listener = store.subscribe().unwrap();
    store.start().await.unwrap();
    // It tells that it listens, which takes a while, and from then on what is changed.
    soon(listener.notified()).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    soon(listener.notified()).await;
    let quiet = Duration::from_millis(300);
    while timeout(quiet, listener.notified()).await.is_ok() {}
    let mut tool = place.tool().await;
    run(&mut tool, "BEGIN; UPDATE api_keys SET label = 'x'")
        .await
        .unwrap();
    assert!(timeout(quiet, listener.notified()).await.is_err());
    run(&mut tool, "ROLLBACK").await.unwrap();
    assert!(timeout(quiet, listener.notified()).await.is_err());
    run(&mut tool, "UPDATE api_keys SET label = 'x'")
        .await
        .unwrap();
    soon(listener.notified()).await;
    // Another set of tables in the same database notifies its own listeners.
    while timeout(quiet, listener.notified()).await.is_ok() {}
    let other = super::Place::on(place.server).await;
    other
        .started()
        .await
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    assert!(timeout(quiet, listener.notified()).await.is_err());
    store.stop().await;
}
