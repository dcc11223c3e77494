//! Waiting until a change has reached every node.

use std::future::IntoFuture;
use std::time::Duration;

use tokio::time::Instant;

use super::ApiKeyManager;
use super::create::Work;
use crate::error::{Error, StoreError};
use crate::metrics::StoreCall;
use crate::store::{LONGEST_LEASE, MemberList, Node, NodeId, outlasts};
use crate::verify::Verifier;

/// The first pause between two looks at the list of nodes; each is twice the one before.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// The longest.
const LAST_LOOK: Duration = Duration::from_millis(16);

/// A change that is to be confirmed by every node; see [`RevokeKey::confirmed`]. Await it.
///
/// [`RevokeKey::confirmed`]: super::RevokeKey::confirmed
#[derive(Debug)]
#[must_use = "nothing is changed until this is awaited"]
pub struct ConfirmedCall<C> {
    manager: ApiKeyManager,
    change: C,
}

impl<C> ConfirmedCall<C> {
    pub(super) fn new(manager: ApiKeyManager, change: C) -> Self {
        Self { manager, change }
    }
}

impl<C, T> IntoFuture for ConfirmedCall<C>
where
    C: IntoFuture<Output = Result<T, Error>, IntoFuture = Work<T>> + Send + 'static,
    T: Send + 'static,
{
    type Output = Result<Confirmed<T>, Error>;
    type IntoFuture = Work<Confirmed<T>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let value = self.change.await?;
            let propagation = self
                .manager
                .on_thread(|verifier| async move { verifier.confirm().await })
                .await?;
            Ok(Confirmed { value, propagation })
        })
    }
}

/// A change that no check contradicts which starts from now on, on any node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmed<T> {
    /// What the change itself returns.
    pub value: T,
    /// How the other nodes learned of it.
    pub propagation: Propagation,
}

/// How the other nodes that use the store learned of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Propagation {
    /// Those that said that they have dropped from memory what changed. A node that left, or was
    /// struck off with its lease ended, while it was waited for is in neither list.
    pub acknowledged: Vec<NodeId>,
    /// Those that did not say so in time: paused, cut off, or gone. What they remember has run out.
    pub waited_out: Vec<NodeId>,
    /// Whether the longest lease was waited out, so that no node remembers anything from before the
    /// change, whether it is named here or not. It is, where a node did not say so in time; and
    /// where the list of nodes may have a gap: the store keeps none, could not be asked, or was put
    /// back to an earlier state; or this manager has followed it for no longer than a lease.
    pub outlasted: bool,
}

impl Verifier {
    /// Returns when no node believes anything any more that it remembers from before now. The
    /// change is committed, and dropped from this node's memory. An error where this manager ends
    /// meanwhile.
    async fn confirm(&self) -> Result<Propagation, Error> {
        let committed = Instant::now();
        let Some(members) = self.members(committed).await? else {
            return Ok(Propagation {
                outlasted: true,
                ..Propagation::default()
            });
        };
        // A poll that fits the ones before tells that the list is that of the history which this
        // node has followed, and not of an earlier state of it: that one may lack nodes, and state
        // a lease that is shorter than what was granted since.
        let seen = members.longest_lease.max(self.poller.longest_lease());
        let _ = tokio::time::timeout_at(committed + outlasts(seen), self.poller.poll_now()).await;
        let asked = self.has_asked_since(committed) && self.is_on(&members);
        let longest = match asked && self.unbroken_for(outlasts(seen), committed) {
            true => members.longest_lease,
            false => seen,
        };
        let end = committed + outlasts(longest);
        let mut propagation = Propagation::default();
        let epoch = members.cursor.epoch;
        let mut waiting = members.nodes;
        waiting.retain(|node| node.id != self.poller.node());
        if !waiting.is_empty() {
            // Most have told while this node's poll was under way.
            self.look_again(&mut waiting, epoch, end).await;
        }
        let mut pause = FIRST_LOOK;
        loop {
            let (told, silent): (Vec<Node>, Vec<Node>) = waiting
                .into_iter()
                .partition(|node| node.acknowledged >= epoch);
            propagation
                .acknowledged
                .extend(told.iter().map(|node| node.id));
            waiting = silent;
            // Looked at again and again: a list that is lost on the way takes this node off it too,
            // which breaks what it has followed.
            if waiting.is_empty() && asked && self.unbroken_for(outlasts(longest), committed) {
                return Ok(propagation);
            }
            if Instant::now() >= end {
                propagation.waited_out = waiting.iter().map(|node| node.id).collect();
                propagation.outlasted = true;
                return Ok(propagation);
            }
            self.rest_until(end.min(Instant::now() + pause)).await?;
            pause = LAST_LOOK.min(pause * 2);
            self.look_again(&mut waiting, epoch, end).await;
        }
    }

