//! Owners, as an operator's own tool changes them.

use std::sync::Arc;

use apikey_runtime::KeyStore;
use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{ChangeSet, ChangedItem, OwnerState, OwnerStore, WriteOptions};
use apikey_test_support::{PATIENCE, manager_on, soon, within};
use sqlx::PgConnection;

use super::bulk::add;
use super::{changed, cursor, for_reason, history, mark, owned_as_read, place, run};
use crate::{at, id, owned};

pub(super) fn state(version: u64, revocations: u64) -> OwnerState {
    OwnerState::new()
        .with_version(version)
        .with_revocations(revocations)
}

pub(super) fn item(owner: &str, state: OwnerState) -> ChangedItem {
    ChangedItem::Owner {
        owner: owner.to_owned(),
        state,
    }
}

/// Returns the message of the error, and its code.
pub(super) async fn refusal(tool: &mut PgConnection, sql: &str) -> String {
    let error = run(tool, sql).await.expect_err(sql);
    run(tool, "ROLLBACK").await.unwrap();
    let error = error.into_database_error().unwrap();
    format!("{} {}", error.code().unwrap_or_default(), error.message())
}

#[tokio::test]
async fn what_would_undo_a_revocation_is_refused_when_it_is_written_by_hand() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke_owner_keys("a", &for_reason(3_000, "lost"), &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .insert(&owned(2, "b"), &WriteOptions::new())
        .await
        .unwrap();
    let long = format!(
        "UPDATE api_keys SET owner = '{}' WHERE id LIKE '%2'",
        "x".repeat(257)
    );
    let long_too = format!(
        "INSERT INTO api_key_owners (owner) VALUES ('{}')",
        "ä".repeat(129)
    );
    for (sql, said) in [
        (
            "UPDATE api_keys SET owner_revocations = 1 WHERE id LIKE '%1'",
            "do not change",
        ),
        (
            "UPDATE api_keys SET owner_revocations = 1, version = 9 WHERE id LIKE '%1'",
            "do not change",
        ),
        (
            "UPDATE api_keys SET owner_revocations = NULL",
            "do not change",
        ),
        (
            "UPDATE api_key_owners SET revocations = 0 WHERE owner = 'a'",
            "do not decrease",
        ),
        (
            "UPDATE api_key_owners SET version = 1 WHERE owner = 'a'",
            "do not decrease",
        ),
        (
            "SET LOCAL session_replication_role = replica; UPDATE api_key_owners SET revocations = 0",
            "do not decrease",
        ),
        (
            "UPDATE api_key_owners SET version = 9223372036854775807",
            "by 1000 at most",
        ),
        (
            "UPDATE api_key_owners SET revocations = revocations + 1001",
            "by 1000 at most",
        ),
        (
            "UPDATE api_key_owners SET owner = 'c' WHERE owner = 'a'",
            "the name of an owner does not change",
        ),
        (
            "INSERT INTO api_key_owners (owner) VALUES ('a') ON CONFLICT (owner) DO UPDATE SET revocations = 0",
            "decrease",
        ),
        ("INSERT INTO api_key_owners (owner) VALUES ('a')", "23505"),
        (
            "INSERT INTO api_key_owners (owner, revocations) VALUES ('c', -1)",
            "23514",
        ),
        (
            "INSERT INTO api_key_owners (owner, version) VALUES ('c', 0)",
            "23514",
        ),
        (
            "DELETE FROM api_key_owners WHERE owner = 'a'",
            "delete its keys first",
        ),
        (
            "SET LOCAL session_replication_role = replica; DELETE FROM api_key_owners",
            "delete its keys first",
        ),
        ("TRUNCATE api_key_owners", "delete its keys first"),
        ("TRUNCATE api_key_owners, api_keys", "delete its keys first"),
        (&long, "at most 256 bytes"),
        (&long_too, "at most 256 bytes"),
    ] {
        let message = refusal(&mut tool, &format!("BEGIN; {sql}")).await;
        assert!(message.contains(said), "{sql}: {message}");
    }
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!((found.owner_revocations, found.version), (0, 1));
    assert_eq!(found.owner_state, Some(state(2, 1)));
    assert!(found.revoked.is_some());
    assert_eq!(
        store.find(&id(2)).await.unwrap(),
        Some(owned_as_read(2, "b"))
    );

    // Negative control: the triggers refuse it.
    let spoil = "DROP TRIGGER api_keys_update_checked ON api_keys; UPDATE api_keys SET owner_revocations = 1; \
        DROP TRIGGER api_key_owners_removal_checked ON api_key_owners; DELETE FROM api_key_owners";
    run(&mut tool, spoil).await.unwrap();
    assert_eq!(store.find(&id(1)).await.unwrap().unwrap().revoked, None);
}

