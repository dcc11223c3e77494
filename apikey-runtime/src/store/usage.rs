//! The types of the usage capability.

use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::NodeId;
use crate::clock::Timestamp;
use crate::denied::DenyReason;
use crate::key::KeyId;

/// The outcome of a request: allowed, or denied for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Allowed.
    Allowed,
    /// Denied.
    Denied(DenyReason),
}

/// How often a key was used on a route in an hour, with one outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageRow {
    /// The key.
    pub key: KeyId,
    /// The route's pattern, such as `/orders/{id}`: at most 200 bytes.
    pub route: String,
    /// The hour, in hours since 1970-01-01T00:00:00Z.
    pub hour: i64,
    /// The outcome of the requests.
    pub outcome: Outcome,
    /// The number of requests.
    pub requests: u64,
    /// Their total cost, in units of the key's limits; 0 if they were denied.
    pub cost: u64,
}

/// When a key was last allowed, and from which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LastUsed {
    /// The key.
    pub key: KeyId,
    /// The time of the last allowed request.
    pub at: Timestamp,
    /// The client's network, in the configured precision; `None` if it is unknown or not to be
    /// kept.
    pub network: Option<IpNet>,
}

/// The usage that a node counted since its last batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageBatch {
    /// The node that counted.
    pub node: NodeId,
    /// The number of the batch; a node counts from 1. If the number does not exceed the last one
    /// added for this node, the batch was added before and the answer was lost.
    pub number: u64,
    /// How long to keep the counts after the end of their hour.
    pub keep: Duration,
    /// The counts to add to the existing ones. No two rows have the same key, route, hour and
    /// outcome. The rows are sorted by key, so that all nodes lock rows in one order. A row may have
    /// a cost without requests.
    pub rows: Vec<UsageRow>,
    /// Last uses, each to be stored if it is later than the existing one. No two have the same key.
    pub last_used: Vec<LastUsed>,
}

/// The counts to read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageQuery {
    /// The keys; at most 1000.
    pub keys: Vec<KeyId>,
    /// The first hour, in hours since 1970-01-01T00:00:00Z.
    pub from: i64,
    /// The end of the range of hours (exclusive).
    pub to: i64,
}

impl Outcome {
    /// Returns the stored form: `allowed`, or the reason's [code](DenyReason::code).
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied(reason) => reason.code(),
        }
    }

    /// Returns the outcome with this code, or `None` if the code is unknown; a later version may
    /// have written it.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        if code == Self::Allowed.code() {
            return Some(Self::Allowed);
        }
        let reason = DenyReason::ALL.iter().find(|reason| reason.code() == code);
        reason.map(|reason| Self::Denied(*reason))
    }
}

impl UsageRow {
    /// Creates a row without requests.
    #[must_use]
    pub fn new(key: KeyId, route: impl Into<String>, hour: i64, outcome: Outcome) -> Self {
        Self {
            key,
            route: route.into(),
            hour,
            outcome,
            requests: 0,
            cost: 0,
        }
    }
}

impl LastUsed {
    /// Creates the last use of `key`.
    #[must_use]
    pub fn new(key: KeyId, at: Timestamp, network: Option<IpNet>) -> Self {
        Self { key, at, network }
    }
}

impl UsageBatch {
    /// Creates a batch without counts.
    #[must_use]
    pub fn new(node: NodeId, number: u64, keep: Duration) -> Self {
        Self {
            node,
            number,
            keep,
            rows: Vec::new(),
            last_used: Vec::new(),
        }
    }
}

impl UsageQuery {
    /// Creates a query for the counts of `keys` in the hours from `from` to `to` (exclusive).
    #[must_use]
    pub fn new(keys: Vec<KeyId>, from: i64, to: i64) -> Self {
        Self { keys, from, to }
    }
}

/// Returns the time before which a node's last batch must have come for the node to be forgotten,
/// together with the usage before `hour`. It is at least a day ago, so that a retried batch is
/// still recognized.
pub(crate) fn silent_before(hour: i64, now: Timestamp) -> Timestamp {
    const HOUR_MILLIS: i64 = 3_600_000;
    let yesterday = now.as_millis().saturating_sub(24 * HOUR_MILLIS);
    Timestamp::from_millis(hour.saturating_mul(HOUR_MILLIS).min(yesterday))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_reads_back() {
        let refused = DenyReason::ALL
            .iter()
            .map(|reason| Outcome::Denied(*reason));
        for outcome in refused.chain([Outcome::Allowed]) {
            assert_eq!(Outcome::from_code(outcome.code()), Some(outcome));
        }
        assert_eq!(Outcome::from_code("later"), None);
    }
}
