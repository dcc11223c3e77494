//! Metrics of a manager.
//!
//! With the feature `metrics`, they are published through the facade of that name. Without it, this
//! module is compiled to nothing.

#[cfg(not(feature = "metrics"))]
mod noop;
#[cfg(feature = "metrics")]
mod recorder;

#[cfg(not(feature = "metrics"))]
pub(crate) use noop::{NoopMetrics as Metrics, denied_without_manager};
#[cfg(feature = "metrics")]
pub(crate) use recorder::{Metrics, PUBLISH_INTERVAL, denied_without_manager};

/// A store method whose calls are counted. Polls of the change log are counted separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreCall {
    Insert,
    Find,
    List,
    Update,
    Revoke,
    RevokeOwner,
    FindOwner,
    RevokeOwnerKeys,
    SuspendOwner,
    MarkKeys,
    Purge,
    Members,
    Charge,
    Refill,
    AddUsage,
    ReadUsage,
    RollUpUsage,
    PruneUsage,
    CountLiveKeys,
    ReadAudit,
    PruneAudit,
    ClaimNotices,
    FinishNotices,
    SharedSecret,
    ListOwners,
}

/// Result of a poll of the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollOutcome {
    /// The store answered, even if it does not keep a change log.
    Answered,
    /// The store answered that this node is not a member, or is suspected. The next poll joins
    /// again.
    NotMember,
    Failed,
}

/// The cache's totals since the start, and its present state.
#[cfg(feature = "metrics")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheFigures {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) entries: usize,
    pub(crate) lease_remaining: Option<std::time::Duration>,
}
