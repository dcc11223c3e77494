//! The suite detects stores whose writes are incorrect in what they set, expect or bound: each of these
//! breaks one rule, and fails the check of that rule.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use apikey_runtime::store::{
    KeyPatch, ListQuery, ListRange, OwnerState, OwnerStore, Revocation, StoreError, WriteOptions,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, MemoryStore};
use apikey_test_support::store::Forward;
use std::time::SystemTime;
use tokio::task::yield_now;

use crate::wrong_checks::ensure_detected;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    CountsEachUpdateAsARotation,
    KeepsTheActor,
    NamesTheCreatorLater,
    LosesTheDescription,
    IgnoresTheOwner,
    ComparesTheVersionFirst,
    FoldsTheCaseOfTheOwner,
    TakesNoOwnerForAny,
    ComparesTheOwnerBefore,
    ComparesTheOwnerOfARevocationBefore,
    ChangesWhatItRefuses,
    IgnoresTheMaximum,
    CountsExpiredKeys,
    CountsRevokedKeys,
    DoesNotCountDisabledKeys,
    CountsWithoutEnd,
    BoundsInsertsOnly,
    BoundsEachUpdate,
    CountsFirst,
    CreatesTheOwnerOfARefusal,
    TrustsTheWrittenState,
    CountsBeforeItInserts,
    CountsBeforeItUpdates,
    FailsInADeadlock,
}

#[derive(Debug, Default)]
struct Wrong {
    right: MemoryStore,
    fault: Fault,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    updates: HashMap<KeyId, u64>,
    actors: HashMap<KeyId, String>,
    refused: HashSet<String>,
    /// The calls that change an owner now.
    moving: usize,
}

impl Wrong {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn note<T>(&self, write: impl FnOnce(&mut Notes) -> T) -> T {
        write(&mut self.notes.lock().unwrap())
    }

    /// Returns whether this store counts a key as live.
    fn counts(&self, record: &KeyRecord) -> bool {
        let revoked = record.revoked.is_some();
        let live = record.is_live(SystemTime::now());
        match self.fault {
            Fault::CountsExpiredKeys => !revoked,
            Fault::CountsRevokedKeys => live || revoked && record.expires.is_none(),
            Fault::DoesNotCountDisabledKeys => live && record.enabled,
            _ => live,
        }
    }

    async fn count(&self, owner: &str, except: Option<KeyId>) -> Result<u32, StoreError> {
        let range = ListRange::Owner(owner.to_owned());
        let page = self.right.list(&ListQuery::of(range, 1_000)).await?;
        let others = page
            .records
            .iter()
            .filter(|record| Some(record.id) != except);
        Ok(others.filter(|record| self.counts(record)).count() as u32)
    }

    /// Bounds a write by this store's own count, and returns the options of what is left to do.
    async fn bound(
        &self,
        before: Option<&KeyRecord>,
        after: &KeyRecord,
        options: &WriteOptions,
    ) -> Result<WriteOptions, StoreError> {
        let left = options.clone().with_max_live_keys(None);
        let bound = match self.fault {
            Fault::IgnoresTheMaximum => None,
            Fault::BoundsInsertsOnly if before.is_some() => None,
            Fault::BoundsEachUpdate => options.max_live_keys,
            _ => options.live_keys_bound(before, after, SystemTime::now().into()),
        };
        let (Some(max), Some(owner)) = (bound, &after.owner) else {
            return Ok(left);
        };
        if self.count(owner, Some(after.id)).await? < max {
            return Ok(left);
        }
        self.note(|notes| notes.refused.insert(owner.clone()));
        Err(StoreError::TooManyKeys { max })
    }

