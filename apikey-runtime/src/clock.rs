//! Time: what a wall clock says, and what has really passed.
//!
//! Two clocks answer two questions. A key *expires* at a time of day, so that is read from the wall
//! clock. A *lease* lasts a stretch of time, so that is read from the machine's uptime
//! (`CLOCK_BOOTTIME` on Linux, which also counts the time that the machine slept), and no change of
//! the wall clock makes it longer.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time: whole milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// ```
/// use apikey_runtime::Timestamp;
/// use std::time::{Duration, UNIX_EPOCH};
///
/// let at = Timestamp::from(UNIX_EPOCH + Duration::from_secs(2));
/// assert_eq!(at.as_millis(), 2_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest time that can be said, about 292 million years from now.
    pub const MAX: Self = Self(i64::MAX);

    /// The earliest time that can be said, as far back.
    pub const MIN: Self = Self(i64::MIN);

    /// The time `millis` milliseconds after 1970-01-01T00:00:00Z; negative is before.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z; negative is before.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This time and `span` more, or `None` where that is later than [`Timestamp::MAX`].
    #[must_use]
    pub fn checked_add(self, span: Duration) -> Option<Self> {
        let millis = i64::try_from(span.as_millis()).ok()?;
        self.0.checked_add(millis).map(Self)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(millis_i64(after)),
            Err(before) => Self(-millis_i64(before.duration())),
        }
    }
}

/// Returns the whole milliseconds of `span`, `u64::MAX` at most.
pub(crate) fn millis_u64(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the whole milliseconds of `span`, `i64::MAX` at most.
pub(crate) fn millis_i64(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// What a [`Clock`] says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockReading {
    /// The time that decisions use: the wall clock's, but never earlier than the time at which the
    /// clock was made plus what has passed since. A wall clock that is set back lengthens no key's
    /// life.
    pub now: Timestamp,
    /// What the wall clock says, set back or not.
    pub wall: Timestamp,
    /// Nanoseconds that have passed since some fixed moment, the machine's sleep included; never
    /// goes back.
    pub uptime_nanos: u64,
}

/// A source of time.
///
/// [`SystemClock`] serves a running application; [`ManualClock`] a test.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// What the clock says now.
    fn read(&self) -> ClockReading;
}

/// The moment at which a clock was made, from which on `now` never falls behind.
#[derive(Debug, Clone, Copy)]
struct Origin {
    wall: Timestamp,
    uptime_nanos: u64,
}

impl Origin {
    fn reading(self, wall: Timestamp, uptime_nanos: u64) -> ClockReading {
        let passed = uptime_nanos.saturating_sub(self.uptime_nanos) / 1_000_000;
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let floor = Timestamp(self.wall.0.saturating_add(passed));
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
    /// The machine's clocks, with this moment as the earliest `now`.
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
    /// Uptime comes first: a thread that is paused between the two readings then sees the wall
    /// ahead of uptime, by which a lease ends early at worst. The other way round it would look
    /// like a wall clock set back.
    fn read(&self) -> ClockReading {
        let uptime_nanos = uptime_nanos();
        self.origin.reading(wall(), uptime_nanos)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn wall() -> Timestamp {
    // Half the time of `SystemTime::now()` and its conversion.
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Timestamp(
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

/// A clock that stands still until a test moves it.
///
/// ```
/// use apikey_runtime::{Clock, ManualClock, Timestamp};
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
    /// A clock whose wall says `wall` until it is moved.
    #[must_use]
    pub fn at(wall: Timestamp) -> Self {
        Self {
            origin: Origin {
                wall,
                uptime_nanos: 0,
            },
            wall_millis: AtomicI64::new(wall.0),
            uptime_nanos: AtomicU64::new(0),
        }
    }

    /// A clock that starts at the machine's present time.
    #[must_use]
    pub fn starting_now() -> Self {
        Self::at(SystemTime::now().into())
    }

    /// Lets `span` pass, on the wall and in uptime.
    pub fn advance(&self, span: Duration) {
        let millis = millis_i64(span);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.uptime_nanos.fetch_add(nanos, Ordering::SeqCst);
        self.wall_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock `millis` milliseconds ahead (or back, where negative) with no time
    /// passing: what an operator or a time server does.
    pub fn step_wall(&self, millis: i64) {
        self.wall_millis.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn read(&self) -> ClockReading {
        let uptime_nanos = self.uptime_nanos.load(Ordering::SeqCst);
        self.origin.reading(
            Timestamp(self.wall_millis.load(Ordering::SeqCst)),
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
    fn a_lifetime_past_the_end_of_time_is_none() {
        let now = Timestamp::from(SystemTime::now());
        assert_eq!(now.checked_add(Duration::from_secs(u64::MAX)), None);
        assert_eq!(Timestamp::MAX.checked_add(Duration::from_millis(1)), None);
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
