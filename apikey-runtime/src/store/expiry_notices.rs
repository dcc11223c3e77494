//! The capability of notices before the end of keys.

use async_trait::async_trait;

use super::NodeId;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;

/// The maximum number of notices that one call claims or finishes.
pub(crate) const MAX_NOTICES: u32 = 1_000;

/// Keeps, for each key that expires, when the next notice of its end is due, so that of all nodes one gives it.
///
/// A record that gets an expiry gets a notice, which is neither planned nor claimed. A write that changes the
/// expiry replaces the notice by such a one, and a write that removes the expiry or the record removes the
/// notice, both in the write's own transaction. On SQL, statements by hand count too. All other writes keep the
/// notice: those of the same expiry, and a revocation of the key or of its owner.
///
/// Notices are not part of records. Neither a claim nor its end changes a record's version, takes an epoch of the change
/// log, or is audited.
///
/// A node claims notices, sends the events that are due, and then finishes each notice. A claim belongs to its
/// node until the notice is finished, replaced or removed, or the node is not in the member list any more. A
/// suspected node is in the list. So a store with this capability also has a
/// [member list](super::Membership).
#[async_trait]
pub trait ExpiryNotices: Send + Sync {
    /// Claims notices for `node` and returns them, at most `limit` (clamped to 1 to 1,000).
    ///
    /// Returned are notices that are not planned, or planned for `now` or before, and that are claimed by this
    /// node, by a node that is not in the member list, or not at all. They are returned in the order of their times, those
    /// that are not planned first; among equal times, in any order. A notice that this node claimed before and has
    /// not finished is returned again.
    ///
    /// A call reads a bounded number of notices, whatever other nodes have claimed. If there are more, notices that others
    /// have claimed may hide the ones behind them, but not for ever: a later call finds these.
    ///
    /// # Errors
    ///
    /// Returns any backend error. The claims may have been made.
    async fn claim_notices(
        &self,
        node: &NodeId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ExpiryNotice>, StoreError>;

    /// Finishes notices that `node` claimed: ends the claim of each, and plans the notice for the time
    /// that it is given with, or removes it if that is `None`. The key then gets no notice until its expiry
    /// changes.
    ///
    /// Skips a notice whose claim is not this node's any more, or whose expiry was changed since.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::InvalidArgument`] if more than 1,000 notices are given, or any backend error. Some,
    /// all or none of the notices may then be finished, and the claims of the others stay. A notice that cannot be
    /// finished, such as one that a transaction by hand has locked, may make the call fail for all; the manager
    /// then finishes the others in smaller calls.
    async fn finish_notices(
        &self,
        node: &NodeId,
        finished: &[(ExpiryNotice, Option<Timestamp>)],
    ) -> Result<(), StoreError>;
}

/// A notice that is due before the end of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExpiryNotice {
    /// The key.
    pub key: KeyId,
    /// The expiry that the notice is about.
    pub expires: Timestamp,
    /// When this expiry was set, by the store's clock. For a key from before notices were kept, when the key was
    /// created.
    pub since: Timestamp,
    /// The time for which the notice is planned; `None` if it is not planned yet.
    pub planned: Option<Timestamp>,
}

impl ExpiryNotice {
    /// Creates a notice that is not planned.
    #[must_use]
    pub fn new(key: KeyId, expires: Timestamp, since: Timestamp) -> Self {
        Self {
            key,
            expires,
            since,
            planned: None,
        }
    }

    /// Sets the time for which the notice is planned.
    #[must_use]
    pub fn with_planned(mut self, planned: Option<Timestamp>) -> Self {
        self.planned = planned;
        self
    }
}

/// Returns the number of notices that a call with this limit claims at most.
pub(crate) fn claim_limit(limit: u32) -> usize {
    limit.clamp(1, MAX_NOTICES) as usize
}

/// Rejects more notices than one call finishes.
pub(crate) fn check_finished(
    finished: &[(ExpiryNotice, Option<Timestamp>)],
) -> Result<(), StoreError> {
    if finished.len() > MAX_NOTICES as usize {
        return Err(StoreError::InvalidArgument(format!(
            "{} notices are finished at once, and {MAX_NOTICES} is the maximum; finish them in several calls",
            finished.len()
        )));
    }
    Ok(())
}
