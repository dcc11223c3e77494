//! Learning what changed: polls of the store's history, which also carry the lease.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::clock::millis_u64;
use crate::error::StoreError;
use crate::metrics::PollOutcome;
use crate::shared::Shared;
use crate::store::{ChangeListener, ChangeSet, Changes, Cursor, LONGEST_LEASE, NodeId};

/// The least time between two polls that refused requests ask for.
const ASKED_APART: Duration = Duration::from_millis(50);

/// The least time between two polls that pushes ask for: a two-hundredth of the lease, within these
/// bounds. Where changes are made without a pause, a hundred nodes then do not ask for each.
const PUSHED_APART: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(10)];

/// How long a node that was struck off waits before it joins anew.
const REJOINS_AFTER: Duration = Duration::from_millis(1);

/// How often a store is asked again that keeps no history.
const IDLE: Duration = Duration::from_secs(60);

/// The poller's face: how others ask it for a poll, and learn that one is done.
#[derive(Debug)]
pub(crate) struct ChangePoller {
    /// What this manager is called among those that use the store.
    pub(super) node: NodeId,
    pub(super) shared: Arc<Shared>,
    pub(super) cache: Arc<Cache>,
    requested: Notify,
    immediate: Notify,
    /// How many polls were begun. Polls are counted, and not told apart by a clock that may stand
    /// still.
    begun: AtomicU64,
    /// The last poll that is done, and the last one that the store answered.
    done: watch::Sender<CompletedPolls>,
    /// How far the cache follows the history; `None` where it follows none. Moves only where that
    /// does.
    pub(super) followed: watch::Sender<Option<SyncPosition>>,
    status: watch::Sender<PollStatus>,
    /// The longest lease that this node has seen the store state, in milliseconds.
    longest_millis: AtomicU64,
    stopping: AtomicBool,
    /// Whether the store has put this node on its list.
    member: AtomicBool,
}

/// How far the cache follows the store's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncPosition {
    /// All changes up to here are dropped from the cache.
    pub(crate) cursor: Cursor,
    /// Since when every answer has fitted the one before: a history that was put back to an earlier
    /// state breaks this.
    pub(crate) unbroken_since: Instant,
}

/// How the last polls went.
#[derive(Debug, Clone)]
pub(crate) struct PollStatus {
    /// When the last poll that the store answered was sent.
    pub(crate) answered: Option<Instant>,
    /// Since when the store gives no answer, and why.
    pub(crate) failing: Option<(Instant, String)>,
}

/// Numbers of polls.
#[derive(Debug, Clone, Copy, Default)]
struct CompletedPolls {
    last: u64,
    answered: u64,
}