/// Whatever a statement writes, a key has the number of its owner.
#[tokio::test]
async fn the_number_is_filled_and_a_revocation_by_hand_has_a_time() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    add(&mut tool, 1, 1, "'a'", "NULL").await;
    let since = cursor(&store).await;
    run(
        &mut tool,
        "UPDATE api_key_owners SET revocations = revocations + 2",
    )
    .await
    .unwrap();
    assert_eq!(store.find_owner("a").await.unwrap(), Some(state(2, 2)));
    let found = store.find(&id(1)).await.unwrap().unwrap();
    let revoked = found.revoked.unwrap();
    assert!(
        revoked.at > at(1_700_000_000_000) && revoked.reason.is_none(),
        "{revoked:?}"
    );
    let written = "INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, enabled, version, \
        owner_revocations) SELECT lpad(i::text, 22, '0'), 'p', 'l', o, 'd', '', '{}', 0, TRUE, 1, n \
        FROM (VALUES (2, 'a', 0), (3, 'a', 9), (4, 'a', NULL), (5, NULL, 9), (6, 'new', 9)) AS one(i, o, n)";
    run(&mut tool, written).await.unwrap();
    for (key, number) in [(2, 2), (3, 2), (4, 2), (5, 0), (6, 0)] {
        let found = store.find(&id(key)).await.unwrap().unwrap();
        assert_eq!(
            (found.owner_revocations, found.revoked),
            (number, None),
            "{key}"
        );
    }
    // A change of owner takes the number too, and one to none.
    run(
        &mut tool,
        "UPDATE api_keys SET owner = 'a', owner_revocations = 7 WHERE id LIKE '%6'",
    )
    .await
    .unwrap();
    run(
        &mut tool,
        "UPDATE api_keys SET owner = NULL WHERE id LIKE '%2'",
    )
    .await
    .unwrap();
    for (key, number) in [(6, 2), (2, 0)] {
        let found = store.find(&id(key)).await.unwrap().unwrap();
        assert_eq!(
            (found.owner_revocations, found.revoked),
            (number, None),
            "{key}"
        );
    }
    let ChangeSet::Entries(items) = history(&store, &since).await else {
        panic!("a resync");
    };
    let owners = items
        .into_iter()
        .filter(|item| !matches!(item, ChangedItem::Key(_)));
    assert!(owners.eq([item("a", state(2, 2))]));
    // Without the row of its time, a revoked key does not come back.
    run(&mut tool, "DELETE FROM api_key_owner_revocations")
        .await
        .unwrap();
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(found.revoked.map(|revoked| revoked.at), Some(at(0)));
    mark(&store).await;
    let moved = "UPDATE api_keys SET owner = 'new' WHERE id LIKE '%1'";
    run(&mut tool, moved).await.unwrap();
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!((found.owner.as_deref(), found.version), (Some("a"), 2));
    assert!(found.revoked.unwrap().at > at(1_700_000_000_000));
}

/// Nothing but what a read derives is marking.
#[tokio::test]
async fn an_update_by_hand_that_says_more_than_a_read_is_a_change() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    for (sql, is_change) in [
        ("revoked_at = 3000, revoked_reason = 'lost'", false),
        (
            "revoked_at = 3000, revoked_reason = 'lost', label = 'l'",
            true,
        ),
        ("revoked_at = 3001, revoked_reason = 'lost'", true),
        ("revoked_at = 3000", true),
        (
            "revoked_at = 3000, revoked_reason = 'lost', version = version + 1",
            true,
        ),
        ("label = label", true),
    ] {
        run(
            &mut tool,
            "DELETE FROM api_keys; DELETE FROM api_key_owners",
        )
        .await
        .unwrap();
        store
            .insert(&owned(1, "a"), &WriteOptions::new())
            .await
            .unwrap();
        store
            .revoke_owner_keys("a", &for_reason(3_000, "lost"), &ChangeOrigin::new())
            .await
            .unwrap();
        let since = cursor(&store).await;
        run(&mut tool, &format!("UPDATE api_keys SET {sql}"))
            .await
            .unwrap();
        let expected = if is_change { vec![id(1)] } else { Vec::new() };
        assert_eq!(changed(&store, &since).await, expected, "{sql}");
        let found = store.find(&id(1)).await.unwrap().unwrap();
        assert_eq!(found.version, 1 + u64::from(is_change), "{sql}");
    }
    // A key that is not revoked by its owner's state is not marked without a word.
    store
        .insert(&owned(2, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    let revoke =
        "UPDATE api_keys SET revoked_at = 3000, revoked_reason = 'lost' WHERE id LIKE '%2'";
    run(&mut tool, revoke).await.unwrap();
    assert_eq!(changed(&store, &since).await, [id(2)]);
}

/// An operator's role needs the right to update owners, and its changes are logged and pushed.
#[tokio::test]
async fn an_owner_that_is_suspended_by_hand_is_denied_by_a_node() {
    let place = place!();
    let mut tool = place.tool().await;
    let manager = manager_on(Arc::new(place.store())).await;
    let key = manager.create("ci").owner("a").await.unwrap();
    let role = format!(
        "{}_of_owners",
        place.schema.replace(' ', "_").to_lowercase()
    );
    let grant = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA \"{0}\" TO {role}; \
         GRANT SELECT, UPDATE ON \"{0}\".api_key_owners TO {role}; SET ROLE {role}",
        place.schema
    );
    run(&mut tool, &grant).await.unwrap();
    let denial = async || soon(manager.verify(key.expose_secret())).await.err();
    assert!(denial().await.is_none());
    for (sql, is_denied) in [
        ("suspended = TRUE", true),
        ("suspended = FALSE", false),
        ("revocations = revocations + 1", true),
    ] {
        let change = format!("UPDATE api_key_owners SET {sql} WHERE owner = 'a'");
        run(&mut tool, &change).await.unwrap();
        let reached = within(PATIENCE, async || denial().await.is_some() == is_denied).await;
        assert!(reached.is_some(), "{sql}");
    }
    manager.shutdown().await.unwrap();
}
