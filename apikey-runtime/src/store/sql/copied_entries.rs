//! Entries of the audit log of a copy as rows.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{KeyRow, audit_entry};
use crate::audit::{AuditEntry, FieldChange};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::copy_rules::{CopyAction, entry_weight, page_of, position};
use crate::store::{CopiedEntry, CopyItems, CopyOutcome, CopyPage};

/// The position of an entry: its time, its number in the table, and its number within the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct EntryPosition {
    pub(in crate::store) at: i64,
    pub(in crate::store) place: i64,
    number: u64,
}

/// Returns the position after which a page starts.
pub(in crate::store) fn entries_start(after: Option<&str>) -> Result<EntryPosition, StoreError> {
    let first = EntryPosition {
        at: i64::MIN,
        place: i64::MIN,
        number: 0,
    };
    Ok(position(after)?.unwrap_or(first))
}

/// Reads a page of `size` entries from `rows`, which have one more if others follow. The number of a row in the table is its
/// `place`.
pub(in crate::store) fn entries_page(
    rows: &[impl KeyRow],
    start: EntryPosition,
    size: usize,
) -> CopyPage {
    let mut last = start;
    let rows = rows.iter().map(|row| {
        let place = row.number("place").ok().flatten().unwrap_or_default();
        let entry = audit_entry(row, String::new());
        let at = entry.at.as_millis();
        let is_first = last.place == i64::MIN || at != last.at;
        let number = if is_first { 0 } else { last.number + 1 };
        last = EntryPosition { at, place, number };
        (last, CopiedEntry::new(number, entry))
    });
    let weight = |copied: &CopiedEntry| entry_weight(&copied.entry);
    page_of(rows.collect(), size, weight, CopyItems::Audit)
}

/// Returns the times of the entries.
pub(in crate::store) fn times_of(entries: &[CopiedEntry]) -> Vec<i64> {
    let times = entries.iter().map(|copied| copied.entry.at.as_millis());
    let mut times: Vec<_> = times.collect();
    times.dedup();
    times
}

/// Counts `entries`, and returns those that are not among `present`, which are all entries of their times in the order of the log.
pub(in crate::store) fn missing_entries<'e>(
    entries: &'e [CopiedEntry],
    present: &[impl KeyRow],
    outcome: &mut CopyOutcome,
) -> Vec<&'e CopiedEntry> {
    let mut times: HashMap<Timestamp, Vec<AuditEntry>> = HashMap::new();
    for row in present {
        let entry = audit_entry(row, String::new());
        times.entry(entry.at).or_default().push(entry);
    }
    let is_missing = |copied: &&CopiedEntry| {
        let number = usize::try_from(copied.number).unwrap_or(usize::MAX);
        let held = times.get(&copied.entry.at);
        let held = held.and_then(|entries| entries.get(number));
        outcome.count(CopyAction::of_entry(held, &copied.entry), || copied.name())
    };
    entries.iter().filter(is_missing).collect()
}

/// Returns entries as a JSON array of objects, with the columns as members.
pub(in crate::store) fn entries_text(entries: &[&CopiedEntry]) -> String {
    let rows = entries.iter().map(|copied| {
        let entry = &copied.entry;
        let fields = Value::Object(FieldChange::to_columns(&entry.fields));
        json!({
            "at": entry.at.as_millis(),
            "action": entry.action.code(),
            "key": entry.key,
            "owner": entry.owner,
            "former_owner": entry.former_owner,
            "actor": entry.origin.actor,
            "channel": entry.origin.channel.code(),
            "address": entry.origin.address,
            "request_id": entry.origin.request_id,
            "reason": entry.origin.reason,
            "fields": fields.to_string(),
        })
    });
    Value::from_iter(rows).to_string()
}
