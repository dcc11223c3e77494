//! The lease: how long this process may trust its cache.

use std::time::Duration;

use super::sync::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use crate::clock::{ClockReading, millis_i64};

/// How far the wall clock may fall behind uptime: two readings truncated to milliseconds differ by
/// one, and a time server adjusts by a few.
const SLACK_MILLIS: i64 = 5;

/// The right to trust the cache for a limited time.
///
/// A lease starts when the poll for changes was *sent*, not when its answer arrived: a delayed
/// answer is as old as its question. It ends after its length of uptime. It ends at once if the
/// wall clock moved forward against uptime by more than that length, or backward: then one of the
/// two clocks did not count the time that passed (a virtual machine that was paused and resumed).
/// If the wall clock moved forward by less, the difference counts as time that passed.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// Nanoseconds of uptime; 0 before the first grant and after the end.
    until: AtomicU64,
    length_millis: AtomicI64,
    /// Wall clock minus uptime when the poll was sent, in milliseconds.
    offset_millis: AtomicI64,
    closed: AtomicBool,
}

impl Lease {
    /// Starts a lease of `length` at `sent`, or extends the current one. Callers evict first: a
    /// thread that sees the new end also sees the evictions.
    ///
    /// `sent` is two readings of the clock, the second right after the first. If the thread was
    /// paused within one of them, the other has the true offset between wall clock and uptime.
    pub(crate) fn grant(&self, sent: [ClockReading; 2], length: Duration) {
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let millis = millis_i64(length);
        let [first, second] = sent;
        self.offset_millis
            .store(offset(first).min(offset(second)), Ordering::SeqCst);
        self.length_millis.store(millis, Ordering::SeqCst);
        self.until
            .store(first.uptime_nanos.saturating_add(nanos), Ordering::SeqCst);
    }

    /// Returns whether the lease is held at `now`.
    #[inline]
    pub(crate) fn holds(&self, now: ClockReading) -> bool {
        #[cfg(apikey_faults)]
        if crate::faults::no_lease() {
            return true;
        }
        self.remaining(now).is_some()
    }

    /// Returns how long the lease remains valid at `now` if the clocks keep their pace.
    #[inline]
    pub(crate) fn remaining(&self, now: ClockReading) -> Option<Duration> {
        let moved = offset(now).saturating_sub(self.offset_millis.load(Ordering::Acquire));
        let until = self.until.load(Ordering::Acquire);
        if !(-SLACK_MILLIS..=self.length_millis.load(Ordering::Relaxed)).contains(&moved) {
            return None;
        }
        // The wall clock gained this much on uptime: time that passed and that uptime did not
        // count.
        let uncounted = u64::try_from(moved).unwrap_or(0).saturating_mul(1_000_000);
        let left = until.checked_sub(now.uptime_nanos.saturating_add(uncounted))?;
        (left > 0).then(|| Duration::from_nanos(left))
    }

    /// Returns the length that the store last stated, or `None` before the first grant.
    pub(crate) fn length(&self) -> Option<Duration> {
        let millis = u64::try_from(self.length_millis.load(Ordering::Acquire)).unwrap_or(0);
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// Ends the lease.
    pub(crate) fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// Ends the lease, and states the length that one would have.
    pub(crate) fn withhold(&self, length: Duration) {
        self.end();
        self.length_millis
            .store(millis_i64(length), Ordering::SeqCst);
    }

    /// Returns whether the lease was closed, after which none is granted.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends the lease and prevents further grants. Called from the task that grants, so no grant
    /// runs at the same time.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.end();
    }
}

#[inline]
fn offset(reading: ClockReading) -> i64 {
    let uptime = i64::try_from(reading.uptime_nanos / 1_000_000).unwrap_or(i64::MAX);
    reading.wall.as_millis().saturating_sub(uptime)
}
