//! What an operator does with their own tool, and an application with the same database.

use apikey_runtime::KeyStore;
use apikey_runtime::store::{
    BatchReads, ChangeLog, ChangeSet, FindResult, KeyPatch, StoreError, WriteOptions,
};
use sqlx::PgConnection;

use super::{Place, changed, cursor, history, number, owned_as_read, place, run};
use crate::{at, because, id, owned, record};

/// Starts a store with three keys, and opens a tool.
async fn stocked(place: &Place<'_>) -> (apikey_runtime::PostgresStore, PgConnection) {
    let store = place.started().await;
    for number in 1..=3 {
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
    }
    (store, place.tool().await)
}

const INSERT_9: &str = "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
     VALUES ('0000000000000000000009', 'p', 'l', 'd', '', '{}', 0, TRUE, 1)";

#[tokio::test]
async fn an_update_by_hand_is_logged_and_counts_the_version_up() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
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
    let versions = ["1", "50"];
    for (sets, expected) in versions.iter().zip([3, 50]) {
        let sql = format!("UPDATE api_keys SET version = {sets} WHERE id LIKE '%2'");
        run(&mut tool, &sql).await.unwrap();
        let found = store.find(&id(2)).await.unwrap().unwrap();
        assert_eq!(found.version, expected, "it never decreases");
    }
}

#[tokio::test]
async fn every_kind_of_change_by_hand_is_logged_in_its_order() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    let since = cursor(&store).await;
    for statement in [
        "DELETE FROM api_keys WHERE id LIKE '%3'",
        "UPDATE api_keys SET revoked_at = 1 WHERE id LIKE '%1'",
        INSERT_9,
        "INSERT INTO api_keys SELECT * FROM api_keys WHERE id LIKE '%2' \
         ON CONFLICT (id) DO UPDATE SET label = 'again'",
        "MERGE INTO api_keys AS k USING (SELECT '0000000000000000000009' AS id) AS s ON k.id = s.id \
         WHEN MATCHED THEN UPDATE SET label = 'merged'",
    ] {
        run(&mut tool, statement).await.unwrap();
    }
    assert_eq!(
        changed(&store, &since).await,
        [id(3), id(1), id(9), id(2), id(9)]
    );
    let since = cursor(&store).await;
    run(&mut tool, "DELETE FROM api_keys").await.unwrap();
    assert_eq!(changed(&store, &since).await.len(), 3);
}

/// The function sets its own search path: a change of a key, from any session with any path, writes
/// to these tables and not to others of the same name.
#[tokio::test]
async fn a_change_from_another_search_path_is_logged() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    let since = cursor(&store).await;
    let setting = format!(
        "SET search_path = public; \
         CREATE TEMP TABLE api_key_changes (epoch bigint, key_id text); \
         CREATE TEMP TABLE api_key_meta (channel text); \
         UPDATE \"{}\".api_keys SET label = 'x' WHERE id LIKE '%2'",
        place.schema
    );
    run(&mut tool, &setting).await.unwrap();
    assert_eq!(changed(&store, &since).await, [id(2)]);
    assert_eq!(
        number(&mut tool, "SELECT count(*) FROM pg_temp.api_key_changes").await,
        0
    );
}

/// A role that may change keys, but may not write the log, cannot change a key without a log entry.
#[tokio::test]
async fn who_may_only_change_keys_is_logged_and_cannot_write_the_log() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    let since = cursor(&store).await;
    let role = place.schema.replace(' ', "_").to_lowercase();
    let grant = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA \"{0}\" TO {role}; \
         GRANT SELECT, UPDATE ON \"{0}\".api_keys TO {role}; SET ROLE {role}",
        place.schema
    );
    run(&mut tool, &grant).await.unwrap();
    run(
        &mut tool,
        "UPDATE api_keys SET label = 'x' WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    assert_eq!(changed(&store, &since).await, [id(2)]);
    for refused in [
        "SELECT api_key_append_change('')",
        "DELETE FROM api_key_changes",
        "UPDATE api_key_meta SET lease_ms = 60000",
    ] {
        let error = run(&mut tool, refused).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{refused}: {error}");
    }
    // None of the functions that run with the rights of the owner becomes a trigger of its own table.
    let privileged = "SELECT string_agg(proname, ',') FROM pg_proc \
        JOIN pg_namespace AS schema ON schema.oid = pronamespace \
        WHERE nspname = current_schema() AND prosecdef AND prorettype = 'trigger'::regtype";
    let privileged: String = sqlx::query_scalar(privileged)
        .fetch_one(&mut tool)
        .await
        .unwrap();
    assert_eq!(privileged.split(',').count(), 14);
    for function in privileged.split(',') {
        let own = format!(
            "CREATE TEMP TABLE IF NOT EXISTS own (id text, number bigint); \
             CREATE TRIGGER own AFTER INSERT ON own FOR EACH ROW EXECUTE FUNCTION {function}()"
        );
        let error = run(&mut tool, &own).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{function}: {error}");
    }
}

