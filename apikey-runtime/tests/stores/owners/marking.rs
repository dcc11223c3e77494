//! Marking, which changes nothing that is read.

use std::sync::Arc;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{ChangedItem, ListQuery, OwnerStore, WriteOptions};
use apikey_runtime::{KeyStore, Timestamp};
use sqlx::SqliteConnection;
use tokio::task::JoinSet;

use super::{cursor, found, leaving, logged, mark_all, stocked};
use crate::{InSteps, Place, at, id, number, owned, run};

#[tokio::test]
async fn marking_takes_no_epoch_and_no_version_and_changes_nothing_that_is_read() {
    let (_place, store, mut tool) = stocked().await;
    store
        .revoke_owner_keys("a", &leaving(5_000, "first"), &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .insert(&owned(4, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke_owner_keys("a", &leaving(6_000, "second"), &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .insert(&owned(5, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let records = async || store.list(&ListQuery::first(10)).await.unwrap().records;
    let (before, since) = (records().await, cursor(&store).await);
    let reasons = before
        .iter()
        .map(|key| Some(key.revoked.as_ref()?.reason.as_deref()?.to_owned()));
    let reasons: Vec<_> = reasons.collect();
    // The newest first.
    let expected = [None, Some("second"), None, Some("first"), Some("first")];
    assert!(
        reasons.iter().map(Option::as_deref).eq(expected),
        "{reasons:?}"
    );
    // By hand as by the call.
    run(
        &mut tool,
        "UPDATE api_keys SET revoked_at = 5000, revoked_reason = 'first' WHERE id LIKE '%1'",
    )
    .await
    .unwrap();
    assert_eq!(
        (records().await, cursor(&store).await),
        (before.clone(), since.clone())
    );
    mark_all(&store).await;
    assert_eq!(
        (records().await, cursor(&store).await),
        (before, since.clone())
    );
    let marked = "SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL";
    assert_eq!(number(&mut tool, marked).await, 3);
    assert_eq!(
        number(&mut tool, "SELECT count(*) FROM api_key_owner_revocations").await,
        0
    );
    assert!(!store.mark_revoked_keys().await.unwrap());

    // What is more than a mark is a change.
    store
        .revoke_owner_keys("a", &leaving(7_000, "third"), &ChangeOrigin::new())
        .await
        .unwrap();
    for (statement, version) in [
        (
            "UPDATE api_keys SET revoked_at = 7000, revoked_reason = 'other' WHERE id LIKE '%5'",
            2,
        ),
        (
            "UPDATE api_keys SET revoked_at = 7000, revoked_reason = 'third' WHERE id LIKE '%5'",
            3,
        ),
        (
            "UPDATE api_keys SET revoked_at = 7000, revoked_reason = 'third' WHERE id LIKE '%3'",
            2,
        ),
    ] {
        let since = cursor(&store).await;
        run(&mut tool, statement).await.unwrap();
        assert_eq!(cursor(&store).await.epoch, since.epoch + 1, "{statement}");
        let key: u128 = if statement.contains("%5") { 5 } else { 3 };
        assert_eq!(found(&store, key).await.version, version, "{statement}");
    }
}

/// Negative control: a trigger that takes a mark for a change logs each of them.
#[tokio::test]
async fn without_the_condition_of_the_trigger_each_mark_takes_an_epoch() {
    let (_place, store, mut tool) = stocked().await;
    let trigger = "DROP TRIGGER api_keys_updated; CREATE TRIGGER api_keys_updated AFTER UPDATE ON api_keys BEGIN \
         INSERT INTO api_key_changes (key_id) VALUES (NEW.id); END";
    run(&mut tool, trigger).await.unwrap();
    let left = leaving(5_000, "left");
    store
        .revoke_owner_keys("a", &left, &ChangeOrigin::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    mark_all(&store).await;
    assert_eq!(cursor(&store).await.epoch, since.epoch + 2);
}

/// Each column of a key, beside a mark in the same statement, is a change: a migration that adds one has to
/// add it to the trigger.
#[tokio::test]
async fn a_mark_that_changes_another_column_too_is_logged() {
    let (_place, store, mut tool) = stocked().await;
    let columns = "SELECT name FROM pragma_table_info('api_keys') \
        WHERE name NOT IN ('id', 'revoked_at', 'revoked_reason', 'owner_revocations')";
    let columns: Vec<String> = sqlx::query_scalar(columns)
        .fetch_all(&mut tool)
        .await
        .unwrap();
    assert_eq!(columns.len(), 23);
    for column in columns {
        let other = match column.as_str() {
            "previous_digest" | "previous_until" => {
                "previous_digest = 'd', previous_until = 9".to_owned()
            }
            "owner" => "owner = 'c'".to_owned(),
            "metadata" => r#"metadata = '{"a": 1}'"#.to_owned(),
            "limits" => "limits = '[1]'".to_owned(),
            "enabled" => "enabled = 0".to_owned(),
            number @ ("created_at" | "expires_at" | "not_before" | "enabled_at" | "version"
            | "rotations") => {
                format!("{number} = 9")
            }
            text => format!("{text} = 'x'"),
        };
        store.purge_all(Timestamp::MAX).await.unwrap();
        store
            .insert(&owned(9, "d"), &WriteOptions::new())
            .await
            .unwrap();
        store
            .revoke_owner_keys("d", &leaving(5_000, "left"), &ChangeOrigin::new())
            .await
            .unwrap();
        let since = cursor(&store).await;
        let mark = "UPDATE api_keys SET revoked_at = 5000, revoked_reason = 'left'";
        let sql = format!("{mark}, {other} WHERE owner = 'd'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut tool)
            .await
            .unwrap();
        assert_eq!(
            logged(&store, &since).await,
            [ChangedItem::Key(id(9))],
            "{column}"
        );
    }
}

/// Adds `count` keys of an owner by hand.
async fn add_many(tool: &mut SqliteConnection, owner: &str, count: u32) {
    let sql = format!(
        "WITH RECURSIVE n (i) AS (VALUES (1000000) UNION ALL SELECT i + 1 FROM n WHERE i < 999999 + {count}) \
         INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, enabled, version) \
         SELECT '000000000000000' || i, 'p', 'l', '{owner}', 'd', '', '{{}}', 0, 1, 1 FROM n"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(tool)
        .await
        .unwrap();
}

/// Every process continues what another left, and a step changes 500 keys at most.
#[tokio::test(flavor = "multi_thread")]
async fn two_stores_mark_at_once_and_continue_after_a_crash() {
    let place = Place::new();
    let first = Arc::new(place.store().await);
    let second = Arc::new(place.store().await);
    let mut tool = place.tool().await;
    add_many(&mut tool, "acme", 4_000).await;
    first
        .revoke_owner_keys("acme", &leaving(5_000, "left"), &ChangeOrigin::new())
        .await
        .unwrap();
    first
        .insert(&owned(1, "acme"), &WriteOptions::new())
        .await
        .unwrap();
    second
        .revoke_owner_keys("acme", &leaving(6_000, "again"), &ChangeOrigin::new())
        .await
        .unwrap();
    let since = cursor(&first).await;
    let marked = "SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL";
    assert!(first.mark_revoked_keys().await.unwrap());
    let step = number(&mut tool, marked).await;
    assert!((1..=500).contains(&step), "{step}");
    // A process that ends in the middle of a step leaves the step before.
    run(
        &mut tool,
        "BEGIN IMMEDIATE; UPDATE api_keys SET revoked_at = 5000, revoked_reason = 'left' WHERE id LIKE '%1002000'; \
         UPDATE api_key_owner_revocations SET marked_to = '~' WHERE number = 1",
    )
    .await
    .unwrap();
    drop(tool);
    let mut marking = JoinSet::new();
    for store in [Arc::clone(&first), second] {
        marking.spawn(async move { mark_all(&store).await });
    }
    marking.join_all().await;
    let mut tool = place.tool().await;
    let of_first = "SELECT count(*) FROM api_keys WHERE revoked_at = 5000 AND revoked_reason = 'left' AND version = 1";
    assert_eq!(number(&mut tool, of_first).await, 4_000);
    assert_eq!(number(&mut tool, marked).await, 4_001);
    assert_eq!(
        found(&first, 1).await.revoked,
        Some(leaving(6_000, "again").of_key())
    );
    assert_eq!(cursor(&first).await, since);
    assert_eq!(
        number(&mut tool, "SELECT count(*) FROM api_key_owner_revocations").await,
        0
    );
}

#[tokio::test]
async fn purge_and_revoke_know_keys_that_their_owner_revoked() {
    let (_place, store, _) = stocked().await;
    store
        .revoke_owner_keys("a", &leaving(5_000, "first"), &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .insert(&owned(4, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke_owner_keys("a", &leaving(6_000, "second"), &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .insert(&owned(5, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let late = leaving(1_000, "late").of_key();
    let since = cursor(&store).await;
    assert!(
        !store
            .revoke(&id(1), &late, &WriteOptions::new())
            .await
            .unwrap()
    );
    assert_eq!(cursor(&store).await, since);
    assert_eq!(store.purge_all(at(5_000)).await.unwrap(), []);
    assert_eq!(store.purge_all(at(5_001)).await.unwrap(), [id(1), id(2)]);
    assert_eq!(store.purge_all(Timestamp::MAX).await.unwrap(), [id(4)]);
    assert!(
        store
            .revoke(&id(5), &late, &WriteOptions::new())
            .await
            .unwrap()
    );
    // Its own revocation came first.
    store
        .revoke_owner_keys("a", &leaving(7_000, "third"), &ChangeOrigin::new())
        .await
        .unwrap();
    assert_eq!(found(&store, 5).await.revoked, Some(late.clone()));
    mark_all(&store).await;
    assert_eq!(found(&store, 5).await.revoked, Some(late));
}
