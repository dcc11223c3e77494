//! Polls of the store's change log, which also grant the lease.

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
use crate::store::{ChangeListener, ChangeLog, ChangeSet, Changes, Cursor, MAX_LEASE, NodeId};

/// The minimum interval between polls that checks request.
const REQUEST_INTERVAL: Duration = Duration::from_millis(50);

/// The bounds of the minimum interval between polls that pushes trigger, which is a two-hundredth
/// of the lease. So if keys change all the time, a hundred nodes do not poll for each change.
const PUSH_INTERVAL: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(10)];

/// How long a node that was removed from the member list waits before it joins again.
const REJOIN_DELAY: Duration = Duration::from_millis(1);

/// The interval between polls of a store that does not keep a change log.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// Polls the change log, on request too.
#[derive(Debug)]
pub(crate) struct ChangePoller {
    /// The id of this manager among those that use the store.
    pub(super) node: NodeId,
    pub(super) shared: Arc<Shared>,
    pub(super) cache: Arc<Cache>,
    requested: Notify,
    immediate: Notify,
    /// The number of polls begun. Polls are identified by number, since a clock may stand still.
    begun: AtomicU64,
    /// The last completed poll, and the last one that the store answered.
    done: watch::Sender<CompletedPolls>,
    /// The position up to which the cache follows the change log; `None` if it does not follow one.
    /// Subscribers are notified only when it changes.
    pub(super) followed: watch::Sender<Option<SyncPosition>>,
    status: watch::Sender<PollStatus>,
    /// The longest lease that the store has granted to this node, in milliseconds.
    longest_millis: AtomicU64,
    stopping: AtomicBool,
    /// Whether the store's member list contains this node.
    member: AtomicBool,
}

/// The position up to which the cache follows the change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncPosition {
    /// All keys that changed up to here were evicted from the cache.
    pub(crate) cursor: Cursor,
    /// Since when each answer has continued the one before. A store restored to an earlier state
    /// breaks this.
    pub(crate) unbroken_since: Instant,
}

/// The results of the last polls.
#[derive(Debug, Clone)]
pub(crate) struct PollStatus {
    /// When the last answered poll was sent.
    pub(crate) answered: Option<Instant>,
    /// Since when the store has not answered, and the reason.
    pub(crate) failing: Option<(Instant, String)>,
}

