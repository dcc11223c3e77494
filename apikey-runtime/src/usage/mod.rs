//! Who used what: counted in memory, and written to the store in batches.
//!
//! A request counts in a cell of its thread ([`gather`]), under its route's label ([`labels`]). Once
//! an interval the manager's thread takes the cells and offers them to the store ([`flush`]), and has
//! it remove what is old ([`forget`]). What the store has not taken yet is lost where the process is
//! killed, and where the store refuses it for good.

mod batch;
mod flush;
mod labels;
mod report;
mod retention;
mod tally;

use std::time::Duration;

use tokio::sync::Notify;

pub use report::{KeyUsage, RouteUsage, UsageCounts, UsageInterval, UsageReport};
pub(crate) use tally::{Noted, hour_of};

use crate::clock::Timestamp;
use crate::config::{Config, NetworkPrecision};
use crate::denied::DenyReason;
use crate::key::KeyId;
use crate::policy::Caller;
use crate::store::{KeyStore, NodeId};
use batch::Waiting;
use flush::Flusher;
use retention::Forgetting;
use tally::{Gather, Used};

/// The usage of a manager's keys, as far as it is not written yet.
#[derive(Debug)]
pub(crate) struct Usage {
    /// Whether the store keeps it; else nothing is counted.
    kept: bool,
    gather: Gather,
    network: Option<NetworkPrecision>,
    interval: Duration,
    retention: Duration,
    /// One writes at a time.
    flusher: tokio::sync::Mutex<Flusher>,
    forgetting: tokio::sync::Mutex<Forgetting>,
    /// The manager ends.
    end: Notify,
}

impl Usage {
    /// Nothing yet, of the node of that name.
    pub(crate) fn new(store: &dyn KeyStore, config: &Config, node: NodeId) -> Self {
        let retention = config.usage_retention();
        Self {
            kept: store.supports_usage(),
            gather: Gather::new(),
            network: config.usage_network_precision(),
            interval: config.usage_flush_interval(),
            retention,
            flusher: tokio::sync::Mutex::new(Flusher::new(Waiting::new(node, retention))),
            forgetting: tokio::sync::Mutex::default(),
            end: Notify::new(),
        }
    }

    /// Whether the store keeps usage.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept
    }

    /// A key was let through. `None` where there is no room to count it.
    pub(crate) fn note_allowed(
        &self,
        id: &KeyId,
        at: Timestamp,
        cost: u32,
        caller: &impl Caller,
    ) -> Option<Noted> {
        let used = Used {
            id,
            at,
            refused: None,
            cost,
            address: self.network.and_then(|_| caller.address()),
        };
        self.note(&used, caller)
    }

    /// The same request is let through by another gate, at this cost: it costs the highest.
    pub(crate) fn note_again(&self, id: &KeyId, mut noted: Noted, cost: u32) -> Noted {
        let more = cost.saturating_sub(noted.cost);
        if more > 0 {
            self.gather.adjust(id, noted, 0, i64::from(more));
        }
        noted.cost += more;
        noted
    }

    /// The request is refused by another gate: it was not let through after all.
    pub(crate) fn take_back(&self, id: &KeyId, noted: Noted) {
        self.gather.adjust(id, noted, -1, -i64::from(noted.cost));
    }

    /// Whether a refusal for this reason counts.
    pub(crate) fn counts(&self, reason: DenyReason) -> bool {
        self.kept && is_of_the_holder(reason)
    }

    /// A key was refused whose secret the caller has.
    pub(crate) fn note_refused(
        &self,
        id: &KeyId,
        at: Timestamp,
        reason: DenyReason,
        caller: &impl Caller,
    ) {
        let used = Used {
            id,
            at,
            refused: Some(reason),
            cost: 0,
            address: None,
        };
        self.note(&used, caller);
    }

    fn note(&self, used: &Used<'_>, caller: &impl Caller) -> Option<Noted> {
        let write = |write: &mut dyn FnMut(&str)| caller.write_route(write);
        self.gather.note(used, &write)
    }
}

/// Whether only a caller who has the key's secret is refused for this reason. What comes of a mere
/// claim is not the key's usage, and would let anyone fill memory with ids.
fn is_of_the_holder(reason: DenyReason) -> bool {
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
