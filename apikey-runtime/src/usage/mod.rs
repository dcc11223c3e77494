//! Who used what: counted in memory, and written to the store in batches.
//!
//! A request counts in a cell of its thread ([`usage_tally`]), under its route's label ([`labels`]). Once
//! an interval the manager's thread takes the cells and offers them to the store ([`flush`]), and has
//! it remove what is old ([`prune`]). What the store has not taken yet is lost where the process is
//! killed, and where the store refuses it for good.

mod batch;
mod flush;
mod labels;
mod report;
mod retention;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

pub use report::{KeyUsage, RouteUsage, UsageCounts, UsageInterval, UsageReport};
pub(crate) use tally::{UsageEntry, hour_of};

use crate::clock::Timestamp;
use crate::config::{Config, NetworkPrecision};
use crate::denied::DenyReason;
use crate::key::KeyId;
use crate::policy::RequestInfo;
use crate::shared::Shared;
use crate::store::NodeId;
use batch::PendingBatches;
use flush::Flusher;
use retention::Retention;
use tally::{UsageEvent, UsageTally};

/// The usage of a manager's keys, as far as it is not written yet.
#[derive(Debug)]
pub(crate) struct Usage {
    /// Whether the store keeps it; else nothing is counted.
    kept: bool,
    shared: Arc<Shared>,
    usage_tally: UsageTally,
    network: Option<NetworkPrecision>,
    interval: Duration,
    retention: Duration,
    /// One writes at a time.
    flusher: tokio::sync::Mutex<Flusher>,
    forgetting: tokio::sync::Mutex<Retention>,
    /// The manager ends.
    end: Notify,
}

impl Usage {
    /// Nothing yet, of the node of that name.
    pub(crate) fn new(shared: Arc<Shared>, config: &Config, node: NodeId) -> Self {
        let retention = config.usage_retention();
        Self {
            kept: shared.store.supports_usage(),
            shared,
            usage_tally: UsageTally::new(),
            network: config.usage_network_precision(),
            interval: config.usage_flush_interval(),
            retention,
            flusher: tokio::sync::Mutex::new(Flusher::new(PendingBatches::new(node, retention))),
            forgetting: tokio::sync::Mutex::default(),
            end: Notify::new(),
        }
    }

    /// Whether the store keeps usage.
    pub(crate) fn is_enabled(&self) -> bool {
        self.kept
    }

    /// A key was let through. `None` where there is no room to count it.
    pub(crate) fn record_allowed(
        &self,
        id: &KeyId,
        at: Timestamp,
        cost: u32,
        caller: &impl RequestInfo,
    ) -> Option<UsageEntry> {
        let used = UsageEvent {
            id,
            at,
            refused: None,
            cost,
            address: self.network.and_then(|_| caller.address()),
        };
        self.record(&used, caller)
    }

    /// The same request is let through by another gate, at this cost: it costs the highest.
    pub(crate) fn record_again(&self, id: &KeyId, mut entry: UsageEntry, cost: u32) -> UsageEntry {
        let more = cost.saturating_sub(entry.cost);
        if more > 0 {
            self.usage_tally.adjust(id, entry, 0, i64::from(more));
        }
        entry.cost += more;
        entry
    }

    /// The request is refused by another gate: it was not let through after all.
    pub(crate) fn undo(&self, id: &KeyId, entry: UsageEntry) {
        self.usage_tally
            .adjust(id, entry, -1, -i64::from(entry.cost));
    }

    /// Whether a refusal for this reason counts.
    pub(crate) fn counts(&self, reason: DenyReason) -> bool {
        self.kept && concerns_key_holder(reason)
    }

    /// A key was refused whose secret the caller has.
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
            refused: Some(reason),
            cost: 0,
            address: None,
        };
        self.record(&used, caller);
    }

    fn record(&self, used: &UsageEvent<'_>, caller: &impl RequestInfo) -> Option<UsageEntry> {
        let write = |write: &mut dyn FnMut(&str)| caller.write_route(write);
        self.usage_tally.record(used, &write)
    }
}

/// Whether only a caller who has the key's secret is refused for this reason. What comes of a mere
/// claim is not the key's usage, and would let anyone fill memory with ids.
fn concerns_key_holder(reason: DenyReason) -> bool {
    matches!(
        reason,
        DenyReason::Expired
            | DenyReason::NotYetValid
            | DenyReason::Revoked
            | DenyReason::Disabled
            | DenyReason::AddressNotPermitted
            | DenyReason::MethodNotPermitted
            | DenyReason::InsufficientScope
            | DenyReason::RateLimited
            | DenyReason::QuotaExceeded
    )
}
