//! The count of waiters, which lets a change skip the map of waiters while it is empty.
//!
//! A change first changes what a judgement reads, and then looks at the count. A waiter first enters
//! the count, and is then judged. Between the two steps of each is a fence, so that at least one sees
//! the other: the change finds a waiter to wake, or the judgement sees the change.

use super::sync::{AtomicUsize, Ordering, fence};

/// The number of waiters.
#[derive(Debug)]
pub(crate) struct WaiterCount(AtomicUsize);

impl WaiterCount {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Counts one more waiter, which must be judged after this call.
    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Counts these waiters no more.
    pub(crate) fn leave(&self, waiters: usize) {
        self.0.fetch_sub(waiters, Ordering::Relaxed);
    }

    /// Returns whether a waiter may miss what this thread changed before this call.
    pub(crate) fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) > 0
    }
}
