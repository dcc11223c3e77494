//! The change log: what changed in a store, and how long a node may cache what it read.

use std::time::Duration;

use async_trait::async_trait;

use super::{ChangeListener, NodeId};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::OwnerState;

/// Logs changes, so that managers can cache records and poll for what changed.
///
/// Every insert, update, revocation and removal of a key takes the next epoch and logs the key's
/// id, in one step with the change and in commit order. So does every change of an
/// [owner](super::OwnerStore).
#[async_trait]
pub trait ChangeLog: Send + Sync {
    /// Returns what changed since `since`: at most [`ChangeSet::MAX_ENTRIES`] items, of which the
    /// first is the one after `since`. The caller continues from the returned cursor until it has
    /// reached the [head](Changes::head). If `since` is `None`, returns [`ChangeSet::Resync`] and
    /// the newest cursor.
    ///
    /// The head, the log, the lease, the required protocol and whether `node` is a
    /// [member](Changes::member) are read in one snapshot, as of a moment after the call.
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

/// The protocol version that this release speaks. 2 is the first with
/// [`ChangedItem::Owner`].
pub(crate) const PROTOCOL: u32 = 2;

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
    /// The position up to which `set` goes. With [`ChangeSet::Resync`], the newest.
    pub cursor: Cursor,
    /// The epoch of the newest change. It is ahead of the cursor if further changes follow.
    pub head: u64,
    /// How long, counted from when the poll was sent, a node may use a record without reading it
    /// again. The same for all nodes that use the store.
    pub lease: Duration,
    /// Whether the node that polled is listed and not suspected. If not, it gets no lease, unless
    /// the store has no [membership](super::KeyStore::membership).
    pub member: bool,
    /// The protocol version that a node must speak to use what this store logs. A node that does not
    /// speak it takes no lease. 2 if the store keeps [owners](super::OwnerStore), otherwise 1.
    pub required_protocol: u32,
}

impl Changes {
    /// Creates an answer for a node that is not a member. `cursor` is the newest, and the required
    /// protocol is 1.
    #[must_use]
    pub fn new(set: ChangeSet, cursor: Cursor, lease: Duration) -> Self {
        Self {
            head: cursor.epoch,
            set,
            cursor,
            lease,
            member: false,
            required_protocol: 1,
        }
    }

    /// Sets the epoch of the newest change. By default, that of the cursor.
    #[must_use]
    pub fn with_head(mut self, head: u64) -> Self {
        self.head = head;
        self
    }

    /// Sets the protocol version that a node must speak. By default, 1.
    #[must_use]
    pub fn with_required_protocol(mut self, version: u32) -> Self {
        self.required_protocol = version;
        self
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
    /// Exactly these items changed, in commit order: one for each epoch after the cursor that was
    /// passed, up to the one that is returned. An item may occur several times.
    Entries(Vec<ChangedItem>),
    /// Anything may have changed. The store does not know the cursor, because it was restored,
    /// failed over, or no longer has that part of the log; or the log has an entry whose kind it
    /// does not know.
    Resync,
}

/// An item that changed.
///
/// A store that meets an entry of a kind that is not here answers [`ChangeSet::Resync`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangedItem {
    /// The record of this key was inserted, changed, revoked or removed.
    Key(KeyId),
    /// A node joined. No record changed.
    Member,
    /// All keys of an owner were revoked, suspended or resumed.
    Owner {
        /// The owner.
        owner: String,
        /// Its state, read in the same snapshot as the log. It may be newer than this change.
        state: OwnerState,
    },
}

impl ChangeSet {
    /// The maximum number of items of one answer.
    pub const MAX_ENTRIES: usize = 1_000;

    /// Creates the set of changes of these keys.
    #[must_use]
    pub fn of_keys(keys: impl IntoIterator<Item = KeyId>) -> Self {
        Self::Entries(keys.into_iter().map(ChangedItem::Key).collect())
    }

    /// Returns whether an owner changed.
    pub(crate) fn names_owner(&self) -> bool {
        let is_owner = |item: &ChangedItem| matches!(item, ChangedItem::Owner { .. });
        matches!(self, Self::Entries(items) if items.iter().any(is_owner))
    }
}

impl ChangedItem {
    /// Returns the key that changed, or `None` if the item is not a key.
    #[must_use]
    pub fn key(self) -> Option<KeyId> {
        match self {
            Self::Key(id) => Some(id),
            Self::Member | Self::Owner { .. } => None,
        }
    }
}
