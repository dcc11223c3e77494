//! Counters that many threads write without sharing a cache line.

use std::sync::atomic::{AtomicU64, Ordering};

use super::thread_slot;

/// Threads with a stripe of their own; further threads share one.
pub(crate) const STRIPES: usize = 64;

/// `N` counters that many threads write.
///
/// Each thread has a stripe of its own and is its only writer, so counting costs a load and a
/// store. A single counter would be a cache line that all threads write on every request.
#[derive(Debug)]
pub(crate) struct StripedU64<const N: usize> {
    cells: Box<[Stripe<N>]>,
    shared: Stripe<N>,
}

/// Two cache lines, because processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe<const N: usize>([AtomicU64; N]);

impl<const N: usize> StripedU64<N> {
    /// Adds one to the counter `which`, which must be less than `N`. Returns the previous value of
    /// this thread's stripe.
    #[inline]
    pub(crate) fn count(&self, which: usize) -> u64 {
        if let Some(cell) = thread_slot::current().and_then(|place| self.cells.get(place)) {
            let count = &cell.0[which];
            let before = count.load(Ordering::Relaxed);
            count.store(before + 1, Ordering::Relaxed);
            before
        } else {
            self.shared.0[which].fetch_add(1, Ordering::Relaxed)
        }
    }

    /// Returns the sum of the counter `which` over all threads.
    pub(crate) fn sum(&self, which: usize) -> u64 {
        let all = self.cells.iter().chain([&self.shared]);
        all.map(|cell| cell.0[which].load(Ordering::Relaxed)).sum()
    }
}

impl<const N: usize> Default for StripedU64<N> {
    fn default() -> Self {
        let cell = || Stripe([const { AtomicU64::new(0) }; N]);
        Self {
            cells: (0..STRIPES).map(|_| cell()).collect(),
            shared: cell(),
        }
    }
}
