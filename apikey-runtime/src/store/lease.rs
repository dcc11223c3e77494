//! How long a lease may be.

use std::time::Duration;

/// The shortest lease that a store can name: below it, polling would cost more than reading does.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
const SHORTEST: Duration = Duration::from_millis(20);

/// The longest: for so long a node that lost the store could go on with what it remembers.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// How long to wait, by one's own clock, until a lease of `length` that another clock measures has
/// surely ended: the clocks of two computers run apart by far less than a thousandth.
pub(crate) fn outlasts(length: Duration) -> Duration {
    length + length / 1_000 + Duration::from_millis(5)
}

/// Whether a store may be given this lease.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
pub(super) fn check(lease: Option<Duration>) -> Result<(), crate::error::StoreError> {
    match lease {
        Some(lease) if !(SHORTEST..=LONGEST).contains(&lease) => {
            Err(crate::error::StoreError::InvalidArgument(
                "the lease is out of its bounds; write 20 ms to 60 s".to_owned(),
            ))
        }
        _ => Ok(()),
    }
}
