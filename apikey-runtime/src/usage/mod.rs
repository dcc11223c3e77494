//! Usage of keys: counted in memory and written to the store in batches.
//!
//! A request counts in a cell of its thread (`tally`), under its route's label (`labels`). Once
//! per interval, the manager's thread takes the cells and offers them to the store (`flush`), and
//! then has the store remove old usage (`retention`). Usage that the store has not taken is lost
//! if the process is killed or if the store rejects it permanently.

mod batch;
mod flush;
mod labels;
mod recent;
mod report;
mod retention;
mod tally;
mod unflushed;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

pub use crate::store::{
    LastUsed, MAX_NETWORKS, NetworkUse, Outcome, SecretUse, UsageBatch, UsageQuery, UsageRow,
};
pub use report::{DailyKeyUsage, KeyUsage, RouteUsage, UsageCounts, UsageInterval, UsageReport};
pub(crate) use retention::Retention;
pub(crate) use tally::{HOUR_MILLIS, UsageEntry, hour_of};

use crate::clock::Timestamp;
use crate::config::{Config, NetworkPrecision};
use crate::denied::DenyReason;
use crate::key::KeyId;
use crate::policy::RequestInfo;
use crate::shared::Shared;
use crate::store::NodeId;
use batch::PendingBatches;
use flush::Flusher;
use tally::{UsageEvent, UsageTally};
use unflushed::TakenUses;

/// Usage of a manager's keys that is not written yet.
#[derive(Debug)]
pub(crate) struct Usage {
    /// Whether the store keeps usage; if not, nothing is counted.
    kept: bool,
    shared: Arc<Shared>,
    usage_tally: UsageTally,
    /// Kept if keys become idle.
    taken_uses: Option<TakenUses>,
    network: Option<NetworkPrecision>,
    interval: Duration,
    retention: Duration,
    /// Whether old usage has one row for a day.
    is_rolled_up: bool,
    /// Locked while writing: one writer at a time.
    flusher: tokio::sync::Mutex<Flusher>,
    pruning: tokio::sync::Mutex<Retention>,
    /// Notified when the manager shuts down.
    end: Notify,
}

impl Usage {
    /// Creates empty usage for `node`.
    pub(crate) fn new(shared: Arc<Shared>, config: &Config, node: NodeId) -> Self {
        let retention = config.usage_retention();
        Self {
            kept: shared.store.usage().is_some(),
            shared,
            usage_tally: UsageTally::new(),
            taken_uses: config.idle_expiry().map(|_| TakenUses::default()),
            network: config.usage_network_precision(),
            interval: config.usage_flush_interval(),
            retention,
            is_rolled_up: config.usage_roll_up_after() < retention,
            flusher: tokio::sync::Mutex::new(Flusher::new(PendingBatches::new(node, retention))),
            pruning: tokio::sync::Mutex::default(),
            end: Notify::new(),
        }
    }

    /// Returns whether the store keeps usage.
    pub(crate) fn is_enabled(&self) -> bool {
        self.kept
    }

    /// Counts an allowed request, with the number of rotations that created its secret. Returns
    /// `None` if the tally is full.
    pub(crate) fn record_allowed(
        &self,
        (id, rotations): (&KeyId, u64),
        at: Timestamp,
        cost: u32,
        caller: &impl RequestInfo,
    ) -> Option<UsageEntry> {
        let network = self.network.and_then(|precision| {
            let address = caller.address()?;
            Some(precision.network(address))
        });
        let used = UsageEvent {
            id,
            at,
            denied: None,
            cost,
            rotations,
            network,
        };
        self.record(&used, caller)
    }

    /// Raises the cost of a request that a further guard allowed: it costs the highest of all
    /// guards.
    pub(crate) fn record_again(&self, id: &KeyId, mut entry: UsageEntry, cost: u32) -> UsageEntry {
        let more = cost.saturating_sub(entry.cost);
        if more > 0 {
            self.usage_tally.adjust(id, entry, 0, i64::from(more));
        }
        entry.cost += more;
        entry
    }

    /// Removes an allowed request from the counts, because a further guard denied it.
    pub(crate) fn undo(&self, id: &KeyId, entry: UsageEntry) {
        self.usage_tally
            .adjust(id, entry, -1, -i64::from(entry.cost));
    }

    /// Returns whether denials for `reason` are counted.
    pub(crate) fn counts(&self, reason: DenyReason) -> bool {
        self.kept && concerns_key_holder(reason)
    }

    /// Counts a denied request of a client that has the key's secret.
    pub(crate) fn record_denied(
        &self,
        id: &KeyId,
        at: Timestamp,
        reason: DenyReason,
        caller: &impl RequestInfo,
    ) {
        let used = UsageEvent {
            id,
            at,
            denied: Some(reason),
            cost: 0,
            rotations: 0,
            network: None,
        };
        self.record(&used, caller);
    }

    fn record(&self, used: &UsageEvent<'_>, caller: &impl RequestInfo) -> Option<UsageEntry> {
        let write = |write: &mut dyn FnMut(&str)| caller.write_route(write);
        self.usage_tally.record(used, &write)
    }
}

/// Returns whether only a client with the key's secret can be denied for `reason`. Other denials
/// are not usage of the key, and counting them would let any client fill memory with ids.
fn concerns_key_holder(reason: DenyReason) -> bool {
    matches!(
        reason,
        DenyReason::Expired
            | DenyReason::NotYetValid
            | DenyReason::Idle
            | DenyReason::Revoked
            | DenyReason::Disabled
            | DenyReason::AddressNotPermitted
            | DenyReason::MethodNotPermitted
            | DenyReason::InsufficientScope
            | DenyReason::RateLimited
            | DenyReason::QuotaExceeded
    )
}
