//! Figures of how a manager fares, for those who watch it.
//!
//! With the feature `metrics` they go through the facade of that name; without it, what stands here
//! is empty and is compiled to nothing.

#[cfg(not(feature = "metrics"))]
mod noop;
#[cfg(feature = "metrics")]
mod recorder;

#[cfg(not(feature = "metrics"))]
pub(crate) use noop::{Metrics, refused_without_manager};
#[cfg(feature = "metrics")]
pub(crate) use recorder::{Metrics, publish, refused_without_manager};

/// A method of the store that is counted. The polls of its history are counted by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreCall {
    Insert,
    Find,
    List,
    Update,
    Revoke,
    RevokeAll,
    Purge,
    Nodes,
    Charge,
    Refill,
    AddUsage,
    UsageRequest,
    PruneUsage,
}