/// Numbers of polls that are done.
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

    /// Returns whether the store's member list contains this node.
    pub(super) fn is_member(&self) -> bool {
        self.member.load(Ordering::SeqCst)
    }

    pub(crate) fn status(&self) -> PollStatus {
        self.status.borrow().clone()
    }

    pub(crate) fn followed(&self) -> Option<SyncPosition> {
        self.followed.borrow().clone()
    }

    /// Waits until a poll that begins after this call is done, and returns whether the store
    /// answered it. Callers share the poll. Such polls are at least 50 ms apart.
    pub(crate) async fn request_poll(&self) -> bool {
        self.wait_for_poll(&self.requested).await
    }

    /// Does the same without the minimum interval, for callers that changed something.
    pub(crate) async fn poll_now(&self) -> bool {
        self.wait_for_poll(&self.immediate).await
    }

    /// Returns the longest lease that the store has granted to this node.
    pub(crate) fn longest_lease(&self) -> Duration {
        Duration::from_millis(self.longest_millis.load(Ordering::SeqCst))
    }

    /// Tells calls that wait for other nodes that this node shuts down.
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
            // The sender lives as long as `self`, so an error can only mean the end.
            if polls.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Releases all waiting callers, since no more polls will run.
    pub(crate) fn close(&self) {
        self.done.send_modify(|done| done.last = u64::MAX);
    }

    /// Polls repeatedly, for as long as it is polled itself: at each third of a lease, on request,
    /// and when the store pushes. Runs on the manager's runtime.
    pub(crate) async fn run(&self) {
        let log = self.shared.store.change_log();
        let mut pushes = log.and_then(ChangeLog::subscribe);
        let mut cursor = self.followed().map(|followed| followed.cursor);
        let mut requested_at = Instant::now();
        let mut polled_at = requested_at;
        let mut not_member = false;
        loop {
            let length = self.cache.lease.length();
            let mut due = polled_at + length.map_or(IDLE_INTERVAL, |length| length / 3);
            if not_member {
                due = polled_at + REJOIN_DELAY;
            }
            let [least, most] = PUSH_INTERVAL;
            let push_interval = (length.unwrap_or_default() / 200).clamp(least, most);
            let mut requested = false;
            loop {
                // `due` only moves to earlier times: the poll that the lease needs is never
                // delayed.
                match self.next_trigger(due, &mut pushes).await {
                    PollTrigger::Due => break,
                    PollTrigger::Requested => {
                        requested = true;
                        due = due.min(requested_at + REQUEST_INTERVAL);
                    }
                    PollTrigger::Pushed => due = due.min(polled_at + push_interval),
                    PollTrigger::Immediate => break,
                }
            }
            polled_at = Instant::now();
            if requested {
                requested_at = polled_at;
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

    /// Polls once: evicts the keys that changed since `cursor`, and takes the lease.
    pub(crate) async fn poll(&self, cursor: &mut Option<Cursor>) -> PollOutcome {
        let polled = self.poll_uncounted(cursor).await;
        self.shared.metrics.polled(polled);
        polled
    }

    async fn poll_uncounted(&self, cursor: &mut Option<Cursor>) -> PollOutcome {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        // Dropped on each return, and if the store panics.
        let mut guard = PollGuard {
            done: &self.done,
            number,
            answered: false,
        };
        // The node is a member before it sends the poll that grants its lease.
        let listed = match self.join().await {
            Ok(listed) => listed,
            Err(error) => return self.failed(&error),
        };
        let sent_at = Instant::now();
        let sent = [self.shared.now(), self.shared.now()];
        let Some(log) = self.shared.store.change_log() else {
            self.answered(sent_at);
            guard.answered = true;
            return PollOutcome::Answered;
        };
        let changes = log.changes(cursor.as_ref(), Some(&self.node));
        let polled = match tokio::time::timeout(self.shared.deadline, changes).await {
            Ok(Ok(changes)) if listed && !changes.member => {
                self.member.store(false, Ordering::SeqCst);
                *cursor = None;
                self.followed.send_replace(None);
                self.cache.lease.end();
                self.cache.flush();
                tracing::warn!(node = %self.node, "the key store has removed this node from its member list; it joins again");
                PollOutcome::NotMember
            }
            Ok(Ok(changes)) => {
                // `.confirmed()` does not wait for longer leases than the maximum.
                let length = changes.lease.min(MAX_LEASE);
                self.longest_millis
                    .fetch_max(millis_u64(length), Ordering::SeqCst);
                *cursor = Some(self.follow(changes));
                // After the evictions: a check that sees the lease also sees them.
                self.cache.lease.grant(sent, length);
                PollOutcome::Answered
            }
            Ok(Err(error)) => return self.failed(&error),
            Err(_) => return self.timed_out(),
        };
        self.answered(sent_at);
        guard.answered = true;
        polled
    }

    /// Joins the store's members, if this node is not one. Returns `false` if the store does not
    /// have membership.
    async fn join(&self) -> Result<bool, StoreError> {
        // A manager that was shut down does not join again.
        if self.is_member() || self.cache.lease.is_closed() {
            return Ok(true);
        }
        let Some(membership) = self.shared.store.membership() else {
            return Ok(false);
        };
        tokio::time::timeout(self.shared.deadline, membership.join(&self.node))
            .await
            .unwrap_or_else(|_| {
                Err(StoreError::unavailable(format!(
                    "no answer within {:?}",
                    self.shared.deadline
                )))
            })?;
        self.member.store(true, Ordering::SeqCst);
        Ok(true)
    }

    /// Evicts the changed keys, and returns the new cursor.
    fn follow(&self, changes: Changes) -> Cursor {
        let unbroken_since = match &changes.set {
            ChangeSet::Entries(items) => {
                for item in items {
                    match item.key() {
                        Some(id) => self.cache.evict(&id),
                        // It is not known what such an item affects.
                        None => self.cache.flush(),
                    }
                }
                self.followed().map(|followed| followed.unbroken_since)
            }
            ChangeSet::Resync => {
                self.cache.flush();
                None
            }
        };
        let followed = SyncPosition {
            cursor: changes.cursor.clone(),
            // From now on, since the store may have been another one until it made this answer.
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
            tracing::info!("the key store's change log can be read again");
        }
    }

    fn timed_out(&self) -> PollOutcome {
        self.failed(&format_args!("no answer within {:?}", self.shared.deadline))
    }

    /// Records the failure, and logs it once instead of at each poll.
    fn failed(&self, error: &dyn std::fmt::Display) -> PollOutcome {
        self.status.send_modify(|status| {
            if status.failing.is_none() {
                tracing::warn!(%error, "the key store's change log cannot be read; its lease expires");
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

/// The reason for a poll.
enum PollTrigger {
    Due,
    Requested,
    Pushed,
    Immediate,
}

/// Notifies waiting callers that a poll is over, when dropped.
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
