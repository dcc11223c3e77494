//! The map of entries, its fence, and the ids that the store recently did not know.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use scc::HashIndex;

use super::entry::{ById, CachedKey};
use super::fence::{Fence, Generation};
use super::hit_counters::HitCounters;
use super::in_flight::InFlightRead;
use super::lease::Lease;
use super::owners::{OwnerChanges, OwnerMarks};
use super::s3_fifo::S3Fifo;
use super::watch::Watchers;
use crate::clock::ClockReading;
use crate::key::{IdText, KeyId};
use crate::record::OwnerState;

/// Shards of the fence: a change of a key invalidates only the in-flight reads of its own shard.
const SHARDS: usize = 64;

/// Unknown ids that one shard remembers; a new one replaces the oldest.
const UNKNOWN_PER_SHARD: usize = 64;

/// How long an id is remembered as unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

/// The state that one shard of the fence protects.
#[derive(Debug, Default)]
pub(super) struct ShardState {
    /// In-flight reads that other callers may join.
    pub(super) in_flight: HashMap<KeyId, InFlightRead>,
    /// Number of reads started.
    pub(super) started_reads: u64,
    unknown: Vec<UnknownId>,
    oldest: usize,
}

#[derive(Debug, Clone, Copy)]
struct UnknownId {
    id: KeyId,
    until_nanos: u64,
}

/// A cache of key records that is valid under a lease.
#[derive(Debug)]
pub(crate) struct Cache {
    map: HashIndex<ById, (), foldhash::fast::RandomState>,
    shards: Box<[Fence<ShardState>]>,
    pub(crate) lease: Lease,
    /// The watches of keys, which each change below marks.
    pub(crate) watchers: Arc<Watchers>,
    owners: OwnerMarks,
    pub(crate) counters: HitCounters,
    capacity: usize,
    /// The eviction order. A change of the map holds its lock (inside the shard's lock, if it holds
    /// both); a lookup does not.
    queue: Mutex<S3Fifo>,
    /// Written only under the queue's lock.
    entries: AtomicUsize,
}

