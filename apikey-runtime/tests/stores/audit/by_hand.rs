//! Statements by hand are in the audit log, each change once.

use super::*;
use apikey_runtime::audit::FieldChange;

async fn stocked() -> (Place, SqliteStore, SqliteConnection) {
    let place = Place::new();
    let store = place.store().await;
    for (number, owner) in (1..).zip(["a", "a", "b"]) {
        store
            .insert(&owned(number, owner), &options())
            .await
            .unwrap();
    }
    let tool = place.tool().await;
    (place, store, tool)
}

/// Returns the actions of the entries that `sql` leaves, the oldest first.
async fn left_by(
    store: &SqliteStore,
    tool: &mut SqliteConnection,
    sql: &'static str,
) -> Vec<AuditAction> {
    let before = count(store).await;
    run(tool, sql).await.expect(sql);
    let entries = entries(store, AuditQuery::newest(1_000)).await;
    let new = entries.len() - before;
    let new = entries.iter().take(new).rev();
    assert!(
        new.clone().all(|entry| entry.origin == by_hand()),
        "{sql}: {:?}",
        entries[0].origin
    );
    assert_eq!(number(tool, LEFT_OVER).await, 0, "{sql}");
    new.map(|entry| entry.action).collect()
}

fn by_hand() -> ChangeOrigin {
    ChangeOrigin::new().with_channel(ChangeChannel::Sql)
}

use AuditAction as A;

/// The keys 1 and 2 are of `a`, and 3 is of `b`.
const STATEMENTS: [(&str, &[A]); 24] = [
    (
        "UPDATE api_keys SET label = 'x' WHERE id LIKE '%1'",
        &[A::Updated],
    ),
    (
        "UPDATE api_keys SET label = 'x'",
        &[A::Updated, A::Updated, A::Updated],
    ),
    (
        "UPDATE api_keys SET version = version WHERE id LIKE '%1'",
        &[A::Updated],
    ),
    (
        "UPDATE api_keys SET enabled = 0 WHERE id LIKE '%1'",
        &[A::Disabled],
    ),
    (
        "UPDATE api_keys SET enabled = 1 WHERE id LIKE '%1'",
        &[A::Enabled],
    ),
    (
        "UPDATE api_keys SET digest = 'sha256$2' WHERE id LIKE '%1'",
        &[A::Rotated],
    ),
    ("UPDATE api_keys SET label = 'y' WHERE id LIKE '%9'", &[]),
    ("BEGIN; UPDATE api_keys SET label = 'z'; ROLLBACK", &[]),
    (
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000008', 'p', 'l', 'sha256$8', '', '{}', 0, 1, 1)",
        &[A::Created],
    ),
    (
        "INSERT OR IGNORE INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000008', 'p', 'l', 'sha256$9', '', '{}', 0, 1, 1)",
        &[],
    ),
    (
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000008', 'p', 'l', 'sha256$9', '', '{}', 0, 1, 1) ON CONFLICT DO NOTHING",
        &[],
    ),
    (
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000008', 'p', 'l', 'sha256$9', '', '{}', 0, 1, 1) \
         ON CONFLICT (id) DO UPDATE SET digest = excluded.digest",
        &[A::Rotated],
    ),
    (
        "INSERT OR REPLACE INTO api_keys SELECT * FROM api_keys WHERE id LIKE '%8'",
        &[A::Purged, A::Created],
    ),
    (
        "PRAGMA recursive_triggers = ON; INSERT OR REPLACE INTO api_keys SELECT * FROM api_keys WHERE id LIKE '%8'",
        &[A::Purged, A::Created],
    ),
    (
        "UPDATE api_keys SET label = 'recursive' WHERE id LIKE '%8'",
        &[A::Updated],
    ),
    (
        "PRAGMA recursive_triggers = OFF; DELETE FROM api_keys WHERE id LIKE '%8'",
        &[A::Purged],
    ),
    (
        "UPDATE api_key_owners SET revocations = revocations + 1, suspended = 1 WHERE owner = 'a'",
        &[A::OwnerRevoked],
    ),
    (
        "UPDATE api_key_owners SET suspended = 0",
        &[A::OwnerResumed],
    ),
    ("UPDATE api_key_owners SET version = version + 1", &[]),
    // One is marked, and one is moved: it stays, and is marked with it.
    (
        "UPDATE api_keys SET (revoked_at, revoked_reason) = (SELECT at, reason FROM api_key_owner_revocations) \
         WHERE id LIKE '%1'",
        &[],
    ),
    (
        "UPDATE api_keys SET owner = 'c' WHERE id LIKE '%2'",
        &[A::Revoked],
    ),
    (
        "UPDATE api_keys SET owner = 'c', label = 'moved' WHERE id LIKE '%3'",
        &[A::Updated],
    ),
    (
        "INSERT INTO api_key_owners (owner, suspended) VALUES ('d', 1)",
        &[A::OwnerSuspended],
    ),
    (
        "DELETE FROM api_keys; DELETE FROM api_key_owners WHERE owner = 'a'",
        &[A::Purged, A::Purged, A::Purged, A::Purged],
    ),
];

