//! Entries of the audit log.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{AuditAction, ChangeOrigin};
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::record::KeyRecord;

/// One change of a key or an owner.
///
/// It does not contain digests. Serialized, it is an object whose members are its fields, with those of
/// [`origin`](Self::origin) in the same object, and times in RFC 3339's format.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// The entry's position in the log: a text that sorts as the log does. It is the argument of
    /// [`AuditQuery::before`](crate::store::AuditQuery::before).
    pub position: String,
    /// When the change was made, by the store's clock.
    pub at: Timestamp,
    /// What was done.
    pub action: AuditAction,
    /// The key that was changed. `None` if all keys of an owner were.
    pub key: Option<KeyId>,
    /// The key's owner after the change, or the owner that was changed.
    pub owner: Option<String>,
    /// The key's owner before the change, if the change gave the key to another.
    pub former_owner: Option<String>,
    /// Where the change came from.
    #[serde(flatten)]
    pub origin: ChangeOrigin,
    /// What was changed, in the order of the fields' names. Of a new key, the fields that are set;
    /// of a removed one, the fields that were.
    pub fields: Vec<FieldChange>,
}

/// A field before and after a change.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FieldChange {
    /// The name of the field: that of the column, such as `expires_at`.
    pub field: String,
    /// The value before the change; `None` if the field was not set.
    pub before: Option<Value>,
    /// The value after the change; `None` if the field is not set.
    pub after: Option<Value>,
}

/// How a column's value is shown.
#[derive(Debug, Clone, Copy)]
enum ColumnKind {
    Text,
    Time,
    Flag,
    Number,
    /// Texts that are separated by spaces.
    Words,
    Json,
}

/// The columns that entries show. Digests are not among them: `previous_until` and the action tell a
/// rotation.
const COLUMNS: [(&str, ColumnKind); 21] = [
    ("created_at", ColumnKind::Time),
    ("created_by", ColumnKind::Text),
    ("description", ColumnKind::Text),
    ("enabled", ColumnKind::Flag),
    ("enabled_at", ColumnKind::Time),
    ("environment", ColumnKind::Text),
    ("expires_at", ColumnKind::Time),
    ("label", ColumnKind::Text),
    ("limits", ColumnKind::Json),
    ("metadata", ColumnKind::Json),
    ("methods", ColumnKind::Words),
    ("networks", ColumnKind::Words),
    ("not_before", ColumnKind::Time),
    ("owner", ColumnKind::Text),
    ("prefix", ColumnKind::Text),
    ("previous_until", ColumnKind::Time),
    ("revoked_at", ColumnKind::Time),
    ("revoked_reason", ColumnKind::Text),
    ("scopes", ColumnKind::Words),
    // Of an owner.
    ("revocations", ColumnKind::Number),
    ("suspended", ColumnKind::Flag),
];

impl AuditEntry {
    /// Creates an entry without fields.
    #[must_use]
    pub fn new(
        position: impl Into<String>,
        at: Timestamp,
        action: AuditAction,
        origin: ChangeOrigin,
    ) -> Self {
        Self {
            position: position.into(),
            at,
            action,
            key: None,
            owner: None,
            former_owner: None,
            origin,
            fields: Vec::new(),
        }
    }
}

impl FieldChange {
    /// Creates a change of `field`.
    #[must_use]
    pub fn new(field: impl Into<String>, before: Option<Value>, after: Option<Value>) -> Self {
        Self {
            field: field.into(),
            before,
            after,
        }
    }

    /// Reads the fields that a store keeps as a JSON object: the column's name, and a list of its
    /// value before and after, as in `{"label":["a","b"],"expires_at":[null,1700000000000]}`. A value may be
    /// of JSON's own type, or the text of it. A column that is not known is left out.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
    pub(crate) fn of_columns(columns: &Map<String, Value>) -> Vec<Self> {
        let read = |(name, kind): &(&str, ColumnKind)| {
            let change = columns.get(*name)?.as_array()?;
            let value = |place: usize| change.get(place).and_then(|value| kind.value(value));
            Some(Self::new(*name, value(0), value(1)))
        };
        let mut fields: Vec<_> = COLUMNS.iter().filter_map(read).collect();
        fields.sort_by(|one, other| one.field.cmp(&other.field));
        fields
    }

