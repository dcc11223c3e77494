//! The state of a limit counter, and its answer to a charge.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is remembered of one limit of one key: what a store keeps that counts.
///
/// The default is that of a limit of which nothing was used yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CounterState {
    /// A rate's theoretical arrival time: when all that has passed is worked off, in microseconds
    /// since 1970.
    pub tat: i64,
    /// Which period of a quota this counts: days or months since January 1970; 0 for the others.
    pub period: i64,
    /// What was used in it.
    pub used: u64,
    /// What was used in each part of a rolling window, by the part's number since 1970.
    pub parts: BTreeMap<i64, u64>,
}

/// What a limit says to a charge, or how it stands after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitDecision {
    /// Whether the charge may pass.
    pub allowed: bool,
    /// What could still pass at once.
    pub remaining: u64,
    /// Microseconds until all of it is there again; `None` for never.
    pub reset: Option<u64>,
    /// Microseconds until the charge would be admitted; `None` for never.
    pub retry: Option<u64>,
}

/// A difference of times; 0 if it is negative.
pub(super) fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