#[tokio::test]
async fn what_is_rolled_back_is_no_change_and_a_savepoint_takes_its_own_with_it() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    let since = cursor(&store).await;
    run(
        &mut tool,
        "BEGIN; UPDATE api_keys SET label = 'x'; ROLLBACK",
    )
    .await
    .unwrap();
    assert_eq!(changed(&store, &since).await, []);
    assert_eq!(cursor(&store).await, since);
    run(
        &mut tool,
        "BEGIN; UPDATE api_keys SET label = 'x' WHERE id LIKE '%1'; \
         SAVEPOINT a; UPDATE api_keys SET label = 'x' WHERE id LIKE '%2'; ROLLBACK TO a; \
         UPDATE api_keys SET label = 'y' WHERE id LIKE '%1'; COMMIT",
    )
    .await
    .unwrap();
    assert_eq!(changed(&store, &since).await, [id(1), id(1)]);
    assert_eq!(cursor(&store).await.epoch, since.epoch + 2);
}

#[tokio::test]
async fn truncate_by_hand_makes_everyone_forget() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    let since = cursor(&store).await;
    run(&mut tool, "TRUNCATE api_keys").await.unwrap();
    assert_eq!(history(&store, &since).await, ChangeSet::Resync);
    assert_eq!(store.find(&id(1)).await.unwrap(), None);
    let present = cursor(&store).await;
    assert!(present.epoch > since.epoch);
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(changed(&store, &present).await, [id(1)]);
    assert_eq!(history(&store, &since).await, ChangeSet::Resync);
    run(&mut tool, "BEGIN; TRUNCATE api_keys; ROLLBACK")
        .await
        .unwrap();
    assert_eq!(changed(&store, &present).await, [id(1)]);
}

