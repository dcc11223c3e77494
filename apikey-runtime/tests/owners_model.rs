//! Owners' changes beside the fence and the lease (`src/cache/owners.rs`), under every interleaving
//! that loom explores.
//!
//! This compiles the crate's own files on loom's primitives. Around them is a model of the cache: a
//! store with one owner, two keys of it in shards of their own, a reader that fills the cache, and a
//! check. Each negative control changes one step, and must be found out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    dead_code,
    unused_imports
)]

use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use clock::{ClockReading, Timestamp};
use fence::{Fence, Generation};
use lease::Lease;
use owners::{LastLook, OwnerChanges, OwnerMark, OwnerMarks, OwnerStatus};
use record::OwnerState;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
    pub(super) use loom::sync::{Arc, Mutex, MutexGuard};
    pub(super) use std::sync::PoisonError;
}

mod record {
    pub(super) use apikey_runtime::store::OwnerState;
}

#[path = "../src/clock/mod.rs"]
mod clock;
#[path = "../src/cache/fence.rs"]
mod fence;
#[path = "../src/cache/lease.rs"]
mod lease;
#[path = "../src/cache/owners.rs"]
mod owners;

const OWNER: &str = "acme";

/// A cached key: as in `CachedKey`.
struct Entry {
    revoked: bool,
    mark: Arc<OwnerMark>,
    look: LastLook,
}

impl Entry {
    fn permits(&self, changes: OwnerChanges) -> bool {
        self.look.status(Some(&self.mark), changes) == OwnerStatus::Active && !self.revoked
    }
}

struct Node {
    /// The store, which commits at once: the owner's revocations. Both keys have the number 0.
    stored: AtomicU64,
    shards: [Fence<Option<Arc<Entry>>>; 2],
    marks: OwnerMarks,
    lease: Lease,
}

impl Node {
    fn new() -> Arc<Self> {
        let node = Self {
            stored: AtomicU64::new(0),
            shards: [Fence::new(None), Fence::new(None)],
            marks: OwnerMarks::new(1),
            lease: Lease::default(),
        };
        node.lease.grant([at(0); 2], LENGTH);
        Arc::new(node)
    }

    fn state(&self) -> OwnerState {
        let revocations = self.stored.load(Ordering::SeqCst);
        OwnerState::new()
            .with_version(1 + revocations)
            .with_revocations(revocations)
    }

    /// Reads the store, and caches the result if its generation is still current.
    fn fill(&self, key: usize) {
        let generation = self.shards[key].enter(|_, generation| generation);
        let state = self.state();
        self.shards[key].commit_if_current(generation, |held| self.insert(held, state));
    }

    fn insert(&self, held: &mut Option<Arc<Entry>>, state: OwnerState) {
        let mut mark = Arc::new(OwnerMark::new(OWNER, state));
        let newer = self.marks.share(&mut mark);
        *held = Some(Arc::new(Entry {
            revoked: newer || state.revokes(0),
            mark,
            look: LastLook::default(),
        }));
    }

    /// Looks at the entry without a lock in the crate; here, the lock only copies it.
    fn entry(&self, key: usize) -> Option<Arc<Entry>> {
        self.shards[key].enter(|held, _| held.clone())
    }

    fn accepts(&self, key: usize) -> bool {
        self.entry(key)
            .is_some_and(|entry| entry.permits(self.marks.changes()))
    }

    fn accepts_any(&self) -> bool {
        self.accepts(0) || self.accepts(1)
    }

    fn revoke_in_store(&self) {
        self.stored.fetch_add(1, Ordering::SeqCst);
    }

    fn advance(&self) {
        self.shards.iter().for_each(|shard| shard.evict(|_| ()));
    }

    fn raise(&self) {
        self.marks.follow(OWNER, self.state());
    }

    /// As `Cache::owners_changed`.
    fn follow(&self) {
        self.advance();
        self.raise();
        self.marks.count_change();
    }