    async fn expect(&self, id: &KeyId, options: &WriteOptions) -> Result<WriteOptions, StoreError> {
        let mut left = options.clone();
        let Some(found) = self.right.find(id).await? else {
            return Ok(left);
        };
        let other_version = left
            .expected_version
            .is_some_and(|version| version != found.version);
        let same = |one: &Option<String>, other: &Option<String>| {
            let both = one.as_ref().zip(other.as_ref());
            both.is_some_and(|(one, other)| one.eq_ignore_ascii_case(other))
        };
        match self.fault {
            Fault::ComparesTheVersionFirst if other_version => return Err(StoreError::Conflict),
            Fault::IgnoresTheOwner => left.expected_owner = None,
            Fault::TakesNoOwnerForAny if found.owner.is_none() => left.expected_owner = None,
            Fault::FoldsTheCaseOfTheOwner if same(&found.owner, &left.expected_owner) => {
                left.expected_owner = None;
            }
            _ => {}
        }
        Ok(left)
    }

    /// Lets other calls in between the comparison and the write.
    async fn compare_before(
        &self,
        id: &KeyId,
        options: &mut WriteOptions,
    ) -> Result<(), StoreError> {
        if let Some(found) = self.right.find(id).await? {
            options.check_record(&found)?;
            options.expected_owner = None;
        }
        for _ in 0..3 {
            yield_now().await;
        }
        Ok(())
    }

    fn misread(&self, mut record: KeyRecord) -> KeyRecord {
        self.note(|notes| match self.fault {
            Fault::CountsEachUpdateAsARotation => {
                record.rotations += notes.updates.get(&record.id).copied().unwrap_or(0);
            }
            Fault::KeepsTheActor => {
                let actor = notes.actors.get(&record.id).cloned();
                record.updated_by = record.updated_by.take().or(actor);
            }
            Fault::NamesTheCreatorLater if record.version > 1 => {
                record.created_by.clone_from(&record.updated_by);
            }
            _ => {}
        });
        record
    }
}

impl Forward for Wrong {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    async fn insert(&self, record: &KeyRecord, options: &WriteOptions) -> Result<(), StoreError> {
        let mut record = record.clone();
        if self.is(Fault::LosesTheDescription) {
            record.description = None;
        }
        let taken = self.right.find(&record.id).await?.is_some();
        if taken && !self.is(Fault::CountsFirst) {
            return Err(StoreError::Conflict);
        }
        if !self.is(Fault::TrustsTheWrittenState) {
            record.owner_state = None;
        }
        let left = self.bound(None, &record, options).await?;
        if self.is(Fault::CountsBeforeItInserts) {
            yield_now().await;
        }
        self.right.insert(&record, &left).await
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self
            .right
            .find(id)
            .await?
            .map(|record| self.misread(record)))
    }

    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        let mut left = self.expect(id, options).await?;
        if self.is(Fault::ComparesTheOwnerBefore) {
            self.compare_before(id, &mut left).await?;
        }
        if self.is(Fault::ComparesTheOwnerOfARevocationBefore) {
            yield_now().await;
        }
        let found = self.right.find(id).await?;
        if let Some(before) = found.filter(|found| left.check_record(found).is_ok()) {
            let mut after = before.clone();
            patch.apply(&mut after, None);
            after.owner_state = match before.revoked.is_some() && after.owner != before.owner {
                // It stays with its owner.
                true => before.owner_state,
                false => after.owner_state.filter(|_| after.owner == before.owner),
            };
            left = self.bound(Some(&before), &after, &left).await?;
        }
        if self.is(Fault::CountsBeforeItUpdates) {
            yield_now().await;
        }
        if self.is(Fault::FailsInADeadlock) && options.max_live_keys.is_some() {
            let others = self.note(|notes| {
                notes.moving += 1;
                notes.moving
            });
            yield_now().await;
            self.note(|notes| notes.moving -= 1);
            if others > 1 {
                return Err(StoreError::unavailable("a deadlock was detected"));
            }
        }
        let result = self.right.update(id, patch, &left).await;
        if self.is(Fault::ChangesWhatItRefuses) && matches!(result, Err(StoreError::Conflict)) {
            let any = WriteOptions::new();
            self.right.update(id, &KeyPatch::new(), &any).await?;
        }
        self.note(|notes| {
            *notes.updates.entry(*id).or_default() += 1;
            let actor = options.origin.actor.clone();
            actor.map(|actor| notes.actors.insert(*id, actor));
        });
        result
    }

    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        let mut left = self.expect(id, options).await?;
        if self.is(Fault::ComparesTheOwnerOfARevocationBefore) {
            self.compare_before(id, &mut left).await?;
        }
        self.right.revoke(id, revocation, &left).await
    }

    async fn find_owner(&self, owner: &str) -> Result<Option<OwnerState>, StoreError> {
        let refused = self.note(|notes| notes.refused.contains(owner));
        let state = self.right.find_owner(owner).await?;
        let created = refused && self.is(Fault::CreatesTheOwnerOfARefusal);
        Ok(state.or(created.then(OwnerState::new)))
    }

    async fn count_live_keys(&self, owner: &str, max: u32) -> Result<u32, StoreError> {
        let count = self.count(owner, None).await?;
        match self.fault {
            Fault::CountsWithoutEnd => Ok(count),
            _ => Ok(count.min(max)),
        }
    }
}

