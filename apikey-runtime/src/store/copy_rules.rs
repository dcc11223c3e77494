//! What the stores' ways of copying have in common: positions, sizes, and which of two values stays.

use std::borrow::Cow;
use std::cmp::Ordering;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::collections::HashMap;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{CopiedEntry, CopyItems, CopyOutcome, CopyPage, ListedOwner, MAX_PAGE_SIZE};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
use super::{KeyStore, ListCursor, ListQuery, ListRange};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use super::{OwnerQuery, OwnerStore};
use crate::audit::AuditEntry;
use crate::error::StoreError;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
use crate::key::KeyId;
use crate::record::{KeyRecord, OwnerState, Revocation, check_readable};
use crate::util::text::quote;

/// What becomes of an item that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyAction {
    /// It is added, or changes the present one.
    Write,
    /// The present one is the same.
    Skip,
    /// The present one is newer.
    Keep,
    /// The present one is newer, and is revoked as the copied one is.
    Revoke,
}

impl CopyAction {
    /// Returns what becomes of the record `copied`. A revocation in either store is not undone. A record gets later versions only:
    /// another one of the same version has been changed in both stores.
    ///
    /// If the owner's state alone revokes the present record, it is not known when and why, and its version is the same.
    fn of_record(present: Option<&KeyRecord>, copied: &KeyRecord) -> Self {
        let Some(present) = present else {
            return Self::Write;
        };
        let owner = present.owner_state.unwrap_or_default();
        let is_revoked_by_owner = owner.revokes(present.owner_revocations);
        let present = &copied_record(present.clone());
        let is_later = copied.version > present.version;
        match (&present.revoked, &copied.revoked) {
            _ if present == copied => Self::Skip,
            (None, Some(_)) if !is_later => Self::Revoke,
            (Some(_), None) => Self::Keep,
            _ if is_later => Self::Write,
            (Some(_), Some(_)) if is_revoked_by_owner && is_same_but_revoked(present, copied) => {
                Self::Write
            }
            _ => Self::Keep,
        }
    }

    /// Returns what becomes of the state `copied` of an owner, as of a record.
    fn of_owner(present: Option<OwnerState>, copied: OwnerState) -> Self {
        let Some(present) = present else {
            return Self::Write;
        };
        let is_later = copied.version > present.version;
        match copied.revocations.cmp(&present.revocations) {
            _ if present == copied => Self::Skip,
            Ordering::Greater if !is_later => Self::Revoke,
            Ordering::Less => Self::Keep,
            _ if is_later => Self::Write,
            _ => Self::Keep,
        }
    }

    /// Returns what becomes of a value of which nothing tells which of two is newer.
    pub(super) fn of_value<T: PartialEq>(present: Option<&T>, copied: &T) -> Self {
        match present {
            Some(present) if present == copied => Self::Skip,
            _ => Self::Write,
        }
    }

    /// Returns what becomes of an entry of the audit log, which does not change.
    pub(super) fn of_entry(present: Option<&AuditEntry>, copied: &AuditEntry) -> Self {
        match present {
            Some(present) if present == copied => Self::Skip,
            Some(_) => Self::Keep,
            None => Self::Write,
        }
    }
}

impl CopyOutcome {
    /// Counts an item, and returns whether it is written.
    pub(super) fn count(&mut self, action: CopyAction, name: impl FnOnce() -> String) -> bool {
        match action {
            CopyAction::Write => self.written += 1,
            CopyAction::Skip => self.unchanged += 1,
            CopyAction::Keep => self.kept.push(name()),
            CopyAction::Revoke => {
                self.written += 1;
                self.revoked.push(name());
            }
        }
        matches!(action, CopyAction::Write | CopyAction::Revoke)
    }

    /// Counts a record, and returns it as it is written; `None` if it is not. `present` is as the store reads it.
    pub(super) fn count_record<'c>(
        &mut self,
        present: Option<&KeyRecord>,
        copied: &'c KeyRecord,
    ) -> Option<Cow<'c, KeyRecord>> {
        let action = CopyAction::of_record(present, copied);
        let is_written = self.count(action, || copied.id.to_string());
        let revoked = present.filter(|_| action == CopyAction::Revoke);
        let written = match revoked {
            Some(present) => Cow::Owned(KeyRecord {
                revoked: copied.revoked.clone(),
                version: version_after(present.version, copied.version),
                ..copied_record(present.clone())
            }),
            None => Cow::Borrowed(copied),
        };
        is_written.then_some(written)
    }

    /// Counts an owner, and returns the state as it is written; `None` if it is not.
    pub(super) fn count_owner(
        &mut self,
        present: Option<OwnerState>,
        copied: &ListedOwner,
    ) -> Option<OwnerState> {
        let action = CopyAction::of_owner(present, copied.state);
        let is_written = self.count(action, || format!("the owner {}", quote(&copied.name)));
        let revoked = present.filter(|_| action == CopyAction::Revoke);
        let written = revoked.map_or(copied.state, |present| {
            present
                .with_revocations(copied.state.revocations)
                .with_version(version_after(present.version, copied.state.version))
        });
        is_written.then_some(written)
    }
}