    /// The list of nodes as it stands after the change. `None` where all that anyone may remember
    /// was waited out here.
    async fn members(&self, committed: Instant) -> Result<Option<MemberList>, Error> {
        let latest = committed + outlasts(LONGEST_LEASE);
        while Instant::now() < latest {
            match self
                .within(StoreCall::Nodes, self.reader.store.members())
                .await
            {
                Ok(Some(members)) => return Ok(Some(members)),
                Ok(None) => {
                    self.outlast_all(committed).await?;
                    return Ok(None);
                }
                Err(error) => {
                    tracing::warn!(%error, "the list of nodes cannot be read; a change is not confirmed yet");
                    self.rest_until(Instant::now() + LAST_LOOK).await?;
                }
            }
        }
        // No lease is longer.
        Ok(None)
    }

    /// Waits for as long as anyone may believe what they read before the change, of a store that
    /// keeps no list of nodes.
    async fn outlast_all(&self, committed: Instant) -> Result<(), Error> {
        self.poller.poll_now().await;
        // Without a history nothing is kept, but what is being read right now counts for as long as
        // a read may take.
        let length = self.reader.cache.lease.length();
        let longest = length.unwrap_or(self.reader.deadline);
        let longest = longest.max(self.poller.longest_lease());
        self.rest_until(committed + outlasts(longest)).await
    }

    /// Sleeps, unless this manager is ended meanwhile.
    async fn rest_until(&self, end: Instant) -> Result<(), Error> {
        loop {
            if self.poller.is_stopping() {
                return Err(Error::ShutDown);
            }
            if Instant::now() >= end {
                return Ok(());
            }
            tokio::time::sleep_until(end.min(Instant::now() + LAST_LOOK)).await;
        }
    }

    /// Whether a poll from after the change was answered.
    fn has_asked_since(&self, committed: Instant) -> bool {
        let answered = self.poller.status().answered;
        answered.is_some_and(|answered| answered >= committed)
    }

    /// Whether this node's polls had told one history for `span` when the change was made, and have
    /// since.
    fn unbroken_for(&self, span: Duration, committed: Instant) -> bool {
        let followed = self.poller.followed();
        followed.is_some_and(|followed| followed.unbroken_since + span <= committed)
    }

    /// Whether this node stands on the list: one that it is missing from has lost something.
    fn is_on(&self, members: &MemberList) -> bool {
        members
            .nodes
            .iter()
            .any(|node| node.id == self.poller.node())
    }

    /// What those have acknowledged by now who are waited for. One that is not on the list any more
    /// has left, or was dismissed, with no lease.
    async fn look_again(&self, waiting: &mut Vec<Node>, epoch: u64, end: Instant) {
        let looking = tokio::time::timeout_at(end, self.reader.store.members());
        let Ok(Ok::<_, StoreError>(Some(now))) = looking.await else {
            return;
        };
        if now.cursor.epoch < epoch || !self.is_on(&now) {
            return;
        }
        let listed = |seen: &Node| now.nodes.iter().find(|node| node.id == seen.id).cloned();
        *waiting = waiting.iter().filter_map(listed).collect();
    }
}