/// V-12, by hand: a revocation is permanent.
#[tokio::test]
async fn v12_a_revoked_key_stays_revoked_whatever_the_statement() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    run(
        &mut tool,
        "UPDATE api_keys SET revoked_at = 5, revoked_reason = 'x' WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    for statement in [
        "UPDATE api_keys SET revoked_at = NULL, revoked_reason = NULL",
        "SET session_replication_role = replica; \
         UPDATE api_keys SET revoked_at = NULL, revoked_reason = NULL",
        "UPDATE api_keys SET id = '000000000000000000000z' WHERE id LIKE '%2'",
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000002', 'p', 'l', 'd', '', '{}', 0, TRUE, 1) \
         ON CONFLICT (id) DO UPDATE SET revoked_at = NULL, revoked_reason = NULL",
    ] {
        let error = run(&mut tool, statement).await.expect_err(statement);
        assert!(error.to_string().contains("create a new key"), "{error}");
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
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    store
        .revoke(&id(2), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    run(
        &mut tool,
        "DROP TRIGGER api_keys_update_checked ON api_keys; DROP TRIGGER api_keys_changed ON api_keys",
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
    assert_eq!(store.find(&id(2)).await.unwrap().unwrap().revoked, None);
    assert_eq!(changed(&store, &since).await, []);
}

/// Changes of a subscription and of a data restore run as a replica, in which other triggers do not
/// fire.
#[tokio::test]
async fn a_change_in_a_session_of_replication_is_logged() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    let since = cursor(&store).await;
    run(
        &mut tool,
        "SET session_replication_role = replica; UPDATE api_keys SET enabled = FALSE WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    assert_eq!(changed(&store, &since).await, [id(2)]);
}

#[tokio::test]
async fn what_is_no_record_is_refused_when_it_is_written_by_hand() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    for statement in [
        "UPDATE api_keys SET enabled = NULL",
        "UPDATE api_keys SET metadata = 'no json'",
        "UPDATE api_keys SET metadata = '[]'",
        "UPDATE api_keys SET previous_digest = 'd'",
        "UPDATE api_keys SET revoked_reason = 'but not when'",
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('short', 'p', 'l', 'd', '', '{}', 0, TRUE, 1)",
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('7n42DGM5Tflk9n8mt7Fhc8', 'p', 'l', 'd', '', '{}', 0, TRUE, 1)",
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES (E'000000000000000000000a\\n', 'p', 'l', 'd', '', '{}', 0, TRUE, 1)",
        "UPDATE api_key_meta SET lease_ms = 19",
        "UPDATE api_key_meta SET lease_ms = 60001",
        "INSERT INTO api_key_meta SELECT 2, 1, 20, 20",
    ] {
        run(&mut tool, statement).await.expect_err(statement);
    }
    for number in 1..=3 {
        let found = store.find(&id(number)).await.unwrap();
        assert_eq!(found, Some(owned_as_read(number, "a")));
    }
}

/// S-08.
#[tokio::test]
async fn s08_a_broken_row_costs_that_key_only() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    run(
        &mut tool,
        "UPDATE api_keys SET scopes = 'not  scopes' WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    let error = store.find(&id(2)).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { id: broken, .. } if *broken == id(2).to_string()),
        "{error}"
    );
    assert!(store.find(&id(1)).await.unwrap().is_some());
    let page = store
        .list(&apikey_runtime::store::ListQuery::first(10))
        .await
        .unwrap();
    assert_eq!(page.records.len(), 2);
    assert_eq!(page.unreadable, [id(2).to_string()]);
    assert!(
        store
            .revoke(&id(2), &because("broken"), &WriteOptions::new())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn an_emptied_log_is_an_error_till_the_next_change_or_start_and_forgets_all_cursors() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    let before = cursor(&store).await;
    run(&mut tool, "DELETE FROM api_key_changes").await.unwrap();
    assert!(matches!(
        store.changes(Some(&before), None).await,
        Err(StoreError::Corrupt { .. })
    ));
    store.stop().await;
    store.start().await.unwrap();
    assert_eq!(history(&store, &before).await, ChangeSet::Resync);
    run(&mut tool, "TRUNCATE api_key_changes").await.unwrap();
    store
        .insert(&record(9), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(history(&store, &before).await, ChangeSet::Resync);
}

/// Removing a row from the log would hide a change.
#[tokio::test]
async fn a_log_with_a_hole_knows_no_cursor_before_it() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    let since = cursor(&store).await;
    for number in 1..=3 {
        store
            .revoke(&id(number), &because("lost"), &WriteOptions::new())
            .await
            .unwrap();
    }
    assert_eq!(changed(&store, &since).await.len(), 3);
    let hole = format!(
        "DELETE FROM api_key_changes WHERE epoch = {}",
        since.epoch + 2
    );
    run(&mut tool, &hole).await.unwrap();
    assert_eq!(history(&store, &since).await, ChangeSet::Resync);
}

/// A dump restored while the server runs: the same tags in other tables.
#[tokio::test]
async fn tables_restored_from_a_copy_know_no_cursor_of_before() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
    let since = cursor(&store).await;
    assert_eq!(changed(&store, &since).await, []);
    run(
        &mut tool,
        "BEGIN; CREATE TABLE copy AS SELECT * FROM api_key_changes; DROP TABLE api_key_changes; \
         ALTER TABLE copy RENAME TO api_key_changes; \
         ALTER TABLE api_key_changes ADD PRIMARY KEY (epoch), \
            ALTER tag SET DEFAULT uuid_send(gen_random_uuid()), ALTER kind SET DEFAULT 'key'; COMMIT",
    )
    .await
    .unwrap();
    assert_eq!(history(&store, &since).await, ChangeSet::Resync);
    let present = cursor(&store).await;
    assert_eq!(present.epoch, since.epoch);
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(changed(&store, &present).await, [id(1)]);
}

#[tokio::test]
async fn a_record_that_is_broken_by_hand_does_not_hide_others_of_its_batch() {
    let place = place!();
    let (store, mut tool) = stocked(&place).await;
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