#[tokio::test]
async fn each_fault_of_a_write_fails_the_check_of_its_rule() {
    const ROTATIONS: &str = "a_changed_digest_counts_as_a_rotation";
    const ACTORS: &str = "each_change_names_its_actor";
    const OWNER: &str = "another_owner_is_not_found_before_the_version_is_compared";
    const IGNORED: &str = "a_maximum_of_live_keys_is_not_ignored";
    const COUNTED: &str = "only_live_keys_count";
    const BOUNDED: &str = "a_write_that_makes_a_key_live_is_bounded";
    const UNBOUNDED: &str = "a_write_that_makes_no_key_live_is_not_bounded";
    let cases = [
        (Fault::CountsEachUpdateAsARotation, ROTATIONS),
        (Fault::KeepsTheActor, ACTORS),
        (Fault::NamesTheCreatorLater, ACTORS),
        (Fault::LosesTheDescription, "every_field_reads_back"),
        (Fault::IgnoresTheOwner, OWNER),
        (Fault::ComparesTheVersionFirst, OWNER),
        (Fault::FoldsTheCaseOfTheOwner, OWNER),
        (Fault::TakesNoOwnerForAny, OWNER),
        (
            Fault::ComparesTheOwnerBefore,
            "one_of_several_racing_changes_of_owner_succeeds",
        ),
        (
            Fault::ComparesTheOwnerOfARevocationBefore,
            "a_revocation_for_an_owner_races_with_a_change_of_owner",
        ),
        (
            Fault::ChangesWhatItRefuses,
            "a_refused_write_changes_nothing",
        ),
        (Fault::IgnoresTheMaximum, IGNORED),
        (Fault::CountsExpiredKeys, COUNTED),
        (Fault::CountsRevokedKeys, COUNTED),
        (Fault::DoesNotCountDisabledKeys, COUNTED),
        (Fault::CountsWithoutEnd, COUNTED),
        (Fault::BoundsInsertsOnly, BOUNDED),
        (Fault::CreatesTheOwnerOfARefusal, BOUNDED),
        (Fault::TrustsTheWrittenState, BOUNDED),
        (Fault::BoundsEachUpdate, UNBOUNDED),
        (Fault::CountsFirst, "a_refusal_says_the_first_reason"),
        (
            Fault::CountsBeforeItInserts,
            "racing_inserts_fill_a_maximum_exactly",
        ),
        (
            Fault::CountsBeforeItUpdates,
            "racing_changes_fill_a_maximum_exactly",
        ),
        (
            Fault::FailsInADeadlock,
            "keys_that_change_places_under_a_maximum_do_not_block",
        ),
    ];
    ensure_detected(Fault::None, &cases, Wrong::new).await;
}
