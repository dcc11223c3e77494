//! Reads and trims the audit log, a stream that each change's own script adds an entry to.

use std::collections::HashMap;

use async_trait::async_trait;
use redis::from_redis_value;
use serde_json::{Map, Value};

use super::RedisStore;
use super::connection::LONG_DEADLINE;
use super::error::RedisFailure;
use super::script::{self, ScriptCall};
use super::server::{Server, answer};
use crate::audit::{AuditAction, AuditEntry, ChangeChannel, ChangeOrigin, FieldChange};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::{AuditPage, AuditQuery, AuditStore};

/// The maximum number of entries that a script removes, which takes it a few milliseconds.
const STEP: usize = 200;

/// The maximum number of entries in a page.
const PAGE: usize = 1_000;

/// The id of an entry in the stream: the milliseconds of the server's clock, and a number within these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId {
    pub(super) millis: u64,
    pub(super) sequence: u64,
}

impl StreamId {
    /// Greater than each id: the index keeps 48 bits and 32 bits.
    pub(super) const END: Self = Self {
        millis: (1 << 48) - 1,
        sequence: (1 << 32) - 1,
    };

    /// The first id at `time`, or the nearest that there can be.
    fn at(time: Timestamp) -> Self {
        let millis = u64::try_from(time.as_millis()).unwrap_or(0);
        Self {
            millis: millis.min(Self::END.millis),
            sequence: 0,
        }
    }

    pub(super) fn of(text: &str) -> Option<Self> {
        let (millis, sequence) = text.split_once('-')?;
        Some(Self {
            millis: millis.parse().ok()?,
            sequence: sequence.parse().ok()?,
        })
    }

    /// As the stream has it.
    pub(super) fn text(self) -> String {
        format!("{}-{}", self.millis, self.sequence)
    }

    /// A text that sorts as ids do.
    fn position(self) -> String {
        format!("{:015}-{:010}", self.millis, self.sequence)
    }
}

/// Names and values, as the stream has them.
pub(super) type StreamFields = Vec<Vec<u8>>;

#[async_trait]
impl AuditStore for RedisStore {
    async fn read_audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        read(&*self.server()?, query).await
    }

    async fn prune_audit(&self, before: Timestamp) -> Result<bool, StoreError> {
        let (server, before) = (self.server()?, StreamId::at(before));
        if before == StreamId::at(Timestamp::MIN) {
            return Ok(false);
        }
        let doing = "removing old entries of the audit log";
        let run = ScriptCall::new(&script::PRUNE_AUDIT)
            .key(server.names.audit())
            .key(server.names.audit_index())
            .argument(before.text())
            .argument(STEP);
        let removed = server.calls.run(doing, &run, LONG_DEADLINE).await?;
        let removed = answer(doing, removed)?.rest;
        Ok(removed.first() == Some(&STEP.to_string().into_bytes()))
    }
}

/// Reads the entries of the key, otherwise of the owner or the actor, and leaves out those that do not match the rest.
async fn read(server: &Server, query: &AuditQuery) -> Result<AuditPage, StoreError> {
    let doing = "reading the audit log";
    let first = query
        .from
        .map_or(StreamId::at(Timestamp::MIN), StreamId::at);
    let mut end = query.to.map_or(StreamId::END, StreamId::at);
    if let Some(before) = &query.before {
        let before = StreamId::of(before).ok_or_else(|| {
            StoreError::InvalidArgument(
                "`before` is not a position of the audit log; take the `next` of a page".to_owned(),
            )
        })?;
        end = end.min(before);
    }
    if end <= first {
        return Ok(AuditPage::default());
    }
    let (kind, text) = match (&query.key, &query.owner, &query.actor) {
        (Some(key), ..) => ("k", key.as_str()),
        (None, Some(owner), _) => ("o", owner.as_str()),
        (None, None, Some(actor)) => ("a", actor.as_str()),
        (None, None, None) => ("", ""),
    };
    let limit = usize::try_from(query.limit.clamp(1, 1_000)).unwrap_or(PAGE);
    // Several conditions leave out entries, so more are read for them.
    let is_one = [
        query.key.is_some(),
        query.owner.is_some(),
        query.actor.is_some(),
    ];
    let is_one = is_one.into_iter().filter(|is_set| *is_set).count() <= 1;
    let count = if is_one { limit + 1 } else { PAGE + 1 };
    let run = ScriptCall::new(&script::READ_AUDIT)
        .key(server.names.audit())
        .key(server.names.audit_index())
        .argument(kind)
        .argument(text)
        .argument(first.text())
        .argument(end.text())
        .argument(count);
    let (value, _) = server.calls.run(doing, &run, LONG_DEADLINE).await?;
    let found: Vec<(String, StreamFields)> = from_redis_value(value)
        .map_err(|error| RedisFailure::of(doing, redis::RedisError::from(error)))?;
    let is_last = found.len() < count;
    Ok(page(query, found, limit, is_last))
}

