//! The audit log, a stream: entries are added at its end only.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redis::from_redis_value;
use serde_json::Value;

use crate::audit::{AuditEntry, FieldChange};
use crate::error::StoreError;
use crate::store::copy_rules::{
    CopyAction, another_position, busy, cursor, entry_weight, position,
};
use crate::store::redis::audit::{StreamFields, StreamId, entry};
use crate::store::redis::connection::LONG_DEADLINE;
use crate::store::redis::error::RedisFailure;
use crate::store::redis::script::{self, ScriptCall};
use crate::store::redis::server::{Server, TRIES, answer};
use crate::store::{CopiedEntry, CopyItems, CopyOutcome, CopyPage};

/// How many entries are read at once: the largest that there may be take some megabytes.
const STEP: usize = 100;

/// The id of an entry in the stream, and how many entries of its millisecond have been read up to it.
type StreamPlace = (StreamId, u64);

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

/// Reads an entry after this place, and moves that. An entry that cannot be read does not count, since it is not copied.
fn numbered(
    place: &mut Option<StreamPlace>,
    id: StreamId,
    fields: StreamFields,
) -> Option<CopiedEntry> {
    let number = match place {
        Some((last, count)) if last.millis == id.millis => *count,
        _ => 0,
    };
    let entry = whole_entry(id, fields).map(|entry| CopiedEntry::new(number, entry));
    *place = Some((id, number + u64::from(entry.is_some())));
    entry
}

/// Returns where to read on after a place, as XRANGE takes it.
fn after_text(place: Option<StreamPlace>) -> Option<String> {
    place.map(|(id, _)| format!("({}", id.text()))
}

