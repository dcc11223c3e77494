//! The change log in memory.

use async_trait::async_trait;

use super::MemoryStore;
use crate::error::StoreError;
use crate::store::{ChangeListener, ChangeLog, ChangeSet, Changes, Cursor, NodeId, PROTOCOL};

#[async_trait]
impl ChangeLog for MemoryStore {
    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Changes, StoreError> {
        let state = self.state();
        let changed = since
            .filter(|cursor| cursor.tag == self.tag)
            .and_then(|cursor| state.since(cursor.epoch));
        let mut cursor = self.cursor(&state);
        let set = match (changed, since) {
            (Some(items), Some(since)) => {
                cursor.epoch = since.epoch + items.len() as u64;
                ChangeSet::Entries(items)
            }
            _ => ChangeSet::Resync,
        };
        let member = node
            .and_then(|node| state.nodes.get(node))
            .is_some_and(|node| !node.suspected);
        Ok(Changes::new(set, cursor, self.lease)
            .with_head(state.epoch)
            .for_member(member)
            .with_required_protocol(PROTOCOL))
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        Some(self.changed.subscribe())
    }
}
