//! Marks of owners: what a change of an owner changes in memory, whatever the number of its keys.
//!
//! All entries of an owner share one mark. A change of the owner raises the mark, and increments
//! the count of owners' changes, which is one word for the whole cache. An entry notes the count at
//! which it last saw that its owner permits its keys. So a check compares one hot word, and looks
//! at the mark only if an owner has changed since.
//!
//! A change takes three steps, in this order; see
//! [`Cache::owners_changed`](super::Cache::owners_changed):
//!
//! 1. It advances the generations of all shards of the fence, so that no read that began before it
//!    can commit. Such a read may have the old state of an owner whose mark does not exist yet.
//! 2. It raises the marks. Every committed entry of the owner has the table's mark by now.
//! 3. It increments the count, also if it did not find a mark to raise: a read may have raised it.
//!
//! A live key's number of revocations equals its owner's in the snapshot of its read. So a mark is
//! of one number: once the owner's revocations exceed it, the mark revokes all keys that share it,
//! for ever, and a mark of the new number takes its place in the table. The entries need not keep
//! their numbers.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher};

use super::sync::{Arc, AtomicU8, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};
use crate::record::OwnerState;

/// The spare part of the number of marks above which a shard sweeps.
const SPARE: usize = 32;

/// What an owner's mark says of the keys that share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnerStatus {
    /// The owner permits its keys, or the key does not have an owner.
    Active,
    /// All keys of the owner are suspended.
    Suspended,
    /// All keys that share the mark are revoked.
    Revoked,
    /// The mark may be out of date: the keys that share it are read again.
    Stale,
}

/// The state that all entries of an owner share.
#[derive(Debug)]
pub(crate) struct OwnerMark {
    name: Box<str>,
    /// The owner's revocations when a key that shares the mark was read.
    revocations: u64,
    /// The version of the owner's state. Accessed only under the lock of the table's shard.
    version: AtomicU64,
    /// An [`OwnerStatus`], in one word: a check sees all of a change or nothing. Written only under
    /// the lock of the table's shard, and published by the count of changes.
    status: AtomicU8,
}

