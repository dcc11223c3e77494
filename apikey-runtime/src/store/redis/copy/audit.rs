//! The audit log, a stream: entries are added at its end only.

use std::collections::BTreeMap;

use redis::from_redis_value;
use serde_json::Value;

use crate::audit::{AuditEntry, FieldChange};
use crate::error::StoreError;
use crate::store::copy_rules::{CopyAction, busy, cursor, entry_weight, page_of, position};
use crate::store::redis::audit::{StreamFields, StreamId, entry};
use crate::store::redis::connection::LONG_DEADLINE;
use crate::store::redis::error::RedisFailure;
use crate::store::redis::script::{self, ScriptCall};
use crate::store::redis::server::{Server, TRIES, answer};
use crate::store::{CopiedEntry, CopyItems, CopyOutcome, CopyPage};

/// How many entries are read at once to compare them.
const STEP: usize = 1_000;

/// The id of an entry in the stream, and its number among the entries of its millisecond.
type StreamPosition = (String, u64);

/// Reads entries whose ids are within these bounds, each of which is as XRANGE takes it.
async fn range(
    server: &Server,
    doing: &str,
    [first, last]: [&str; 2],
    count: usize,
) -> Result<Vec<(StreamId, StreamFields)>, StoreError> {
    let mut read = redis::cmd("XRANGE");
    read.arg(server.names.audit()).arg(first).arg(last);
    read.arg("COUNT").arg(count);
    let (value, _) = server.calls.call(doing, [read], LONG_DEADLINE).await?.one();
    let found: Vec<(String, StreamFields)> = value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(doing, error))?;
    let entries = found.into_iter();
    Ok(entries
        .filter_map(|(id, fields)| Some((StreamId::of(&id)?, fields)))
        .collect())
}

/// Numbers the entries of each millisecond, after this one.
fn numbered(
    entries: Vec<(StreamId, StreamFields)>,
    after: Option<(StreamId, u64)>,
) -> impl Iterator<Item = (StreamId, u64, StreamFields)> {
    let mut last = after;
    entries.into_iter().map(move |(id, fields)| {
        let number = match last {
            Some((last, number)) if last.millis == id.millis => number + 1,
            _ => 0,
        };
        last = Some((id, number));
        (id, number, fields)
    })
}

pub(super) async fn read(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let doing = "reading the audit log to copy it";
    let after: Option<StreamPosition> = position(after)?;
    let last = after.and_then(|(id, number)| Some((StreamId::of(&id)?, number)));
    let start = last.map_or_else(|| "-".to_owned(), |(id, _)| format!("({}", id.text()));
    let found = range(server, doing, [&start, "+"], size + 1).await?;
    let is_longer = found.len() > size;
    let (mut rows, mut unreadable, mut end) = (Vec::new(), Vec::new(), None);
    for (id, number, fields) in numbered(found, last).take(size) {
        end = Some((id.text(), number));
        match entry(id, fields) {
            Some(entry) => rows.push(((id.text(), number), CopiedEntry::new(number, entry))),
            None => unreadable.push(format!("the audit entry {}", id.text())),
        }
    }
    let weight = |copied: &CopiedEntry| entry_weight(&copied.entry);
    let mut page = page_of(rows, size, weight, CopyItems::Audit);
    if page.next.is_none() {
        page.unreadable = unreadable;
        let next = end.filter(|_| is_longer);
        page.next = next.as_ref().map(cursor);
    }
    Ok(page)
}

/// Returns the time of an entry, as the stream has it.
fn millis(copied: &CopiedEntry) -> Result<u64, StoreError> {
    let millis = u64::try_from(copied.entry.at.as_millis()).ok();
    let fits = millis.filter(|millis| *millis <= StreamId::END.millis);
    fits.filter(|_| copied.number < StreamId::END.sequence)
        .ok_or_else(|| {
            StoreError::InvalidArgument(format!(
                "{} cannot be kept in Redis, which knows times after 1970 only; prune the audit log that is copied",
                copied.name()
            ))
        })
}

