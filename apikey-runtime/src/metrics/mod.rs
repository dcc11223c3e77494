//! Figures of how a manager fares, for those who watch it.
//!
//! With the feature `metrics` they go through the facade of that name; without it, what stands here
//! is empty and is compiled to nothing.

#[cfg(not(feature = "metrics"))]
mod noop;
#[cfg(feature = "metrics")]
mod recorder;

#[cfg(not(feature = "metrics"))]
pub(crate) use noop::{Metrics, denied_without_manager};
#[cfg(feature = "metrics")]
pub(crate) use recorder::{Metrics, PUBLISH_INTERVAL, denied_without_manager};

/// A method of the store that is counted. The polls of its history are counted by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreCall {
    Insert,
    Find,
    List,
    Update,
    Revoke,
    RevokeOwner,
    Purge,
    Members,
    Charge,
    Refill,
    AddUsage,
    ReadUsage,
    PruneUsage,
}

/// Result of a poll of the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollOutcome {
    /// The store answered. That it keeps no change log is an answer too.
    Answered,
    /// The store answered that this node is not a member, or is suspected. The next poll joins
    /// again.
    NotMember,
    Failed,
}

/// Figures of the cache, as totals since the start and as of now.
#[cfg(feature = "metrics")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheFigures {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) entries: usize,
    pub(crate) lease_remaining: Option<std::time::Duration>,
}
