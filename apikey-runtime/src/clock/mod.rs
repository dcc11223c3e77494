//! Time: the wall clock, and elapsed time.
//!
//! A key *expires* at a time of day, which is read from the wall clock. A *lease* lasts a span of
//! time, which is measured by the machine's uptime (`CLOCK_BOOTTIME` on Linux, which includes the
//! time that the machine slept). A change of the wall clock therefore does not extend a lease.

pub(crate) mod calendar;
mod timestamp;

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
}

impl SystemClock {
    /// Creates a clock whose earliest `now` is this moment.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: Origin {
                uptime_nanos: uptime_nanos(),
                wall: wall(),
            },
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
        let uptime_nanos = uptime_nanos();
        self.origin.reading(wall(), uptime_nanos)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn wall() -> Timestamp {
    // Takes half the time of `SystemTime::now()` and its conversion.
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Timestamp::from_millis(
        time.tv_sec
            .saturating_mul(1_000)
            .saturating_add(time.tv_nsec / 1_000_000),
    )
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn wall() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn uptime_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn uptime_nanos() -> u64 {
    static FIRST: once_cell::sync::Lazy<std::time::Instant> =
        once_cell::sync::Lazy::new(std::time::Instant::now);
    u64::try_from(FIRST.elapsed().as_nanos()).unwrap_or(u64::MAX)
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
