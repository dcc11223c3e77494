//! The failure detector: nodes whose heartbeats stop are suspected, and then removed.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::poller::ChangePoller;
use crate::error::{ErrorChain, StoreError};
use crate::store::{MemberList, Membership, Node, NodeId, outlasts};

impl ChangePoller {
    /// Returns the number of this node's present membership, if other nodes cannot have removed it: they
    /// remove a node only after its lease has ended. If two calls return the same number, it was a member
    /// all the time between them. Nodes of a store without a member list remain for as long as they run.
    pub(crate) fn membership(&self) -> Option<u64> {
        let lease = &self.cache.lease;
        if lease.is_closed() {
            return None;
        }
        let number = self.joins.load(Ordering::SeqCst);
        let is_listed = self.shared.store.membership().is_some();
        (!is_listed || lease.holds(self.shared.now())).then_some(number)
    }

    /// Watches the other nodes. A node without a heartbeat for two leases, and for four times as long
    /// as such a write takes here, is suspected, and does not get a lease from then on. It is removed when its last lease has certainly ended.
    pub(crate) async fn watch_members(&self) {
        let Some(membership) = self.shared.store.membership() else {
            return;
        };
        let mut detector = FailureDetector::default();
        loop {
            tokio::time::sleep(self.heartbeat_interval() * 2).await;
            // On a slow disk, the others' heartbeats take as long as this node's.
            let patience = (self.heartbeat_interval() * 4).max(self.write_time() * 4);
            let members = timeout(self.shared.deadline, membership.members()).await;
            // The polls report a store that does not answer.
            let Ok(Ok(list)) = members else { continue };
            for action in detector.observe(&list, self.node, Instant::now(), patience) {
                tracing::debug!(?action, "a node did not send a heartbeat");
                if let Ok(Err(error)) =
                    timeout(self.shared.deadline, action.apply(membership)).await
                {
                    tracing::debug!(?action, error = %ErrorChain(&error), "the member list was not changed");
                }
            }
        }
    }
}

/// The last observation of each other node, and the time since which it has not changed.
#[derive(Debug, Default)]
struct FailureDetector(HashMap<NodeId, (Node, Instant)>);

/// The action about a node that does not send heartbeats.
#[derive(Debug, Clone, PartialEq, Eq)]
enum MembershipAction {
    Suspect(Node),
    Remove(Node),
}

impl MembershipAction {
    async fn apply(&self, membership: &dyn Membership) -> Result<(), StoreError> {
        match self {
            Self::Suspect(node) => membership.suspect(node).await,
            Self::Remove(node) => membership.remove_node(node).await,
        }
    }
}

impl FailureDetector {
    /// Compares the list, which the store answered at `now`, with the last observation.
    fn observe(
        &mut self,
        list: &MemberList,
        own: NodeId,
        now: Instant,
        patience: Duration,
    ) -> Vec<MembershipAction> {
        let mut before = std::mem::take(&mut self.0);
        let mut actions = Vec::new();
        for node in list.nodes.iter().filter(|node| node.id != own) {
            let same = |(seen, _): &(Node, Instant)| {
                seen.heartbeat == node.heartbeat && seen.suspected == node.suspected
            };
            let since = before
                .remove(&node.id)
                .filter(same)
                .map_or(now, |(_, since)| since);
            let unchanged_for = now.saturating_duration_since(since);
            if node.suspected && unchanged_for >= outlasts(list.longest_lease) {
                actions.push(MembershipAction::Remove(node.clone()));
            } else if !node.suspected && unchanged_for >= patience {
                actions.push(MembershipAction::Suspect(node.clone()));
            }
            self.0.insert(node.id, (node.clone(), since));
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::store::Cursor;

    const PATIENCE: Duration = Duration::from_secs(1);
    const LEASE: Duration = Duration::from_millis(200);

    fn node(number: u128, heartbeat: u64, suspected: bool) -> Node {
        Node::new(NodeId::from_u128(number), 0, heartbeat, suspected)
    }

    fn list(nodes: &[Node]) -> MemberList {
        let cursor = Cursor {
            epoch: 1,
            tag: Vec::new(),
        };
        MemberList::new(cursor, LEASE, nodes.to_vec())
    }

    struct Watch {
        detector: FailureDetector,
        now: Instant,
    }

    impl Watch {
        fn new() -> Self {
            Self {
                detector: FailureDetector::default(),
                now: Instant::now(),
            }
        }

        fn observe(&mut self, after: Duration, nodes: &[Node]) -> Vec<MembershipAction> {
            self.now += after;
            self.detector
                .observe(&list(nodes), NodeId::from_u128(0), self.now, PATIENCE)
        }
    }

    #[test]
    fn a_node_that_does_not_move_is_suspected_and_then_dismissed() {
        let mut watch = Watch::new();
        let (still, suspected) = (node(1, 5, false), node(1, 5, true));
        assert_eq!(watch.observe(Duration::ZERO, slice::from_ref(&still)), []);
        assert_eq!(watch.observe(PATIENCE / 2, slice::from_ref(&still)), []);
        assert_eq!(
            watch.observe(PATIENCE / 2, slice::from_ref(&still)),
            [MembershipAction::Suspect(still)]
        );
        // The wait for its lease begins when it is seen suspected, however long it was silent
        // before.
        assert_eq!(watch.observe(PATIENCE, slice::from_ref(&suspected)), []);
        assert_eq!(watch.observe(LEASE, slice::from_ref(&suspected)), []);
        assert_eq!(
            watch.observe(LEASE, slice::from_ref(&suspected)),
            [MembershipAction::Remove(suspected)]
        );
    }

    #[test]
    fn a_node_that_moves_is_left_alone() {
        let mut watch = Watch::new();
        for heartbeat in 0..10 {
            assert_eq!(
                watch.observe(PATIENCE * 2, &[node(1, heartbeat, false)]),
                []
            );
        }
        // A node that recovered from a suspicion is watched from the start.
        watch.observe(LEASE * 2, &[node(1, 9, true)]);
        assert_eq!(watch.observe(LEASE * 2, &[node(1, 10, true)]), []);
        assert_eq!(watch.observe(PATIENCE, &[node(1, 10, false)]), []);
    }

    #[test]
    fn a_node_does_not_suspect_itself() {
        let mut watch = Watch::new();
        watch.observe(Duration::ZERO, &[node(0, 1, false)]);
        assert_eq!(watch.observe(PATIENCE * 2, &[node(0, 1, false)]), []);
    }
}