#[tokio::test]
async fn each_change_by_hand_is_in_the_log_once() {
    let (_place, store, mut tool) = stocked().await;
    for (sql, actions) in STATEMENTS {
        assert_eq!(left_by(&store, &mut tool, sql).await, actions, "{sql}");
    }
    assert_eq!(digests(&mut tool).await, 0);
}

/// Negative control: without the trigger, a change by hand is not in it.
#[tokio::test]
async fn without_the_trigger_a_change_by_hand_is_not_in_the_log() {
    let (_place, store, mut tool) = stocked().await;
    run(&mut tool, "DROP TRIGGER api_keys_updated")
        .await
        .unwrap();
    let (sql, _) = STATEMENTS[0];
    assert_eq!(left_by(&store, &mut tool, sql).await, []);
}

#[tokio::test]
async fn an_entry_shows_what_a_statement_by_hand_changed() {
    let (_place, store, mut tool) = stocked().await;
    run(
        &mut tool,
        "UPDATE api_keys SET owner = 'c', expires_at = 5000, label = 'a \"b\"' WHERE id LIKE '%3'",
    )
    .await
    .unwrap();
    let entry = newest(&store).await;
    let text = |text: &str| Some(text.into());
    assert_eq!(
        entry.fields,
        [
            FieldChange::new("expires_at", None, text(&at(5_000).to_string())),
            FieldChange::new("label", text("a label"), text("a \"b\"")),
            FieldChange::new("owner", text("b"), text("c")),
        ]
    );
    assert_eq!(entry.key, Some(id(3)));
    assert_eq!(entry.owner.as_deref(), Some("c"));
    assert_eq!(entry.former_owner.as_deref(), Some("b"));
    let now = std::time::SystemTime::now().into();
    assert!(entry.at <= now && entry.at > at(1_700_000_000_000));
}