/// Returns whether two records are the same, apart from their revocation.
fn is_same_but_revoked(one: &KeyRecord, other: &KeyRecord) -> bool {
    let revoked = KeyRecord {
        revoked: other.revoked.clone(),
        ..one.clone()
    };
    revoked == *other
}

/// Returns a version that is later than both.
fn version_after(one: u64, other: u64) -> u64 {
    one.max(other).saturating_add(1)
}

impl CopiedEntry {
    /// Returns the name of the entry in a report.
    pub(super) fn name(&self) -> String {
        format!("the audit entry {} of {}", self.number, self.entry.at)
    }
}

/// Counts `items`, and returns those that are not `present` with the same value. Nothing tells which of two is newer.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn changed_values<'i, T: PartialEq, K: Hash + Eq>(
    items: &'i [T],
    present: Vec<T>,
    key: impl Fn(&T) -> K,
    outcome: &mut CopyOutcome,
) -> Vec<&'i T> {
    let present = present.into_iter().map(|item| (key(&item), item));
    let present: HashMap<K, T> = present.collect();
    let is_changed = |item: &&T| {
        let action = CopyAction::of_value(present.get(&key(item)), item);
        outcome.count(action, String::new)
    };
    items.iter().filter(is_changed).collect()
}

/// Returns a record as it is copied: with its revocation, if its owner's state revokes it, and without that state.
pub(super) fn copied_record(mut record: KeyRecord) -> KeyRecord {
    let owner = record.owner_state.take().unwrap_or_default();
    if record.revoked.is_none() && owner.revokes(record.owner_revocations) {
        // The time is not known: not before the key was created.
        record.revoked = Some(Revocation {
            at: record.created,
            reason: None,
        });
    }
    record
}

/// Reads a page of owners.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) async fn read_owners(
    store: &dyn OwnerStore,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let query = OwnerQuery::first(u32::try_from(size).unwrap_or(MAX_PAGE_SIZE));
    let page = store.list_owners(&query.after(position(after)?)).await?;
    let mut copied = CopyPage::new(
        CopyItems::Owners(page.owners),
        page.next.map(|next| cursor(&next)),
    );
    copied.unreadable = page.unreadable;
    Ok(copied)
}

/// Reads a page of records.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
pub(super) async fn read_keys(
    store: &dyn KeyStore,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let limit = u32::try_from(size).unwrap_or(MAX_PAGE_SIZE);
    let after = position::<KeyId>(after)?.map(ListCursor::from);
    let query = ListQuery::of(ListRange::Id(String::new()), limit).after(after);
    let mut page = store.list(&query).await?;
    let rows = page.records.into_iter();
    let rows = rows
        .map(|record| (record.id, copied_record(record)))
        .collect();
    let mut copied = page_of(rows, usize::MAX, record_weight, CopyItems::Keys);
    match &copied.next {
        // The others are read with the next page.
        Some(last) => page.unreadable.retain(|id| **id < *last.trim_matches('"')),
        None => copied.next = page.next.map(|next| cursor(&next.id)),
    }
    copied.unreadable = page.unreadable;
    Ok(copied)
}

/// Returns a position as a text. Positions are of texts and numbers, which JSON can always hold.
pub(super) fn cursor(position: &impl Serialize) -> String {
    serde_json::to_string(position).unwrap_or_default()
}

/// Returns the error of a page of which something is changed each time that it is written.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) fn busy(doing: &str) -> StoreError {
    StoreError::unavailable(format!(
        "{doing}: another process changes this store at the same time; stop it"
    ))
}

