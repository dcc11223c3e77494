//! Owners in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use async_trait::async_trait;

use super::{LoggedItem, MemoryStore, State};
use crate::audit::ChangeOrigin;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyRecord, OwnerRevocation, OwnerState, Revocation};
use crate::store::{BulkStep, ListedOwner, OwnerPage, OwnerQuery, OwnerStore};

/// The owners of a store.
#[derive(Debug, Default)]
pub(super) struct Owners {
    states: BTreeMap<String, OwnerState>,
    /// The revocations of owners whose records are not yet marked, by their numbers.
    unmarked: HashMap<String, BTreeMap<u64, OwnerRevocation>>,
    /// What is left to mark: an owner, and the last record that was read for it.
    queue: VecDeque<(String, Option<KeyId>)>,
}

impl Owners {
    /// Creates the row of an owner that gets its first key.
    pub(super) fn begin(&mut self, owner: Option<&str>) {
        if let Some(owner) = owner
            && !self.states.contains_key(owner)
        {
            self.states.insert(owner.to_owned(), OwnerState::new());
        }
    }

    /// Returns the revocation that a record does not hold yet.
    fn unmarked_revocation(&self, record: &KeyRecord) -> Option<Revocation> {
        let owner = record.owner.as_deref()?;
        let state = self.states.get(owner)?;
        if record.revoked.is_some() || !state.revokes(record.owner_revocations) {
            return None;
        }
        let next = record.owner_revocations.saturating_add(1);
        let revocation = self.unmarked.get(owner)?.get(&next)?;
        Some(revocation.of_key())
    }

    /// Returns the revocation of a record, marked or not.
    pub(super) fn revocation(&self, record: &KeyRecord) -> Option<Revocation> {
        let marked = record.revoked.clone();
        marked.or_else(|| self.unmarked_revocation(record))
    }

    /// Sets what a record that is read has of its owner.
    pub(super) fn complete(&self, mut record: KeyRecord) -> KeyRecord {
        record.revoked = self.revocation(&record);
        let owner = record.owner.as_deref();
        record.owner_state = owner.and_then(|owner| self.states.get(owner).copied());
        record
    }

    /// Sets the number of a record that is inserted, or comes to another owner.
    pub(super) fn number(&self, record: &mut KeyRecord) {
        let state = record.owner.as_deref().and_then(|owner| self.state(owner));
        record.owner_revocations = state.map_or(0, |state| state.revocations);
        record.owner_state = None;
    }

    /// Follows a change of owner. A key that its owner's state revokes stays with its owner, marked or
    /// not.
    pub(super) fn transfer(&self, before: &KeyRecord, after: &mut KeyRecord) {
        if before.owner == after.owner {
            return;
        }
        let owner = before.owner.as_deref();
        let state = owner.and_then(|owner| self.state(owner));
        if state.is_some_and(|state| state.revokes(before.owner_revocations)) {
            after.owner.clone_from(&before.owner);
            after.revoked = self.revocation(before);
        } else {
            self.number(after);
        }
    }

    pub(super) fn state(&self, owner: &str) -> Option<OwnerState> {
        self.states.get(owner).copied()
    }

    /// Returns the states of owners from `start` on, in the order of their names.
    pub(super) fn states_from(
        &self,
        start: Bound<&str>,
    ) -> impl Iterator<Item = (&String, &OwnerState)> {
        self.states.range::<str, _>((start, Bound::Unbounded))
    }

    /// Sets the state of an owner, which may be new.
    pub(super) fn put(&mut self, owner: &str, state: OwnerState) {
        self.states.insert(owner.to_owned(), state);
    }

