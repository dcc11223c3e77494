//! The change log: what changed in a store, and how long a node may cache what it read.

use std::time::Duration;

use async_trait::async_trait;

use super::{ChangeListener, NodeId};
use crate::error::StoreError;
use crate::key::KeyId;

/// Logs changes, so that managers can cache records and poll for what changed.
///
/// Every insert, update, revocation and removal of a key takes the next epoch and logs the key's
/// id, in one step with the change and in commit order.
#[async_trait]
pub trait ChangeLog: Send + Sync {
    /// Returns what changed since `since`. If `since` is `None`, returns [`ChangeSet::Resync`] and
    /// the current cursor.
    ///
    /// The epoch, the log, the lease and whether `node` is a [member](Changes::member) are read in
    /// one snapshot, as of a moment after the call.
    ///
    /// # Errors
    ///
    /// Returns any backend error. When its lease has ended, the manager reads the store for each
    /// request, until a poll succeeds.
    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Changes, StoreError>;

    /// Subscribes to the store's pushes, which signal that something changed. By default, `None`:
    /// managers only poll.
    fn subscribe(&self) -> Option<ChangeListener> {
        None
    }
}

/// A position in a store's change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The number of changes up to here.
    pub epoch: u64,
    /// A random mark of the change at this epoch. A store that was restored from a dump may repeat
    /// an epoch, but not its tag.
    pub tag: Vec<u8>,
}

/// What changed in a store since a [`Cursor`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// The set of changes.
    pub set: ChangeSet,
    /// The current position of the change log.
    pub cursor: Cursor,
    /// How long, counted from when the poll was sent, a node may use a record without reading it
    /// again. The same for all nodes that use the store.
    pub lease: Duration,
    /// Whether the node that polled is listed and not suspected. If not, it gets no lease, unless
    /// the store has no [membership](super::KeyStore::membership).
    pub member: bool,
}

impl Changes {
    /// Creates an answer for a node that is not a member.
    #[must_use]
    pub fn new(set: ChangeSet, cursor: Cursor, lease: Duration) -> Self {
        Self {
            set,
            cursor,
            lease,
            member: false,
        }
    }

    /// Sets whether the node that polled is a [member](Changes::member).
    ///
    /// By default, `false`.
    #[must_use]
    pub fn for_member(mut self, member: bool) -> Self {
        self.member = member;
        self
    }
}

/// A set of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeSet {
    /// Exactly these items changed, in commit order. An item may occur several times.
    Entries(Vec<ChangedItem>),
    /// Anything may have changed: the store does not know the cursor, because it was restored,
    /// failed over, or no longer has that part of the log.
    Resync,
}

/// An item that changed.
///
/// A manager that does not know an item evicts its whole cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangedItem {
    /// The record of this key was inserted, changed, revoked or removed.
    Key(KeyId),
}

impl ChangeSet {
    /// Creates the set of changes of these keys.
    #[must_use]
    pub fn of_keys(keys: impl IntoIterator<Item = KeyId>) -> Self {
        Self::Entries(keys.into_iter().map(ChangedItem::Key).collect())
    }
}

impl ChangedItem {
    /// Returns the key that changed, or `None` if the item is not a key.
    #[must_use]
    pub const fn key(self) -> Option<KeyId> {
        match self {
            Self::Key(id) => Some(id),
        }
    }
}