/// Somebody who names themselves is named. The next transaction is not theirs.
#[tokio::test]
async fn a_statement_by_hand_may_say_where_it_comes_from() {
    let (_place, store, mut tool) = stocked().await;
    let named = "BEGIN IMMEDIATE; INSERT INTO api_key_origin (actor, reason) VALUES ('anna', 'clean-up'); \
        UPDATE api_keys SET label = 'ZO' || char(203) WHERE id LIKE '%1'; DELETE FROM api_key_origin; COMMIT";
    run(&mut tool, named).await.unwrap();
    let entry = newest(&store).await;
    let anna = by_hand().with_actor("anna").with_reason("clean-up");
    assert_eq!(entry.origin, anna);
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(
        (found.updated_by.as_deref(), found.version),
        (Some("anna"), 2)
    );
    // A row that was left behind is not that of a call.
    run(
        &mut tool,
        "INSERT INTO api_key_origin (actor) VALUES ('anna')",
    )
    .await
    .unwrap();
    let none = KeyPatch::new();
    store
        .update(&id(1), &none, &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(newest(&store).await.origin, ChangeOrigin::new());
    assert_eq!(number(&mut tool, LEFT_OVER).await, 0);
}

/// What a statement by hand does not set, the triggers do.
#[tokio::test]
async fn a_statement_by_hand_does_not_leave_the_name_of_another_actor() {
    let (_place, store, mut tool) = stocked().await;
    let none = KeyPatch::new();
    store.update(&id(1), &none, &options()).await.unwrap();
    let found = async || store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(found().await.updated_by, origin().actor);
    let label = "UPDATE api_keys SET label = 'x' WHERE id LIKE '%1'";
    run(&mut tool, label).await.unwrap();
    assert_eq!(found().await.updated_by, None);
    let named = "UPDATE api_keys SET label = 'x', updated_by = 'anna' WHERE id LIKE '%1'";
    run(&mut tool, named).await.unwrap();
    assert_eq!(found().await.updated_by.as_deref(), Some("anna"));
    assert_eq!(found().await.rotations, 0);
    for rotations in 1..=2 {
        let digest = "UPDATE api_keys SET digest = digest || '1' WHERE id LIKE '%1'";
        run(&mut tool, digest).await.unwrap();
        assert_eq!(found().await.rotations, rotations);
    }
    let mut patch = KeyPatch::new();
    patch.digest = Some(found().await.digest);
    store.update(&id(1), &patch, &options()).await.unwrap();
    assert_eq!(found().await.rotations, 2, "the same digest");
    patch.digest = Some("sha256$other".to_owned());
    store.update(&id(1), &patch, &options()).await.unwrap();
    assert_eq!(found().await.rotations, 3);
    for (replace, rotations) in [
        (
            "INSERT OR REPLACE INTO api_keys SELECT * FROM api_keys WHERE id LIKE '%1'",
            3,
        ),
        (
            "INSERT OR REPLACE INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
             VALUES ('0000000000000000000001', 'p', 'l', 'd', '', '{}', 0, 1, 1)",
            4,
        ),
    ] {
        run(&mut tool, replace).await.unwrap();
        assert_eq!(found().await.rotations, rotations);
    }
}

#[tokio::test]
async fn the_log_is_not_changed_by_hand() {
    let (_place, store, mut tool) = stocked().await;
    let before = entries(&store, AuditQuery::newest(1_000)).await;
    for sql in [
        "UPDATE api_key_audit SET actor = 'bert'",
        "UPDATE OR REPLACE api_key_audit SET position = 1",
        "DELETE FROM api_key_audit",
        "DELETE FROM api_key_audit WHERE at < 9000000000000000",
        "INSERT OR REPLACE INTO api_key_audit (position, at, action, channel, fields) VALUES (1, 0, 'updated', 'sql', '{}')",
        "BEGIN; INSERT INTO api_key_origin (actor) VALUES ('bert'); DELETE FROM api_key_audit; COMMIT",
    ] {
        let refused = run(&mut tool, sql).await.expect_err(sql).to_string();
        assert!(refused.contains("audit log"), "{sql}: {refused}");
        let _ = run(&mut tool, "ROLLBACK").await;
        let after = entries(&store, AuditQuery::newest(1_000)).await;
        assert_eq!(after, before, "{sql}");
    }
    // Negative control.
    let drop = "DROP TRIGGER api_key_audit_kept; UPDATE api_key_audit SET actor = 'bert'";
    run(&mut tool, drop).await.unwrap();
    let after = entries(&store, AuditQuery::newest(1_000)).await;
    assert_ne!(after, before);
}

/// An entry that holds what is not UTF-8, or not JSON, does not stop a page.
#[tokio::test]
async fn a_text_that_is_not_utf8_is_shown_as_far_as_possible() {
    let (_place, store, mut tool) = stocked().await;
    for sql in [
        "UPDATE api_keys SET label = CAST(x'61ff00620a' AS TEXT), owner = CAST(x'ff' AS TEXT) WHERE id LIKE '%1'",
        "UPDATE api_keys SET label = 'again' WHERE id LIKE '%1'",
        "INSERT INTO api_key_audit (at, action, channel, fields) VALUES (9000000000000, 'later', 'other', 'no json')",
    ] {
        run(&mut tool, sql).await.unwrap();
    }
    let found = entries(&store, AuditQuery::newest(1)).await;
    assert_eq!(found.len(), 6);
    assert_eq!(found[0].action, AuditAction::Unknown);
    assert_eq!(found[0].origin.channel, ChangeChannel::Unknown);
    let again = FieldChange::new("label", Some("a\u{fffd}\0b\n".into()), Some("again".into()));
    assert_eq!(found[1].fields, [again]);
    assert_eq!(found[2].owner.as_deref(), Some("\u{fffd}"));
}
