//! What an operator does with their own tool.

use apikey_runtime::store::{
    BatchReads, ChangeLog, ChangeSet, Cursor, FindResult, KeyPatch, ListQuery, StoreError,
    WriteOptions,
};
use apikey_runtime::{KeyStore, SqliteStore};
use sqlx::SqliteConnection;

use crate::{Place, at, because, id, keys_in, number, owned, record, run};

async fn cursor(store: &SqliteStore) -> Cursor {
    store.changes(None, None).await.unwrap().cursor
}

async fn changed(store: &SqliteStore, since: &Cursor) -> Vec<apikey_runtime::KeyId> {
    keys_in(store.changes(Some(since), None).await.unwrap().set)
}

/// Creates a store with three keys, and a tool on its file.
async fn stocked() -> (Place, SqliteStore, SqliteConnection) {
    let place = Place::new();
    let store = place.store().await;
    for number in 1..=3 {
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
    }
    let tool = place.tool().await;
    (place, store, tool)
}

#[tokio::test]
async fn an_update_by_hand_is_logged_and_counts_the_version_up() {
    let (_place, store, mut tool) = stocked().await;
    let since = cursor(&store).await;
    run(
        &mut tool,
        "UPDATE api_keys SET label = 'x' WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    assert_eq!(changed(&store, &since).await, [id(2)]);
    let found = store.find(&id(2)).await.unwrap().unwrap();
    assert_eq!((found.label.as_str(), found.version), ("x", 2));
    let late = KeyPatch::new();
    let of_first = WriteOptions::new().with_expected_version(Some(1));
    assert!(matches!(
        store.update(&id(2), &late, &of_first).await,
        Err(StoreError::Conflict)
    ));
    run(
        &mut tool,
        "UPDATE api_keys SET version = 1 WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    assert_eq!(
        store.find(&id(2)).await.unwrap().unwrap().version,
        3,
        "it never decreases"
    );
    run(
        &mut tool,
        "UPDATE api_keys SET version = 50 WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    assert_eq!(store.find(&id(2)).await.unwrap().unwrap().version, 50);
}

#[tokio::test]
async fn every_kind_of_change_by_hand_is_logged_in_its_order() {
    let (_place, store, mut tool) = stocked().await;
    let since = cursor(&store).await;
    run(
        &mut tool,
        "PRAGMA recursive_triggers = OFF; DELETE FROM api_keys WHERE id LIKE '%3'",
    )
    .await
    .unwrap();
    run(
        &mut tool,
        "UPDATE api_keys SET revoked_at = 1 WHERE id LIKE '%1'",
    )
    .await
    .unwrap();
    run(
        &mut tool,
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000009', 'p', 'l', 'd', '', '{}', 0, 1, 1)",
    )
    .await
    .unwrap();
    run(
        &mut tool,
        "INSERT OR REPLACE INTO api_keys SELECT * FROM api_keys WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    assert_eq!(changed(&store, &since).await, [id(3), id(1), id(9), id(2)]);
    let since = cursor(&store).await;
    run(&mut tool, "UPDATE api_keys SET enabled = 0")
        .await
        .unwrap();
    let mut ids = changed(&store, &since).await;
    ids.sort_unstable();
    assert_eq!(ids, [id(1), id(2), id(9)]);
    let since = cursor(&store).await;
    run(&mut tool, "DELETE FROM api_keys").await.unwrap();
    assert_eq!(
        changed(&store, &since).await.len(),
        3,
        "a delete is logged however quick it is"
    );
}

#[tokio::test]
async fn a_change_by_hand_that_is_rolled_back_is_none() {
    let (_place, store, mut tool) = stocked().await;
    let since = cursor(&store).await;
    run(
        &mut tool,
        "BEGIN; UPDATE api_keys SET label = 'x'; ROLLBACK",
    )
    .await
    .unwrap();
    assert_eq!(changed(&store, &since).await, []);
    assert_eq!(cursor(&store).await, since);
}

#[tokio::test]
async fn with_recursive_triggers_too_a_change_ends_and_is_logged() {
    let (_place, store, mut tool) = stocked().await;
    let since = cursor(&store).await;
    run(
        &mut tool,
        "PRAGMA recursive_triggers = ON; UPDATE api_keys SET label = 'x' WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    assert!(changed(&store, &since).await.contains(&id(2)));
    assert_eq!(store.find(&id(2)).await.unwrap().unwrap().version, 2);
}

/// V-12, by hand: a revocation is permanent.
#[tokio::test]
async fn v12_a_revoked_key_stays_revoked_whatever_the_statement() {
    let (_place, store, mut tool) = stocked().await;
    run(
        &mut tool,
        "UPDATE api_keys SET revoked_at = 5, revoked_reason = 'x' WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    for statement in [
        "UPDATE api_keys SET revoked_at = NULL",
        "UPDATE api_keys SET revoked_at = NULL, revoked_reason = NULL WHERE id LIKE '%2'",
        "UPDATE OR REPLACE api_keys SET revoked_at = NULL, revoked_reason = NULL",
        "UPDATE OR IGNORE api_keys SET revoked_at = NULL, revoked_reason = NULL",
        "UPDATE api_keys SET id = '000000000000000000000z' WHERE id LIKE '%2'",
        "UPDATE OR REPLACE api_keys SET id = '0000000000000000000002' WHERE id LIKE '%1'",
        "INSERT OR REPLACE INTO api_keys SELECT id, prefix, label, owner, digest, NULL, NULL, scopes, metadata, \
         NULL, '', '', '[]', 0, NULL, NULL, NULL, NULL, 1, 1, 0, NULL, NULL, NULL, 0, NULL, NULL FROM api_keys WHERE id LIKE '%2'",
        "REPLACE INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000002', 'p', 'l', 'd', '', '{}', 0, 1, 1)",
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000002', 'p', 'l', 'd', '', '{}', 0, 1, 1) \
         ON CONFLICT (id) DO UPDATE SET revoked_at = NULL, revoked_reason = NULL",
    ] {
        let result = run(&mut tool, statement).await;
        let message = result.expect_err(statement).to_string();
        assert!(
            message.contains("create a new key"),
            "{statement}: {message}"
        );
        let found = store.find(&id(2)).await.unwrap().unwrap();
        assert_eq!(found.revoked.unwrap().at, at(5), "{statement}");
    }
    assert!(matches!(
        store.insert(&record(2), &WriteOptions::new()).await,
        Err(StoreError::Conflict)
    ));
}

/// Negative control: the triggers enforce these rules.
#[tokio::test]
async fn v12_without_the_triggers_a_revoked_key_comes_back_and_nobody_hears_of_it() {
    let (_place, store, mut tool) = stocked().await;
    store
        .revoke(&id(2), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke(&id(3), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    run(
        &mut tool,
        "DROP TRIGGER api_keys_revocation_final; DROP TRIGGER api_keys_revoked_not_replaced; \
         DROP TRIGGER api_keys_inserted; DROP TRIGGER api_keys_updated",
    )
    .await
    .unwrap();
    let since = cursor(&store).await;
    run(
        &mut tool,
        "UPDATE api_keys SET revoked_at = NULL, revoked_reason = NULL WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    run(
        &mut tool,
        "REPLACE INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000003', 'p', 'l', 'd', '', '{}', 0, 1, 1)",
    )
    .await
    .unwrap();
    for number in 2..=3 {
        assert_eq!(
            store.find(&id(number)).await.unwrap().unwrap().revoked,
            None
        );
    }
    assert_eq!(changed(&store, &since).await, []);
}

#[tokio::test]
async fn what_is_no_record_is_refused_when_it_is_written_by_hand() {
    let (_place, store, mut tool) = stocked().await;
    for statement in [
        "UPDATE api_keys SET enabled = 2",
        "UPDATE api_keys SET enabled = NULL",
        "UPDATE api_keys SET expires_at = 'tomorrow'",
        "UPDATE api_keys SET metadata = 'no json'",
        "UPDATE api_keys SET metadata = '[]'",
        "UPDATE api_keys SET limits = 'no json'",
        "UPDATE api_keys SET limits = '{}'",
        "UPDATE api_keys SET limits = NULL",
        "UPDATE api_keys SET previous_digest = 'd'",
        "UPDATE api_keys SET revoked_reason = 'but not when'",
        "UPDATE api_keys SET rotations = -1",
        "INSERT INTO api_keys SELECT 'short', prefix, label, owner, digest, NULL, NULL, scopes, metadata, NULL, '', \
         '', '[]', 0, NULL, NULL, NULL, NULL, 1, 1, 0, NULL, NULL, NULL, 0, NULL, NULL FROM api_keys LIMIT 1",
    ] {
        let refused = run(&mut tool, statement).await.expect_err(statement);
        let said = refused.to_string();
        assert!(
            said.contains("constraint failed") || said.contains("cannot store"),
            "{statement}: {said}"
        );
    }
    assert_eq!(
        store
            .list(&ListQuery::first(10))
            .await
            .unwrap()
            .records
            .len(),
        3
    );
}

/// Statements that break a row, with the column that the error names.
const BROKEN: [(&str, &str); 8] = [
    (
        "UPDATE api_keys SET limits = '[{\"name\": \"planted\", \"quota\": \"1\"}]' WHERE id LIKE '%2'",
        "limits",
    ),
    (
        "UPDATE api_keys SET limits = '[\"planted\"]' WHERE id LIKE '%2'",
        "limits",
    ),
    (
        "UPDATE api_keys SET scopes = 'a  b' WHERE id LIKE '%2'",
        "scopes",
    ),
    (
        "UPDATE api_keys SET scopes = 'a' || char(10) WHERE id LIKE '%2'",
        "scopes",
    ),
    (
        "UPDATE api_keys SET scopes = '', metadata = '{\"planted' WHERE id LIKE '%2'",
        "metadata",
    ),
    (
        "UPDATE api_keys SET metadata = '[\"planted\"]' WHERE id LIKE '%2'",
        "metadata",
    ),
    (
        "UPDATE api_keys SET metadata = '{}', previous_digest = 'planted' WHERE id LIKE '%2'",
        "previous_until",
    ),
    (
        "UPDATE api_keys SET previous_digest = NULL, label = CAST(x'ff' AS TEXT) WHERE id LIKE '%2'",
        "label",
    ),
];

/// S-08: rows that only a tool that ignores the checks can leave. F-13 belongs to the verifier:
/// here a digest is any text.
#[tokio::test]
async fn s08_a_broken_row_costs_that_key_only() {
    let (_place, store, mut tool) = stocked().await;
    run(&mut tool, "PRAGMA ignore_check_constraints = ON")
        .await
        .unwrap();
    for (statement, column) in BROKEN {
        run(&mut tool, statement).await.unwrap();
        match store.find(&id(2)).await {
            Err(StoreError::Corrupt { id: named, reason }) => {
                assert_eq!(named, id(2).to_string());
                assert!(
                    reason.contains(column) && !reason.contains("planted"),
                    "{reason}"
                );
            }
            other => panic!("{statement}: {other:?}"),
        }
        let page = store.list(&ListQuery::first(10)).await.unwrap();
        assert_eq!(page.unreadable, [id(2).to_string()], "{statement}");
        assert_eq!(page.records.len(), 2);
        assert!(store.find(&id(1)).await.unwrap().is_some());
    }
    assert!(
        store
            .revoke(&id(2), &because("broken"), &WriteOptions::new())
            .await
            .unwrap(),
        "it can still be revoked"
    );
    assert_eq!(
        number(
            &mut tool,
            "SELECT count(*) FROM api_keys WHERE revoked_at = 3000"
        )
        .await,
        1
    );
}

#[tokio::test]
async fn s08_a_negative_version_is_a_broken_row() {
    let (_place, store, mut tool) = stocked().await;
    run(&mut tool, "DELETE FROM api_keys WHERE id LIKE '%2'")
        .await
        .unwrap();
    run(
        &mut tool,
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000002', 'p', 'l', 'd', '', '{}', 0, 1, -7)",
    )
    .await
    .unwrap();
    assert!(matches!(
        store.find(&id(2)).await,
        Err(StoreError::Corrupt { .. })
    ));
    assert!(
        store
            .revoke(&id(2), &because("broken"), &WriteOptions::new())
            .await
            .unwrap()
    );
    assert_eq!(
        store
            .list(&ListQuery::first(10))
            .await
            .unwrap()
            .unreadable
            .len(),
        1
    );
}

/// Invalid ids stand between and around the valid ones; every page ends at an id from which the
/// next can start.
#[tokio::test]
async fn s08_broken_ids_do_not_end_a_list_or_hide_a_record() {
    let (_place, store, mut tool) = stocked().await;
    run(&mut tool, "PRAGMA ignore_check_constraints = ON")
        .await
        .unwrap();
    run(
        &mut tool,
        "WITH bad (id) AS (VALUES ('!'), ('\"'), ('#'), ('00'), ('0000000000000000000002x'), \
         ('0000000000000000000002y'), (CAST(x'30ff' AS TEXT)), ('zz'), (CAST(x'ff' AS TEXT)), \
         (CAST(x'ff00' AS TEXT)), (CAST(x'ffff' AS TEXT))) \
         INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         SELECT id, 'p', 'l', 'd', '', '{}', 0, 1, 1 FROM bad",
    )
    .await
    .unwrap();
    for limit in 1..=15 {
        let mut query = ListQuery::first(limit);
        let (mut found, mut unreadable) = (Vec::new(), 0);
        loop {
            let page = store.list(&query).await.unwrap();
            found.extend(page.records.iter().map(|record| record.id));
            unreadable += page.unreadable.len();
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        assert_eq!(
            (found, unreadable),
            (vec![id(3), id(2), id(1)], 11),
            "pages of {limit}"
        );
    }
    let before = cursor(&store).await;
    run(&mut tool, "DELETE FROM api_keys").await.unwrap();
    let changes = store.changes(Some(&before), None).await.unwrap();
    assert_eq!(
        changes.set,
        ChangeSet::Resync,
        "an invalid id does not name a record"
    );
}

#[tokio::test]
async fn a_record_that_is_broken_by_hand_does_not_hide_others_of_its_batch() {
    let (_place, store, mut tool) = stocked().await;
    let sql = "UPDATE api_keys SET scopes = 'a  b' WHERE id LIKE '%2'";
    run(&mut tool, sql).await.unwrap();
    let found = store.find_many(&[3, 2, 9, 1].map(id)).await.unwrap();
    let [third, second, none, first] = <[FindResult; 4]>::try_from(found).unwrap();
    assert_eq!(third.unwrap(), store.find(&id(3)).await.unwrap());
    let broken = second.unwrap_err();
    assert!(
        matches!(&broken, StoreError::Corrupt { id: said, .. } if *said == id(2).to_string()),
        "{broken:?}"
    );
    assert_eq!(none.unwrap(), None);
    assert_eq!(first.unwrap().unwrap().id, id(1));
}
