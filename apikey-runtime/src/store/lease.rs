//! Bounds of a lease.

use std::time::Duration;

/// The shortest lease that a store may grant: below it, polling would cost more than reading.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
const MIN: Duration = Duration::from_millis(20);

/// The longest lease: a node that lost the store may trust its cache for this long.
pub(crate) const MAX: Duration = Duration::from_secs(60);

/// Returns how long to wait, by this node's clock, until a lease of `length` measured by another
/// clock has certainly ended. The clocks of two computers diverge by far less than a thousandth.
pub(crate) fn outlasts(length: Duration) -> Duration {
    length + length / 1_000 + Duration::from_millis(5)
}

/// Checks whether a store may grant this lease.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
pub(super) fn check(lease: Option<Duration>) -> Result<(), crate::error::StoreError> {
    match lease {
        Some(lease) if !(MIN..=MAX).contains(&lease) => {
            Err(crate::error::StoreError::InvalidArgument(
                "the lease is out of its bounds; write 20 ms to 60 s".to_owned(),
            ))
        }
        _ => Ok(()),
    }
}