impl ChangePoller {
    pub(crate) fn new(node: NodeId, shared: Arc<Shared>, cache: Arc<Cache>) -> Self {
        Self {
            node,
            shared,
            cache,
            requested: Notify::new(),
            immediate: Notify::new(),
            begun: AtomicU64::new(0),
            done: watch::Sender::default(),
            followed: watch::Sender::new(None),
            status: watch::Sender::new(PollStatus {
                answered: None,
                failing: None,
            }),
            longest_millis: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            member: AtomicBool::new(false),
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Whether the store has put this node on its list.
    pub(super) fn is_member(&self) -> bool {
        self.member.load(Ordering::SeqCst)
    }

    pub(crate) fn status(&self) -> PollStatus {
        self.status.borrow().clone()
    }

    pub(crate) fn followed(&self) -> Option<SyncPosition> {
        self.followed.borrow().clone()
    }

    /// Waits until a poll that begins from now on is done; says whether the store answered it.
    /// Those who wait share it, and such polls are 50 ms apart at least, however many ask.
    pub(crate) async fn request_poll(&self) -> bool {
        self.wait_for_poll(&self.requested).await
    }

    /// As [`request_poll`](Self::ask), and at once: for those who changed something.
    pub(crate) async fn poll_now(&self) -> bool {
        self.wait_for_poll(&self.immediate).await
    }

    /// The longest lease that this node has seen the store state.
    pub(crate) fn longest_lease(&self) -> Duration {
        Duration::from_millis(self.longest_millis.load(Ordering::SeqCst))
    }

    /// Tells those who wait for other nodes that this one is about to end.
    pub(crate) fn begin_to_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    async fn wait_for_poll(&self, trigger: &Notify) -> bool {
        let mut polls = self.done.subscribe();
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        loop {
            let done = *polls.borrow_and_update();
            if done.last >= wanted {
                return done.answered >= wanted;
            }
            trigger.notify_one();
            // The sender lives as long as this does; what else could come is the end.
            if polls.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Lets go of all who wait: there will be no poll any more.
    pub(crate) fn close(&self) {
        self.done.send_modify(|done| done.last = u64::MAX);
    }

    /// Polls for as long as it is polled itself: at each third of a lease, when asked, and when the
    /// store pushes. Runs on the manager's runtime.
    pub(crate) async fn run(&self) {
        let mut pushes = self.shared.store.subscribe();
        let mut cursor = self.followed().map(|followed| followed.cursor);
        let mut asked_at = Instant::now();
        let mut polled_at = asked_at;
        let mut not_member = false;
        loop {
            let length = self.cache.lease.length();
            let mut due = polled_at + length.map_or(IDLE, |length| length / 3);
            if not_member {
                due = polled_at + REJOINS_AFTER;
            }
            let [least, most] = PUSHED_APART;
            let pushed_apart = (length.unwrap_or_default() / 200).clamp(least, most);
            let mut requested = false;
            loop {
                // Nobody puts a poll off that the lease needs.
                match self.next_trigger(due, &mut pushes).await {
                    PollTrigger::Due => break,
                    PollTrigger::Requested => {
                        requested = true;
                        due = due.min(asked_at + ASKED_APART);
                    }
                    PollTrigger::Pushed => due = due.min(polled_at + pushed_apart),
                    PollTrigger::Immediate => break,
                }
            }
            polled_at = Instant::now();
            if requested {
                asked_at = polled_at;
            }
            not_member = self.poll(&mut cursor).await == PollOutcome::NotMember;
        }
    }

    async fn next_trigger(&self, due: Instant, pushes: &mut Option<ChangeListener>) -> PollTrigger {
        let mut requested = pin!(self.requested.notified());
        let mut immediate = pin!(self.immediate.notified());
        let mut pushed = pin!(async {
            match pushes {
                Some(pushes) => pushes.notified().await,
                None => std::future::pending().await,
            }
        });
        let mut sleep = pin!(tokio::time::sleep_until(due));
        poll_fn(|context| {
            let next_trigger = if sleep.as_mut().poll(context).is_ready() {
                PollTrigger::Due
            } else if immediate.as_mut().poll(context).is_ready() {
                PollTrigger::Immediate
            } else if pushed.as_mut().poll(context).is_ready() {
                PollTrigger::Pushed
            } else if requested.as_mut().poll(context).is_ready() {
                PollTrigger::Requested
            } else {
                return Poll::Pending;
            };
            Poll::Ready(next_trigger)
        })
        .await
    }

    /// Asks once what changed since `cursor`, drops that from the cache, and takes the lease.
    pub(crate) async fn poll(&self, cursor: &mut Option<Cursor>) -> PollOutcome {
        let polled = self.poll_uncounted(cursor).await;
        self.shared.metrics.polled(polled);
        polled
    }

    async fn poll_uncounted(&self, cursor: &mut Option<Cursor>) -> PollOutcome {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        // Finishes the poll on every way out, even if the store panics.
        let mut guard = PollGuard {
            done: &self.done,
            number,
            answered: false,
        };
        // The node is on the list before the poll that gives it a lease is sent.
        let listed = match self.join().await {
            Ok(listed) => listed,
            Err(error) => return self.failed(&error),
        };
        let sent_at = Instant::now();
        let sent = [self.shared.now(), self.shared.now()];
        let request_poll = self.shared.store.changes(cursor.as_ref(), Some(&self.node));
        let polled = match tokio::time::timeout(self.shared.deadline, request_poll).await {
            Ok(Ok(Some(changes))) if listed && !changes.member => {
                self.member.store(false, Ordering::SeqCst);
                *cursor = None;
                self.followed.send_replace(None);
                self.cache.lease.end();
                self.cache.flush();
                tracing::warn!(node = %self.node, "the key store has struck this node off its list; it joins anew");
                PollOutcome::NotMember
            }
            Ok(Ok(Some(changes))) => {
                // Longer than the longest is not waited for by those who confirm a change.
                let length = changes.lease.min(LONGEST_LEASE);
                self.longest_millis
                    .fetch_max(millis_u64(length), Ordering::SeqCst);
                *cursor = Some(self.follow(changes));
                // Evictions first: whoever sees the lease sees them done.
                self.cache.lease.grant(sent, length);
                PollOutcome::Answered
            }
            Ok(Ok(None)) => {
                self.followed.send_replace(None);
                self.cache.lease.end();
                PollOutcome::Answered
            }
            Ok(Err(error)) => return self.failed(&error),
            Err(_) => return self.timed_out(),
        };
        self.answered(sent_at);
        guard.answered = true;
        polled
    }

    /// Sees to it that the store lists this node; `false` where it keeps no list.
    async fn join(&self) -> Result<bool, StoreError> {
        // A manager that has ended comes back into no list.
        if self.is_member() || self.cache.lease.is_closed() {
            return Ok(true);
        }
        let listed = tokio::time::timeout(self.shared.deadline, self.shared.store.join(&self.node))
            .await
            .unwrap_or_else(|_| {
                Err(StoreError::unavailable(format!(
                    "no answer within {:?}",
                    self.shared.deadline
                )))
            })?;
        self.member.store(listed, Ordering::SeqCst);
        Ok(listed)
    }

    /// Drops what changed; returns up to where.
    fn follow(&self, changes: Changes) -> Cursor {
        let unbroken_since = match &changes.history {
            ChangeSet::Entries(ids) => {
                ids.iter().for_each(|id| self.cache.evict(id));
                self.followed().map(|followed| followed.unbroken_since)
            }
            ChangeSet::Resync => {
                self.cache.flush();
                None
            }
        };
        let followed = SyncPosition {
            cursor: changes.cursor.clone(),
            // From now on: until this very answer was made, the store may have been another.
            unbroken_since: unbroken_since.unwrap_or_else(Instant::now),
        };
        self.followed.send_if_modified(|current| {
            let moved = current.as_ref() != Some(&followed);
            *current = Some(followed);
            moved
        });
        changes.cursor
    }

    fn answered(&self, sent_at: Instant) {
        let before = self.status.send_replace(PollStatus {
            answered: Some(sent_at),
            failing: None,
        });
        if before.failing.is_some() {
            tracing::info!("the key store's history can be read again");
        }
    }

    fn timed_out(&self) -> PollOutcome {
        self.failed(&format_args!("no answer within {:?}", self.shared.deadline))
    }

    /// Says so once, and not at each poll until it is over.
    fn failed(&self, error: &dyn std::fmt::Display) -> PollOutcome {
        self.status.send_modify(|status| {
            if status.failing.is_none() {
                tracing::warn!(%error, "the key store's history cannot be read; its lease runs out");
            }
            let since = status
                .failing
                .take()
                .map_or_else(Instant::now, |(since, _)| since);
            status.failing = Some((since, error.to_string()));
        });
        PollOutcome::Failed
    }
}

/// Why a poll may be due.
enum PollTrigger {
    Due,
    Requested,
    Pushed,
    Immediate,
}

/// Tells those who wait that a poll is over, when it is dropped.
struct PollGuard<'f> {
    done: &'f watch::Sender<CompletedPolls>,
    number: u64,
    answered: bool,
}

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        self.done.send_modify(|done| {
            done.last = done.last.max(self.number);
            if self.answered {
                done.answered = done.answered.max(self.number);
            }
        });
    }
}