pub(super) async fn read(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let doing = "reading the audit log to copy it";
    let after: Option<(String, u64)> = position(after)?;
    let place = |(id, count): (String, u64)| Some((StreamId::of(&id)?, count));
    let mut last = after
        .map(|after| place(after).ok_or_else(another_position))
        .transpose()?;
    let (mut entries, mut unreadable, mut bytes) = (Vec::new(), Vec::new(), 0);
    let is_longer = loop {
        let start = after_text(last).unwrap_or_else(|| "-".to_owned());
        let count = STEP.min(size - entries.len() - unreadable.len());
        let found = range(server, doing, [&start, "+"], count).await?;
        let is_last = found.len() < count;
        for (id, fields) in found {
            match numbered(&mut last, id, fields) {
                Some(entry) => {
                    bytes += entry_weight(&entry.entry);
                    entries.push(entry);
                }
                None => unreadable.push(format!("the audit entry {}", id.text())),
            }
        }
        let is_full = entries.len() + unreadable.len() == size || bytes >= CopyPage::MAX_BYTES;
        if is_last || is_full {
            break !is_last;
        }
    };
    let next = last.filter(|_| is_longer);
    let next = next.map(|(id, count)| cursor(&(id.text(), count)));
    let mut page = CopyPage::new(CopyItems::Audit(entries), next);
    page.unreadable = unreadable;
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
    let numbers = entries.iter().map(|copied| copied.number);
    let wanted: BTreeSet<_> = times.iter().copied().zip(numbers).collect();
    for _ in 0..TRIES {
        let newest = newest(server, doing).await?;
        let present = present(server, doing, newest, wanted.clone()).await?;
        let mut outcome = CopyOutcome::default();
        let mut end = newest;
        let mut run = ScriptCall::new(&script::COPY_AUDIT)
            .key(server.names.audit())
            .key(server.names.audit_index())
            .argument(newest.map_or_else(String::new, StreamId::text));
        for (copied, millis) in entries.iter().zip(&times) {
            let held = present.get(&(*millis, copied.number));
            let action = CopyAction::of_entry(held, &copied.entry);
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

/// Returns the id of an entry that is added after the last one, which need not be there any more.
fn next_id(
    end: Option<StreamId>,
    millis: u64,
    copied: &CopiedEntry,
) -> Result<StreamId, StoreError> {
    let sequence = match end {
        Some(end) if end.millis > millis => {
            return Err(StoreError::InvalidArgument(format!(
                "{} is older than the last entry that the audit log in Redis has had, which grows at its end only; copy to a new store, or \
                 remove this one's stream and index of the audit log",
                copied.name()
            )));
        }
        Some(end) if end.millis == millis => end.sequence + 1,
        _ => copied.number,
    };
    Ok(StreamId { millis, sequence })
}

/// Returns the id of the entry that was added last, even if it was removed since: each further one has a greater id.
async fn newest(server: &Server, doing: &str) -> Result<Option<StreamId>, StoreError> {
    let mut exists = redis::cmd("EXISTS");
    exists.arg(server.names.audit());
    let mut read = redis::cmd("XINFO");
    read.arg("STREAM").arg(server.names.audit());
    let answers = server
        .calls
        .call(doing, [exists, read], LONG_DEADLINE)
        .await?;
    let [exists, info] = <[redis::Value; 2]>::try_from(answers.values).unwrap_or_default();
    let read = || {
        if !from_redis_value(exists.extract_error()?)? {
            return Ok(None);
        }
        let mut info: HashMap<String, redis::Value> = from_redis_value(info.extract_error()?)?;
        let last = info.remove("last-generated-id");
        let last: Option<String> = last.map(from_redis_value).transpose()?;
        Ok(last.as_deref().and_then(StreamId::of))
    };
    let last: Result<_, redis::RedisError> = read();
    Ok(last.map_err(|error| RedisFailure::of(doing, error))?)
}

/// Reads those of the entries with these times and numbers that are here already.
async fn present(
    server: &Server,
    doing: &str,
    newest: Option<StreamId>,
    mut wanted: BTreeSet<(u64, u64)>,
) -> Result<BTreeMap<(u64, u64), AuditEntry>, StoreError> {
    let (mut present, mut place) = (BTreeMap::new(), None::<StreamPlace>);
    let end = wanted.last().map(|(millis, _)| millis.to_string());
    let (Some(newest), Some(end)) = (newest, end) else {
        return Ok(present);
    };
    while let Some((millis, number)) = wanted.first().copied() {
        if newest.millis < millis {
            break;
        }
        if place.is_none_or(|(last, _)| last.millis != millis) {
            place = place_before(server, doing, millis, number).await?;
        }
        let start = after_text(place).unwrap_or_else(|| millis.to_string());
        let found = range(server, doing, [&start, &end], STEP).await?;
        let is_last = found.len() < STEP;
        for (id, fields) in found {
            if let Some(copied) = numbered(&mut place, id, fields)
                && wanted.contains(&(id.millis, copied.number))
            {
                present.insert((id.millis, copied.number), copied.entry);
            }
        }
        let Some((last, count)) = place.filter(|_| !is_last) else {
            break;
        };
        wanted = wanted.split_off(&(last.millis, count));
    }
    Ok(present)
}

/// Returns the place before an entry with this number; `None` if it is the first of its millisecond.
///
/// A page may begin within the many entries of a bulk change, which follow each other without a gap, so those before it are not read
/// to count them.
async fn place_before(
    server: &Server,
    doing: &str,
    millis: u64,
    number: u64,
) -> Result<Option<StreamPlace>, StoreError> {
    let Some(before) = number.checked_sub(1) else {
        return Ok(None);
    };
    let millis = millis.to_string();
    let first = range(server, doing, [&millis, &millis], 1).await?;
    Ok(first.first().map(|(first, _)| {
        let sequence = first.sequence.saturating_add(before);
        (StreamId { sequence, ..*first }, number)
    }))
}

/// The names of the fields of an entry, in the order of [`texts`].
const NAMES: [&str; 9] = [
    "action",
    "key",
    "owner",
    "former_owner",
    "actor",
    "channel",
    "address",
    "request_id",
    "reason",
];

/// Returns the fields of an entry, as `audit.lua` writes them, without what was changed.
fn texts(entry: &AuditEntry) -> [Option<String>; 9] {
    let owner = |owner: &Option<String>| owner.as_ref().map(|owner| format!("={owner}"));
    let origin = &entry.origin;
    let address = origin.address.map(|address| address.to_string());
    [
        Some(entry.action.code().to_owned()),
        entry.key.map(|key| key.to_string()),
        owner(&entry.owner),
        owner(&entry.former_owner),
        origin.actor.clone(),
        Some(origin.channel.code().to_owned()),
        address,
        origin.request_id.clone(),
        origin.reason.clone(),
    ]
}

/// Adds the fields of an entry.
fn with_entry(run: ScriptCall, entry: &AuditEntry) -> ScriptCall {
    let changes = Value::Object(FieldChange::to_columns(&entry.fields)).to_string();
    let texts = texts(entry).map(Option::unwrap_or_default);
    let run = texts.into_iter().fold(run, ScriptCall::argument);
    run.argument(changes)
}

/// Reads an entry. Returns `None` if a field cannot be read, which would be lost in a copy: a change by hand, or a later release, wrote
/// it.
fn whole_entry(id: StreamId, fields: StreamFields) -> Option<AuditEntry> {
    let written = fields.clone();
    let entry = entry(id, fields)?;
    let texts = texts(&entry).map(Option::unwrap_or_default);
    let is_read = |pair: &[Vec<u8>]| match NAMES.iter().position(|name| name.as_bytes() == pair[0])
    {
        _ if pair[1].is_empty() => true,
        Some(place) => texts[place].as_bytes() == pair[1],
        None if pair[0] == b"fields" => {
            serde_json::from_slice::<serde_json::Map<_, Value>>(&pair[1]).is_ok()
        }
        None => false,
    };
    written.chunks(2).all(is_read).then_some(entry)
}
