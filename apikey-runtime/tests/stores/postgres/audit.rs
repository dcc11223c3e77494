//! The audit log: what is in it, who writes it, and who cannot.

use std::net::IpAddr;

use apikey_runtime::audit::{AuditAction, AuditEntry, ChangeChannel, ChangeOrigin, FieldChange};
use apikey_runtime::store::{
    AuditQuery, AuditStore, KeyPatch, OwnerStore, PreviousDigest, StoreError, WriteOptions,
};
use apikey_runtime::{KeyStore, PostgresStore};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::bulk::add;
use super::owners_by_hand::refusal;
use super::{for_reason, mark, number, place, run};
use crate::{at, because, id, owned};

pub(super) fn origin() -> ChangeOrigin {
    ChangeOrigin::new()
        .with_actor("anna")
        .with_channel(ChangeChannel::Page)
        .with_address(IpAddr::from([192, 0, 2, 7]))
        .with_request_id("4bf92f35")
        .with_reason("left")
}

pub(super) fn by_anna() -> WriteOptions {
    WriteOptions::new().with_origin(origin())
}

/// Returns the whole log, the oldest first.
pub(super) async fn log(store: &PostgresStore) -> Vec<AuditEntry> {
    let page = store.read_audit(&AuditQuery::newest(1_000)).await.unwrap();
    assert_eq!(page.next, None);
    let mut entries = page.entries;
    entries.reverse();
    entries
}

/// Returns the log as texts: the action, the number of the key, and the fields after the change.
async fn told(store: &PostgresStore) -> Vec<String> {
    let tell = |entry: AuditEntry| {
        let key = entry.key.map(|key| key.to_u128());
        let fields: Vec<_> = entry
            .fields
            .iter()
            .map(|change| format!(" {}={:?}", change.field, change.after))
            .collect();
        format!("{} {key:?}{}", entry.action, fields.concat())
    };
    log(store).await.into_iter().map(tell).collect()
}

fn previous(digest: &str, until: i64) -> PreviousDigest {
    PreviousDigest {
        digest: digest.to_owned(),
        until: at(until),
    }
}

fn field(name: &str, before: Value, after: Value) -> FieldChange {
    let [before, after] = [before, after].map(|value| Some(value).filter(|value| !value.is_null()));
    FieldChange::new(name, before, after)
}

#[tokio::test]
async fn each_call_that_changes_something_is_in_the_log_once() {
    let place = place!();
    let store = place.started().await;
    let (anna, origin) = (by_anna(), origin());
    for key in [1, 2, 3] {
        store.insert(&owned(key, "a"), &anna).await.unwrap();
    }
    let mut patch = KeyPatch::new();
    patch.label = Some("new".to_owned());
    patch.owner = Some(Some("b".to_owned()));
    store.update(&id(1), &patch, &anna).await.unwrap();
    patch = KeyPatch::new();
    patch.digest = Some("other".to_owned());
    patch.previous = Some(Some(previous("digest", 9_000)));
    store.update(&id(1), &patch, &anna).await.unwrap();
    patch = KeyPatch::new();
    patch.enabled = Some(false);
    store.update(&id(1), &patch, &anna).await.unwrap();
    store.update(&id(1), &KeyPatch::new(), &anna).await.unwrap();
    store.revoke(&id(2), &because("lost"), &anna).await.unwrap();
    store.revoke(&id(2), &because("lost"), &anna).await.unwrap();
    store.set_owner_suspended("a", true, &origin).await.unwrap();
    store.set_owner_suspended("a", true, &origin).await.unwrap();
    store
        .revoke_owner_keys("a", &for_reason(7_000, "all"), &origin)
        .await
        .unwrap();
    mark(&store).await;
    store.purge(at(8_000), None, &origin).await.unwrap();

    let entries = log(&store).await;
    assert!(entries.is_sorted_by_key(|entry| entry.position.clone()));
    assert!(entries.iter().all(|entry| entry.origin == origin));
    let actions: Vec<_> = entries
        .iter()
        .map(|entry| (entry.action, entry.key.map(|key| key.to_u128())))
        .collect();
    use AuditAction::*;
    let expected = [
        (Created, Some(1)),
        (Created, Some(2)),
        (Created, Some(3)),
        (Updated, Some(1)),
        (Rotated, Some(1)),
        (Disabled, Some(1)),
        (Updated, Some(1)),
        (Revoked, Some(2)),
        (OwnerSuspended, None),
        (OwnerRevoked, None),
        (Purged, Some(2)),
        (Purged, Some(3)),
    ];
    assert_eq!(actions, expected);
    assert_eq!(entries[3].owner.as_deref(), Some("b"));
    assert_eq!(entries[3].former_owner.as_deref(), Some("a"));
    let moved = [
        field("label", json!("label"), json!("new")),
        field("owner", json!("a"), json!("b")),
    ];
    assert_eq!(entries[3].fields[1..], moved[1..]);
    assert_eq!(entries[3].fields[0].after, moved[0].after);
    let until = field("previous_until", Value::Null, json!(at(9_000).to_string()));
    assert_eq!(entries[4].fields, [until]);
    assert_eq!(
        entries[5].fields,
        [field("enabled", json!(true), json!(false))]
    );
    assert_eq!(entries[6].fields, []);
    assert_eq!(
        (entries[8].owner.as_deref(), &*entries[8].fields),
        (
            Some("a"),
            &[field("suspended", json!(false), json!(true))][..]
        )
    );
    assert_eq!(
        entries[9].fields,
        [field("revocations", json!(0), json!(1))]
    );
    assert!(
        entries[10]
            .fields
            .iter()
            .all(|change| change.after.is_none())
    );
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(
        (found.updated_by.as_deref(), found.rotations),
        (Some("anna"), 1)
    );
}

