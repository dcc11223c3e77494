//! Which entry goes when there is no room for another.
//!
//! Two queues, as S3-FIFO has them (Yang et al., SOSP 2023). An entry starts among the newcomers;
//! one that was used meanwhile goes on to the regulars, and one that was not goes out. So keys that
//! are asked for once pass through a tenth of the room, however many they are, and keys in steady
//! use are not pushed out by them. A regular that was used since it was last looked at stands at
//! the end again. Whoever comes back soon after it went out is a regular at once.
//!
//! A hit writes one flag, and that once between two looks; all else happens where the store was
//! read.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::entry::CachedKey;
use crate::key::KeyId;

/// The part of the room that newcomers have for themselves: a tenth.
const SMALL_PART: usize = 10;

/// How many entries in use are passed over in the search of one that is not. Where a million are
/// in use, their flags are not all looked at while others wait: then one goes that was used.
const PASSED_OVER: usize = 256;

/// Slots of entries that a change took away are borne with until they are a part of all slots,
const GONE_PART: usize = 8;
/// and more than these.
const GONE_SPARE: usize = 64;
/// From then on each further one makes so many slots of either queue be looked at. It is more than
/// [`GONE_PART`], so that slots are cleared faster than they are made.
const SWEPT: usize = 16;

/// The order in which entries leave. It knows of no map: the caller holds the two together.
#[derive(Debug)]
pub(super) struct S3Fifo {
    small: VecDeque<Arc<CachedKey>>,
    main: VecDeque<Arc<CachedKey>>,
    /// Slots in both whose entry is in the map no longer. They are not searched for: they are met.
    gone: usize,
    ghost: GhostQueue,
    capacity: usize,
}

impl S3Fifo {
    /// The order of up to `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            small: VecDeque::new(),
            main: VecDeque::new(),
            gone: 0,
            ghost: GhostQueue::default(),
            capacity,
        }
    }

    /// An entry came into the map.
    pub(super) fn push(&mut self, entry: Arc<CachedKey>) {
        if self.ghost.take(&entry.id) {
            append(&mut self.main, entry);
        } else {
            append(&mut self.small, entry);
        }
    }

    /// An entry left the map, and was spoiled, because of a change. It is asked for again, if at
    /// all, for what it was before.
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

    /// All entries left the map, spoiled.
    pub(super) fn clear(&mut self) {
        self.small = VecDeque::new();
        self.main = VecDeque::new();
        self.gone = 0;
    }

    /// Takes out the entry that is to leave the map; `None` where there is none.
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

/// Ids that went out a while ago, each as two bytes: one taken for another makes a newcomer a
/// regular, and no more.
#[derive(Debug, Default)]
struct GhostQueue {
    /// As many as there is room for entries, once one had to leave; 0 is none.
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

    /// Whether `id` was noted, and not too long ago. It is forgotten.
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
        // Cut to 16 bits on purpose: the others choose the place.
        let mark = (hash as u16).max(1);
        ((hash >> 16) as usize % self.marks.len(), mark)
    }
}

/// A `VecDeque` doubles; an eighth at a time keeps a million slots at nine bytes each.
fn append(queue: &mut VecDeque<Arc<CachedKey>>, entry: Arc<CachedKey>) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(room_above(queue.len()));
    }
    queue.push_back(entry);
}

/// Entries move from one queue to the other, and the memory of the first is given back.
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

/// Clears some slots, and puts the others at the end. Returns how many were cleared.
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
