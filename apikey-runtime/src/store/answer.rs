//! Checks of a store's answers: an answer that does not fit its question is an error. A collation
//! that ignores case, or a wrong join, would otherwise keep a revoked key alive under another id.

mod notices;
mod page;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::{
    AuditPage, AuditQuery, FindResult, LastUsed, MAX_NETWORKS, NetworkUse, OwnerPage, OwnerQuery,
    OwnerState, UsageQuery, UsageRow,
};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyRecord, MAX_READABLE_DEPTH, depth, dismantle};
use crate::util::text::quote;

pub(crate) use self::notices::notices_of;
pub(crate) use self::page::page_of;

/// Returns the record found for `id`.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if it is the record of another key, or its metadata is nested too
/// deeply.
pub(crate) fn record_of(
    id: &KeyId,
    found: Option<KeyRecord>,
) -> Result<Option<KeyRecord>, StoreError> {
    match found {
        Some(record) if record.id != *id => Err(corrupt(
            id,
            &format!("the store answered with the record of `{}`", record.id),
        )),
        Some(record) => readable(record).map(Some),
        None => Ok(None),
    }
}

/// Returns the records found for `ids`, each checked as by [`record_of`].
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if the store did not answer for each id, or answered with another record: which of the
/// answers are right is then not known.
pub(crate) fn records_of(
    ids: &[KeyId],
    found: Vec<FindResult>,
) -> Result<Vec<FindResult>, StoreError> {
    if found.len() != ids.len() {
        return Err(StoreError::Corrupt {
            id: format!("{} keys", ids.len()),
            reason: format!("the store answered for {}", found.len()),
        });
    }
    let answers = ids.iter().zip(&found);
    let is_other = |(id, found): &(&KeyId, &FindResult)| {
        let found = found.as_ref().ok().and_then(Option::as_ref);
        found.is_some_and(|record| record.id != **id)
    };
    if let Some((id, _)) = answers.clone().find(is_other) {
        return Err(corrupt(id, "the store answered with another record"));
    }
    let checked = |(id, found): (&KeyId, FindResult)| record_of(id, found?);
    Ok(ids.iter().zip(found).map(checked).collect())
}

/// Returns the state of an owner after a revocation of all its keys.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if the state does not count a revocation. Such a store would accept
/// the keys again when they are read.
pub(crate) fn revoked_owner_of(owner: &str, state: OwnerState) -> Result<OwnerState, StoreError> {
    match state.revocations {
        0 => Err(corrupt_owner(
            owner,
            "the store revoked its keys and does not count it",
        )),
        _ => Ok(state),
    }
}

/// Returns the state of an owner after a change of `suspended`, and whether the call changed it.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if the state is not as it was set.
pub(crate) fn suspended_owner_of(
    owner: &str,
    suspended: bool,
    answer: (OwnerState, bool),
) -> Result<(OwnerState, bool), StoreError> {
    match answer.0.suspended == suspended {
        true => Ok(answer),
        false => Err(corrupt_owner(
            owner,
            "the store did not set what it answered with",
        )),
    }
}

/// Returns the number of live keys that a store counted up to `max`.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if it is more than `max`.
pub(crate) fn live_keys_of(owner: &str, max: u32, count: u32) -> Result<u32, StoreError> {
    match count <= max {
        true => Ok(count),
        false => Err(corrupt_owner(
            owner,
            "the store counted more live keys than it was asked to",
        )),
    }
}

/// Returns the page of owners that a store listed.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if an owner does not match the query or is after too many others, or if the names from
/// the query's position to that of the next page do not ascend, so that a reader would not come to an end.
pub(crate) fn owner_page_of(query: &OwnerQuery, page: OwnerPage) -> Result<OwnerPage, StoreError> {
    let named = page.owners.iter().map(|owner| owner.name.as_str());
    for (count, name) in (1..).zip(named.clone()) {
        if !name.starts_with(&query.starting_with) || count > query.page_size() {
            return Err(corrupt_owner(
                name,
                "the store listed it for another query, or beyond the page",
            ));
        }
    }
    let mut positions: Vec<&str> = query.after.as_deref().into_iter().chain(named).collect();
    if let Some(next) = &page.next
        && page.owners.last().is_none_or(|last| last.name != *next)
    {
        positions.push(next);
    }
    match ascend(&positions) {
        true => Ok(page),
        false => Err(corrupt_owner(
            positions.last().copied().unwrap_or_default(),
            "the store did not list it in order",
        )),
    }
}

