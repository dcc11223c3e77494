//! How changes are collected and numbered at the commit.

use apikey_runtime::KeyStore;
use apikey_runtime::store::{ChangeSet, ChangedItem, Membership, NodeId, WriteOptions};
use apikey_test_support::servers::postgres::Postgres;
use apikey_test_support::{PATIENCE, within};
use sqlx::PgConnection;

use super::{Place, changed, connection, cursor, history, number, place, run};
use crate::{id, record};

/// Changes the label of the key with this number.
fn change(key: u32) -> String {
    format!("UPDATE api_keys SET label = label || 'x' WHERE id LIKE '%{key}'")
}

async fn pending(tool: &mut PgConnection) -> i64 {
    number(tool, "SELECT count(*) FROM api_key_pending_changes").await
}

/// A savepoint takes its changes with it, even the first of the transaction.
#[tokio::test]
async fn changes_are_numbered_in_their_order_without_those_that_were_rolled_back() {
    let place = place!();
    let store = place.started().await;
    for key in 1..=4 {
        store
            .insert(&record(key), &WriteOptions::new())
            .await
            .unwrap();
    }
    let mut tool = place.tool().await;
    let cases: [(&[&str], &[u128]); 6] = [
        (&["1", "2", "1", "3"], &[1, 2, 1, 3]),
        (&["SAVEPOINT a", "1", "ROLLBACK TO a", "2", "3"], &[2, 3]),
        (
            &[
                "SAVEPOINT a",
                "1",
                "2",
                "ROLLBACK TO a",
                "SAVEPOINT b",
                "3",
                "RELEASE b",
                "ROLLBACK TO a",
                "4",
            ],
            &[4],
        ),
        (
            &[
                "SAVEPOINT a",
                "1",
                "RELEASE a",
                "2",
                "SAVEPOINT a",
                "3",
                "ROLLBACK TO a",
                "4",
            ],
            &[1, 2, 4],
        ),
        (
            &[
                "1",
                "SET CONSTRAINTS ALL IMMEDIATE",
                "2",
                "SET CONSTRAINTS ALL DEFERRED",
                "3",
                "4",
            ],
            &[1, 2, 3, 4],
        ),
        (&["SAVEPOINT a", "1", "ROLLBACK TO a"], &[]),
    ];
    for (steps, expected) in cases {
        let since = cursor(&store).await;
        run(&mut tool, "BEGIN").await.unwrap();
        for step in steps {
            let sql = step.parse().map_or((*step).to_owned(), change);
            run(&mut tool, &sql).await.unwrap();
        }
        run(&mut tool, "COMMIT").await.unwrap();
        let expected: Vec<_> = expected.iter().copied().map(id).collect();
        assert_eq!(changed(&store, &since).await, expected, "{steps:?}");
        assert_eq!(pending(&mut tool).await, 0, "{steps:?}");
    }
}

/// Other deferred triggers can change keys after the numbering ran.
#[tokio::test]
async fn a_change_that_comes_during_the_commit_is_numbered_too() {
    let place = place!();
    let store = place.started().await;
    for key in 1..=3 {
        store
            .insert(&record(key), &WriteOptions::new())
            .await
            .unwrap();
    }
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            UPDATE api_keys SET label = 'late' WHERE id LIKE '%3'; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER zz_late AFTER UPDATE ON api_keys DEFERRABLE INITIALLY DEFERRED \
            FOR EACH ROW WHEN (NEW.label <> 'late') EXECUTE FUNCTION late()",
    )
    .await
    .unwrap();
    let since = cursor(&store).await;
    let both = format!("BEGIN; {}; {}; COMMIT", change(1), change(2));
    run(&mut tool, &both).await.unwrap();
    let seen = changed(&store, &since).await;
    assert_eq!(seen, [id(1), id(2), id(3), id(3)]);
    assert_eq!(pending(&mut tool).await, 0);
}

/// A transaction with a change and a TRUNCATE names both.
#[tokio::test]
async fn a_truncation_after_a_change_invalidates_every_cursor() {
    let place = place!();
    let store = place.started().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = place.tool().await;
    let since = cursor(&store).await;
    let both = format!("BEGIN; {}; TRUNCATE api_keys; COMMIT", change(1));
    run(&mut tool, &both).await.unwrap();
    assert_eq!(history(&store, &since).await, ChangeSet::Resync);
    assert_eq!(cursor(&store).await.epoch, since.epoch + 2);
    assert_eq!(pending(&mut tool).await, 0);
}