    fn page(&self, query: &OwnerQuery) -> OwnerPage {
        let Some(start) = query.start() else {
            return OwnerPage::default();
        };
        let selected = self
            .states_from(start)
            .take_while(|(name, _)| name.starts_with(&query.starting_with));
        let mut owners: Vec<_> = selected
            .take(query.page_size() + 1)
            .map(|(name, state)| ListedOwner::new(name, *state))
            .collect();
        let has_next = owners.len() > query.page_size();
        owners.truncate(query.page_size());
        let last = owners.last().filter(|_| has_next);
        let next = last.map(|owner| owner.name.clone());
        OwnerPage::new(owners, next)
    }

    fn change(&mut self, owner: &str) -> Result<&mut OwnerState, StoreError> {
        let state = self.states.get_mut(owner).ok_or(StoreError::NotFound)?;
        state.version = state.version.saturating_add(1);
        Ok(state)
    }
}

impl State {
    /// Marks the next records of the first owner in the queue.
    fn mark(&mut self) -> bool {
        let Some((owner, after)) = self.owners.queue.pop_front() else {
            return false;
        };
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (start, Bound::Unbounded);
        let mut last = None;
        for (id, record) in self.records.range_mut(range).take(BulkStep::MAX_KEYS) {
            last = Some(*id);
            if record.owner.as_deref() == Some(&*owner)
                && let Some(revocation) = self.owners.unmarked_revocation(record)
            {
                record.revoked = Some(revocation);
            }
        }
        match last {
            Some(last) => self.owners.queue.push_front((owner, Some(last))),
            // A revocation that came meanwhile has a place of its own in the queue.
            None if !self.owners.queue.iter().any(|(other, _)| *other == owner) => {
                self.owners.unmarked.remove(&owner);
            }
            None => {}
        }
        !self.owners.queue.is_empty()
    }
}

#[async_trait]
impl OwnerStore for MemoryStore {
    async fn find_owner(&self, owner: &str) -> Result<Option<OwnerState>, StoreError> {
        Ok(self.state().owners.state(owner))
    }

    async fn revoke_owner_keys(
        &self,
        owner: &str,
        revocation: &OwnerRevocation,
        origin: &ChangeOrigin,
    ) -> Result<OwnerState, StoreError> {
        let mut state = self.change();
        let now = self.clock().read().now;
        let before = state.owners.state(owner).ok_or(StoreError::NotFound)?;
        let changed = state.owners.change(owner)?;
        changed.revocations = changed.revocations.saturating_add(1);
        let changed = *changed;
        state
            .audit
            .add_of_owner(now, owner, [before, changed], origin);
        let unmarked = state.owners.unmarked.entry(owner.to_owned()).or_default();
        unmarked.insert(changed.revocations, revocation.clone());
        state.owners.queue.push_back((owner.to_owned(), None));
        state.log(LoggedItem::Owner(owner.to_owned()));
        Ok(changed)
    }

    async fn set_owner_suspended(
        &self,
        owner: &str,
        suspended: bool,
        origin: &ChangeOrigin,
    ) -> Result<(OwnerState, bool), StoreError> {
        let mut state = self.change();
        let now = self.clock().read().now;
        let present = state.owners.state(owner).ok_or(StoreError::NotFound)?;
        if present.suspended == suspended {
            return Ok((present, false));
        }
        let changed = state.owners.change(owner)?;
        changed.suspended = suspended;
        let changed = *changed;
        state
            .audit
            .add_of_owner(now, owner, [present, changed], origin);
        state.log(LoggedItem::Owner(owner.to_owned()));
        Ok((changed, true))
    }

    async fn count_live_keys(&self, owner: &str, max: u32) -> Result<u32, StoreError> {
        let state = self.state();
        let now = self.clock().read().now;
        Ok(state.live_keys(owner, None, now, max))
    }

    async fn list_owners(&self, query: &OwnerQuery) -> Result<OwnerPage, StoreError> {
        let state = self.state();
        Ok(state.owners.page(query))
    }

    async fn mark_revoked_keys(&self) -> Result<bool, StoreError> {
        Ok(self.state().mark())
    }
}
