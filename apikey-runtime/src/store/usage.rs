//! What a store is asked that keeps who used what.

use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::NodeId;
use crate::clock::Timestamp;
use crate::denied::DenyReason;
use crate::key::KeyId;

/// What requests came to: let through, or refused for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Let through.
    Allowed,
    /// Refused.
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
    /// What the requests came to.
    pub outcome: Outcome,
    /// How many.
    pub requests: u64,
    /// What they cost in all: units of the key's limits. Nothing where they were refused.
    pub cost: u64,
}

/// When a key was last let through, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LastUsed {
    /// The key.
    pub key: KeyId,
    /// When.
    pub at: Timestamp,
    /// The client's network, as precisely as is configured; `None` where it is not known, or not
    /// to be kept.
    pub network: Option<IpNet>,
}

/// What a node counted since its last batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageBatch {
    /// Whose it is.
    pub node: NodeId,
    /// The number of the batch, counted up by the node from 1. A batch whose number is not above the
    /// last that was added for this node was added before: its answer was lost.
    pub number: u64,
    /// How long the counts are to be kept, from the end of their hour.
    pub keep: Duration,
    /// The counts, to be added to those that are there. No two of one key, route, hour and outcome;
    /// in the order of their keys, so that nodes that lock rows do so in one order. One may be of no
    /// requests, and cost all the same.
    pub rows: Vec<UsageRow>,
    /// To be kept where it is later than what is there. No two of one key.
    pub last_used: Vec<LastUsed>,
}

/// Which counts to read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageQuery {
    /// Of these keys; at most 1000.
    pub keys: Vec<KeyId>,
    /// From this hour on, in hours since 1970-01-01T00:00:00Z.
    pub from: i64,
    /// Up to this hour, without it.
    pub to: i64,
}

impl Outcome {
    /// As it is stored: `allowed`, or the reason's [code](DenyReason::code).
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied(reason) => reason.code(),
        }
    }

    /// The outcome of that code; `None` where there is none, as a later version may have written.
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
    /// A row of no requests.
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
    /// A use of `key` at that time.
    #[must_use]
    pub fn new(key: KeyId, at: Timestamp, network: Option<IpNet>) -> Self {
        Self { key, at, network }
    }
}

impl UsageBatch {
    /// A batch without counts yet.
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
    /// The counts of these keys, from the hour `from` up to `to`, without it.
    #[must_use]
    pub fn new(keys: Vec<KeyId>, from: i64, to: i64) -> Self {
        Self { keys, from, to }
    }
}

/// Nodes whose last batch came before that time are forgotten with the usage of hours before
/// `hour`: after a day at the earliest, so that a batch which is offered again is still known.
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
