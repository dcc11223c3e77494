//! The suite detects stores whose owners are incorrect: each of these breaks one rule, and fails the
//! check of that rule.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    BulkStep, ChangeLog, ChangeSet, ChangedItem, Changes, Cursor, KeyPatch, ListCursor, ListQuery,
    ListRange, NodeId, OwnerRevocation, OwnerState, OwnerStore, RecordPage, Revocation, StoreError,
    WriteOptions,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, MemoryStore, Timestamp, conformance};
use apikey_test_support::store::{Forward, Forwarding};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    TakesTheWrittenNumber,
    ForgetsOwnersWithoutKeys,
    RevokesByMarking,
    RevokesLaterKeysToo,
    KeepsTheLastReason,
    MarkingIsAChange,
    MarkingIsLogged,
    MarkingNeverEnds,
    LogsEverySuspension,
    ListsNoSuspension,
    CreatesUnknownOwners,
    LogsOwnersInSilence,
    LogsTheOldState,
    FoldsTheCaseOfOwners,
    TruncatesOwners,
    RevokesAgain,
    PurgesMarkedKeysOnly,
    KeepsTheOldNumber,
    BringsBackByAMove,
    ReadsTheOwnerLater,
    NumbersTooEarly,
    FailsInADeadlock,
}

#[derive(Debug)]
struct Wrong {
    right: MemoryStore,
    fault: Fault,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    /// The numbers that a fault reads instead of the right ones.
    numbers: HashMap<KeyId, u64>,
    states: HashMap<String, OwnerState>,
    reasons: HashMap<String, Revocation>,
    moved: HashMap<KeyId, Option<String>>,
    marked: HashSet<String>,
    marking: u64,
}

impl Wrong {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn note<T>(&self, write: impl FnOnce(&mut Notes) -> T) -> T {
        write(&mut self.notes.lock().unwrap())
    }

    /// Returns the owner that the store takes `owner` for.
    fn taken(&self, owner: &str) -> String {
        match self.fault {
            Fault::FoldsTheCaseOfOwners => owner.to_ascii_lowercase(),
            Fault::TruncatesOwners => owner.chars().take(255).collect(),
            _ => owner.to_owned(),
        }
    }

    /// Reads `owner` as the store does: of owners that it takes for one another, the state of one.
    async fn state(&self, owner: &str) -> Result<Option<OwnerState>, StoreError> {
        let state = self.right.find_owner(owner).await?;
        let taken = self.taken(owner);
        Ok(self
            .note(|notes| notes.states.get(&taken).copied())
            .or(state))
    }

    /// Changes a record as this store reads it.
    async fn misread(&self, mut record: KeyRecord) -> Result<KeyRecord, StoreError> {
        let owner = record.owner.clone().unwrap_or_default();
        if self.is(Fault::ReadsTheOwnerLater) && record.owner.is_some() {
            tokio::task::yield_now().await;
            record.owner_state = self.right.find_owner(&owner).await?;
        }
        if matches!(
            self.fault,
            Fault::FoldsTheCaseOfOwners | Fault::TruncatesOwners
        ) {
            record.owner_state = self.state(&owner).await?;
        }
        self.note(|notes| match self.fault {
            Fault::TakesTheWrittenNumber | Fault::KeepsTheOldNumber => {
                if let Some(number) = notes.numbers.get(&record.id) {
                    record.owner_revocations = *number;
                }
            }
            Fault::NumbersTooEarly => {
                if let Some(number) = notes.numbers.get(&record.id) {
                    record.owner_revocations = *number;
                    record.revoked = None;
                }
            }
            Fault::RevokesByMarking
                if notes.reasons.contains_key(&owner) && !notes.marked.contains(&owner) =>
            {
                record.revoked = None;
            }
            Fault::RevokesLaterKeysToo => {
                record.revoked = record.revoked.take().or(notes.reasons.get(&owner).cloned());
            }
            Fault::KeepsTheLastReason
                if record
                    .owner_state
                    .is_some_and(|state| state.revocations == 2)
                    && record.revoked.is_some() =>
            {
                record.revoked = notes.reasons.get(&owner).cloned();
            }
            Fault::MarkingIsAChange => record.version += notes.marking,
            Fault::BringsBackByAMove => {
                if let Some(owner) = notes.moved.get(&record.id) {
                    record.owner.clone_from(owner);
                }
            }
            _ => {}
        });
        Ok(record)
    }
}

