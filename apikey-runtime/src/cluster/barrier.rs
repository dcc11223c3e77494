//! The barrier behind `.confirmed()`: it waits until every node has followed a change.

use std::time::Duration;

use tokio::time::Instant;

use super::poller::ChangePoller;
use crate::error::{Error, ErrorChain};
use crate::metrics::StoreCall;
use crate::shared::CallClass;
use crate::store::{MAX_LEASE, MemberList, Node, NodeId, outlasts};

/// The first pause between two reads of the member list. Each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_millis(16);

/// How the other nodes of the store learned of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Propagation {
    /// The nodes that acknowledged that they have evicted what changed. A node that left, or was
    /// removed after its lease ended, during the wait is in neither list.
    pub acknowledged: Vec<NodeId>,
    /// The nodes that did not acknowledge in time: paused, cut off, or gone. Their leases have
    /// ended.
    pub waited_out: Vec<NodeId>,
    /// Whether the longest lease was waited out, so that no node trusts an entry from before the
    /// change, whether or not the node is listed here. This is so if a node did not acknowledge in
    /// time, or if the member list may have a gap: the store lacks membership, did not answer, or
    /// was restored to an earlier state; or this manager has followed it for no longer than a
    /// lease.
    pub outlasted: bool,
}

impl ChangePoller {
    /// Waits until no node trusts an entry that it cached before this call. Called after the change
    /// is committed and its keys are evicted from this node's cache.
    ///
    /// A detached manager has followed no history, so it reads who acknowledges, and waits out the longest lease.
    ///
    /// # Errors
    ///
    /// Returns [`Error::ShutDown`] if this manager shuts down during the wait.
    pub(crate) async fn confirm(&self) -> Result<Propagation, Error> {
        let committed = Instant::now();
        let Some(members) = self.member_list(committed).await? else {
            return Ok(Propagation {
                outlasted: true,
                ..Propagation::default()
            });
        };
        // A poll that continues the ones before proves that the list belongs to the history that
        // this node has followed, and not to an earlier state of it. An earlier state may lack
        // nodes, and may state a shorter lease than was granted since.
        let seen = members.longest_lease.max(self.longest_lease());
        let _ = tokio::time::timeout_at(committed + outlasts(seen), self.poll_now()).await;
        let polled = self.has_polled_since(committed) && self.is_in(&members);
        let longest = match polled && self.unbroken_for(outlasts(seen), committed) {
            true => members.longest_lease,
            false => seen,
        };
        let end = committed + outlasts(longest);
        let mut propagation = Propagation::default();
        let epoch = members.cursor.epoch;
        let mut waiting = members.nodes;
        waiting.retain(|node| node.id != self.node);
        if !waiting.is_empty() {
            // Most nodes acknowledged during this node's poll.
            self.refresh(&mut waiting, epoch, end).await;
        }
        let mut pause = FIRST_PAUSE;
        loop {
            let (done, silent): (Vec<Node>, Vec<Node>) = waiting
                .into_iter()
                .partition(|node| node.acknowledged >= epoch);
            let done = done.iter().map(|node| node.id);
            propagation.acknowledged.extend(done);
            waiting = silent;
            // Checked each time: a list that is lost during the wait loses this node too, which
            // breaks the followed history.
            if waiting.is_empty() && polled && self.unbroken_for(outlasts(longest), committed) {
                return Ok(propagation);
            }
            if Instant::now() >= end {
                propagation.waited_out = waiting.iter().map(|node| node.id).collect();
                propagation.outlasted = true;
                return Ok(propagation);
            }
            self.sleep_until(end.min(Instant::now() + pause)).await?;
            pause = MAX_PAUSE.min(pause * 2);
            self.refresh(&mut waiting, epoch, end).await;
        }
    }

    /// Reads the member list after the change. Returns `None` if this waited instead until the
    /// leases of all nodes ended.
    async fn member_list(&self, committed: Instant) -> Result<Option<MemberList>, Error> {
        let Some(membership) = self.shared.store.membership() else {
            self.outlast_all(committed).await?;
            return Ok(None);
        };
        let latest = committed + outlasts(MAX_LEASE);
        let mut has_failed = false;
        while Instant::now() < latest {
            let read = membership.members();
            match self.shared.call(StoreCall::Members, read).await {
                Ok(members) => return Ok(Some(members)),
                Err(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::warn!(error = %ErrorChain(&error), "the member list cannot be read; a change is not confirmed yet");
                    }
                    self.sleep_until(Instant::now() + MAX_PAUSE).await?;
                }
            }
        }
        // A lease is never longer.
        Ok(None)
    }

    /// Waits for as long as any node may trust what it read before the change, for a store without
    /// membership.
    async fn outlast_all(&self, committed: Instant) -> Result<(), Error> {
        self.poll_now().await;
        // Without a change log nothing is cached, but a read in flight counts, for as long as a
        // read may take.
        let length = self.cache.lease.length();
        let longest = length.unwrap_or(self.shared.deadline);
        let longest = longest.max(self.longest_lease());
        self.sleep_until(committed + outlasts(longest)).await
    }

    /// Sleeps, unless this manager shuts down first.
    async fn sleep_until(&self, end: Instant) -> Result<(), Error> {
        loop {
            if self.is_stopping() {
                return Err(Error::ShutDown);
            }
            if Instant::now() >= end {
                return Ok(());
            }
            tokio::time::sleep_until(end.min(Instant::now() + MAX_PAUSE)).await;
        }
    }

    /// Returns whether the store answered a poll that was sent after the change.
    fn has_polled_since(&self, committed: Instant) -> bool {
        let answered = self.shared.status.of(CallClass::Polls).answered;
        answered.is_some_and(|answered| answered >= committed)
    }

    /// Returns whether this node had followed one history for `span` when the change was committed,
    /// and still does.
    fn unbroken_for(&self, span: Duration, committed: Instant) -> bool {
        let followed = self.followed();
        followed.is_some_and(|followed| followed.unbroken_since + span <= committed)
    }

    /// Returns whether this node is a member. A list without it has lost entries.
    fn is_in(&self, members: &MemberList) -> bool {
        members.nodes.iter().any(|node| node.id == self.node)
    }

    /// Reads what the nodes in `waiting` have acknowledged by now. A node that is not a
    /// member has left or was removed, and does not hold a lease.
    async fn refresh(&self, waiting: &mut Vec<Node>, epoch: u64, end: Instant) {
        let Some(membership) = self.shared.store.membership() else {
            return;
        };
        let Ok(Ok(now)) = tokio::time::timeout_at(end, membership.members()).await else {
            return;
        };
        if now.cursor.epoch < epoch || !(self.detached || self.is_in(&now)) {
            return;
        }
        let listed = |seen: &Node| now.nodes.iter().find(|node| node.id == seen.id).cloned();
        *waiting = waiting.iter().filter_map(listed).collect();
    }
}
