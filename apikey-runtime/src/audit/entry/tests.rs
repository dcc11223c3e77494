//! Entries as records and stores give their fields.

use serde_json::json;

use super::*;
use crate::limit::{Limit, Rate};
use crate::record::{PreviousDigest, Revocation};
use crate::scope::Scopes;

/// Returns a record with a value in each field that an entry shows, and in those that it does not.
fn record() -> KeyRecord {
    let at = Timestamp::from_millis;
    let id = KeyId::from_u128(1);
    let mut record = KeyRecord::new(id, "my_api", "it's", "sha256$secret", at(-1));
    let text = |text: &str| Some(text.to_owned());
    (record.description, record.owner) = (text("d"), text("a"));
    (record.created_by, record.updated_by) = (text("ann"), text("ben"));
    record.previous = Some(PreviousDigest {
        digest: "sha256$secret".to_owned(),
        until: at(2_000),
    });
    record.scopes = Scopes::new(["b", "a:c"]).unwrap();
    record.metadata.insert("n".to_owned(), json!([1, null]));
    record.environment = text("live");
    record.networks = vec!["10.0.0.0/8".parse().unwrap()];
    record.methods = vec!["GET".to_owned(), "PUT".to_owned()];
    record.limits = vec![Limit::new("minute", Rate::per_minute(10))];
    (record.expires, record.not_before) = (Some(at(3_000)), Some(at(0)));
    record.enabled_at = Some(at(500));
    record.revoked = Some(Revocation {
        at: at(4_000),
        reason: text("lost"),
    });
    (record.version, record.rotations) = (7, 5);
    record
}

/// The columns of [`record`], as SQL stores keep them.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
fn stored() -> Map<String, Value> {
    let columns = json!({
        "created_at": -1,
        "created_by": "ann",
        "description": "d",
        "enabled": 1,
        "enabled_at": 500,
        "environment": "live",
        "expires_at": 3_000,
        "label": "it's",
        "limits": r#"[{"name":"minute","rate":"10/minute"}]"#,
        "metadata": r#"{"n":[1,null]}"#,
        "methods": "GET PUT",
        "networks": "10.0.0.0/8",
        "not_before": 0,
        "owner": "a",
        "prefix": "my_api",
        "previous_until": 2_000,
        "revoked_at": 4_000,
        "revoked_reason": "lost",
        "scopes": "a:c b",
    });
    columns.as_object().cloned().unwrap_or_default()
}

#[test]
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
fn the_columns_of_a_store_read_as_the_fields_of_a_record() {
    let expected = FieldChange::between(None, Some(&record()));
    assert_eq!(expected.len(), COLUMNS.len() - 2, "{expected:?}");
    let as_texts = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut columns = Map::new();
    let mut texts = Map::new();
    for (name, value) in stored() {
        texts.insert(name.clone(), json!([null, as_texts(&value)]));
        columns.insert(name, json!([null, value]));
    }
    // What an entry does not show, and what a later release adds.
    columns.insert("digest".to_owned(), json!(["sha256$secret", "b"]));
    columns.insert("version".to_owned(), json!([1, 2]));
    assert_eq!(FieldChange::of_columns(&columns), expected);
    assert_eq!(FieldChange::of_columns(&texts), expected);
    // SQLite has a number for a flag, and PostgreSQL a word.
    texts.insert("enabled".to_owned(), json!([null, "true"]));
    assert_eq!(FieldChange::to_columns(&expected), texts);
    assert_eq!(FieldChange::of_columns(&texts), expected);
}

#[test]
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
fn a_column_that_cannot_be_read_is_shown_as_it_is() {
    let columns = json!({
        "enabled": ["yes", false],
        "expires_at": ["soon", null],
        "limits": ["[", "[]"],
        "owner": "a",
        "revocations": [0, 1],
    });
    let fields = FieldChange::of_columns(columns.as_object().unwrap());
    let change = |field: &str, before: Value, after: Option<Value>| {
        FieldChange::new(field, Some(before), after)
    };
    assert_eq!(
        fields,
        [
            change("enabled", json!("yes"), Some(json!(false))),
            change("expires_at", json!("soon"), None),
            change("limits", json!("["), Some(json!([]))),
            change("revocations", json!(0), Some(json!(1))),
        ]
    );
    let copied = FieldChange::of_columns(&FieldChange::to_columns(&fields));
    assert_eq!(copied, fields);
}

#[test]
fn only_what_differs_is_a_change_and_never_a_digest() {
    let before = record();
    let mut after = record();
    (after.digest, after.version, after.rotations) = ("sha256$other".to_owned(), 8, 6);
    (after.updated_by, after.owner_revocations) = (None, 3);
    assert_eq!(FieldChange::between(Some(&before), Some(&after)), []);
    (after.label, after.expires) = ("new".to_owned(), None);
    let fields = FieldChange::between(Some(&before), Some(&after));
    let end = json!("1970-01-01T00:00:03.000Z");
    assert_eq!(
        fields,
        [
            FieldChange::new("expires_at", Some(end), None),
            FieldChange::new("label", Some(json!("it's")), Some(json!("new"))),
        ]
    );
    for (before, after) in [(None, Some(&before)), (Some(&before), None)] {
        let text = format!("{:?}", FieldChange::between(before, after));
        assert!(
            text.contains("my_api") && !text.contains("secret"),
            "{text}"
        );
    }
}

#[test]
fn each_code_reads_back() {
    use crate::audit::ChangeChannel;

    for code in ["created", "owner_resumed", "later"] {
        let action = AuditAction::from_code(code);
        assert_eq!(action.code() == code, code != "later");
    }
    for code in ["code", "command_line", "sql", "later"] {
        let channel = ChangeChannel::from_code(code);
        assert_eq!(channel.code() == code, code != "later");
    }
}
