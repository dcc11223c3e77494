//! An entry of the audit log as a row.

use serde_json::Value;

use super::KeyRow;
use crate::audit::{AuditAction, AuditEntry, ChangeChannel, ChangeOrigin, FieldChange};
use crate::clock::Timestamp;
use crate::key::KeyId;

/// Reads the entry in `row`, which holds all columns of `api_key_audit` but the number: `fields` is the JSON
/// text that [`FieldChange::of_columns`] reads, and `address` is a text. A text that is not UTF-8
/// came from a statement by hand. It is read as far as possible, since an entry must not stop a page.
pub(in crate::store) fn audit_entry(row: &impl KeyRow, position: String) -> AuditEntry {
    let text = |name| row.bytes(name).map(String::from_utf8_lossy);
    let owned = |name| text(name).map(std::borrow::Cow::into_owned);
    let mut origin = ChangeOrigin::new();
    origin.actor = owned("actor");
    origin.channel = ChangeChannel::from_code(&text("channel").unwrap_or_default());
    origin.address = text("address").and_then(|address| address.parse().ok());
    origin.request_id = owned("request_id");
    origin.reason = owned("reason");
    let at = row.number("at").ok().flatten().unwrap_or_default();
    let action = AuditAction::from_code(&text("action").unwrap_or_default());
    let mut entry = AuditEntry::new(position, Timestamp::from_millis(at), action, origin);
    entry.key = row.bytes("key").and_then(KeyId::from_ascii);
    entry.owner = owned("owner");
    entry.former_owner = owned("former_owner");
    let fields = text("fields").and_then(|fields| serde_json::from_str(&fields).ok());
    if let Some(Value::Object(fields)) = fields {
        entry.fields = FieldChange::of_columns(&fields);
    }
    entry
}
