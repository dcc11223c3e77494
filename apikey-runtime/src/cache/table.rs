//! The map of entries, its fence, and the ids that the store was seen not to know.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scc::HashIndex;

use super::entry::{ById, CachedKey};
use super::fence::{Fence, Ticket};
use super::hit_counters::Counters;
use super::lease::Lease;
use super::loader::Flight;
use super::s3_fifo::Queue;
use crate::clock::ClockReading;
use crate::key::{IdText, KeyId};

/// Shards of the fence: a change makes only the reads under way in its own worthless.
const SHARDS: usize = 64;

/// Unknown ids that one shard remembers; a new one takes the place of the oldest.
const UNKNOWN_PER_SHARD: usize = 64;

/// The longest that an id is remembered as unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

/// What one shard of the fence protects.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// The reads under way that others may wait for.
    pub(super) flights: HashMap<KeyId, Flight>,
    /// How many reads were begun.
    pub(super) flown: u64,
    unknown: Vec<Unknown>,
    oldest: usize,
}

#[derive(Debug, Clone, Copy)]
struct Unknown {
    id: KeyId,
    until_nanos: u64,
}

/// Entries under a lease.
#[derive(Debug)]
pub(crate) struct Cache {
    map: HashIndex<ById, (), foldhash::fast::RandomState>,
    shards: Box<[Fence<Desk>]>,
    pub(crate) lease: Lease,
    pub(crate) counters: Counters,
    capacity: usize,
    /// The order in which entries leave. Whoever changes the map holds it, inside of the shard's
    /// lock where both are held; whoever looks something up does not.
    queue: Mutex<Queue>,
    /// Written by those who hold the queue.
    entries: AtomicUsize,
}

impl Cache {
    /// Room for `capacity` entries.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            map: HashIndex::default(),
            shards: (0..SHARDS).map(|_| Fence::new(Desk::default())).collect(),
            lease: Lease::default(),
            counters: Counters::default(),
            capacity,
            queue: Mutex::new(Queue::new(capacity)),
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
        let fits = |unknown: &Unknown| unknown.id == *id && now.uptime_nanos < unknown.until_nanos;
        self.lease.holds(now)
            && self
                .shard(id)
                .enter(|desk, _| desk.unknown.iter().any(fits))
    }

    /// The fence that `id` is behind.
    pub(super) fn shard(&self, id: &KeyId) -> &Fence<Desk> {
        // The last characters of an id are random; an attacker who chooses them crowds one lock of
        // a cold path.
        let [.., a, b] = id.bytes();
        &self.shards[(usize::from(*a) * 31 + usize::from(*b)) % SHARDS]
    }

    /// Keeps what a read found, unless a change came since it began.
    pub(super) fn keep(
        &self,
        id: &KeyId,
        ticket: Ticket,
        sent: ClockReading,
        found: Option<&Arc<CachedKey>>,
    ) {
        self.shard(id).keep(ticket, |desk| match found {
            Some(entry) => {
                desk.forget_unknown(id);
                self.insert(entry);
            }
            None => {
                self.remove(id);
                desk.remember_unknown(*id, sent);
            }
        });
    }

    /// Drops the entry of `id` and detaches the read under way: whoever starts from now on starts a
    /// new one.
    pub(crate) fn evict(&self, id: &KeyId) {
        self.shard(id).evict(|desk| {
            #[cfg(apikey_faults)]
            if crate::faults::joins_after_eviction() {
                return self.remove(id);
            }
            desk.flights.remove(id);
            desk.forget_unknown(id);
            self.remove(id);
        });
    }

    /// Drops everything.
    pub(crate) fn flush(&self) {
        for shard in &self.shards {
            shard.evict(|desk| {
                desk.flights.clear();
                desk.unknown.clear();
            });
        }
        // Nothing that was read before its shard's turn comes in any more, so what is left now is
        // all there is.
        let mut queue = self.queue();
        self.map.retain_sync(|entry, ()| {
            entry.0.spoil();
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

    fn remove_from(&self, queue: &mut Queue, id: &KeyId) {
        if self.take_out(id) {
            queue.left(id);
        }
    }

    fn take_out(&self, id: &KeyId) -> bool {
        self.map.peek_with(id, |entry, ()| entry.0.spoil());
        let removed = self.map.remove_sync(id);
        if removed {
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// A thread that panicked in here left a queue that is good enough: at worst an entry in the map
    /// has no slot in it, and stays until it is changed.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    fn remember_unknown(&mut self, id: KeyId, sent: ClockReading) {
        self.forget_unknown(&id);
        let until = sent
            .uptime_nanos
            .saturating_add(UNKNOWN_FOR.as_nanos() as u64);
        let unknown = Unknown {
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
