//! The wall clock, derived from uptime.
//!
//! Linux adjusts the pace of both clocks alike, so their offset changes only if the wall clock is stepped. A step
//! changes the difference between `CLOCK_REALTIME_COARSE` and `CLOCK_MONOTONIC_COARSE` by the same amount at once,
//! whatever the age of the two: both are of the same tick. Reading them takes a third of the time of `CLOCK_REALTIME`.

use std::sync::atomic::{AtomicI64, Ordering};

/// How far apart the two readings of uptime around one of the wall clock may be. Otherwise the thread was paused
/// between them, and the offset is not known well enough to be kept.
const MAX_APART_NANOS: u64 = 50_000;

/// The offset of the wall clock from uptime, since the last step.
#[derive(Debug)]
pub(super) struct WallOffset {
    nanos: AtomicI64,
    /// The mark of the steps before `nanos` was read, mixed with it: a thread that sees words of two writers sees
    /// that they do not belong together.
    check: AtomicI64,
}

/// The wall clock between two readings of uptime, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExactReading {
    pub(super) before: u64,
    pub(super) wall: i64,
    pub(super) after: u64,
}

impl WallOffset {
    /// Creates an offset that is not known yet.
    pub(super) fn unknown() -> Self {
        Self {
            nanos: AtomicI64::new(0),
            // No clock has this mark.
            check: AtomicI64::new(i64::MIN),
        }
    }

    /// Returns uptime and the wall clock, in nanoseconds. `mark` was read after `uptime`, and another mark means
    /// that the wall clock was stepped: then both clocks are read exactly.
    pub(super) fn read(
        &self,
        uptime: u64,
        mark: i64,
        exact: impl FnOnce() -> ExactReading,
    ) -> (u64, i64) {
        let offset = self.nanos.load(Ordering::Relaxed);
        if self.check.load(Ordering::Relaxed) == mixed(mark, offset) {
            return (uptime, uptime.cast_signed().wrapping_add(offset));
        }
        self.follow(mark, exact())
    }

    /// Keeps an offset that was read after `mark`.
    #[cold]
    fn follow(&self, mark: i64, exact: ExactReading) -> (u64, i64) {
        if exact.after.saturating_sub(exact.before) <= MAX_APART_NANOS {
            let offset = exact.wall.wrapping_sub(exact.before.cast_signed());
            self.nanos.store(offset, Ordering::Relaxed);
            self.check.store(mixed(mark, offset), Ordering::Relaxed);
        }
        (exact.before, exact.wall)
    }
}

fn mixed(mark: i64, offset: i64) -> i64 {
    mark ^ offset.rotate_left(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exactly(before: u64, wall: i64) -> ExactReading {
        let after = before + 100;
        ExactReading {
            before,
            wall,
            after,
        }
    }

    fn known(mark: i64, exact: ExactReading) -> WallOffset {
        let offset = WallOffset::unknown();
        offset.read(exact.before, mark, || exact);
        offset
    }

    fn not_read() -> ExactReading {
        unreachable!("the offset is known")
    }

    #[test]
    fn an_unknown_offset_is_read() {
        for mark in [0, 1, -1, i64::MAX] {
            let offset = WallOffset::unknown();
            let exact = exactly(1_000, 5_000);
            assert_eq!(offset.read(900, mark, || exact), (1_000, 5_000), "{mark}");
            assert_eq!(offset.read(1_500, mark, not_read), (1_500, 5_500), "{mark}");
        }
    }

    /// Of one nanosecond, however old the coarse clocks are.
    #[test]
    fn a_step_is_seen_at_once() {
        for step in [1, -1, 6_000_000, -6_000_000, 3_600_000_000_000] {
            let offset = known(7_000, exactly(1_000, 8_000));
            let (uptime, wall) = offset.read(2_000, 7_000 + step, || exactly(2_000, 9_000 + step));
            assert_eq!((uptime, wall), (2_000, 9_000 + step), "{step}");
            let (_, wall) = offset.read(3_000, 7_000 + step, not_read);
            assert_eq!(wall, 10_000 + step, "{step}");
        }
    }

    /// A thread that is paused while it reads does not shift the wall clock of all later readings.
    #[test]
    fn a_pause_between_the_readings_is_not_kept() {
        let paused = ExactReading {
            before: 1_000,
            wall: 40_008_000,
            after: 40_001_000,
        };
        let offset = known(7_000, paused);
        let (_, wall) = offset.read(50_000_000, 7_000, || exactly(50_000_000, 50_007_000));
        assert_eq!(wall, 50_007_000);
    }

    /// Two threads write the two words of a known offset at the same time, before and after a step. Whichever
    /// words remain, a reading is right, or both clocks are read.
    #[test]
    fn words_of_two_writers_do_not_fit() {
        let marks = [7_000, 6_000_007_000];
        let walls = [8_000, 6_000_008_000];
        let written = [0, 1].map(|at| known(marks[at], exactly(1_000, walls[at])));
        for (nanos, check, now) in [(0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1)] {
            let load = |word: &AtomicI64| AtomicI64::new(word.load(Ordering::Relaxed));
            let offset = WallOffset {
                nanos: load(&written[nanos].nanos),
                check: load(&written[check].check),
            };
            let (_, wall) = offset.read(1_000, marks[now], || exactly(1_000, walls[now]));
            assert_eq!(wall, walls[now], "{nanos} {check} {now}");
        }
    }
}
