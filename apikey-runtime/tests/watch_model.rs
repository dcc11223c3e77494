//! The count of waiters beside a change (`src/cache/watch/waiter_count.rs`), under every interleaving that
//! loom explores: a change that does not find a waiter was made before the waiter is judged.

#![allow(unreachable_pub, dead_code)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};

    thread_local! {
        /// Whether fences have an effect. loom runs all threads of a model on the test's own.
        pub(super) static HAS_FENCES: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
    }

    pub(super) fn fence(order: Ordering) {
        if HAS_FENCES.get() {
            loom::sync::atomic::fence(order);
        }
    }
}

#[path = "../src/cache/watch/waiter_count.rs"]
mod waiter_count;

use waiter_count::WaiterCount;

/// Runs a change beside the beginning of a watch. `is_late` is whether the change looks at the count
/// before it takes effect.
fn race(is_late: bool) {
    loom::model(move || {
        let count = Arc::new(WaiterCount::new());
        // The weakest write by which a change reaches the cache: that of an owner's mark.
        let is_revoked = Arc::new(AtomicBool::new(false));
        let changer = {
            let (count, is_revoked) = (Arc::clone(&count), Arc::clone(&is_revoked));
            thread::spawn(move || {
                let early = is_late.then(|| count.must_wake());
                is_revoked.store(true, Ordering::Relaxed);
                early.unwrap_or_else(|| count.must_wake())
            })
        };
        count.enter();
        let judged_as_revoked = is_revoked.load(Ordering::Relaxed);
        let woken = changer.join().is_ok_and(|woken| woken);
        assert!(woken || judged_as_revoked, "the watch misses the change");
        count.leave(1);
        assert!(!count.must_wake());
    });
}

#[test]
fn a_change_wakes_the_watch_or_is_seen_by_it() {
    race(false);
}

/// Negative control.
#[test]
#[should_panic(expected = "the watch misses the change")]
fn without_the_fences_a_watch_misses_the_change() {
    sync::HAS_FENCES.set(false);
    race(false);
}

/// Negative control of the order.
#[test]
#[should_panic(expected = "the watch misses the change")]
fn a_change_that_looks_too_early_is_missed() {
    race(true);
}
