//! The handover from one lease to the next (`src/cache/lease.rs`), under every interleaving that
//! loom explores.
//!
//! This compiles the crate's own file on loom's atomics. Around it is a model of a node: one cached
//! entry, a poll that learns of its revocation, and a check that starts after the lease under which
//! the entry was read has ended. Only the next lease can make the check trust its cache, and a
//! check that sees that lease must also see the eviction.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    dead_code,
    unused_imports
)]

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use clock::{ClockReading, Timestamp};
use lease::Lease;
use sync::{AtomicBool, Ordering};

mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
}

#[path = "../src/clock/mod.rs"]
mod clock;
#[path = "../src/cache/lease.rs"]
mod lease;

const LENGTH: Duration = Duration::from_millis(100);

/// Returns a reading of the clock `millis` milliseconds after the start, on the wall clock and in
/// uptime.
fn at(millis: u64) -> ClockReading {
    let wall = Timestamp::from_millis(i64::try_from(millis).unwrap());
    ClockReading {
        now: wall,
        wall,
        uptime_nanos: millis * 1_000_000,
    }
}

struct Node {
    lease: Lease,
    /// As in `CachedKey`: set when the record changed.
    stale: AtomicBool,
}

impl Node {
    /// Creates a node that read the entry under a lease which ends at 100 ms.
    fn new() -> Arc<Self> {
        let node = Self {
            lease: Lease::default(),
            stale: AtomicBool::new(false),
        };
        node.lease.grant([at(0); 2], LENGTH);
        Arc::new(node)
    }

    fn evict(&self) {
        self.stale.store(true, Ordering::SeqCst);
    }

    /// Grants the lease of a poll sent at 60 ms, which ends at 160 ms.
    fn grant(&self) {
        self.lease.grant([at(60); 2], LENGTH);
    }

    /// Asks what `Verifier::check_cache` asks, in its order: the lease, then the entry.
    fn believes(&self, now: ClockReading) -> bool {
        self.lease.holds(now) && !self.stale.load(Ordering::SeqCst)
    }

    /// Asks the same in the opposite order.
    fn believes_hastily(&self, now: ClockReading) -> bool {
        !self.stale.load(Ordering::SeqCst) && self.lease.holds(now)
    }
}

/// Runs `poll` beside `check`, which happens at 120 ms. The key was revoked before 60 ms, so the
/// check must not accept it.
fn hand_over(poll: fn(&Node), check: fn(&Node, ClockReading) -> bool) {
    loom::model(move || {
        let node = Node::new();
        let polling = Arc::clone(&node);
        let polling = thread::spawn(move || poll(&polling));
        assert!(!check(&node, at(120)), "accepted under the next lease");
        polling.join().unwrap();
        assert!(node.lease.holds(at(120)), "the next lease is granted");
    });
}

#[test]
fn whoever_sees_the_next_lease_sees_what_was_evicted_before_it() {
    hand_over(
        |node| {
            node.evict();
            node.grant();
        },
        Node::believes,
    );
}

/// Negative control.
#[test]
#[should_panic(expected = "accepted under the next lease")]
fn a_lease_that_is_granted_before_the_evictions_is_found_out() {
    hand_over(
        |node| {
            node.grant();
            node.evict();
        },
        Node::believes,
    );
}

/// Negative control.
#[test]
#[should_panic(expected = "accepted under the next lease")]
fn a_check_that_looks_at_the_entry_before_the_lease_is_found_out() {
    hand_over(
        |node| {
            node.evict();
            node.grant();
        },
        Node::believes_hastily,
    );
}

/// A grant writes three words. A check that sees only some of them must not see a longer lease.
#[test]
fn a_grant_that_is_seen_in_part_lengthens_nothing() {
    loom::model(|| {
        let node = Node::new();
        let polling = Arc::clone(&node);
        // The store reduced the lease to 20 ms: this one ends at 80 ms.
        let polling = thread::spawn(move || {
            polling.lease.grant([at(60); 2], Duration::from_millis(20));
        });
        assert!(!node.lease.holds(at(100)), "after both leases");
        // The wall clock was set forward by 150 ms, which is more than either length.
        let jumped = ClockReading {
            wall: Timestamp::from_millis(220),
            ..at(70)
        };
        assert!(!node.lease.holds(jumped));
        polling.join().unwrap();
        assert!(!node.lease.holds(at(80)));
    });
}

/// After `close`, as for a removed node, no lease is granted again.
#[test]
fn a_lease_that_was_ended_holds_no_more() {
    loom::model(|| {
        let node = Node::new();
        let ending = Arc::clone(&node);
        let ending = thread::spawn(move || ending.lease.close());
        let _ = node.lease.holds(at(50));
        ending.join().unwrap();
        node.grant();
        assert!(!node.lease.holds(at(61)), "closed permanently");
    });
}
