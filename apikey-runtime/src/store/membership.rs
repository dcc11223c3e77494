//! Membership: the nodes that use a store.

use async_trait::async_trait;

use super::{Cursor, MemberList, Node, NodeId};
use crate::error::StoreError;

/// Lists the nodes that use a store, so that a manager can tell when a change has reached all of
/// them.
///
/// A store with this capability also has a [change log](super::ChangeLog).
#[async_trait]
pub trait Membership: Send + Sync {
    /// Adds `node` to the member list, with a random heartbeat. If the node is already listed,
    /// increments its heartbeat and ends its suspicion.
    ///
    /// Takes the next epoch and logs [`ChangedItem::Member`](super::ChangedItem::Member), so that a change log that lost the join differs from
    /// one that did not. The join is durable when the call returns.
    ///
    /// # Errors
    ///
    /// Returns any backend error; the node then takes no lease.
    async fn join(&self, node: &NodeId) -> Result<(), StoreError>;

    /// Stores that `node` has evicted from its cache everything that changed up to `cursor`, and
    /// increments its heartbeat.
    ///
    /// The epoch is stored only if the change log has the cursor's change with its tag. A suspicion
    /// stays. Does nothing if the node is not listed. The acknowledgement may be lost in a crash.
    ///
    /// A store may then trim the change log to the lowest epoch that a listed node has
    /// acknowledged. The cursor at that epoch stays valid.
    ///
    /// # Errors
    ///
    /// Returns any backend error; other nodes then wait until the node's lease has ended.
    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError>;

    /// Returns the member list.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn members(&self) -> Result<MemberList, StoreError>;

    /// Returns the member list of a store that is not started, of this or an older release. Before a store is brought up to
    /// date, this tells whether servers use it. Nothing is changed. By default, returns [`members`](Self::members).
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Schema`] if there is not such a store, and any backend error.
    async fn members_before_start(&self) -> Result<MemberList, StoreError> {
        self.members().await
    }

    /// Marks a node as suspected to be gone, if its heartbeat is still that of `seen`.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn suspect(&self, seen: &Node) -> Result<(), StoreError>;

    /// Removes a suspected node from the list, if its heartbeat is still that of `seen` and it is
    /// still suspected.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn remove_node(&self, seen: &Node) -> Result<(), StoreError>;

    /// Removes a node from the list at its own request: it holds no lease any more.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn leave(&self, node: &NodeId) -> Result<(), StoreError>;
}