/// SQL by hand is in the log as calls are, in the name of its session.
#[tokio::test]
async fn what_is_written_by_hand_is_in_the_log_once() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    add(&mut tool, 1, 3, "'a'", "NULL").await;
    for sql in [
        "UPDATE api_keys SET enabled = FALSE WHERE id LIKE '%1'",
        "UPDATE api_keys SET digest = 'e', label = 'x' WHERE id LIKE '%1'",
        "BEGIN; UPDATE api_keys SET label = 'never'; ROLLBACK",
        "BEGIN; SAVEPOINT one; UPDATE api_keys SET label = 'never'; ROLLBACK TO one; \
            UPDATE api_keys SET label = 'y' WHERE id LIKE '%1'; COMMIT",
        "UPDATE api_keys SET revoked_at = 5 WHERE id LIKE '%2'",
        "UPDATE api_key_owners SET suspended = TRUE, revocations = 1",
        "UPDATE api_key_owners SET suspended = FALSE",
        "DELETE FROM api_keys WHERE id LIKE '%3'",
        "TRUNCATE api_keys",
        "INSERT INTO api_key_owners (owner, suspended) VALUES ('b', TRUE)",
        "DELETE FROM api_key_owners WHERE owner = 'b'",
    ] {
        run(&mut tool, sql).await.unwrap();
    }
    let said = told(&store).await;
    let changes = [
        "disabled Some(1) enabled=Some(Bool(false))",
        "rotated Some(1) label=Some(String(\"x\"))",
        "updated Some(1) label=Some(String(\"y\"))",
        "revoked Some(2) revoked_at=Some(String(\"1970-01-01T00:00:00.005Z\"))",
        "owner_revoked None revocations=Some(Number(1)) suspended=Some(Bool(true))",
        "owner_resumed None suspended=Some(Bool(false))",
    ];
    assert_eq!(said[3..9], changes);
    assert!(
        said[9].starts_with("purged Some(3) created_at=None"),
        "{said:#?}"
    );
    let rest = [
        "purged None",
        "owner_suspended None revocations=Some(Number(0)) suspended=Some(Bool(true))",
        "purged None revocations=None suspended=None",
    ];
    assert_eq!(said[10..], rest);
    let by_hand = ChangeOrigin::new()
        .with_channel(ChangeChannel::Sql)
        .with_actor("keeper");
    assert!(
        log(&store)
            .await
            .iter()
            .all(|entry| entry.origin == by_hand)
    );
}

/// A label of 200 characters that look like something else, through the store and by hand; and neither digest.
#[tokio::test]
async fn hostile_labels_read_back_and_no_digest_is_in_the_log() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    let beginnings = [
        "\"}],\"digest\":[\"x\",\"y\"],\"z\":[\"",
        "'); DROP TABLE api_key_audit; --",
        "\\u0000\\\"\\",
        "\u{1}\u{1f}\u{7f}\u{85}\u{2028}\r\n\t",
        "{\"label\":[null,\"x\"]}",
        "\u{202e}\u{1F511}e\u{301}",
        "\u{fffe}\u{feff}\u{10ffff}",
    ];
    for (beginning, key) in beginnings.iter().zip(1..) {
        let filled = beginning.chars().chain(beginning.chars().cycle());
        let label: String = filled.take(200).collect();
        let mut record = owned(key, &label[..label.floor_char_boundary(256)]);
        record.digest = "planted-digest".to_owned();
        record.previous = Some(previous("planted-previous", 5));
        record.label = label.clone();
        let origin = origin().with_reason(&label).with_actor(&label);
        let options = WriteOptions::new().with_origin(origin.clone());
        store.insert(&record, &options).await.unwrap();
        let change = "UPDATE api_keys SET label = label || 'x', digest = 'planted-too', previous_digest = 'planted-as-well' \
            WHERE id = $1";
        sqlx::query(change)
            .bind(id(key).as_str())
            .execute(&mut tool)
            .await
            .unwrap();
        let mut query = AuditQuery::newest(10);
        query.key = Some(id(key));
        let entries = store.read_audit(&query).await.unwrap().entries;
        let by_hand = [field("label", json!(label), json!(label.clone() + "x"))];
        assert_eq!(entries[0].fields, by_hand);
        assert_eq!(entries[1].origin, origin);
        let created = &entries[1].fields;
        assert!(created.contains(&field("label", Value::Null, json!(label))));
        assert_eq!(entries[1].owner, record.owner);
        query = AuditQuery::newest(10);
        query.actor = Some(label.clone());
        assert_eq!(store.read_audit(&query).await.unwrap().entries.len(), 1);
    }
    let planted = "SELECT count(*) FROM api_key_audit AS entry WHERE entry::text LIKE '%planted%'";
    assert_eq!(number(&mut tool, planted).await, 0);
    let nul = ChangeOrigin::new().with_actor("a\0b");
    let options = WriteOptions::new().with_origin(nul);
    let refused = store.update(&id(1), &KeyPatch::new(), &options).await;
    assert!(
        matches!(refused, Err(StoreError::InvalidArgument(_))),
        "{refused:?}"
    );
}

