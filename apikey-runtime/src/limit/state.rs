//! The state of a limit counter, and its decisions.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