    /// As `Cache::flush`.
    fn flush(&self, barrier: bool) {
        self.advance();
        self.marks.clear();
        if barrier {
            self.shards.iter().for_each(|shard| shard.enter(|_, _| ()));
        }
    }
}

/// Runs `reader` beside a revocation of all keys, which `follow` follows. No check after it may
/// accept one.
fn revocation_beside(reader: fn(&Node), follow: fn(&Node)) {
    loom::model(move || {
        let node = Node::new();
        let reading = Arc::clone(&node);
        let reading = thread::spawn(move || reader(&reading));
        node.revoke_in_store();
        follow(&node);
        assert!(!node.accepts_any(), "a revoked key was accepted");
        reading.join().unwrap();
        assert!(!node.accepts_any(), "a revoked key was accepted");
    });
}

/// The entry is read and checked while the owner changes.
fn fill_and_check(node: &Node) {
    node.fill(0);
    let _ = node.accepts(0);
}

#[test]
fn a_read_and_a_check_that_race_an_owners_change_bring_no_key_back() {
    revocation_beside(fill_and_check, Node::follow);
}

/// The read of the second key may raise the mark of the first, which has looked.
#[test]
fn a_read_that_raises_the_mark_before_the_poll_does_brings_no_key_back() {
    loom::model(|| {
        let node = Node::new();
        node.fill(0);
        assert!(node.accepts(0));
        let reading = Arc::clone(&node);
        let reading = thread::spawn(move || reading.fill(1));
        node.revoke_in_store();
        node.follow();
        assert!(!node.accepts_any(), "a revoked key was accepted");
        reading.join().unwrap();
        assert!(!node.accepts_any(), "a revoked key was accepted");
    });
}

/// Negative control.
#[test]
#[should_panic(expected = "a revoked key was accepted")]
fn without_generations_the_key_comes_back() {
    revocation_beside(fill_and_check, |node| {
        node.raise();
        node.marks.count_change();
    });
}

/// Negative control: no mark exists when the marks are raised, and the read commits after that.
#[test]
#[should_panic(expected = "a revoked key was accepted")]
fn marks_that_are_raised_before_the_generations_are_found_out() {
    revocation_beside(fill_and_check, |node| {
        node.raise();
        node.advance();
        node.marks.count_change();
    });
}

/// Negative control: an entry that has looked does not look again.
#[test]
#[should_panic(expected = "a revoked key was accepted")]
fn a_change_that_is_not_counted_is_found_out() {
    revocation_beside(fill_and_check, |node| {
        node.advance();
        node.raise();
    });
}

/// Negative control: an entry looks between the two, and does not look again.
#[test]
#[should_panic(expected = "a revoked key was accepted")]
fn a_change_that_is_counted_before_the_marks_are_raised_is_found_out() {
    revocation_beside(fill_and_check, |node| {
        node.advance();
        node.marks.count_change();
        node.raise();
    });
}

/// Negative control: the count that the entry notes may include a change that its look missed.
#[test]
#[should_panic(expected = "a revoked key was accepted")]
fn a_count_that_is_read_after_the_look_is_found_out() {
    let hasty = |node: &Node| {
        node.fill(0);
        if let Some(entry) = node.entry(0) {
            // A look whose note does not count, and then a note without a look.
            let never = LastLook::default();
            if never.status(Some(&entry.mark), OwnerChanges::default()) == OwnerStatus::Active {
                entry.look.status(None, node.marks.changes());
            }
        }
    };
    revocation_beside(hasty, Node::follow);
}

/// Returns a reading of the clock `millis` milliseconds after the start.
fn at(millis: u64) -> ClockReading {
    let wall = Timestamp::from_millis(i64::try_from(millis).unwrap());
    ClockReading {
        now: wall,
        wall,
        uptime_nanos: millis * 1_000_000,
    }
}

const LENGTH: Duration = Duration::from_millis(100);

