//! Records in memory, and the rules under which they may be believed.
//!
//! Facts are cached, never decisions. An entry is believed while this process holds a *lease* (Gray
//! and Cheriton, SOSP 1989): for a stretch of time after it asked the store what had changed. See
//! [`lease`] for when a lease ends, [`fence`] for why a read that began before a change cannot
//! bring the old record back, [`feed`] for how changes are learned of, and [`member`] for what nodes
//! tell each other.

mod entry;
mod fence;
mod hit_counters;
mod lease;
#[cfg(test)]
mod lease_tests;
mod loader;
mod s3_fifo;
mod table;

/// What `fence` and `lease` are built of; their model-checked tests put another module in this
/// place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
    pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};
}

pub(crate) use entry::CachedKey;
pub(crate) use loader::{Loader, ReadAnswer, ReadError, ReadStamp};
pub(crate) use table::Cache;