    /// Returns the JSON object from which [`of_columns`](Self::of_columns) reads `fields`: each value as the text of its column.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
    pub(crate) fn to_columns(fields: &[Self]) -> Map<String, Value> {
        let column = |change: &Self| {
            let kind = COLUMNS.iter().find(|(name, _)| *name == change.field);
            let kind = kind.map_or(ColumnKind::Text, |(_, kind)| *kind);
            let values = [&change.before, &change.after];
            let values = values.map(|value| value.as_ref().map(|value| kind.stored(value)));
            (change.field.clone(), Value::from_iter(values))
        };
        fields.iter().map(column).collect()
    }

    /// Returns what differs between two records, each of which may be missing.
    pub(crate) fn between(before: Option<&KeyRecord>, after: Option<&KeyRecord>) -> Vec<Self> {
        let (before, after) = (before.map(shown), after.map(shown));
        let value = |shown: &Option<Map<String, Value>>, name: &str| {
            let value = shown.as_ref().and_then(|shown| shown.get(name));
            value.filter(|value| !value.is_null()).cloned()
        };
        let mut fields: Vec<_> = COLUMNS
            .iter()
            .map(|(name, _)| Self::new(*name, value(&before, name), value(&after, name)))
            .filter(|change| change.before != change.after)
            .collect();
        fields.sort_by(|one, other| one.field.cmp(&other.field));
        fields
    }
}

/// Returns a record's columns as entries show them.
fn shown(record: &KeyRecord) -> Map<String, Value> {
    let words = |texts: Vec<String>| Value::from(texts);
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let revoked = record.revoked.as_ref();
    let limits = record
        .limits
        .iter()
        .map(|limit| serde_json::to_value(limit).unwrap_or_default());
    Map::from_iter(
        [
            ("created_at", Value::from(record.created.to_string())),
            ("created_by", record.created_by.clone().into()),
            ("description", record.description.clone().into()),
            ("enabled", record.enabled.into()),
            ("enabled_at", time(record.enabled_at).into()),
            ("environment", record.environment.clone().into()),
            ("expires_at", time(record.expires).into()),
            ("label", record.label.clone().into()),
            ("limits", limits.collect()),
            ("metadata", Value::Object(record.metadata.clone())),
            ("methods", words(record.methods.clone())),
            (
                "networks",
                words(record.networks.iter().map(ToString::to_string).collect()),
            ),
            ("not_before", time(record.not_before).into()),
            ("owner", record.owner.clone().into()),
            ("prefix", record.prefix.clone().into()),
            (
                "previous_until",
                time(record.previous.as_ref().map(|old| old.until)).into(),
            ),
            ("revoked_at", time(revoked.map(|revoked| revoked.at)).into()),
            (
                "revoked_reason",
                revoked.and_then(|revoked| revoked.reason.clone()).into(),
            ),
            (
                "scopes",
                words(
                    record
                        .scopes
                        .to_string()
                        .split_whitespace()
                        .map(str::to_owned)
                        .collect(),
                ),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    )
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
impl ColumnKind {
    /// Returns the value as entries show it. A value that is not of the kind is shown as it is.
    fn value(self, stored: &Value) -> Option<Value> {
        let text = match stored {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let read = match self {
            Self::Text => Some(Value::from(text.as_str())),
            Self::Time => text
                .parse()
                .ok()
                .map(|millis| Timestamp::from_millis(millis).to_string().into()),
            Self::Flag => match text.as_str() {
                "1" | "true" => Some(true.into()),
                "0" | "false" => Some(false.into()),
                _ => None,
            },
            Self::Number => text.parse::<i64>().ok().map(Value::from),
            Self::Words => Some(text.split_whitespace().collect()),
            Self::Json => serde_json::from_str(&text).ok(),
        };
        Some(read.unwrap_or_else(|| stored.clone()))
    }

    /// Returns the value of the column that is shown as `value`. One that was shown as it is stays as it is.
    fn stored(self, value: &Value) -> Value {
        let text = match (self, value) {
            (Self::Text, _) => None,
            (Self::Time, Value::String(text)) => {
                let time: Option<Timestamp> = text.parse().ok();
                time.map(|time| time.as_millis().to_string())
            }
            (Self::Words, Value::Array(words)) => {
                let words: Option<Vec<_>> = words.iter().map(Value::as_str).collect();
                words.map(|words| words.join(" "))
            }
            (Self::Json, _) | (Self::Flag, Value::Bool(_)) | (Self::Number, Value::Number(_)) => {
                Some(value.to_string())
            }
            _ => None,
        };
        text.map_or_else(|| value.clone(), Value::String)
    }
}

#[cfg(test)]
mod tests;
