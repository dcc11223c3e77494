//! A clock that all processes of the machine read alike.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time, or a stretch of it.
pub type Nanos = u64;

/// Now, counted from an unknown moment that is the same for all processes: `Instant` promises no
/// such thing.
pub fn now() -> Nanos {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as Nanos * 1_000_000_000 + now.tv_nsec as Nanos
}

pub fn nanos(duration: Duration) -> Nanos {
    duration.as_nanos() as Nanos
}
