//! Time: the wall clock, and elapsed time.
//!
//! A key *expires* at a time of day, which is read from the wall clock. A *lease* lasts a span of
//! time, which is measured by the machine's uptime (`CLOCK_BOOTTIME` on Linux, which includes the
//! time that the machine slept). A change of the wall clock therefore does not extend a lease.

pub(crate) mod calendar;
mod timestamp;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod wall;

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

pub use timestamp::{ParseTimestampError, Timestamp};
pub(crate) use timestamp::{millis_i64, millis_u64};

/// A reading of a [`Clock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockReading {
    /// The time that checks use: the wall clock's, but never earlier than the time at which the
    /// clock was created plus the elapsed time. A wall clock that is set back does not extend the
    /// life of a key.
    pub now: Timestamp,
    /// The time of the wall clock, even if it was set back.
    pub wall: Timestamp,
    /// Nanoseconds since some fixed moment, including the machine's sleep; never decreases.
    pub uptime_nanos: u64,
}

impl ClockReading {
    /// Returns the time from this reading to a later one, by the clock that counted more of it.
    pub(crate) fn elapsed_until(self, later: Self) -> Duration {
        let uptime = Duration::from_nanos(later.uptime_nanos.saturating_sub(self.uptime_nanos));
        let wall = later.wall.as_millis().saturating_sub(self.wall.as_millis());
        uptime.max(Duration::from_millis(u64::try_from(wall).unwrap_or(0)))
    }
}

/// A source of time.
///
/// [`SystemClock`] is for applications, [`ManualClock`] for tests.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Reads the clock.
    fn read(&self) -> ClockReading;
}

/// The moment at which a clock was created. `now` is never earlier than this plus the elapsed time.
#[derive(Debug, Clone, Copy)]
struct Origin {
    wall: Timestamp,
    uptime_nanos: u64,
}

