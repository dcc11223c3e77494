//! Being one of several nodes: telling the others how far this one has followed, and striking off
//! the list those that are gone.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::poller::ChangePoller;
use crate::cache::Reader;
use crate::error::StoreError;
use crate::store::{Cursor, MemberList, Node, NodeId, outlasts};

/// The least time between two signs of life with nothing else to tell.
const SHORTEST_BEAT: Duration = Duration::from_millis(250);

/// The pause before what was not told is told again; each is twice the one before.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

impl ChangePoller {
    /// Acknowledges what the polls have followed, and gives a sign of life where there is nothing
    /// to acknowledge. On its own, so that a write that takes long puts off no poll.
    pub(crate) async fn acknowledge(&self, reader: &Reader) {
        let mut followed = self.followed.subscribe();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let cursor = followed
                .borrow_and_update()
                .as_ref()
                .map(|followed| followed.cursor.clone());
            let sent = match &cursor {
                Some(cursor) => self.send_acknowledgement(reader, cursor).await,
                None => true,
            };
            let silence = if !sent {
                // Until it is told, others wait for the end of the lease.
                pause
            } else if self.is_listed() {
                heartbeat(reader)
            } else {
                // A store that keeps no list wants no sign of life.
                Duration::MAX
            };
            pause = if sent {
                SHORTEST_PAUSE
            } else {
                heartbeat(reader).min(pause * 2)
            };
            // Lost with the manager itself.
            if let Ok(Err(_)) = timeout(silence, followed.changed()).await {
                return;
            }
        }
    }

    /// Whether the store has noted that all up to `cursor` is followed here.
    async fn send_acknowledgement(&self, reader: &Reader, cursor: &Cursor) -> bool {
        match timeout(
            reader.deadline,
            reader.store.acknowledge(&self.node, cursor),
        )
        .await
        {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::debug!(%error, "changes were not acknowledged"),
            Err(_) => tracing::debug!("changes were not acknowledged in time"),
        }
        false
    }

    /// Watches the other nodes. One that gives no sign of life for two leases is suspected; from
    /// then on it gets no lease, and when the last that it had has surely ended it is dismissed.
    pub(crate) async fn watch_members(&self, reader: &Reader) {
        let mut detector = FailureDetector::default();
        loop {
            tokio::time::sleep(heartbeat(reader) * 2).await;
            let patience = heartbeat(reader) * 4;
            match timeout(reader.deadline, reader.store.members()).await {
                Ok(Ok(Some(list))) => {
                    for action in detector.observe(&list, self.node, Instant::now(), patience) {
                        let taken = timeout(reader.deadline, action.take(reader)).await;
                        tracing::debug!(?action, ?taken, "a node gave no sign of life");
                    }
                }
                Ok(Ok(None)) => return,
                // The polls say what there is to say of a store that gives no answer.
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

/// The time between two signs of life.
fn heartbeat(reader: &Reader) -> Duration {
    let length = reader.cache.lease.length().unwrap_or_default();
    (length / 2).max(SHORTEST_BEAT)
}

/// What the other nodes were last seen to be, and since when they are so.
#[derive(Debug, Default)]
struct FailureDetector(HashMap<NodeId, (Node, Instant)>);

/// What is to be done about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
enum MembershipAction {
    Suspect(Node),
    Remove(Node),
}

impl MembershipAction {
    async fn take(&self, reader: &Reader) -> Result<(), StoreError> {
        match self {
            Self::Suspect(node) => reader.store.suspect(node).await,
            Self::Remove(node) => reader.store.remove_node(node).await,
        }
    }
}

impl FailureDetector {
    /// Looks at the roster, which was answered at `now`.
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
            let unmoved = now.saturating_duration_since(since);
            if node.suspected && unmoved >= outlasts(list.longest_lease) {
                actions.push(MembershipAction::Remove(node.clone()));
            } else if !node.suspected && unmoved >= patience {
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
        // The wait for its lease begins when it is seen suspected, however long it stood still.
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
        // One that came back from a suspicion is watched anew.
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