impl Forward for Wrong {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    async fn insert(&self, record: &KeyRecord, options: &WriteOptions) -> Result<(), StoreError> {
        let mut number = Some(record.owner_revocations);
        if self.is(Fault::NumbersTooEarly) {
            let owner = record.owner.as_deref().unwrap_or_default();
            let state = self.right.find_owner(owner).await?;
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            number = state.map(|state| state.revocations);
            // A number that is right is read as it is.
            let now = self.right.find_owner(owner).await?;
            number = number.filter(|number| now.is_some_and(|now| now.revocations != *number));
        }
        self.right.insert(record, options).await?;
        if !self.is(Fault::KeepsTheOldNumber) {
            self.note(|notes| number.map(|number| notes.numbers.insert(record.id, number)));
        }
        Ok(())
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        match self.right.find(id).await? {
            Some(record) => Ok(Some(self.misread(record).await?)),
            None => Ok(None),
        }
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        let mut page = self.right.list(query).await?;
        for record in &mut page.records {
            let right = std::mem::replace(
                record,
                KeyRecord::new(record.id, "", "", "", Timestamp::MIN),
            );
            *record = self.misread(right).await?;
            if self.is(Fault::ListsNoSuspension) {
                record.owner_state = record.owner_state.map(|state| state.with_suspended(false));
            }
        }
        Ok(page)
    }

    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        let before = self.right.find(id).await?;
        if self.is(Fault::FailsInADeadlock) {
            let owner = before.as_ref().and_then(|record| record.owner.as_deref());
            let state = self.right.find_owner(owner.unwrap_or_default()).await?;
            tokio::task::yield_now().await;
            if self.right.find_owner(owner.unwrap_or_default()).await? != state {
                return Err(StoreError::unavailable("a deadlock was detected"));
            }
        }
        self.right.update(id, patch, options).await?;
        if let (Some(owner), Some(before)) = (&patch.owner, before) {
            self.note(|notes| {
                if self.is(Fault::KeepsTheOldNumber) {
                    notes.numbers.insert(*id, before.owner_revocations);
                }
                if before.revoked.is_some() {
                    notes.moved.insert(*id, owner.clone());
                }
            });
        }
        Ok(())
    }

    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        let found = self.right.find(id).await?;
        let state = found.and_then(|record| record.owner_state);
        let again = self.is(Fault::RevokesAgain) && state.is_some_and(|state| state.revokes(0));
        Ok(self.right.revoke(id, revocation, options).await? || again)
    }

    async fn purge(
        &self,
        before: Timestamp,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        let unmarked = |notes: &mut Notes| notes.marked.len() < notes.reasons.len();
        if self.is(Fault::PurgesMarkedKeysOnly) && self.note(unmarked) {
            return Ok(BulkStep::new(Vec::new(), None));
        }
        self.right.purge(before, after, origin).await
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Changes, StoreError> {
        let mut changes = self.right.changes(since, node).await?;
        if let ChangeSet::Entries(items) = &mut changes.set {
            if self.is(Fault::LogsOwnersInSilence) {
                items.retain(|item| !matches!(item, ChangedItem::Owner { .. }));
            }
            for item in items {
                if self.is(Fault::LogsTheOldState)
                    && let ChangedItem::Owner { state, .. } = item
                    && state.revocations == 2
                {
                    *state = state.with_version(2).with_revocations(1);
                }
            }
        }
        Ok(changes)
    }

    async fn find_owner(&self, owner: &str) -> Result<Option<OwnerState>, StoreError> {
        let query = ListQuery::of(ListRange::Owner(owner.to_owned()), 1);
        let is_empty = self.right.list(&query).await?.records.is_empty();
        if self.is(Fault::ForgetsOwnersWithoutKeys) && is_empty {
            return Ok(None);
        }
        self.state(owner).await
    }

    async fn revoke_owner_keys(
        &self,
        owner: &str,
        revocation: &OwnerRevocation,
        origin: &ChangeOrigin,
    ) -> Result<OwnerState, StoreError> {
        let state = self
            .right
            .revoke_owner_keys(owner, revocation, origin)
            .await;
        if self.is(Fault::CreatesUnknownOwners) && state.is_err() {
            return Ok(OwnerState::new().with_revocations(1));
        }
        let state = state?;
        let taken = self.taken(owner);
        self.note(|notes| {
            notes.reasons.insert(owner.to_owned(), revocation.of_key());
            if taken != *owner || matches!(self.fault, Fault::FoldsTheCaseOfOwners) {
                notes.states.insert(taken, state);
            }
        });
        Ok(state)
    }

    async fn set_owner_suspended(
        &self,
        owner: &str,
        suspended: bool,
        origin: &ChangeOrigin,
    ) -> Result<(OwnerState, bool), StoreError> {
        let answer = self
            .right
            .set_owner_suspended(owner, suspended, origin)
            .await?;
        if self.is(Fault::LogsEverySuspension) && !answer.1 {
            for flipped in [!suspended, suspended] {
                self.right
                    .set_owner_suspended(owner, flipped, &ChangeOrigin::new())
                    .await?;
            }
        }
        Ok(answer)
    }

    async fn mark_revoked_keys(&self) -> Result<bool, StoreError> {
        let more = self.right.mark_revoked_keys().await?;
        if !more {
            self.note(|notes| {
                notes.marking += 1;
                notes.marked.extend(notes.reasons.keys().cloned());
            });
            if self.is(Fault::MarkingIsLogged) {
                let page = self.right.list(&ListQuery::first(1)).await?;
                let id = page.records[0].id;
                self.right
                    .update(&id, &KeyPatch::new(), &WriteOptions::new())
                    .await?;
            }
        }
        Ok(more || self.is(Fault::MarkingNeverEnds))
    }
}