/// Rejects more items than one call writes, and what no store keeps.
pub(super) fn check_items(items: &CopyItems) -> Result<(), StoreError> {
    const MAX_OWNER_LEN: usize = 256;
    if items.len() > MAX_PAGE_SIZE as usize {
        return Err(StoreError::InvalidArgument(format!(
            "{} items are written at once, and {MAX_PAGE_SIZE} is the maximum; write them in several calls",
            items.len()
        )));
    }
    match items {
        CopyItems::Keys(records) => records
            .iter()
            .try_for_each(|record| check_readable(&record.metadata)),
        CopyItems::Owners(owners) => {
            let is_long = |owner: &&ListedOwner| owner.name.len() > MAX_OWNER_LEN;
            match owners.iter().find(is_long) {
                Some(owner) => Err(StoreError::InvalidArgument(format!(
                    "an owner has {} bytes, and {MAX_OWNER_LEN} is the maximum; give its keys to another owner",
                    owner.name.len()
                ))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Returns the number of items of a page.
pub(super) fn page_size(limit: u32) -> usize {
    limit.clamp(1, MAX_PAGE_SIZE) as usize
}

/// Reads the position after which a page starts.
pub(super) fn position<K: DeserializeOwned>(after: Option<&str>) -> Result<Option<K>, StoreError> {
    let read = after.map(serde_json::from_str).transpose();
    read.map_err(|_quotes_it| another_position())
}

pub(super) fn another_position() -> StoreError {
    StoreError::InvalidArgument(
        "`after` is not the `next` of a page of this section; start again without it".to_owned(),
    )
}

/// Returns the page of `size` items at the beginning of `rows`, each of which has its position. `rows` has one more if others
/// follow.
pub(super) fn page_of<K: Serialize, T>(
    rows: Vec<(K, T)>,
    size: usize,
    weight: impl Fn(&T) -> usize,
    items: impl FnOnce(Vec<T>) -> CopyItems,
) -> CopyPage {
    let (mut bytes, mut taken, mut last) = (0, Vec::new(), None);
    let count = rows.len();
    for (position, item) in rows.into_iter().take(size) {
        bytes += weight(&item);
        taken.push(item);
        last = Some(position);
        if bytes >= CopyPage::MAX_BYTES {
            break;
        }
    }
    let is_last = taken.len() == count;
    let next = last.filter(|_| !is_last);
    CopyPage::new(items(taken), next.as_ref().map(cursor))
}

/// Returns about how many bytes a record takes.
pub(super) fn record_weight(record: &KeyRecord) -> usize {
    let texts = [&record.description, &record.owner, &record.created_by];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let metadata = record.metadata.iter();
    let metadata: usize = metadata
        .map(|(name, value)| name.len() + value_weight(value))
        .sum();
    let lists = record.networks.len() + record.methods.len() + record.limits.len();
    size_of::<KeyRecord>()
        + record.label.len()
        + record.digest.len()
        + texts
        + metadata
        + 64 * lists
}

/// Returns about how many bytes an entry takes.
pub(super) fn entry_weight(entry: &AuditEntry) -> usize {
    let value = |value: &Option<Value>| value.as_ref().map_or(0, value_weight);
    let fields = entry.fields.iter();
    let fields: usize = fields
        .map(|change| 64 + value(&change.before) + value(&change.after))
        .sum();
    size_of::<AuditEntry>() + fields
}

/// Values are at most as deep as the parser reads.
fn value_weight(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(value_weight).sum(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| name.len() + value_weight(value))
                .sum(),
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    #[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "redis")))]
    use crate::key::KeyId;

    fn record(version: u64) -> KeyRecord {
        let at = Timestamp::from_millis(5);
        let mut record = KeyRecord::new(KeyId::from_u128(1), "my_api", "label", "sha256$", at);
        record.version = version;
        record
    }

    fn revoked(version: u64) -> KeyRecord {
        KeyRecord {
            revoked: Some(Revocation {
                at: Timestamp::from_millis(7),
                reason: Some("lost".to_owned()),
            }),
            ..record(version)
        }
    }

    #[test]
    fn a_newer_record_stays_and_a_revocation_is_not_undone() {
        let of =
            |present: &KeyRecord, copied: &KeyRecord| CopyAction::of_record(Some(present), copied);
        assert_eq!(CopyAction::of_record(None, &record(1)), CopyAction::Write);
        assert_eq!(of(&record(1), &record(1)), CopyAction::Skip);
        assert_eq!(of(&record(1), &record(2)), CopyAction::Write);
        assert_eq!(of(&record(2), &record(1)), CopyAction::Keep);
        assert_eq!(of(&record(1), &revoked(2)), CopyAction::Write);
        assert_eq!(of(&record(2), &revoked(2)), CopyAction::Revoke);
        assert_eq!(of(&record(3), &revoked(2)), CopyAction::Revoke);
        assert_eq!(of(&revoked(2), &record(2)), CopyAction::Keep);
        assert_eq!(of(&revoked(2), &record(3)), CopyAction::Keep);
        assert_eq!(of(&revoked(2), &revoked(3)), CopyAction::Write);
        assert_eq!(of(&revoked(3), &revoked(2)), CopyAction::Keep);
    }

    /// A copy of the owner revoked it, and the time is in its record alone.
    #[test]
    fn a_record_that_its_owner_revoked_gets_the_time() {
        let mut present = record(2);
        present.owner_state = Some(OwnerState::new().with_revocations(1));
        let of =
            |present: &KeyRecord, copied: &KeyRecord| CopyAction::of_record(Some(present), copied);
        assert_eq!(of(&present, &revoked(2)), CopyAction::Write);
        assert_eq!(of(&present, &revoked(1)), CopyAction::Keep);
        let mut another = revoked(2);
        another.label = "another".to_owned();
        assert_eq!(of(&present, &another), CopyAction::Keep);
        present.owner_revocations = 1;
        assert_eq!(of(&present, &revoked(2)), CopyAction::Revoke);
    }

    #[test]
    fn a_newer_record_is_revoked_once() {
        let present = KeyRecord {
            label: "another".to_owned(),
            ..record(5)
        };
        for version in [2, 5] {
            let copied = revoked(version);
            let mut outcome = CopyOutcome::default();
            let written = outcome.count_record(Some(&present), &copied).unwrap();
            let expected = KeyRecord {
                label: "another".to_owned(),
                ..revoked(6)
            };
            assert_eq!(*written, expected);
            assert_eq!(outcome.revoked, [copied.id.to_string()]);
            assert_eq!(outcome.written, 1);
            assert_eq!(outcome.count_record(Some(&expected), &copied), None);
            assert_eq!(outcome.kept, outcome.revoked);
        }
    }

    #[test]
    fn a_newer_state_of_an_owner_gets_the_higher_number_of_revocations() {
        let state = |version, revocations| {
            let state = OwnerState::new().with_version(version);
            state.with_revocations(revocations)
        };
        let mut outcome = CopyOutcome::default();
        let mut written = |present: OwnerState, copied| {
            outcome.count_owner(Some(present), &ListedOwner::new("a", copied))
        };
        let suspended = state(5, 1).with_suspended(true);
        let merged = state(6, 2).with_suspended(true);
        assert_eq!(written(suspended, state(5, 2)), Some(merged));
        assert_eq!(written(suspended, state(4, 2)), Some(merged));
        assert_eq!(written(merged, state(5, 2)), None);
        assert_eq!(written(suspended, state(6, 2)), Some(state(6, 2)));
        assert_eq!(written(suspended, state(9, 0)), None);
        assert_eq!(written(suspended, suspended), None);
        assert_eq!(outcome.revoked.len(), 2);
        assert_eq!(outcome.kept.len(), 2);
    }

    #[test]
    fn a_key_that_its_owner_revoked_is_copied_as_revoked() {
        let mut owned = record(1);
        owned.owner_state = Some(OwnerState::new().with_revocations(1));
        let copied = copied_record(owned.clone());
        assert_eq!(
            copied.revoked.map(|revoked| revoked.at),
            Some(owned.created)
        );
        assert_eq!(copied.owner_state, None);
        owned.owner_revocations = 1;
        assert_eq!(copied_record(owned).revoked, None);
    }

    #[test]
    fn a_page_ends_after_its_size_and_its_bytes() {
        let rows = || (0..5).map(|number| (number, "text".to_owned())).collect();
        let page = |size, weight: usize| {
            let items = |items: Vec<String>| {
                let owner = |name| ListedOwner::new(name, OwnerState::new());
                CopyItems::Owners(items.into_iter().map(owner).collect())
            };
            let page = page_of(rows(), size, |_| weight, items);
            (page.items.len(), page.next)
        };
        assert_eq!(page(5, 1), (5, None));
        assert_eq!(page(4, 1), (4, Some("3".to_owned())));
        assert_eq!(page(9, CopyPage::MAX_BYTES / 2), (2, Some("1".to_owned())));
        assert_eq!(page(9, 2 * CopyPage::MAX_BYTES), (1, Some("0".to_owned())));
        assert!(position::<u32>(Some("x")).is_err());
    }
}
