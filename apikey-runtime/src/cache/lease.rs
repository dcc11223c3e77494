//! The lease: until when this process may believe what it has in memory.

use std::time::Duration;

use super::sync::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use crate::clock::{ClockReading, millis_i64};

/// How far the wall clock may fall behind uptime: two readings cut to milliseconds differ by one,
/// and a time server nudges by a few.
const SLACK_MILLIS: i64 = 5;

/// A lease starts when the question "what changed?" was *sent*, not when its answer came: an answer
/// that was long on the way is as old as its question. It ends after its length of uptime, and at
/// once where the wall clock moved against uptime by more than that length, or backward: then one
/// of the two did not count the time that passed (a virtual machine that was stopped and resumed).
/// Where the wall went ahead by less, that counts as time that has passed.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// Nanoseconds of uptime; 0 is none.
    until: AtomicU64,
    length_millis: AtomicI64,
    /// Wall minus uptime when the question was sent, in milliseconds.
    offset_millis: AtomicI64,
    closed: AtomicBool,
}

impl Lease {
    /// Begins a lease of `length` at `sent`, or lengthens the one that holds. Evictions come first:
    /// whoever sees the new end also sees them done.
    ///
    /// `sent` is two readings of the clock, the second right after the first: where the thread was
    /// paused within one of them, the other tells how wall and uptime really stand to each other.
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

    /// Whether the lease holds at `now`.
    pub(crate) fn holds(&self, now: ClockReading) -> bool {
        #[cfg(apikey_faults)]
        if crate::faults::no_lease() {
            return true;
        }
        self.remaining(now).is_some()
    }

    /// How long the lease still holds at `now`, if the clocks go on as they do.
    pub(crate) fn remaining(&self, now: ClockReading) -> Option<Duration> {
        let moved = offset(now).saturating_sub(self.offset_millis.load(Ordering::Acquire));
        let until = self.until.load(Ordering::Acquire);
        if !(-SLACK_MILLIS..=self.length_millis.load(Ordering::Relaxed)).contains(&moved) {
            return None;
        }
        // By so much the wall went ahead of uptime: time that passed, and that uptime did not
        // count.
        let uncounted = u64::try_from(moved).unwrap_or(0).saturating_mul(1_000_000);
        let left = until.checked_sub(now.uptime_nanos.saturating_add(uncounted))?;
        (left > 0).then(|| Duration::from_nanos(left))
    }

    /// The length that the store last stated; `None` before it stated one.
    pub(crate) fn length(&self) -> Option<Duration> {
        let millis = u64::try_from(self.length_millis.load(Ordering::Acquire)).unwrap_or(0);
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// Ends the lease.
    pub(crate) fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// Whether no lease will be granted any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends the lease, and grants none any more. Called where grants are made, so that none is
    /// under way.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.end();
    }
}

fn offset(reading: ClockReading) -> i64 {
    let uptime = i64::try_from(reading.uptime_nanos / 1_000_000).unwrap_or(i64::MAX);
    reading.wall.as_millis().saturating_sub(uptime)
}