/// Returns whether each text is after the one before it, in the order of bytes in UTF-8 or in one kind of UTF-16.
fn ascend(texts: &[&str]) -> bool {
    let units = |text: &&str| text.encode_utf16().collect::<Vec<_>>();
    let swapped = |text: &&str| -> Vec<_> { text.encode_utf16().map(u16::swap_bytes).collect() };
    texts.is_sorted_by(|one, other| one < other)
        || texts.is_sorted_by(|one, other| units(one) < units(other))
        || texts.is_sorted_by(|one, other| swapped(one) < swapped(other))
}

/// Returns the page of the audit log that a store read.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if an entry does not match the query, or is not read in order.
pub(crate) fn audit_page_of(query: &AuditQuery, page: AuditPage) -> Result<AuditPage, StoreError> {
    let wrong = |position: &str, reason: &str| StoreError::Corrupt {
        id: format!("the audit entry {}", quote(position)),
        reason: reason.to_owned(),
    };
    let mut last = query.before.as_deref();
    for entry in &page.entries {
        let position = entry.position.as_str();
        if last.is_some_and(|last| last <= position) {
            return Err(wrong(position, "the store did not read it in order"));
        }
        if !query.matches(entry) {
            return Err(wrong(position, "the store read it for another query"));
        }
        last = Some(position);
    }
    // Otherwise a caller would read the same page for ever.
    match &page.next {
        Some(next)
            if query.before.as_ref() == Some(next)
                || last.is_some_and(|last| last < next.as_str()) =>
        {
            Err(wrong(next, "the store would read the same page again"))
        }
        _ => Ok(page),
    }
}

/// Returns the counts that a store read.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if a row is of another key or hour, or is there twice.
pub(crate) fn usage_of(
    query: &UsageQuery,
    rows: Vec<UsageRow>,
) -> Result<Vec<UsageRow>, StoreError> {
    let keys: HashSet<&KeyId> = query.keys.iter().collect();
    let mut seen = HashSet::with_capacity(rows.len());
    for row in &rows {
        if !keys.contains(&row.key) || !(query.from..query.to).contains(&row.hour) {
            return Err(corrupt(
                &row.key,
                "the store read its usage for another key or hour",
            ));
        }
        if !seen.insert((&row.key, row.hour, row.route.as_str(), row.outcome)) {
            return Err(corrupt(&row.key, "the store read the same usage twice"));
        }
    }
    drop(seen);
    Ok(rows)
}

/// Returns the last uses that a store read.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if one is of another key, or is there twice.
pub(crate) fn last_used_of(
    keys: &[KeyId],
    found: Vec<LastUsed>,
) -> Result<Vec<LastUsed>, StoreError> {
    let mut left: HashSet<&KeyId> = keys.iter().collect();
    match found.iter().find(|used| !left.remove(&used.key)) {
        Some(used) => Err(corrupt(
            &used.key,
            "the store read its last use for another key, or twice",
        )),
        None => Ok(found),
    }
}

/// Returns the networks that a store read, the latest first.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if one is of another key, or is there twice, or if a key has too
/// many.
pub(crate) fn networks_of(
    keys: &[KeyId],
    mut found: Vec<NetworkUse>,
) -> Result<Vec<NetworkUse>, StoreError> {
    let mut left: HashMap<&KeyId, usize> = keys.iter().map(|key| (key, MAX_NETWORKS)).collect();
    let mut seen = HashSet::with_capacity(found.len());
    for used in &found {
        match left.get_mut(&used.key) {
            Some(left) if *left > 0 && seen.insert((&used.key, used.network)) => *left -= 1,
            _ => {
                return Err(corrupt(
                    &used.key,
                    "the store read a network for another key, twice, or too many",
                ));
            }
        }
    }
    drop(seen);
    found.sort_by_key(|used| (Reverse(used.at), used.network));
    Ok(found)
}

/// Rejects a record that could not be printed, compared or dropped on any stack.
fn readable(mut record: KeyRecord) -> Result<KeyRecord, StoreError> {
    if depth(&record.metadata) <= MAX_READABLE_DEPTH {
        return Ok(record);
    }
    dismantle(std::mem::take(&mut record.metadata));
    Err(corrupt(&record.id, "its metadata is nested too deeply"))
}

fn corrupt_owner(owner: &str, reason: &str) -> StoreError {
    StoreError::Corrupt {
        id: format!("the owner {}", quote(owner)),
        reason: reason.to_owned(),
    }
}

fn corrupt(id: &KeyId, reason: &str) -> StoreError {
    StoreError::Corrupt {
        id: id.to_string(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
