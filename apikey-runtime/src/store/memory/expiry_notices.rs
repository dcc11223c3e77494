//! Notices before the end of keys in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;

use super::MemoryStore;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::KeyRecord;
use crate::store::expiry_notices::{check_finished, claim_limit};
use crate::store::{ExpiryNotice, ExpiryNotices, NodeId};

/// The notices of all keys that expire.
#[derive(Debug, Default)]
pub(super) struct NoticeTable {
    /// Each notice, and the node that has claimed it.
    notices: HashMap<KeyId, (ExpiryNotice, Option<NodeId>)>,
    /// The same by the node, in the order in which notices are claimed.
    queues: BTreeMap<Option<NodeId>, BTreeSet<(Option<Timestamp>, KeyId)>>,
}

impl NoticeTable {
    /// Follows a change of a record, either side of which may be missing.
    pub(super) fn follow(
        &mut self,
        before: Option<&KeyRecord>,
        after: Option<&KeyRecord>,
        now: Timestamp,
    ) {
        let end = |record: Option<&KeyRecord>| Some((record?.id, record?.expires?));
        let (was, is) = (end(before), end(after));
        if was == is {
            return;
        }
        if let Some((key, _)) = was {
            self.remove(&key);
        }
        if let Some((key, expires)) = is {
            self.put(ExpiryNotice::new(key, expires, now), None);
        }
    }

    fn put(&mut self, notice: ExpiryNotice, node: Option<NodeId>) {
        let queue = self.queues.entry(node).or_default();
        queue.insert((notice.planned, notice.key));
        self.notices.insert(notice.key, (notice, node));
    }

    fn remove(&mut self, key: &KeyId) -> Option<(ExpiryNotice, Option<NodeId>)> {
        let (notice, node) = self.notices.remove(key)?;
        let queue = self.queues.entry(node).or_default();
        queue.remove(&(notice.planned, *key));
        if queue.is_empty() {
            self.queues.remove(&node);
        }
        Some((notice, node))
    }

    /// Claims the first notices that are due and in the queue of a node for which `free` holds.
    fn claim(
        &mut self,
        node: NodeId,
        now: Timestamp,
        limit: usize,
        free: impl Fn(&NodeId) -> bool,
    ) -> Vec<ExpiryNotice> {
        let queues = self.queues.iter();
        let free = queues.filter(|(claimer, _)| claimer.as_ref().is_none_or(&free));
        let due = |(planned, _): &&(Option<Timestamp>, KeyId)| *planned <= Some(now);
        let mut first: Vec<_> = free
            .flat_map(|(_, queue)| queue.iter().take_while(due).take(limit))
            .copied()
            .collect();
        first.sort_unstable();
        first.truncate(limit);
        let mut claimed = Vec::with_capacity(first.len());
        for (_, key) in first {
            if let Some((notice, _)) = self.remove(&key) {
                self.put(notice, Some(node));
                claimed.push(notice);
            }
        }
        claimed
    }

    /// Ends the claim of `node` to a notice, if it still has it.
    fn finish(&mut self, node: NodeId, notice: &ExpiryNotice, planned: Option<Timestamp>) {
        let is_same = |(kept, claimer): &(ExpiryNotice, Option<NodeId>)| {
            kept.expires == notice.expires && *claimer == Some(node)
        };
        if !self.notices.get(&notice.key).is_some_and(is_same) {
            return;
        }
        if let Some((kept, _)) = self.remove(&notice.key)
            && planned.is_some()
        {
            self.put(kept.with_planned(planned), None);
        }
    }
}

#[async_trait]
impl ExpiryNotices for MemoryStore {
    async fn claim_notices(
        &self,
        node: &NodeId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ExpiryNotice>, StoreError> {
        let state = &mut *self.state();
        let members = &state.nodes;
        let free = |claimer: &NodeId| claimer == node || !members.contains_key(claimer);
        Ok(state.notices.claim(*node, now, claim_limit(limit), free))
    }

    async fn finish_notices(
        &self,
        node: &NodeId,
        finished: &[(ExpiryNotice, Option<Timestamp>)],
    ) -> Result<(), StoreError> {
        check_finished(finished)?;
        let mut state = self.state();
        for (notice, planned) in finished {
            state.notices.finish(*node, notice, *planned);
        }
        Ok(())
    }
}
