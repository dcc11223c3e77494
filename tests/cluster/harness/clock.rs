//! A clock that all processes of the machine share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time, or a duration.
pub type Nanos = u64;

/// Returns the time since an unspecified moment that is the same for all processes; `Instant` does
/// not promise that.
pub fn now() -> Nanos {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as Nanos * 1_000_000_000 + now.tv_nsec as Nanos
}

pub fn nanos(duration: Duration) -> Nanos {
    duration.as_nanos() as Nanos
}
