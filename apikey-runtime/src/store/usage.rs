//! The types of the usage capability.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::collections::BTreeMap;
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
    /// The hour, in hours since 1970-01-01T00:00:00Z; the first one of a day whose hours were
    /// [rolled up](super::UsageStore::roll_up_usage).
    pub hour: i64,
    /// The outcome of the requests.
    pub outcome: Outcome,
    /// The number of requests.
    pub requests: u64,
    /// Their total cost, in units of the key's limits; 0 if they were denied.
    pub cost: u64,
}

/// The maximum number of networks that are kept for a key.
pub const MAX_NETWORKS: usize = 20;

/// When a key was last allowed, and from which network.
///
/// A rotation replaces the secret, and the old one stays valid during its grace.
/// [`superseded_at`](Self::superseded_at) says whether a client still uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LastUsed {
    /// The key.
    pub key: KeyId,
    /// The time of the last allowed request, with any of the key's secrets.
    pub at: Timestamp,
    /// The network of the client of that request, in the configured precision; `None` if it is
    /// unknown or not to be kept.
    pub network: Option<IpNet>,
    /// When the present secret was last used; `None` if it never was.
    pub current_at: Option<Timestamp>,
    /// When the secret before the last rotation was last used; `None` if the key was not rotated, or
    /// if that secret never was used. A use before the rotation counts too.
    pub superseded_at: Option<Timestamp>,
    /// The client's network of that last use.
    pub superseded_network: Option<IpNet>,
}

/// The last use of one secret of a key, as stores keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecretUse {
    /// The key.
    pub key: KeyId,
    /// The number of rotations that created the secret: the record's
    /// [`rotations`](crate::KeyRecord::rotations) for the present secret, and one less for the
    /// secret before.
    pub rotations: u64,
    /// The time of the last allowed request.
    pub at: Timestamp,
    /// The client's network, in the configured precision; `None` if it is unknown or not to be
    /// kept.
    pub network: Option<IpNet>,
}

/// When a key was last allowed from a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NetworkUse {
    /// The key.
    pub key: KeyId,
    /// The clients' network, in the configured precision.
    pub network: IpNet,
    /// The time of the last allowed request.
    pub at: Timestamp,
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
    /// How long to keep the counts after the end of their hour, and networks after their last use.
    pub keep: Duration,
    /// The counts to add to the existing ones. No two rows have the same key, route, hour and
    /// outcome. The rows are sorted by key, so that all nodes lock rows in one order. A row may have
    /// a cost without requests.
    pub rows: Vec<UsageRow>,
    /// Last uses, each to be stored if it is later than the existing one. At most two of a key, with
    /// different secrets. Of a key's secrets, those with the two highest numbers are kept.
    pub last_used: Vec<SecretUse>,
    /// Networks, each to be stored if it is later than the existing one. At most [`MAX_NETWORKS`] of
    /// a key, with different networks. The latest [`MAX_NETWORKS`] of a key are kept.
    pub networks: Vec<NetworkUse>,
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
    /// Creates the last use of `key`, without its secrets.
    #[must_use]
    pub fn new(key: KeyId, at: Timestamp, network: Option<IpNet>) -> Self {
        Self {
            key,
            at,
            network,
            current_at: None,
            superseded_at: None,
            superseded_network: None,
        }
    }

    /// Creates the last use of `key`, whose record has these `rotations` (0 without a record),
    /// from the uses of its secrets. Returns `None` without a use.
    #[must_use]
    pub fn of_secrets(
        key: KeyId,
        rotations: u64,
        uses: impl IntoIterator<Item = SecretUse>,
    ) -> Option<Self> {
        let mut last: Option<Self> = None;
        for used in uses {
            let last = last.get_or_insert(Self::new(key, used.at, used.network));
            if last.at < used.at {
                (last.at, last.network) = (used.at, used.network);
            }
            if used.rotations == rotations {
                last.current_at = last.current_at.max(Some(used.at));
            } else if Some(used.rotations) == rotations.checked_sub(1)
                && last.superseded_at < Some(used.at)
            {
                last.superseded_at = Some(used.at);
                last.superseded_network = used.network;
            }
        }
        last
    }
}

impl SecretUse {
    /// Creates the last use of a secret.
    #[must_use]
    pub fn new(key: KeyId, rotations: u64, at: Timestamp, network: Option<IpNet>) -> Self {
        Self {
            key,
            rotations,
            at,
            network,
        }
    }
}

impl NetworkUse {
    /// Creates the last use from a network.
    #[must_use]
    pub fn new(key: KeyId, network: IpNet, at: Timestamp) -> Self {
        Self { key, network, at }
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
            networks: Vec::new(),
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

/// Returns the last use of each key, from uses of secrets, each with its key's present rotations.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn last_uses(rows: impl IntoIterator<Item = (u64, SecretUse)>) -> Vec<LastUsed> {
    let mut keys = BTreeMap::<KeyId, (u64, Vec<SecretUse>)>::new();
    for (rotations, used) in rows {
        let (_, uses) = keys.entry(used.key).or_insert((rotations, Vec::new()));
        uses.push(used);
    }
    let last = |(key, (rotations, uses))| LastUsed::of_secrets(key, rotations, uses);
    keys.into_iter().filter_map(last).collect()
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

    #[test]
    fn uses_belong_to_secrets_by_their_numbers() {
        let key = KeyId::from_u128(1);
        let time = Timestamp::from_millis;
        let network = |number: u8| format!("192.0.{number}.0/24").parse().ok();
        let uses = [(2, 30), (3, 20), (4, 10)];
        let of = |rotations| {
            let uses = uses.map(|(number, at)| {
                SecretUse::new(key, u64::from(number), time(at), network(number))
            });
            LastUsed::of_secrets(key, rotations, uses).unwrap()
        };
        for (rotations, current, superseded, superseded_from) in [
            (0, None, None, None),
            (1, None, None, None),
            (2, Some(30), None, None),
            (3, Some(20), Some(30), network(2)),
            (4, Some(10), Some(20), network(3)),
            (5, None, Some(10), network(4)),
            (u64::MAX, None, None, None),
        ] {
            let used = of(rotations);
            assert_eq!((used.at, used.network), (time(30), network(2)));
            assert_eq!(used.current_at, current.map(time), "{rotations}");
            assert_eq!(used.superseded_at, superseded.map(time), "{rotations}");
            assert_eq!(used.superseded_network, superseded_from, "{rotations}");
        }
        assert_eq!(LastUsed::of_secrets(key, 0, []), None);
    }
}