fn page(
    query: &AuditQuery,
    found: Vec<(String, StreamFields)>,
    limit: usize,
    is_last: bool,
) -> AuditPage {
    let mut page = AuditPage::default();
    let mut last = None;
    for (id, fields) in found {
        let Some(id) = StreamId::of(&id) else {
            continue;
        };
        let entry = entry(id, fields);
        let fits = entry.as_ref().is_some_and(|entry| query.matches(entry));
        if fits && page.entries.len() == limit {
            page.next = last;
            return page;
        }
        last = Some(id.position());
        page.entries.extend(entry.filter(|_| fits));
    }
    page.next = last.filter(|_| !is_last);
    page
}

/// Reads an entry. Returns `None` if it is missing, or was written by hand.
pub(super) fn entry(id: StreamId, fields: StreamFields) -> Option<AuditEntry> {
    let texts = fields.chunks_exact(2).map(|pair| {
        let [name, value] = [0, 1].map(|place| String::from_utf8_lossy(&pair[place]).into_owned());
        (name, value)
    });
    let mut texts: HashMap<String, String> = texts.collect();
    let mut text = |name: &str| texts.remove(name).filter(|text| !text.is_empty());
    let owner = |text: Option<String>| Some(text?.strip_prefix('=')?.to_owned());
    let action = AuditAction::from_code(&text("action")?);
    let mut origin = ChangeOrigin::new();
    origin.actor = text("actor");
    origin.channel = ChangeChannel::from_code(&text("channel").unwrap_or_default());
    origin.address = text("address").and_then(|address| address.parse().ok());
    origin.request_id = text("request_id");
    origin.reason = text("reason");
    let at = Timestamp::from_millis(i64::try_from(id.millis).unwrap_or(i64::MAX));
    let mut entry = AuditEntry::new(id.position(), at, action, origin);
    entry.key = text("key").and_then(|key| KeyId::from_ascii(key.as_bytes()));
    entry.owner = owner(text("owner"));
    entry.former_owner = owner(text("former_owner"));
    let columns: Map<String, Value> =
        serde_json::from_str(&text("fields").unwrap_or_default()).unwrap_or_default();
    entry.fields = FieldChange::of_columns(&with_empty(action, columns));
    Some(entry)
}

/// The fields of a record that do not stand in its hash if they are empty.
const EMPTY: [(&str, &str); 5] = [
    ("limits", "[]"),
    ("metadata", "{}"),
    ("methods", ""),
    ("networks", ""),
    ("scopes", ""),
];

/// Adds the empty fields of a record, which is not there before it is created and after it is removed.
fn with_empty(action: AuditAction, mut columns: Map<String, Value>) -> Map<String, Value> {
    let sides = [
        action != AuditAction::Created,
        action != AuditAction::Purged,
    ];
    for (name, empty) in EMPTY {
        let is_whole = sides.contains(&false);
        if !is_whole && !columns.contains_key(name) {
            continue;
        }
        let values = columns.remove(name).unwrap_or(Value::Null);
        let side = |place: usize| {
            let value = values.get(place).filter(|value| !value.is_null());
            match value {
                Some(value) => value.clone(),
                None if sides[place] => Value::from(empty),
                None => Value::Null,
            }
        };
        columns.insert(name.to_owned(), Value::from(vec![side(0), side(1)]));
    }
    columns
}
