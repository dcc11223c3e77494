//! When keys were last allowed, by all processes.

use std::collections::HashMap;
use std::fmt::Debug;

use tokio::time::Instant;

use super::Shared;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;

/// The times of last uses, by key.
pub(crate) type LastUseTimes = HashMap<KeyId, Timestamp>;

/// The uses by this process that the store may not have yet.
pub(crate) trait UnflushedUses: Debug + Send + Sync {
    /// Returns the last of them of each of these keys.
    fn unflushed_uses(&self, keys: &[KeyId]) -> LastUseTimes;
}

impl Shared {
    /// Returns when these keys, at most 1000, were last allowed: by this process, and by others as far as
    /// the store knows. Waits for the store until a time.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`find`](Self::find).
    pub(crate) async fn last_uses(
        &self,
        keys: &[KeyId],
        own: &dyn UnflushedUses,
        until: Instant,
    ) -> Result<LastUseTimes, StoreError> {
        // The store is read later: by then, it has what is not among the own uses any more.
        let mut uses = own.unflushed_uses(keys);
        for used in self.last_used_until(keys, until).await? {
            let last = uses.entry(used.key).or_insert(used.at);
            *last = (*last).max(used.at);
        }
        Ok(uses)
    }
}
