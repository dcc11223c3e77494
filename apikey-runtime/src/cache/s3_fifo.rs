//! The eviction policy: which entry leaves when the cache is full.
//!
//! S3-FIFO (Yang et al., SOSP 2023). A new entry starts in the small queue. When it reaches the
//! head, it moves to the main queue if it was used meanwhile; otherwise it is evicted. So keys that
//! are used once pass through a tenth of the capacity, no matter how many there are, and do not
//! push out keys in steady use. An entry that reaches the head of the main queue moves to its tail
//! if it was used since its last turn. An id that returns soon after its eviction, while the ghost
//! queue still holds it, enters the main queue directly.
//!
//! A hit sets one flag, at most once between two turns. All other work happens when the store is
//! read.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::entry::CachedKey;
use crate::key::KeyId;

/// The share of the capacity reserved for the small queue: a tenth.
const SMALL_PART: usize = 10;

/// The number of used entries that a search for an unused one passes over. If a million entries are
/// in use, the search must not visit all of them while other threads wait; after this many, a used
/// entry is evicted.
const PASSED_OVER: usize = 256;

/// The queues tolerate slots of removed entries up to one in this many slots, plus [`GONE_SPARE`].
const GONE_PART: usize = 8;
/// The constant part of the number of tolerated slots.
const GONE_SPARE: usize = 64;
/// Once there are more, each further removal inspects this many slots of each queue. It exceeds
/// [`GONE_PART`], so slots are cleared faster than they appear.
const SWEPT: usize = 16;

/// The eviction order. It holds no map: the caller keeps the two consistent.
#[derive(Debug)]
pub(super) struct S3Fifo {
    small: VecDeque<Arc<CachedKey>>,
    main: VecDeque<Arc<CachedKey>>,
    /// Slots in both queues whose entry has left the map. They are not searched for, but dropped
    /// when they reach the head.
    gone: usize,
    ghost: GhostQueue,
    capacity: usize,
}

impl S3Fifo {
    /// Creates the eviction order for up to `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            small: VecDeque::new(),
            main: VecDeque::new(),
            gone: 0,
            ghost: GhostQueue::default(),
            capacity,
        }
    }

    /// Adds an entry that was inserted into the map.
    pub(super) fn push(&mut self, entry: Arc<CachedKey>) {
        if self.ghost.take(&entry.id) {
            append(&mut self.main, entry);
        } else {
            append(&mut self.small, entry);
        }
    }

    /// Records that an entry left the map, marked stale, because of a change. Its id goes to the
    /// ghost queue, if allocated: a key that is read again after a change is in use.
    pub(super) fn left(&mut self, id: &KeyId) {
        if self.ghost.is_kept() {
            self.ghost.note(id, self.capacity);
        }
        self.gone += 1;
        let slots = self.small.len() + self.main.len();
        if self.gone > slots / GONE_PART + GONE_SPARE {
            self.gone -= sweep(&mut self.small) + sweep(&mut self.main);
        }
    }

    /// Removes all slots, after all entries left the map, marked stale.
    pub(super) fn clear(&mut self) {
        self.small = VecDeque::new();
        self.main = VecDeque::new();
        self.gone = 0;
    }

    /// Removes and returns the entry to evict, or `None` if both queues are empty.
    pub(super) fn pop(&mut self) -> Option<Arc<CachedKey>> {
        let mut passed_over = 0;
        loop {
            let from_newcomers = self.small.len() >= (self.capacity / SMALL_PART).max(1);
            let entry = if from_newcomers || self.main.is_empty() {
                take_first(&mut self.small)
            } else {
                take_first(&mut self.main)
            }?;
            if entry.is_stale() {
                self.gone -= 1;
            } else if entry.take_used() && passed_over < PASSED_OVER {
                passed_over += 1;
                append(&mut self.main, entry);
            } else {
                self.ghost.note(&entry.id, self.capacity);
                return Some(entry);
            }
        }
    }
}

#[cfg(test)]
impl S3Fifo {
    pub(super) fn slots(&self) -> usize {
        self.small.len() + self.main.len()
    }

    pub(super) fn gone(&self) -> usize {
        self.gone
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<CachedKey>> {
        self.small.iter().chain(&self.main)
    }
}

/// Ids that were evicted recently, as two-byte fingerprints. A collision only puts a new entry into
/// the main queue.
#[derive(Debug, Default)]
struct GhostQueue {
    /// One fingerprint per unit of capacity, allocated at the first eviction; 0 is an empty place.
    marks: Box<[u16]>,
    hasher: foldhash::fast::RandomState,
}

impl GhostQueue {
    fn is_kept(&self) -> bool {
        !self.marks.is_empty()
    }

    fn note(&mut self, id: &KeyId, capacity: usize) {
        if !self.is_kept() {
            self.marks = vec![0; capacity].into();
        }
        let (place, mark) = self.place(id);
        self.marks[place] = mark;
    }

    /// Returns whether `id` was evicted recently, and removes it.
    fn take(&mut self, id: &KeyId) -> bool {
        if !self.is_kept() {
            return false;
        }
        let (place, mark) = self.place(id);
        let noted = self.marks[place] == mark;
        if noted {
            self.marks[place] = 0;
        }
        noted
    }

    fn place(&self, id: &KeyId) -> (usize, u16) {
        let hash = self.hasher.hash_one(id);
        // Truncated to 16 bits on purpose: the other bits select the place.
        let mark = (hash as u16).max(1);
        ((hash >> 16) as usize % self.marks.len(), mark)
    }
}

/// Appends, growing by an eighth. `VecDeque` would double; an eighth keeps a million slots at nine
/// bytes each.
fn append(queue: &mut VecDeque<Arc<CachedKey>>, entry: Arc<CachedKey>) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(room_above(queue.len()));
    }
    queue.push_back(entry);
}

/// Removes the head and shrinks the queue: entries move between the queues, and the memory of the
/// first must be released.
fn take_first(queue: &mut VecDeque<Arc<CachedKey>>) -> Option<Arc<CachedKey>> {
    let first = queue.pop_front();
    let wanted = queue.len() + room_above(queue.len());
    if queue.capacity() / 2 > wanted {
        queue.shrink_to(wanted);
    }
    first
}

fn room_above(slots: usize) -> usize {
    (slots / 8).max(32)
}

/// Clears stale slots among the first few and moves the others to the tail. Returns the number
/// cleared.
fn sweep(queue: &mut VecDeque<Arc<CachedKey>>) -> usize {
    let mut cleared = 0;
    for _ in 0..SWEPT.min(queue.len()) {
        match take_first(queue) {
            Some(entry) if !entry.is_stale() => append(queue, entry),
            _ => cleared += 1,
        }
    }
    cleared
}
