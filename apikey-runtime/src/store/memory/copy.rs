//! The content of a store in memory, in pages.

use std::ops::Bound;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{MemoryStore, State};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::KeyRecord;
use crate::store::copy_rules::{
    CopyAction, check_items, copied_record, entry_weight, page_of, page_size, position,
    record_weight,
};
use crate::store::{
    CopiedEntry, CopiedSecret, CopyItems, CopyOutcome, CopyPage, CopySection, ListedOwner,
    StoreCopy,
};

#[async_trait]
impl StoreCopy for MemoryStore {
    async fn read_copy(
        &self,
        section: CopySection,
        after: Option<&str>,
        limit: u32,
    ) -> Result<CopyPage, StoreError> {
        let (state, size) = (self.state(), page_size(limit));
        match section {
            CopySection::Owners => state.copy_owners(after, size),
            CopySection::Keys => state.copy_keys(after, size),
            CopySection::SharedSecrets => {
                let secrets = state.shared_secrets.iter();
                let rows =
                    secrets.map(|(name, secret)| (name.clone(), CopiedSecret::new(name, *secret)));
                first(rows, after, size, CopyItems::SharedSecrets)
            }
            CopySection::LimitCounters => {
                let rows = state.tally.copy_counters(&state.records);
                first(rows, after, size, CopyItems::LimitCounters)
            }
            CopySection::Usage => {
                let rows = state.tally.copy_usage(&state.records);
                first(rows, after, size, CopyItems::Usage)
            }
            CopySection::SecretUses => {
                let rows = state.tally.copy_uses(&state.records);
                first(rows, after, size, CopyItems::SecretUses)
            }
            CopySection::Networks => {
                let rows = state.tally.copy_networks(&state.records);
                first(rows, after, size, CopyItems::Networks)
            }
            CopySection::Audit => {
                let weight = |copied: &CopiedEntry| entry_weight(&copied.entry);
                let rows = state.audit.copy();
                first_within(rows.into_iter(), after, size, weight, CopyItems::Audit)
            }
        }
    }

    async fn write_copy(&self, items: &CopyItems) -> Result<CopyOutcome, StoreError> {
        check_items(items)?;
        let mut state = self.change();
        let now = self.clock().read().now;
        let outcome = state.write_copy(items, now);
        let is_change = matches!(items, CopyItems::Owners(_) | CopyItems::Keys(_));
        if is_change && outcome.written > 0 {
            state.resync();
        }
        Ok(outcome)
    }
}

/// Returns the first items after a position, of rows in any order.
fn first<K: Ord + Serialize + DeserializeOwned, T>(
    rows: impl Iterator<Item = (K, T)>,
    after: Option<&str>,
    size: usize,
    items: impl FnOnce(Vec<T>) -> CopyItems,
) -> Result<CopyPage, StoreError> {
    first_within(rows, after, size, |_| size_of::<T>(), items)
}

fn first_within<K: Ord + Serialize + DeserializeOwned, T>(
    rows: impl Iterator<Item = (K, T)>,
    after: Option<&str>,
    size: usize,
    weight: impl Fn(&T) -> usize,
    items: impl FnOnce(Vec<T>) -> CopyItems,
) -> Result<CopyPage, StoreError> {
    let after = position::<K>(after)?;
    let is_next = |(key, _): &(K, T)| after.as_ref().is_none_or(|after| key > after);
    let mut rows: Vec<_> = rows.filter(is_next).collect();
    rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    rows.truncate(size + 1);
    Ok(page_of(rows, size, weight, items))
}

impl State {
    fn copy_owners(&self, after: Option<&str>, size: usize) -> Result<CopyPage, StoreError> {
        let after = position::<String>(after)?;
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.owners.states_from(start).take(size + 1);
        let rows = rows.map(|(name, state)| (name.clone(), ListedOwner::new(name, *state)));
        let weight = |owner: &ListedOwner| size_of::<ListedOwner>() + owner.name.len();
        Ok(page_of(rows.collect(), size, weight, CopyItems::Owners))
    }

    fn copy_keys(&self, after: Option<&str>, size: usize) -> Result<CopyPage, StoreError> {
        let after = position::<KeyId>(after)?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.records.range((start, Bound::Unbounded)).take(size + 1);
        let rows = rows.map(|(id, record)| (*id, self.copied(record)));
        Ok(page_of(
            rows.collect(),
            size,
            record_weight,
            CopyItems::Keys,
        ))
    }

    fn copied(&self, record: &KeyRecord) -> KeyRecord {
        copied_record(self.owners.complete(record.clone()))
    }

    fn write_copy(&mut self, items: &CopyItems, now: Timestamp) -> CopyOutcome {
        let mut outcome = CopyOutcome::default();
        match items {
            CopyItems::Owners(owners) => {
                for owner in owners {
                    let present = self.owners.state(&owner.name);
                    if let Some(state) = outcome.count_owner(present, owner) {
                        self.owners.put(&owner.name, state);
                    }
                }
            }
            CopyItems::Keys(records) => {
                for record in records {
                    let present = self.records.get(&record.id);
                    let present = present.map(|record| self.owners.complete(record.clone()));
                    if let Some(written) = outcome.count_record(present.as_ref(), record) {
                        self.put_copy(written.into_owned(), now);
                    }
                }
            }
            CopyItems::SharedSecrets(secrets) => {
                for copied in secrets {
                    let present = self.shared_secrets.get(&copied.name);
                    let action = CopyAction::of_value(present, &copied.secret);
                    if outcome.count(action, String::new) {
                        let name = copied.name.clone();
                        self.shared_secrets.insert(name, copied.secret);
                    }
                }
            }
            CopyItems::Audit(entries) => self.audit.write_copy(entries, &mut outcome),
            _ => self.tally.write_copy(items, &mut outcome),
        }
        outcome
    }

    /// Puts a record in the place of the present one, without an entry of a log.
    fn put_copy(&mut self, copied: KeyRecord, now: Timestamp) {
        self.owners.begin(copied.owner.as_deref());
        let before = self.records.get(&copied.id);
        if let Some(before) = before {
            self.index.remove(before);
        }
        self.index.add(&copied);
        self.notices.follow(before, Some(&copied), now);
        self.records.insert(copied.id, copied);
    }
}
