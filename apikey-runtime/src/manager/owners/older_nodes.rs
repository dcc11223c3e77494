//! Nodes of an older build, which read the keys' records and do not know owners' states.

use crate::error::{Error, ErrorChain, StoreError};
use crate::manager::core::ManagerCore;
use crate::metrics::StoreCall;
use crate::store::{Node, NodeId};

/// The first protocol version whose nodes know owners' states.
const OWNERS_SINCE: u32 = 2;

impl ManagerCore {
    /// Returns a node in the member list that does not know owners' states. A suspected one counts
    /// too: it may still read the store.
    async fn older_node(&self) -> Result<Option<(NodeId, u32)>, StoreError> {
        let Some(membership) = self.shared.store.membership() else {
            return Ok(None);
        };
        let read = membership.members();
        let members = self.shared.call(StoreCall::Members, read).await?;
        let older = |node: &&Node| node.protocol < OWNERS_SINCE;
        let found = members.nodes.iter().find(older);
        Ok(found.map(|node| (node.id, node.protocol)))
    }

    /// Returns whether a node may not know owners' states. If the member list cannot be read, one may.
    pub(super) async fn may_have_older_nodes(&self) -> bool {
        match self.older_node().await {
            Ok(None) => false,
            Ok(Some((node, protocol))) => {
                tracing::warn!(%node, protocol, "a node of an older build does not know owners, so all keys of the owner are marked as revoked before the call returns");
                true
            }
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "the member list cannot be read, so all keys of the owner are marked as revoked before the call returns");
                true
            }
        }
    }

    /// Rejects a suspension that an older node would ignore.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`], which names the node, or [`Error::Store`] if the member list
    /// cannot be read.
    pub(super) async fn refuse_older_nodes(&self) -> Result<(), Error> {
        match self.older_node().await? {
            None => Ok(()),
            Some((node, protocol)) => Err(Error::Unsupported(format!(
                "the node `{node}` is of an older build (protocol {protocol}), which accepts keys of a \
                 suspended owner; stop or update that process and make the call again, or use \
                 `revoke_all` or `disable`, which it heeds"
            ))),
        }
    }
}
