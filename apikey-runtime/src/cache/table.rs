//! The map of entries, its fence, and the ids that the store was seen not to know.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use scc::HashIndex;

use super::entry::{ById, CachedKey};
use super::fence::{Fence, Generation};
use super::hit_counters::HitCounters;
use super::lease::Lease;
use super::loader::InFlightRead;
use super::s3_fifo::S3Fifo;
use crate::clock::ClockReading;
use crate::key::{IdText, KeyId};

/// Shards of the fence: a change makes only the reads under way in its own worthless.
const SHARDS: usize = 64;

/// UnknownId ids that one shard remembers; a new one takes the place of the oldest.
const UNKNOWN_PER_SHARD: usize = 64;

/// The longest that an id is remembered as unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

/// What one shard of the fence protects.
#[derive(Debug, Default)]
pub(super) struct ShardState {
    /// The reads under way that others may wait for.
    pub(super) in_flight: HashMap<KeyId, InFlightRead>,
    /// How many reads were begun.
    pub(super) started_reads: u64,
    unknown: Vec<UnknownId>,
    oldest: usize,
}

#[derive(Debug, Clone, Copy)]
struct UnknownId {
    id: KeyId,
    until_nanos: u64,
}

/// Entries under a lease.
#[derive(Debug)]
pub(crate) struct Cache {
    map: HashIndex<ById, (), foldhash::fast::RandomState>,
    shards: Box<[Fence<ShardState>]>,
    pub(crate) lease: Lease,
    pub(crate) counters: HitCounters,
    capacity: usize,
    /// The order in which entries leave. Whoever changes the map holds it, inside of the shard's
    /// lock where both are held; whoever looks something up does not.
    queue: Mutex<S3Fifo>,
    /// Written by those who hold the queue.
    entries: AtomicUsize,
}

impl Cache {
    /// Room for `capacity` entries.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            map: HashIndex::default(),
            shards: (0..SHARDS)
                .map(|_| Fence::new(ShardState::default()))
                .collect(),
            lease: Lease::default(),
            counters: HitCounters::default(),
            capacity,
            queue: Mutex::new(S3Fifo::new(capacity)),
            entries: AtomicUsize::new(0),
        }
    }

    /// Looks at the entry of `id`, if there is one, without a lock and without a copy. Whether it
    /// may be believed is for the caller to ask, after reading the clock: see
    /// [`CachedKey::is_stale`] and [`Lease::holds`].
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

    /// Whether the store was seen, a moment ago, not to know `id`.
    pub(crate) fn knows_unknown(&self, id: &KeyId, now: ClockReading) -> bool {
        let fits =
            |unknown: &UnknownId| unknown.id == *id && now.uptime_nanos < unknown.until_nanos;
        self.lease.holds(now)
            && self
                .shard(id)
                .enter(|state, _| state.unknown.iter().any(fits))
    }

    /// The fence that `id` is behind.
    pub(super) fn shard(&self, id: &KeyId) -> &Fence<ShardState> {
        &self.shards[id.shard(SHARDS)]
    }

    /// Keeps what a read found, unless a change came since it began.
    pub(super) fn commit_if_current(
        &self,
        id: &KeyId,
        generation: Generation,
        sent: ClockReading,
        found: Option<&Arc<CachedKey>>,
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

    /// Drops the entry of `id` and detaches the read under way: whoever starts from now on starts a
    /// new one.
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
    }

    /// Drops everything.
    pub(crate) fn flush(&self) {
        for shard in &self.shards {
            shard.evict(|state| {
                state.in_flight.clear();
                state.unknown.clear();
            });
        }
        // Nothing that was read before its shard's turn comes in any more, so what is left now is
        // all there is.
        let mut queue = self.queue();
        self.map.retain_sync(|entry, ()| {
            entry.0.mark_stale();
            false
        });
        queue.clear();
        self.entries.store(0, Ordering::Relaxed);
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    fn insert(&self, entry: &Arc<CachedKey>) {
        if self.capacity == 0 {
            return;
        }
        let mut queue = self.queue();
        self.remove_from(&mut queue, &entry.id);
        while self.len() >= self.capacity {
            // Dropping an entry needs no fence: it costs a read, and no more.
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

    /// Called inside of the shard's lock, so that the id cannot come in meanwhile: most ids that are
    /// removed are not there, and those who ask for them do not wait for the queue.
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

    /// A thread that panicked in here left a queue that is good enough: at worst an entry in the map
    /// has no slot in it, and stays until it is changed.
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
mod tests;