impl Origin {
    fn reading(self, wall: Timestamp, uptime_nanos: u64) -> ClockReading {
        let passed = uptime_nanos.saturating_sub(self.uptime_nanos) / 1_000_000;
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let floor = Timestamp::from_millis(self.wall.as_millis().saturating_add(passed));
        ClockReading {
            now: wall.max(floor),
            wall,
            uptime_nanos,
        }
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: Origin,
    clocks: machine::Clocks,
}

impl SystemClock {
    /// Creates a clock whose earliest `now` is this moment.
    #[must_use]
    pub fn new() -> Self {
        let clocks = machine::Clocks::new();
        let (uptime_nanos, wall) = clocks.read();
        Self {
            origin: Origin { wall, uptime_nanos },
            clocks,
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    /// Reads uptime first. If the thread is paused between the two readings, the wall clock is
    /// ahead of uptime, which at worst ends a lease early. The other order would look like a wall
    /// clock that was set back.
    fn read(&self) -> ClockReading {
        let (uptime_nanos, wall) = self.clocks.read();
        self.origin.reading(wall, uptime_nanos)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod machine {
    use rustix::time::ClockId;

    use super::Timestamp;
    use super::wall::{ExactReading, WallOffset};

    /// How often a mark is compared with the next one to learn whether marks are of use.
    const TRIES: usize = 8;

    /// Uptime and the wall clock.
    #[derive(Debug)]
    pub(super) struct Clocks {
        /// `None` if the coarse clocks are not of the same tick. Some emulated kernels read them as exact clocks.
        offset: Option<WallOffset>,
    }

    impl Clocks {
        pub(super) fn new() -> Self {
            let has_marks = (0..TRIES).any(|_| step_mark() == step_mark());
            Self {
                offset: has_marks.then(WallOffset::unknown),
            }
        }

        /// Reads uptime, and then the wall clock.
        pub(super) fn read(&self) -> (u64, Timestamp) {
            let uptime = nanos(ClockId::Boottime).cast_unsigned();
            let (uptime, wall) = match &self.offset {
                Some(offset) => offset.read(uptime, step_mark(), exactly),
                None => (uptime, nanos(ClockId::Realtime)),
            };
            (uptime, Timestamp::from_millis(wall.div_euclid(1_000_000)))
        }
    }

    fn exactly() -> ExactReading {
        ExactReading {
            before: nanos(ClockId::Boottime).cast_unsigned(),
            wall: nanos(ClockId::Realtime),
            after: nanos(ClockId::Boottime).cast_unsigned(),
        }
    }

    /// Returns a number that changes with each step of the wall clock.
    fn step_mark() -> i64 {
        nanos(ClockId::RealtimeCoarse).wrapping_sub(nanos(ClockId::MonotonicCoarse))
    }

    /// Reads a clock. An `i64` of nanoseconds lasts until the year 2262.
    fn nanos(clock: ClockId) -> i64 {
        let time = rustix::time::clock_gettime(clock);
        let seconds = time.tv_sec.saturating_mul(1_000_000_000);
        seconds.saturating_add(time.tv_nsec)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod machine {
    use std::time::{Instant, SystemTime};

    use super::Timestamp;

    /// Uptime and the wall clock.
    #[derive(Debug)]
    pub(super) struct Clocks;

    impl Clocks {
        pub(super) fn new() -> Self {
            Self
        }

        /// Reads uptime, and then the wall clock.
        pub(super) fn read(&self) -> (u64, Timestamp) {
            static FIRST: once_cell::sync::Lazy<Instant> = once_cell::sync::Lazy::new(Instant::now);
            let uptime = u64::try_from(FIRST.elapsed().as_nanos()).unwrap_or(u64::MAX);
            (uptime, SystemTime::now().into())
        }
    }
}

/// A clock that a test moves.
///
/// ```
/// use apikey_runtime::Timestamp;
/// use apikey_runtime::clock::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::at(Timestamp::from_millis(1_000));
/// clock.advance(Duration::from_millis(5));
/// assert_eq!(clock.read().now.as_millis(), 1_005);
/// ```
#[derive(Debug)]
pub struct ManualClock {
    origin: Origin,
    wall_millis: AtomicI64,
    uptime_nanos: AtomicU64,
}

impl ManualClock {
    /// Creates a clock whose wall time is `wall` until it is moved.
    #[must_use]
    pub fn at(wall: Timestamp) -> Self {
        Self {
            origin: Origin {
                wall,
                uptime_nanos: 0,
            },
            wall_millis: AtomicI64::new(wall.as_millis()),
            uptime_nanos: AtomicU64::new(0),
        }
    }

    /// Creates a clock that starts at the machine's present time.
    #[must_use]
    pub fn starting_now() -> Self {
        Self::at(SystemTime::now().into())
    }

    /// Advances the wall clock and the uptime by `span`.
    pub fn advance(&self, span: Duration) {
        let millis = millis_i64(span);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.uptime_nanos.fetch_add(nanos, Ordering::SeqCst);
        self.wall_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Steps the wall clock by `millis` milliseconds, back if negative, without elapsed time, as an
    /// operator or a time server does.
    pub fn step_wall(&self, millis: i64) {
        self.wall_millis.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn read(&self) -> ClockReading {
        let uptime_nanos = self.uptime_nanos.load(Ordering::SeqCst);
        self.origin.reading(
            Timestamp::from_millis(self.wall_millis.load(Ordering::SeqCst)),
            uptime_nanos,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_set_back_does_not_turn_now_back() {
        let clock = ManualClock::at(Timestamp::from_millis(10_000));
        clock.advance(Duration::from_secs(1));
        clock.step_wall(-3_600_000);
        let reading = clock.read();
        assert_eq!(reading.now.as_millis(), 11_000);
        assert!(reading.wall < reading.now);
    }

    #[test]
    fn a_wall_clock_set_ahead_is_believed_and_its_correction_too() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        clock.step_wall(3_600_000);
        assert_eq!(clock.read().now.as_millis(), 3_600_000);
        clock.step_wall(-3_600_000);
        assert_eq!(clock.read().now.as_millis(), 0);
    }

    #[test]
    fn the_machines_uptime_moves_and_never_goes_back() {
        let clock = SystemClock::new();
        let mut last = clock.read();
        for _ in 0..1_000 {
            let next = clock.read();
            assert!(next.uptime_nanos >= last.uptime_nanos && next.now >= last.now);
            last = next;
        }
    }
}
