//! Waiting until a change has reached every node.

use std::future::IntoFuture;
use std::time::Duration;

use tokio::time::Instant;

use super::ApiKeyManager;
use super::create::Work;
use crate::error::{Error, StoreError};
use crate::store::{LONGEST_LEASE, Node, NodeId, Roster, outlasts};
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
pub struct Confirming<C> {
    manager: ApiKeyManager,
    change: C,
}

impl<C> Confirming<C> {
    pub(super) fn new(manager: ApiKeyManager, change: C) -> Self {
        Self { manager, change }
    }
}

impl<C, T> IntoFuture for Confirming<C>
where
    C: IntoFuture<Output = Result<T, Error>, IntoFuture = Work<T>> + Send + 'static,
    T: Send + 'static,
{
    type Output = Result<Confirmed<T>, Error>;
    type IntoFuture = Work<Confirmed<T>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let value = self.change.await?;
            let reach = self
                .manager
                .on_thread(|verifier| async move { Ok(verifier.confirm().await) })
                .await?;
            Ok(Confirmed { value, reach })
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
    pub reach: Reach,
}

/// How the other nodes that use the store learned of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reach {
    /// Those that said that they have dropped from memory what changed.
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
    /// change is committed, and dropped from this node's memory.
    async fn confirm(&self) -> Reach {
        let committed = Instant::now();
        let Some((roster, end)) = self.roster(committed).await else {
            return Reach {
                outlasted: true,
                ..Reach::default()
            };
        };
        // A poll that fits the ones before tells that the list is that of the history which this
        // node has followed, and not of an earlier state of it.
        let _ = tokio::time::timeout_at(end, self.feed.hurry()).await;
        let complete = self.followed_for(outlasts(roster.longest_lease), committed);
        let mut reach = Reach::default();
        let mut waiting = roster.nodes;
        waiting.retain(|node| node.id != self.feed.node());
        let mut pause = FIRST_LOOK;
        loop {
            let (told, silent): (Vec<Node>, Vec<Node>) = waiting
                .into_iter()
                .partition(|node| node.acknowledged >= roster.cursor.epoch);
            reach.acknowledged.extend(told.iter().map(|node| node.id));
            waiting = silent;
            if waiting.is_empty() && complete {
                return reach;
            }
            if Instant::now() >= end {
                reach.waited_out = waiting.iter().map(|node| node.id).collect();
                reach.outlasted = true;
                return reach;
            }
            tokio::time::sleep_until(end.min(Instant::now() + pause)).await;
            pause = LAST_LOOK.min(pause * 2);
            self.look_again(&mut waiting, end).await;
        }
    }

    /// The list of nodes as it stands after the change, and when the longest lease is over that
    /// anyone may hold who has not learned of the change. `None` where all of that was waited for
    /// here.
    async fn roster(&self, committed: Instant) -> Option<(Roster, Instant)> {
        let latest = committed + outlasts(LONGEST_LEASE);
        while Instant::now() < latest {
            match self.within(self.reader.store.nodes()).await {
                Ok(Some(roster)) => {
                    let end = committed + outlasts(roster.longest_lease);
                    return Some((roster, end));
                }
                Ok(None) => {
                    self.outlast_all(committed).await;
                    return None;
                }
                Err(error) => {
                    tracing::warn!(%error, "the list of nodes cannot be read; a change is not confirmed yet");
                    tokio::time::sleep(LAST_LOOK).await;
                }
            }
        }
        // No lease is longer.
        None
    }

    /// Waits for as long as anyone may believe what they read before the change, of a store that
    /// keeps no list of nodes.
    async fn outlast_all(&self, committed: Instant) {
        self.feed.hurry().await;
        // Without a history nothing is kept, but what is being read right now counts for as long as
        // a read may take.
        let length = self.reader.cache.lease.length();
        let longest = length.unwrap_or(self.reader.deadline);
        tokio::time::sleep_until(committed + outlasts(longest)).await;
    }

    /// Whether this node's polls, one from after the change among them, have told one history for
    /// `span`.
    fn followed_for(&self, span: Duration, committed: Instant) -> bool {
        let answered = self.feed.standing().answered;
        let followed = self.feed.followed();
        answered.is_some_and(|answered| answered >= committed)
            && followed.is_some_and(|followed| followed.unbroken_since + span <= committed)
    }

    /// What those have acknowledged by now who are waited for. One that is not on the list any more
    /// has left with no lease.
    async fn look_again(&self, waiting: &mut Vec<Node>, end: Instant) {
        let looking = tokio::time::timeout_at(end, self.reader.store.nodes());
        let Ok(Ok::<_, StoreError>(Some(now))) = looking.await else {
            return;
        };
        let listed = |seen: &Node| now.nodes.iter().find(|node| node.id == seen.id).cloned();
        *waiting = waiting.iter().filter_map(listed).collect();
    }
}
