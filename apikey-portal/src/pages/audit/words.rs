//! Entries of the audit log in words.

use apikey_runtime::Timestamp;
use apikey_runtime::audit::{AuditAction, AuditEntry, ChangeChannel, FieldChange};
use serde_json::Value;

use crate::pages::moment::Moment;

/// An entry as a row of the page.
pub(in crate::pages) struct AuditRow {
    pub(in crate::pages) at: Moment,
    pub(in crate::pages) action: &'static str,
    /// The key's id, and its beginning.
    pub(in crate::pages) key: Option<(String, String)>,
    /// The key's name now, if the reader may see it.
    pub(in crate::pages) label: Option<String>,
    /// Whether the record may still be there.
    pub(in crate::pages) has_page: bool,
    pub(in crate::pages) owner: Option<String>,
    pub(in crate::pages) actor: Option<String>,
    pub(in crate::pages) source: String,
    /// The reason of the revocation, or else the note to the change.
    pub(in crate::pages) reason: Option<String>,
    /// The note, if the revocation has another reason.
    pub(in crate::pages) note: Option<String>,
    pub(in crate::pages) changes: Vec<ChangeInWords>,
}

/// A field before and after a change.
pub(in crate::pages) struct ChangeInWords {
    pub(in crate::pages) name: String,
    /// `None` if it was not set.
    pub(in crate::pages) before: Option<String>,
    /// Not told of a removed key.
    pub(in crate::pages) after: Option<String>,
}

impl AuditRow {
    pub(in crate::pages) fn of(entry: &AuditEntry, now: Timestamp) -> Self {
        let origin = &entry.origin;
        let mut source = channel(origin.channel).to_owned();
        if let Some(address) = origin.address {
            source += &format!(", from {address}");
        }
        if let Some(id) = &origin.request_id {
            source += &format!(", request {id}");
        }
        let of_revocation = reason_of_revocation(entry);
        let reason = of_revocation.clone().or_else(|| origin.reason.clone());
        Self {
            at: Moment::ago(entry.at, now),
            action: action(entry.action),
            key: entry.key.map(|key| {
                let id = key.to_string();
                let beginning = id.chars().take(8).collect();
                (id, beginning)
            }),
            label: None,
            has_page: entry.action != AuditAction::Purged,
            owner: entry.owner.clone().or_else(|| entry.former_owner.clone()),
            actor: origin.actor.clone(),
            source,
            note: origin
                .reason
                .clone()
                .filter(|note| reason.as_ref() != Some(note)),
            reason,
            changes: entry
                .fields
                .iter()
                .filter(|change| of_revocation.is_none() || change.field != REASON)
                .filter_map(|change| ChangeInWords::of(change, entry.action))
                .collect(),
        }
    }
}

/// The field with the reason of a revocation.
const REASON: &str = "revoked_reason";

fn reason_of_revocation(entry: &AuditEntry) -> Option<String> {
    let is_revoked = entry.action == AuditAction::Revoked;
    let reason = entry.fields.iter().find(|change| change.field == REASON);
    let text = reason?.after.as_ref()?.as_str()?;
    is_revoked.then(|| text.to_owned())
}