/// The owner's keys were revoked before 60 ms, when the poll is sent that brings the change. A check
/// at 120 ms can trust its entry under the next lease only.
fn hand_over(poll: fn(&Node), check: fn(&Node, ClockReading) -> bool) {
    loom::model(move || {
        let node = Node::new();
        node.fill(0);
        assert!(node.accepts(0));
        let polling = Arc::clone(&node);
        let polling = thread::spawn(move || {
            polling.revoke_in_store();
            poll(&polling);
        });
        assert!(!check(&node, at(120)), "accepted under the next lease");
        polling.join().unwrap();
        assert!(node.lease.holds(at(120)) && !node.accepts(0));
    });
}

fn grant(node: &Node) {
    node.lease.grant([at(60); 2], LENGTH);
}

/// As `Verifier::check_cache`: the lease, then the count of changes.
fn believes(node: &Node, now: ClockReading) -> bool {
    let entry = node.entry(0).unwrap();
    node.lease.holds(now) && entry.permits(node.marks.changes())
}

#[test]
fn a_check_that_sees_the_next_lease_sees_the_owners_changes_before_it() {
    let poll = |node: &Node| {
        node.follow();
        grant(node);
    };
    hand_over(poll, believes);
}

/// Negative control.
#[test]
#[should_panic(expected = "accepted under the next lease")]
fn a_lease_that_is_granted_before_the_owners_changes_is_found_out() {
    let poll = |node: &Node| {
        grant(node);
        node.follow();
    };
    hand_over(poll, believes);
}

/// Negative control.
#[test]
#[should_panic(expected = "accepted under the next lease")]
fn a_check_that_reads_the_count_before_the_lease_is_found_out() {
    let poll = |node: &Node| {
        node.follow();
        grant(node);
    };
    hand_over(poll, |node, now| {
        let entry = node.entry(0).unwrap();
        let changes = node.marks.changes();
        node.lease.holds(now) && entry.permits(changes)
    });
}

/// The store was restored. A read that began after its shard's turn commits while everything is
/// flushed, and all keys are revoked after that. Removing all entries of the map is the last step.
fn flush_beside_a_read(barrier: bool) {
    loom::model(move || {
        let node = Node::new();
        node.fill(1);
        // The map, whose entries are removed without the shards' locks.
        let map = Arc::new(loom::sync::Mutex::new(None));
        let (reading, inserting) = (Arc::clone(&node), Arc::clone(&map));
        let reading = thread::spawn(move || {
            let generation = reading.shards[0].enter(|_, generation| generation);
            let state = reading.state();
            reading.shards[0].commit_if_current(generation, |held| {
                reading.insert(held, state);
                *inserting.lock().unwrap() = held.clone();
            });
        });
        node.flush(barrier);
        *map.lock().unwrap() = None;
        reading.join().unwrap();
        node.revoke_in_store();
        node.follow();
        let left: Option<Arc<Entry>> = map.lock().unwrap().take();
        let accepted = left.is_some_and(|entry| entry.permits(node.marks.changes()));
        assert!(!accepted, "an entry has a mark that is not in the table");
    });
}

#[test]
fn no_entry_with_a_mark_of_the_table_before_outlives_a_flush() {
    flush_beside_a_read(true);
}

/// Negative control.
#[test]
#[should_panic(expected = "an entry has a mark that is not in the table")]
fn a_flush_that_does_not_wait_for_commits_is_found_out() {
    flush_beside_a_read(false);
}

#[test]
fn two_commits_of_one_owner_share_one_mark() {
    loom::model(|| {
        let node = Node::new();
        let reading = Arc::clone(&node);
        let reading = thread::spawn(move || reading.fill(0));
        node.fill(1);
        reading.join().unwrap();
        let marks = [0, 1].map(|key| Arc::clone(&node.entry(key).unwrap().mark));
        assert!(Arc::ptr_eq(&marks[0], &marks[1]));
    });
}