impl OwnerMark {
    /// Creates a mark that no entry shares yet.
    pub(super) fn new(name: impl Into<Box<str>>, state: OwnerState) -> Self {
        Self {
            name: name.into(),
            revocations: state.revocations,
            version: AtomicU64::new(state.version),
            status: AtomicU8::new(status_of(state) as u8),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    #[inline]
    fn status(&self) -> OwnerStatus {
        // Relaxed: a check that must see a change has read the count that follows it.
        const ACTIVE: u8 = OwnerStatus::Active as u8;
        const SUSPENDED: u8 = OwnerStatus::Suspended as u8;
        const STALE: u8 = OwnerStatus::Stale as u8;
        match self.status.load(Ordering::Relaxed) {
            ACTIVE => OwnerStatus::Active,
            SUSPENDED => OwnerStatus::Suspended,
            STALE => OwnerStatus::Stale,
            _ => OwnerStatus::Revoked,
        }
    }

    fn set_status(&self, status: OwnerStatus) {
        self.status.store(status as u8, Ordering::Relaxed);
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Returns the state that the mark was created from or raised to.
    fn state(&self) -> OwnerState {
        OwnerState::new()
            .with_version(self.version())
            .with_revocations(self.revocations)
            .with_suspended(self.status() == OwnerStatus::Suspended)
    }
}

fn status_of(state: OwnerState) -> OwnerStatus {
    if state.suspended {
        OwnerStatus::Suspended
    } else {
        OwnerStatus::Active
    }
}

/// The count of owners' changes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OwnerChanges(u64);

/// The count at which an entry last saw that its owner permits its keys.
#[derive(Debug)]
pub(super) struct LastLook(AtomicU64);

impl Default for LastLook {
    /// Creates the note of an entry that has not looked yet. The count never gets there.
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl LastLook {
    /// Returns what the owner's mark says. Looks at it only if an owner has changed since the last
    /// look, and notes `changes` if the owner permits its keys.
    ///
    /// `changes` was read before this call. A count that is read after the look could include a
    /// change that the look missed.
    #[inline]
    pub(super) fn status(
        &self,
        mark: Option<&Arc<OwnerMark>>,
        changes: OwnerChanges,
    ) -> OwnerStatus {
        // Relaxed: the note counts only if it equals `changes`. Then a check that had read this count
        // looked after it, and saw each mark that was raised before this count.
        if self.0.load(Ordering::Relaxed) == changes.0 {
            return OwnerStatus::Active;
        }
        let status = mark.map_or(OwnerStatus::Active, |mark| mark.status());
        if status == OwnerStatus::Active {
            self.0.store(changes.0, Ordering::Relaxed);
        }
        status
    }
}

/// The table of the marks that entries share, and the count of owners' changes.
#[derive(Debug)]
pub(super) struct OwnerMarks {
    shards: Box<[Mutex<MarkShard>]>,
    hasher: foldhash::fast::RandomState,
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct MarkShard {
    marks: HashSet<ByName, foldhash::fast::RandomState>,
    /// The number of marks that the last sweep left.
    swept: usize,
}

impl OwnerMarks {
    /// Creates a table with this number of shards.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// Returns the count of changes. A check reads it after it has seen that the lease holds:
    /// changes that precede the grant are then in it.
    #[inline]
    pub(super) fn changes(&self) -> OwnerChanges {
        // Acquire: a check that sees a count also sees the marks that were raised before it.
        OwnerChanges(self.changes.load(Ordering::Acquire))
    }

    /// Increments the count of changes, after marks were raised.
    pub(super) fn count_change(&self) {
        // Release; and since all writes of the count are of this kind, a check that sees a later
        // one sees the marks of this one too.
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Replaces the mark of a new entry, which it does not share yet, with that of the table.
    /// Raises the table's if the entry's is newer, or adds the entry's if the table has none.
    /// Returns whether the entry's key is revoked by a change that its read did not see.
    ///
    /// Called under the lock of the entry's shard of the fence, if its generation is current.
    #[must_use]
    pub(super) fn share(&self, own: &mut Arc<OwnerMark>) -> bool {
        let mut shard = self.shard(own.name());
        if shard.raise(own.name(), own.state()) {
            self.count_change();
        }
        match shard.marks.get(own.name()) {
            Some(shared) => {
                let revoked = own.revocations < shared.0.revocations;
                *own = Arc::clone(&shared.0);
                revoked
            }
            None => {
                shard.add(Arc::clone(own));
                false
            }
        }
    }

    /// Follows a change of an owner: raises its mark to `state`, if the table has one that is older.
    ///
    /// If the table's is newer, the change was overtaken, or the store was restored to an earlier
    /// state. Which of them is not known, so the mark becomes stale.
    pub(super) fn follow(&self, name: &str, state: OwnerState) {
        let mut shard = self.shard(name);
        if !shard.raise(name, state) {
            shard.remove_unless(name, state);
        }
    }

    /// Removes all marks. Their entries leave the map afterwards.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            // Dropped after the lock is released.
            let _marks = std::mem::take(&mut *lock(shard));
        }
    }

    fn shard(&self, name: &str) -> MutexGuard<'_, MarkShard> {
        let hash = self.hasher.hash_one(name);
        lock(&self.shards[(hash >> 32) as usize % self.shards.len()])
    }
}

/// A poisoned lock is safe to use: a panic in the code above leaves a usable table.
fn lock(shard: &Mutex<MarkShard>) -> MutexGuard<'_, MarkShard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MarkShard {
    /// Raises the mark of `name` if it is older than `state`, and returns whether it did. A mark
    /// that revokes its keys leaves the table.
    fn raise(&mut self, name: &str, state: OwnerState) -> bool {
        let Some(ByName(mark)) = self.marks.get(name) else {
            return false;
        };
        if state.version <= mark.version() {
            return false;
        }
        mark.version.store(state.version, Ordering::Relaxed);
        if state.revokes(mark.revocations) {
            mark.set_status(OwnerStatus::Revoked);
            self.marks.remove(name);
        } else {
            mark.set_status(status_of(state));
        }
        true
    }

    /// Makes the mark of `name` stale if it differs from `state`.
    fn remove_unless(&mut self, name: &str, state: OwnerState) {
        let differs = |ByName(mark): &&ByName| mark.state() != state;
        if let Some(ByName(mark)) = self.marks.get(name).filter(differs) {
            mark.set_status(OwnerStatus::Stale);
            self.marks.remove(name);
        }
    }

    /// Adds a mark. Sweeps first if the marks have doubled since the last sweep, so the cost of a
    /// sweep is shared by as many additions.
    fn add(&mut self, mark: Arc<OwnerMark>) {
        if self.marks.len() >= 2 * self.swept + SPARE {
            // A count of 1 is the table's own, and only the table can add to it.
            self.marks.retain(|mark| Arc::strong_count(&mark.0) > 1);
            self.swept = self.marks.len();
        }
        self.marks.insert(ByName(mark));
    }
}

/// A mark as a member of the table, hashed and compared by the owner's name.
#[derive(Debug)]
struct ByName(Arc<OwnerMark>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for ByName {}

#[cfg(test)]
impl OwnerMarks {
    /// Runs `then` while this thread holds the locks of all shards.
    pub(super) fn with_all_locked(&self, then: impl FnOnce()) {
        let _locked: Vec<_> = self.shards.iter().map(lock).collect();
        then();
    }

    pub(super) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).marks.len())
            .sum()
    }
}