impl Cache {
    /// Creates a cache for `capacity` entries.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            map: HashIndex::default(),
            shards: (0..SHARDS)
                .map(|_| Fence::new(ShardState::default()))
                .collect(),
            lease: Lease::default(),
            watchers: Watchers::new(),
            owners: OwnerMarks::new(SHARDS),
            counters: HitCounters::default(),
            capacity,
            queue: Mutex::new(S3Fifo::new(capacity)),
            entries: AtomicUsize::new(0),
        }
    }

    /// Passes the entry of `id`, if present, to `look`, without a lock or a copy. The caller must
    /// check that the entry is valid, after reading the clock: see [`CachedKey::is_stale`] and
    /// [`Lease::holds`].
    pub(crate) fn peek<R>(
        &self,
        id: IdText<'_>,
        look: impl FnOnce(&Arc<CachedKey>) -> R,
    ) -> Option<R> {
        self.map.peek_with(&id, |entry, ()| {
            entry.0.note_use();
            look(&entry.0)
        })
    }

    /// Returns whether the store recently did not know `id`.
    pub(crate) fn knows_unknown(&self, id: &KeyId, now: ClockReading) -> bool {
        let fits =
            |unknown: &UnknownId| unknown.id == *id && now.uptime_nanos < unknown.until_nanos;
        self.lease.holds(now)
            && self
                .shard(id)
                .enter(|state, _| state.unknown.iter().any(fits))
    }

    /// Returns the fence that protects `id`.
    pub(super) fn shard(&self, id: &KeyId) -> &Fence<ShardState> {
        &self.shards[id.shard(SHARDS)]
    }

    /// Returns the count of owners' changes. Read it after [`Lease::holds`]: see
    /// [`CachedKey::validity`].
    #[inline]
    pub(crate) fn owner_changes(&self) -> OwnerChanges {
        self.owners.changes()
    }

    /// Keeps the result of a read, unless a change occurred since the read began. The caller has
    /// not shared `found` yet.
    pub(super) fn commit_if_current(
        &self,
        id: &KeyId,
        generation: Generation,
        sent: ClockReading,
        found: Option<&mut Arc<CachedKey>>,
    ) {
        self.shard(id)
            .commit_if_current(generation, |state| match found {
                Some(entry) => {
                    state.forget_unknown(id);
                    self.insert(entry);
                }
                None => {
                    self.remove(id);
                    state.remember_unknown(*id, sent);
                }
            });
    }

    /// Removes the entry of `id` and detaches its in-flight read: later callers start a new one.
    pub(crate) fn evict(&self, id: &KeyId) {
        self.shard(id).evict(|state| {
            #[cfg(apikey_faults)]
            if crate::faults::joins_after_eviction() {
                return self.remove(id);
            }
            state.in_flight.remove(id);
            state.forget_unknown(id);
            self.remove(id);
        });
        self.watchers.key_changed(id);
    }

    /// Follows changes of owners, after they are committed. A check that starts after this call
    /// sees them; [`owners`](super::owners) argues why, and why in this order.
    pub(crate) fn owners_changed(&self, changes: &[(String, OwnerState)]) {
        #[cfg(apikey_faults)]
        if crate::faults::no_owner_generations() {
            return self.raise_owners(changes);
        }
        self.detach_reads(|_| ());
        self.raise_owners(changes);
        let owners = changes.iter().map(|(owner, _)| owner.as_str());
        self.watchers.owners_changed(owners);
    }

    fn raise_owners(&self, changes: &[(String, OwnerState)]) {
        #[cfg(apikey_faults)]
        if crate::faults::no_owner_marks() {
            return;
        }
        for (owner, state) in changes {
            self.owners.follow(owner, *state);
        }
        self.owners.count_change();
    }

    /// Invalidates all reads in flight and detaches them: later callers start new ones.
    fn detach_reads(&self, also: impl Fn(&mut ShardState)) {
        for shard in &self.shards {
            shard.evict(|state| {
                state.in_flight.clear();
                also(state);
            });
        }
    }

    /// Removes everything, marks of owners too: an owner's version is lower if the store was
    /// restored.
    pub(crate) fn flush(&self) {
        self.detach_reads(|state| state.unknown.clear());
        // No read that began before its shard's turn can commit any more, so what is left now must
        // go. The marks go first. A commit that took one before holds its shard's lock until its
        // entry is in the map, which must lose it too: a mark outside the table is never raised.
        self.owners.clear();
        for shard in &self.shards {
            shard.enter(|_, _| ());
        }
        let mut queue = self.queue();
        self.map.retain_sync(|entry, ()| {
            entry.0.mark_stale();
            false
        });
        queue.clear();
        self.entries.store(0, Ordering::Relaxed);
        drop(queue);
        self.watchers.all_changed();
    }

    /// Returns the number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Called under the lock of the entry's shard.
    fn insert(&self, entry: &mut Arc<CachedKey>) {
        if self.capacity == 0 {
            return;
        }
        // An entry that has been shared already keeps its own mark, which no change raises.
        let Some(own) = Arc::get_mut(entry) else {
            return;
        };
        own.share_owner(&self.owners);
        let mut queue = self.queue();
        self.remove_from(&mut queue, &entry.id);
        while self.len() >= self.capacity {
            // Evicting an entry needs no fence: it only costs a read.
            match queue.pop() {
                Some(oldest) => self.take_out(&oldest.id),
                None => return,
            };
        }
        if self.map.insert_sync(ById(Arc::clone(entry)), ()).is_ok() {
            queue.push(Arc::clone(entry));
            self.entries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Removes `id` from map and queue. Called under the shard's lock, so the id cannot be inserted
    /// meanwhile. Most ids to remove are absent; for these, the queue's lock is not taken.
    fn remove(&self, id: &KeyId) {
        if self.map.contains(id) {
            self.remove_from(&mut self.queue(), id);
        }
    }

    fn remove_from(&self, queue: &mut S3Fifo, id: &KeyId) {
        if self.take_out(id) {
            queue.left(id);
        }
    }

    fn take_out(&self, id: &KeyId) -> bool {
        self.map.peek_with(id, |entry, ()| entry.0.mark_stale());
        let removed = self.map.remove_sync(id);
        if removed {
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// A panic under this lock leaves a usable queue: at worst an entry of the map has no slot and
    /// stays until its record changes.
    fn queue(&self) -> MutexGuard<'_, S3Fifo> {
        self.queue.lock()
    }
}

impl ShardState {
    fn remember_unknown(&mut self, id: KeyId, sent: ClockReading) {
        self.forget_unknown(&id);
        let until = sent
            .uptime_nanos
            .saturating_add(UNKNOWN_FOR.as_nanos() as u64);
        let unknown = UnknownId {
            id,
            until_nanos: until,
        };
        if self.unknown.len() < UNKNOWN_PER_SHARD {
            self.unknown.push(unknown);
        } else {
            self.unknown[self.oldest] = unknown;
            self.oldest = (self.oldest + 1) % UNKNOWN_PER_SHARD;
        }
    }

    fn forget_unknown(&mut self, id: &KeyId) {
        self.unknown
            .iter_mut()
            .filter(|unknown| unknown.id == *id)
            .for_each(|unknown| unknown.until_nanos = 0);
    }
}

#[cfg(test)]
mod owner_tests;
#[cfg(test)]
mod tests;