/// Returns how the suite fails for a store with `fault`.
async fn panic_of(fault: Fault) -> Option<String> {
    let make = move || {
        let store = Wrong {
            right: MemoryStore::new(),
            fault,
            notes: Mutex::default(),
        };
        std::future::ready(Arc::new(Forwarding(store)) as Arc<dyn KeyStore>)
    };
    let run = tokio::spawn(async move { drop(conformance::run(make).await) });
    let panic = run.await.err()?.into_panic();
    Some(panic.downcast_ref::<String>().unwrap().clone())
}

#[tokio::test]
async fn each_fault_of_owners_fails_the_check_of_its_rule() {
    let cases = [
        (
            Fault::TakesTheWrittenNumber,
            "an_owner_begins_with_its_first_key",
        ),
        (
            Fault::ForgetsOwnersWithoutKeys,
            "an_owner_begins_with_its_first_key",
        ),
        (
            Fault::RevokesByMarking,
            "marking_changes_nothing_that_is_read",
        ),
        (
            Fault::RevokesLaterKeysToo,
            "revoking_an_owner_revokes_all_earlier_keys_at_once",
        ),
        (
            Fault::KeepsTheLastReason,
            "two_revocations_of_an_owner_keep_both_times_and_reasons",
        ),
        (
            Fault::MarkingIsAChange,
            "marking_changes_nothing_that_is_read",
        ),
        (
            Fault::MarkingIsLogged,
            "marking_changes_nothing_that_is_read",
        ),
        (
            Fault::MarkingNeverEnds,
            "marking_changes_nothing_that_is_read",
        ),
        (
            Fault::LogsEverySuspension,
            "a_suspension_that_changes_nothing_is_not_logged",
        ),
        (
            Fault::ListsNoSuspension,
            "a_suspension_that_changes_nothing_is_not_logged",
        ),
        (
            Fault::CreatesUnknownOwners,
            "a_change_of_an_unknown_owner_is_not_found",
        ),
        (
            Fault::LogsOwnersInSilence,
            "a_suspension_that_changes_nothing_is_not_logged",
        ),
        (
            Fault::LogsTheOldState,
            "every_change_of_an_owner_takes_one_epoch_and_carries_the_newest_state",
        ),
        (
            Fault::FoldsTheCaseOfOwners,
            "owners_are_different_if_a_byte_differs",
        ),
        (
            Fault::TruncatesOwners,
            "owners_are_different_if_a_byte_differs",
        ),
        (
            Fault::RevokesAgain,
            "a_key_that_its_owner_revoked_is_not_revoked_again",
        ),
        (
            Fault::PurgesMarkedKeysOnly,
            "purge_removes_keys_that_their_owner_revoked_before",
        ),
        (
            Fault::KeepsTheOldNumber,
            "a_key_counts_from_when_it_came_to_its_owner",
        ),
        (
            Fault::BringsBackByAMove,
            "a_key_that_its_owner_revoked_stays_with_it",
        ),
        (
            Fault::ReadsTheOwnerLater,
            "a_read_has_the_state_of_its_owner_at_that_moment",
        ),
        (
            Fault::NumbersTooEarly,
            "an_insert_that_races_with_a_revocation_is_revoked_or_newer",
        ),
        (
            Fault::FailsInADeadlock,
            "changes_of_owner_race_with_revocations",
        ),
    ];
    let mut wrong = Vec::new();
    for (fault, check) in cases {
        let said = panic_of(fault).await;
        let said = said.unwrap_or_else(|| "passes".to_owned());
        if !said.contains(&format!("fails the check `{check}`")) {
            wrong.push(format!("{fault:?}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        panic_of(Fault::None).await,
        None,
        "the wrapper alone does not break a rule"
    );
}
