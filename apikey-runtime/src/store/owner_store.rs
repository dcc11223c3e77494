//! The capability of owners: a change of all keys of an owner is a change of one row.

use async_trait::async_trait;

use crate::audit::ChangeOrigin;
use crate::error::StoreError;
use crate::record::{OwnerRevocation, OwnerState};

/// Keeps a row for each owner, so that all keys of an owner are revoked or suspended in one step,
/// whatever their number.
///
/// The row is created with the owner's first key, and never removed. A key keeps its owner's
/// [`revocations`](OwnerState::revocations) of the moment when it was inserted or came to this
/// owner: the store sets [`KeyRecord::owner_revocations`], in the same transaction and under a lock
/// that excludes a change of the owner. Each record that is read carries
/// [its owner's state](crate::KeyRecord::owner_state) of the same snapshot. A record whose number is lower
/// than its owner's reads as revoked, with the time and the reason of the owner's first revocation
/// after its number.
///
/// A key that is revoked by its owner's state does not change its owner any more: the update revokes
/// it permanently instead, with the same time and reason.
///
/// Each method below is one transaction. A change of the state increments its version, takes the
/// next epoch and logs [`ChangedItem::Owner`](super::ChangedItem::Owner).
///
/// [`KeyRecord::owner_revocations`]: crate::KeyRecord::owner_revocations
#[async_trait]
pub trait OwnerStore: Send + Sync {
    /// Returns the state of an owner, or `None` if it has never had a key.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn find_owner(&self, owner: &str) -> Result<Option<OwnerState>, StoreError>;

    /// Revokes all keys that the owner has now: increments
    /// [`revocations`](OwnerState::revocations), and keeps when, why and by whom until the keys'
    /// records are [marked](Self::mark_revoked_keys). Returns the state after it.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the owner has never had a key.
    async fn revoke_owner_keys(
        &self,
        owner: &str,
        revocation: &OwnerRevocation,
        origin: &ChangeOrigin,
    ) -> Result<OwnerState, StoreError>;

    /// Sets whether all keys of the owner are suspended. Returns the state after it, and whether
    /// this call changed it. If not, nothing is logged.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the owner has never had a key.
    async fn set_owner_suspended(
        &self,
        owner: &str,
        suspended: bool,
        origin: &ChangeOrigin,
    ) -> Result<(OwnerState, bool), StoreError>;

    /// Returns how many [live](crate::KeyRecord::is_live) keys the owner has by the store's clock, counted
    /// up to `max`; 0 for an owner that is not known. Those that
    /// [`WriteOptions::max_live_keys`](super::WriteOptions::max_live_keys) bounds.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn count_live_keys(&self, owner: &str, max: u32) -> Result<u32, StoreError>;

    /// Writes the revocation of an owner's keys into their own records: one bounded step, which
    /// reads and changes 1,000 records at most. Returns whether more may be left to do.
    ///
    /// Records read the same before and after it, so it does not take an epoch or increment a
    /// version. Several nodes may call it at once, and each continues what another left.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn mark_revoked_keys(&self) -> Result<bool, StoreError>;
}
