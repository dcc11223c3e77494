//! The state of a limit counter, and its decisions.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(any(test, feature = "sqlite", feature = "postgres", feature = "redis"))]
use super::rate::MAX_SPAN;

/// The state of one limit of one key, as a store that counts keeps it.
///
/// The default is the state of an unused limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CounterState {
    /// For a rate, the theoretical arrival time (TAT): when all charged units are worked off, in
    /// microseconds since 1970.
    pub tat: i64,
    /// For a daily or monthly quota, the period that this counts: days or months since January
    /// 1970; otherwise 0.
    pub period: i64,
    /// The units used in this period.
    pub used: u64,
    /// The units used in each part of a rolling window, by the part's number since 1970.
    pub parts: BTreeMap<i64, u64>,
}

/// The latest time that counters distinguish: the end of the year 9999, in milliseconds.
pub(crate) const MAX_MILLIS: i64 = 253_402_300_799_999;

/// The latest `tat`: the longest burst after [`MAX_MILLIS`].
#[cfg(any(test, feature = "sqlite", feature = "postgres", feature = "redis"))]
const MAX_TAT: i64 = MAX_MILLIS * 1_000 + MAX_SPAN;

/// The latest period: the days until [`MAX_MILLIS`].
#[cfg(any(test, feature = "sqlite", feature = "postgres", feature = "redis"))]
const MAX_PERIOD: i64 = MAX_MILLIS / 86_400_000;

#[cfg(any(test, feature = "sqlite", feature = "postgres", feature = "redis"))]
impl CounterState {
    /// Returns whether a charge can have written these numbers.
    pub(crate) fn is_in_range(&self) -> bool {
        (0..=MAX_TAT).contains(&self.tat)
            && (0..=MAX_PERIOD).contains(&self.period)
            && self
                .parts
                .keys()
                .all(|number| (0..=MAX_MILLIS).contains(number))
    }
}

/// The decision of a limit about a charge, or its state after one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitDecision {
    /// Whether the charge is allowed.
    pub allowed: bool,
    /// The units that could still be used at once.
    pub remaining: u64,
    /// The time until all units are available again; `None` for never.
    pub reset_after: Option<Duration>,
    /// The time until the charge would be allowed; `None` for never.
    pub retry_after: Option<Duration>,
}

/// Returns `number`, or 0 if it is negative.
pub(super) fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Returns a duration of `number` microseconds, or zero if it is negative.
pub(super) fn micros(number: i64) -> Duration {
    Duration::from_micros(positive(number))
}