/// The lock is taken at the commit only: open transactions do not delay changes of other keys, a join, or one another.
#[tokio::test]
async fn open_transactions_with_changes_block_no_other_change() {
    let place = place!();
    let store = place.started().await;
    for key in 1..=4 {
        store
            .insert(&record(key), &WriteOptions::new())
            .await
            .unwrap();
    }
    let since = cursor(&store).await;
    let (mut one, mut two) = (place.tool().await, place.tool().await);
    for (tool, key) in [(&mut one, 1), (&mut two, 2)] {
        run(tool, &format!("BEGIN; {}", change(key))).await.unwrap();
    }
    let others = async {
        store
            .revoke(&id(3), &crate::because("lost"), &WriteOptions::new())
            .await
            .unwrap();
        store.join(&NodeId::from_u128(1)).await.unwrap();
        let mut tool = place.tool().await;
        run(&mut tool, &change(4)).await.unwrap();
    };
    tokio::time::timeout(PATIENCE, others).await.unwrap();
    let items = ChangeSet::Entries(vec![
        ChangedItem::Key(id(3)),
        ChangedItem::Member,
        ChangedItem::Key(id(4)),
    ]);
    assert_eq!(history(&store, &since).await, items);
    let newest = cursor(&store).await;
    run(&mut two, "COMMIT").await.unwrap();
    run(&mut one, "COMMIT").await.unwrap();
    assert_eq!(changed(&store, &newest).await, [id(2), id(1)]);
}

/// Starts a server that can publish, with a publisher's database beside that of the store.
async fn published(server: &Postgres) -> (PgConnection, String) {
    let mut tool = connection(&server.url()).await;
    run(&mut tool, "CREATE DATABASE source").await.unwrap();
    let url = server.url();
    let source = format!("{}source", url.strip_suffix("postgres").unwrap());
    (connection(&source).await, source)
}

/// Applies three changes by a subscription, and returns which of them are in the log. `before` is run first.
async fn applied(before: &str) -> Option<Vec<apikey_runtime::KeyId>> {
    let server = Postgres::start_with(&["wal_level=logical"])?;
    let place = Place::on(&server).await;
    let store = place.started().await;
    let (mut source, url) = published(&server).await;
    let schema = format!("\"{}\"", place.schema);
    let publish = format!(
        "CREATE SCHEMA {schema}; SET search_path = {schema}; {}; \
         CREATE PUBLICATION keys FOR TABLE api_keys",
        include_str!("../../../src/store/postgres/migrations/0100_initial.sql")
    );
    run(&mut source, &publish).await.unwrap();
    // A subscription to its own server needs a slot that exists already.
    run(
        &mut source,
        "SELECT pg_create_logical_replication_slot('keys', 'pgoutput')",
    )
    .await
    .unwrap();
    let mut tool = place.tool().await;
    run(&mut tool, before).await.unwrap();
    let (_, address) = url.split_once("://").unwrap();
    let subscribe = format!(
        "CREATE SUBSCRIPTION keys CONNECTION 'postgres://{address}' PUBLICATION keys \
         WITH (create_slot = false, slot_name = 'keys', copy_data = false)"
    );
    run(&mut tool, &subscribe).await.unwrap();
    let since = cursor(&store).await;
    run(
        &mut source,
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         SELECT lpad(i::text, 22, '0'), 'p', 'l', 'd', '', '{}', 0, TRUE, 1 FROM generate_series(1, 2) AS i",
    )
    .await
    .unwrap();
    run(
        &mut source,
        "UPDATE api_keys SET revoked_at = 1 WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    let arrived = within(PATIENCE, async || {
        let revoked = "SELECT count(*) FROM api_keys WHERE revoked_at = 1";
        number(&mut tool, revoked).await == 1
    });
    assert!(
        arrived.await.is_some(),
        "the subscription applies the changes"
    );
    let seen = changed(&store, &since).await;
    assert_eq!(pending(&mut tool).await, 0);
    let audited = "SELECT count(*) FROM api_key_audit WHERE channel = 'sql'";
    assert_eq!(number(&mut tool, audited).await, seen.len() as i64);
    // Its worker would hold up the server's end.
    run(
        &mut tool,
        "ALTER SUBSCRIPTION keys DISABLE; ALTER SUBSCRIPTION keys SET (slot_name = NONE); DROP SUBSCRIPTION keys",
    )
    .await
    .unwrap();
    Some(seen)
}

#[tokio::test]
async fn what_a_subscription_applies_is_numbered() {
    if let Some(seen) = applied("SELECT 1").await {
        // "1" and "2" as decimals are the same ids as numbers of a test.
        assert_eq!(seen, [id(1), id(2), id(2)]);
    }
}

/// Negative control.
#[tokio::test]
async fn with_a_trigger_that_is_not_always_on_what_a_subscription_applies_is_missed() {
    if let Some(seen) = applied("ALTER TABLE api_keys ENABLE TRIGGER api_keys_changed").await {
        assert_eq!(seen, []);
    }
}