pub(super) async fn write(
    server: &Server,
    entries: &[CopiedEntry],
) -> Result<CopyOutcome, StoreError> {
    let doing = "copying the audit log";
    let times = entries.iter().map(millis).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..TRIES {
        let newest = newest(server, doing).await?;
        let present = present(server, doing, newest, &times).await?;
        let mut outcome = CopyOutcome::default();
        let mut end = newest;
        let mut run = ScriptCall::new(&script::COPY_AUDIT)
            .key(server.names.audit())
            .key(server.names.audit_index())
            .argument(newest.map_or_else(String::new, StreamId::text));
        for (copied, millis) in entries.iter().zip(&times) {
            let held = present.get(&(*millis, copied.number));
            let action = match held {
                // Written by hand.
                Some(None) => CopyAction::Keep,
                Some(Some(held)) => CopyAction::of_entry(Some(held), &copied.entry),
                None => CopyAction::Write,
            };
            if outcome.count(action, || copied.name()) {
                let id = next_id(end, *millis, copied)?;
                end = Some(id);
                run = with_entry(run.argument(id.text()), &copied.entry);
            }
        }
        if outcome.written == 0 {
            return Ok(outcome);
        }
        let reply = server.calls.run(doing, &run, LONG_DEADLINE).await?;
        if answer(doing, reply)?.word == "done" {
            return Ok(outcome);
        }
    }
    Err(busy(doing))
}

/// Returns the id of an entry that is added after the last one.
fn next_id(
    end: Option<StreamId>,
    millis: u64,
    copied: &CopiedEntry,
) -> Result<StreamId, StoreError> {
    let sequence = match end {
        Some(end) if end.millis > millis => {
            return Err(StoreError::InvalidArgument(format!(
                "{} is older than the last entry of the audit log in Redis, which grows at its end only; copy to a new store, or \
                 remove this one's stream and index of the audit log",
                copied.name()
            )));
        }
        Some(end) if end.millis == millis => end.sequence + 1,
        _ => copied.number,
    };
    Ok(StreamId { millis, sequence })
}

async fn newest(server: &Server, doing: &str) -> Result<Option<StreamId>, StoreError> {
    let mut read = redis::cmd("XREVRANGE");
    read.arg(server.names.audit())
        .arg(&["+", "-", "COUNT", "1"]);
    let (value, _) = server.calls.call(doing, [read], LONG_DEADLINE).await?.one();
    let found: Vec<(String, StreamFields)> = value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(doing, error))?;
    Ok(found.first().and_then(|(id, _)| StreamId::of(id)))
}

/// Reads the entries that are here already, from the first of these times to the last. `None` stands for one that cannot be read.
async fn present(
    server: &Server,
    doing: &str,
    newest: Option<StreamId>,
    times: &[u64],
) -> Result<BTreeMap<(u64, u64), Option<AuditEntry>>, StoreError> {
    let mut present = BTreeMap::new();
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
        return Ok(present);
    };
    if newest.is_none_or(|newest| newest.millis < *first) {
        return Ok(present);
    }
    let (mut start, last, mut before) = (first.to_string(), last.to_string(), None);
    loop {
        let found = range(server, doing, [&start, &last], STEP).await?;
        let is_last = found.len() < STEP;
        for (id, number, fields) in numbered(found, before) {
            let held = entry(id, fields).map(|entry| CopiedEntry::new(number, entry).entry);
            present.insert((id.millis, number), held);
            start = format!("({}", id.text());
            before = Some((id, number));
        }
        if is_last {
            return Ok(present);
        }
    }
}

/// Adds the fields of an entry, as `audit.lua` writes them.
fn with_entry(run: ScriptCall, entry: &AuditEntry) -> ScriptCall {
    let owner = |owner: &Option<String>| owner.as_ref().map(|owner| format!("={owner}"));
    let origin = &entry.origin;
    let address = origin.address.map(|address| address.to_string());
    let texts = [
        Some(entry.action.code().to_owned()),
        entry.key.map(|key| key.to_string()),
        owner(&entry.owner),
        owner(&entry.former_owner),
        origin.actor.clone(),
        Some(origin.channel.code().to_owned()),
        address,
        origin.request_id.clone(),
        origin.reason.clone(),
        Some(Value::Object(FieldChange::to_columns(&entry.fields)).to_string()),
    ];
    texts
        .into_iter()
        .fold(run, |run, text| run.argument(text.unwrap_or_default()))
}