impl ChangeInWords {
    /// Returns a change in words; `None` if a new or a removed key does not have the field.
    fn of(change: &FieldChange, action: AuditAction) -> Option<Self> {
        let [before, after] = [&change.before, &change.after];
        let told = |value: &Option<Value>| match value {
            Some(Value::String(text)) if is_time(&change.field) => time(text),
            Some(value) => words(value),
            None => "not set".to_owned(),
        };
        let is_told = |value: &Option<Value>| value.as_ref().is_some_and(|value| !is_empty(value));
        Some(Self {
            name: field(&change.field),
            before: match action {
                AuditAction::Created if is_told(after) => None,
                AuditAction::Created => return None,
                _ => before.is_some().then(|| told(before)),
            },
            after: match action {
                AuditAction::Purged if is_told(before) => None,
                AuditAction::Purged => return None,
                _ => Some(told(after)),
            },
        })
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn action(action: AuditAction) -> &'static str {
    match action {
        AuditAction::Created => "Key created",
        AuditAction::Updated => "Key changed",
        AuditAction::Rotated => "Key rotated: it has a new secret",
        AuditAction::Enabled => "Key enabled",
        AuditAction::Disabled => "Key disabled",
        AuditAction::Revoked => "Key revoked",
        AuditAction::Purged => "Record of a key removed",
        AuditAction::OwnerRevoked => "All keys of the owner revoked",
        AuditAction::OwnerSuspended => "All keys of the owner suspended",
        AuditAction::OwnerResumed => "Keys of the owner resumed",
        // An action of a later release.
        _ => "Changed",
    }
}

fn channel(channel: ChangeChannel) -> &'static str {
    match channel {
        ChangeChannel::Code => "by the application",
        ChangeChannel::Page => "by a page",
        ChangeChannel::Api => "by the API",
        ChangeChannel::CommandLine => "by the command line",
        ChangeChannel::LeakReport => "by a report of leaked keys",
        ChangeChannel::Import => "by an import",
        ChangeChannel::Sql => "by hand, in the database",
        // A channel of a later release.
        _ => "by other means",
    }
}

fn field(name: &str) -> String {
    let words = match name {
        "created_at" => "Created",
        "created_by" => "Created by",
        "description" => "Description",
        "enabled" => "Enabled",
        "enabled_at" => "Enabled at",
        "environment" => "Environment",
        "expires_at" => "End",
        "label" => "Name",
        "limits" => "Limits",
        "metadata" => "Metadata",
        "methods" => "Methods",
        "networks" => "Networks",
        "not_before" => "Valid from",
        "owner" => "Owner",
        "prefix" => "Prefix",
        "previous_until" => "The old secret works until",
        "revoked_at" => "Revoked at",
        "revoked_reason" => "Reason of the revocation",
        "scopes" => "Scopes",
        "revocations" => "Revocations of all keys",
        "suspended" => "Suspended",
        // A field of a later release.
        other => return other.to_owned(),
    };
    words.to_owned()
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        empty if is_empty(empty) => "none".to_owned(),
        Value::Array(all) => all.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn is_time(field: &str) -> bool {
    let others = ["not_before", "previous_until"];
    field.ends_with("_at") || others.contains(&field)
}

/// Returns a time to the second, as people read it: `2026-01-31 12:00:00 UTC`.
fn time(text: &str) -> String {
    match text.get(..19).filter(|_| text.ends_with('Z')) {
        Some(seconds) => format!("{} UTC", seconds.replace('T', " ")),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_told_in_words() {
        for (value, text) in [
            (json!(true), "yes"),
            (json!(null), "not set"),
            (json!([]), "none"),
            (json!(["a", "b"]), "a, b"),
            (json!({}), "none"),
            (json!({"plan": "x"}), "{\"plan\":\"x\"}"),
            (json!(3), "3"),
        ] {
            assert_eq!(words(&value), text);
        }
    }

    #[test]
    fn only_times_are_told_as_times() {
        let told = |field: &str, text: &str| {
            let change = FieldChange::new(field, None, Some(json!(text)));
            let told = ChangeInWords::of(&change, AuditAction::Created);
            told.and_then(|told| told.after).unwrap()
        };
        let time = "2026-01-31T12:00:00.123Z";
        assert_eq!(told("expires_at", time), "2026-01-31 12:00:00 UTC");
        assert_eq!(told("label", time), time);
        let empty = FieldChange::new("networks", None, Some(json!([])));
        assert!(ChangeInWords::of(&empty, AuditAction::Created).is_none());
        assert!(ChangeInWords::of(&empty, AuditAction::Updated).is_some());
    }
}