/// Also in a session of replication, in which ordinary triggers do not run.
#[tokio::test]
async fn the_log_cannot_be_written_by_hand() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    add(&mut tool, 1, 1, "'a'", "NULL").await;
    for role in ["origin", "replica"] {
        let set = format!("SET session_replication_role = {role}");
        run(&mut tool, &set).await.unwrap();
        for sql in [
            "DELETE FROM api_key_audit",
            "UPDATE api_key_audit SET actor = 'someone'",
            "TRUNCATE api_key_audit",
            "INSERT INTO api_key_audit (at, action, channel, fields) VALUES (1, 'purged', 'code', '{}')",
        ] {
            let refused = refusal(&mut tool, sql).await;
            assert!(
                refused.starts_with("P0001 the audit log is written by triggers only"),
                "{refused}"
            );
        }
        // What a session of replication writes is in the log.
        run(&mut tool, "UPDATE api_keys SET label = label || 'x'")
            .await
            .unwrap();
    }
    assert_eq!(log(&store).await.len(), 3);
    // Negative control.
    run(
        &mut tool,
        "ALTER TABLE api_key_audit ENABLE TRIGGER api_key_audit_not_removed; DELETE FROM api_key_audit",
    )
    .await
    .unwrap();
    assert_eq!(log(&store).await.len(), 0);
}

/// A role that may change keys needs no right on the log, and cannot write it in another's name.
#[tokio::test]
async fn a_role_that_may_change_keys_is_named_in_the_log() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    add(&mut tool, 1, 1, "'a'", "NULL").await;
    let role = format!("{}_of_keys", place.schema.replace(' ', "_").to_lowercase());
    let grant = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA \"{0}\" TO {role}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON \"{0}\".api_keys, \"{0}\".api_key_owners TO {role}; \
         SET SESSION AUTHORIZATION {role}; SET search_path = \"{0}\"",
        place.schema
    );
    run(&mut tool, &grant).await.unwrap();
    let forged = format!(
        "BEGIN; SELECT set_config('apikey.origin', '{}', TRUE); \
         UPDATE api_keys SET label = 'x'; UPDATE api_key_owners SET suspended = TRUE; COMMIT",
        json!({"actor": "anna", "channel": "page", "reason": "forged"})
    );
    run(&mut tool, &forged).await.unwrap();
    for sql in [
        "SELECT * FROM api_key_audit",
        "DELETE FROM api_key_audit",
        "SELECT api_key_prune_audit(0, 1)",
    ] {
        let refused = refusal(&mut tool, sql).await;
        assert!(refused.starts_with("42501"), "{sql}: {refused}");
    }
    let mut by_role = ChangeOrigin::new().with_channel(ChangeChannel::Sql);
    by_role.actor = Some(role.clone());
    let entries = log(&store).await;
    assert_eq!(entries.len(), 3);
    assert!(entries[1..].iter().all(|entry| entry.origin == by_role));
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(found.updated_by, Some(role));
}

/// The origin of a call belongs to its transaction: the next one of the same connection does not have it.
#[tokio::test]
async fn an_origin_does_not_reach_the_next_transaction() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    add(&mut tool, 1, 1, "'a'", "NULL").await;
    // As the store does, on one connection; `is_local` is TRUE there.
    let change = async |tool: &mut sqlx::PgConnection, is_local: &str| {
        let as_anna = format!(
            "WITH origin AS MATERIALIZED (SELECT set_config('apikey.origin', '{{\"actor\":\"anna\"}}', {is_local})) \
             UPDATE api_keys SET enabled = NOT enabled FROM origin"
        );
        for sql in [&*as_anna, "UPDATE api_keys SET enabled = NOT enabled"] {
            sqlx::query(AssertSqlSafe(sql))
                .execute(&mut *tool)
                .await
                .unwrap();
        }
        let entries = log(&store).await;
        let last = entries.iter().rev().take(2);
        let mut actors: Vec<_> = last.map(|entry| entry.origin.actor.clone()).collect();
        actors.reverse();
        actors
    };
    let [anna, keeper] = ["anna", "keeper"].map(|actor| Some(actor.to_owned()));
    assert_eq!(
        change(&mut tool, "TRUE").await,
        [anna.clone(), keeper.clone()]
    );
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(found.updated_by, keeper);
    // Negative control.
    assert_eq!(change(&mut tool, "FALSE").await, [anna.clone(), anna]);
}
