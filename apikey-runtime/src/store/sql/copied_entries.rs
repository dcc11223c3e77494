//! Entries of the audit log of a copy as rows.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{KeyRow, audit_entry};
use crate::audit::{AuditEntry, FieldChange};
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
    let rows = numbered(rows, start);
    let rows = rows.map(|(at, entry)| (at, CopiedEntry::new(at.number, entry)));
    let weight = |copied: &CopiedEntry| entry_weight(&copied.entry);
    page_of(rows.collect(), size, weight, CopyItems::Audit)
}

/// Numbers the entries of each millisecond, after this position.
fn numbered(
    rows: &[impl KeyRow],
    start: EntryPosition,
) -> impl Iterator<Item = (EntryPosition, AuditEntry)> {
    let mut last = start;
    rows.iter().map(move |row| {
        let place = row.number("place").ok().flatten().unwrap_or_default();
        let entry = audit_entry(row, String::new());
        let at = entry.at.as_millis();
        let is_first = last.place == i64::MIN || at != last.at;
        let number = if is_first { 0 } else { last.number + 1 };
        last = EntryPosition { at, place, number };
        (last, entry)
    })
}

/// How many entries are read at once to compare them.
pub(in crate::store) const ENTRIES_STEP: i64 = 1_000;

/// The entries that a page may repeat, which are read in steps: one millisecond may have any number of entries.
///
/// A step reads [`ENTRIES_STEP`] entries at most: those after `last` of its time, and those of the [later times](Self::later_times).
pub(in crate::store) struct PresentEntries<'e> {
    entries: &'e [CopiedEntry],
    /// By time and number; `None` for those that are missing.
    held: BTreeMap<(i64, u64), Option<AuditEntry>>,
    /// After which entry the next step starts.
    pub(in crate::store) last: EntryPosition,
}

impl<'e> PresentEntries<'e> {
    pub(in crate::store) fn new(entries: &'e [CopiedEntry]) -> Self {
        let place = |copied: &CopiedEntry| (copied.entry.at.as_millis(), copied.number);
        let held = entries.iter().map(|copied| (place(copied), None));
        let held: BTreeMap<_, _> = held.collect();
        let (at, number) = held.keys().next().copied().unwrap_or_default();
        Self {
            entries,
            held,
            last: EntryPosition {
                at,
                place: i64::MIN,
                number: number.saturating_sub(1),
            },
        }
    }

    /// Returns how many entries of its time come before the one after which the first step starts; `None` if that step starts with
    /// the first entry of the time.
    pub(in crate::store) fn skipped(&self) -> Option<i64> {
        let (_, number) = self.held.keys().next()?;
        let before = number.checked_sub(1)?;
        Some(i64::try_from(before).unwrap_or(i64::MAX))
    }

    /// Starts after the entry in this row; after all entries of its time if the row is missing.
    pub(in crate::store) fn start_after(&mut self, row: Option<&impl KeyRow>) {
        let place = row.and_then(|row| row.number("place").ok().flatten());
        self.last.place = place.unwrap_or(i64::MAX);
    }

    /// Returns the times after that of the last entry.
    pub(in crate::store) fn later_times(&self) -> Vec<i64> {
        let last = (self.last.at, u64::MAX);
        let later = self.held.range((Bound::Excluded(last), Bound::Unbounded));
        let mut times: Vec<_> = later.map(|((at, _), _)| *at).collect();
        times.dedup();
        times
    }

    /// Adds the rows of a step. Returns whether another one follows.
    pub(in crate::store) fn add(&mut self, rows: &[impl KeyRow]) -> bool {
        for (position, entry) in numbered(rows, self.last) {
            self.last = position;
            if let Some(held) = self.held.get_mut(&(position.at, position.number)) {
                *held = Some(entry);
            }
        }
        let last = (self.last.at, self.last.number);
        let is_past = self.held.keys().next_back().is_none_or(|end| *end <= last);
        rows.len() as u64 == ENTRIES_STEP.unsigned_abs() && !is_past
    }

    /// Counts the entries of the page, and returns those that are not there.
    pub(in crate::store) fn missing(self, outcome: &mut CopyOutcome) -> Vec<&'e CopiedEntry> {
        let is_missing = |copied: &&CopiedEntry| {
            let place = (copied.entry.at.as_millis(), copied.number);
            let held = self.held.get(&place).and_then(Option::as_ref);
            outcome.count(CopyAction::of_entry(held, &copied.entry), || copied.name())
        };
        self.entries.iter().filter(is_missing).collect()
    }
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
