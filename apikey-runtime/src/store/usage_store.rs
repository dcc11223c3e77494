//! Usage in a store.

use async_trait::async_trait;

use super::{LastUsed, NetworkUse, UsageBatch, UsageQuery, UsageRow};
use crate::error::StoreError;
use crate::key::KeyId;

/// Stores how often keys were used, on which routes and with which outcomes.
#[async_trait]
pub trait UsageStore: Send + Sync {
    /// Adds what a node counted, all or none, unless a batch of that node with this number or a
    /// higher one was added before.
    ///
    /// Takes no epoch. Counts of removed keys may be kept or not; last uses and networks of keys that
    /// the store does not have are not kept, as nothing would remove them. The call may take ten times as
    /// long as other calls, because no request waits for it.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Unavailable`] if a retry may succeed; the same batch is then offered
    /// again until it does. Returns another error if no retry can succeed: after five in a row, an
    /// interval apart, the batch is dropped, so that newer batches do not wait for it.
    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError>;

    /// Returns the counts of some keys, in any order. No two rows have the same key, route, hour
    /// and outcome. Rows with an unknown outcome are left out.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn read_usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError>;

    /// Returns when these keys, at most 1000, were last allowed, in any order. Keys that were never
    /// allowed are left out. The secrets are told apart by the present
    /// [`rotations`](crate::KeyRecord::rotations) of the record, as
    /// [`LastUsed::of_secrets`] does.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError>;

    /// Returns the networks from which these keys, at most 1000, were last allowed, in any order: at
    /// most [`MAX_NETWORKS`](super::MAX_NETWORKS) of a key, the latest. By default none: the store
    /// does not keep them.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn read_networks(&self, keys: &[KeyId]) -> Result<Vec<NetworkUse>, StoreError> {
        let _ = keys;
        Ok(Vec::new())
    }

    /// Adds counts of hours to those of their day, in one bounded step: of days before `day`, in days since
    /// 1970-01-01. Returns whether more may be left, for the next step; `false` too if the store leaves it to a
    /// node that is at work on it. By default `false`: the store keeps all hours.
    ///
    /// The first hour of a day has the sums of the day; the other hours do not have a row then. A step
    /// takes a count with its cost from its hour and adds both to the day in one transaction, so that any number of nodes may
    /// call this at once, and may be killed. A step may consist of several transactions. Counts that are
    /// [added](Self::add_usage) to an hour later may stay there.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn roll_up_usage(&self, day: i64) -> Result<bool, StoreError> {
        let _ = day;
        Ok(false)
    }

    /// Removes the counts of hours before `hour`, and at the end of a day at the latest, networks
    /// that were not used since. It may also forget the batch numbers of nodes that have added no
    /// batch since. Does nothing if the store removes old counts by itself.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn prune_usage(&self, hour: i64) -> Result<(), StoreError>;
}
