//! Membership in memory.

use async_trait::async_trait;

use super::{LoggedItem, MemoryStore};
use crate::error::StoreError;
use crate::store::{Cursor, MemberList, Membership, Node, NodeId};

#[async_trait]
impl Membership for MemoryStore {
    async fn join(&self, node: &NodeId) -> Result<(), StoreError> {
        let mut state = self.change();
        let heartbeat = state.heartbeat();
        let listed = state
            .nodes
            .entry(*node)
            .or_insert(Node::new(*node, 0, heartbeat, false));
        listed.heartbeat = heartbeat;
        listed.suspected = false;
        state.log(LoggedItem::Member);
        Ok(())
    }

    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
        let mut state = self.state();
        let known = cursor.tag == self.tag && cursor.epoch <= state.epoch;
        let heartbeat = state.heartbeat();
        if let Some(listed) = state.nodes.get_mut(node) {
            listed.heartbeat = heartbeat;
            if known {
                listed.acknowledged = cursor.epoch;
            }
        }
        state.trim();
        Ok(())
    }

    async fn members(&self) -> Result<MemberList, StoreError> {
        let state = self.state();
        let cursor = self.cursor(&state);
        let nodes = state.nodes.values().cloned().collect();
        Ok(MemberList::new(cursor, self.lease, nodes))
    }

    async fn suspect(&self, seen: &Node) -> Result<(), StoreError> {
        if let Some(node) = self.state().nodes.get_mut(&seen.id) {
            node.suspected |= node.heartbeat == seen.heartbeat;
        }
        Ok(())
    }

    async fn remove_node(&self, seen: &Node) -> Result<(), StoreError> {
        let gone = |node: &Node| node.suspected && node.heartbeat == seen.heartbeat;
        let mut state = self.state();
        if state.nodes.get(&seen.id).is_some_and(gone) {
            state.nodes.remove(&seen.id);
        }
        Ok(())
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        self.state().nodes.remove(node);
        Ok(())
    }
}
