//! Cached records, and the rules under which checks may use them.
//!
//! The cache holds facts, never decisions. An entry is valid while this process holds a *lease*
//! (Gray and Cheriton, SOSP 1989): for a limited time after it asked the store for changes.
//! [`lease`] states when a lease ends, and [`fence`] explains why a read that began before a change
//! cannot restore the old record. [`owners`] explains how a change of an owner reaches all of its entries.
//! [`cluster`](crate::cluster) states how a node learns of changes
//! and what nodes tell each other.

mod digests;
mod entry;
mod fence;
mod hit_counters;
mod idle;
mod in_flight;
mod lease;
#[cfg(test)]
mod lease_tests;
mod loader;
mod owners;
mod read_queue;
mod s3_fifo;
mod table;
mod watch;

/// The primitives of `fence`, `lease`, `owners`, `read_queue` and `waiter_count`; their loom tests replace this module.
mod sync {
    pub(super) use std::sync::atomic::{
        AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(super) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
}

pub(crate) use digests::RecordDigests;
pub(crate) use entry::CachedKey;
pub use watch::{KeyWatch, WatchEnd};

pub(crate) use idle::IdleExpiry;
pub(crate) use in_flight::{ReadAnswer, ReadError, ReadStamp};
pub(crate) use loader::{Loader, SINGLE_READS};
pub(crate) use owners::OwnerChanges;
pub(crate) use table::Cache;
pub(crate) use watch::{KnownEnd, WatchTime, WatchedRequest, WatchersId, known_end};
