//! Polls of the store's change log, which also grant the lease.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::clock::millis_u64;
use crate::error::{ErrorChain, StoreError};
use crate::metrics::PollOutcome;
use crate::shared::{CallClass, Shared};
use crate::store::{ChangeListener, ChangeLog, Cursor, NodeId};

/// The minimum interval between polls that checks request.
pub(crate) const REQUEST_INTERVAL: Duration = Duration::from_millis(50);

/// The bounds of the minimum interval between polls that pushes trigger, which is a two-hundredth
/// of the lease. So if keys change all the time, a hundred nodes do not poll for each change.
const PUSH_INTERVAL: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(10)];

/// How long a node that was removed from the member list waits before it joins again.
const REJOIN_DELAY: Duration = Duration::from_millis(1);

/// The longest pause after a poll that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What a node writes about itself may take this many times as long as another call: requests do not
/// wait for it, and a write that is given up and repeated on a slow disk would never succeed.
pub(super) const WRITE_FACTOR: u32 = 10;

/// The interval between polls of a store that does not keep a change log.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// Polls the change log, on request too.
#[derive(Debug)]
pub(crate) struct ChangePoller {
    /// Whether this manager is not a node: it neither polls nor joins the members, and trusts no entry.
    pub(super) detached: bool,
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
    /// The longest lease that the store has granted to this node, in milliseconds.
    pub(super) longest_millis: AtomicU64,
    /// See [`write_time`](Self::write_time), in milliseconds.
    write_millis: AtomicU64,
    stopping: AtomicBool,
    /// Wakes the task that marks revoked keys.
    pub(super) owner_changed: Notify,
    /// Whether the store's member list contains this node.
    pub(super) member: AtomicBool,
    /// How often this node has joined the member list.
    pub(super) joins: AtomicU64,
    /// The protocol version that the store required last.
    pub(super) required_protocol: AtomicU32,
}

/// The position up to which the cache follows the change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncPosition {
    /// All keys that changed up to here were evicted from the cache, and the marks of all owners that changed were raised.
    pub(crate) cursor: Cursor,
    /// Since when each answer has continued the one before. A store restored to an earlier state breaks this.
    pub(crate) unbroken_since: Instant,
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
            detached: false,
            node,
            shared,
            cache,
            requested: Notify::new(),
            immediate: Notify::new(),
            begun: AtomicU64::new(0),
            done: watch::Sender::default(),
            followed: watch::Sender::new(None),
            longest_millis: AtomicU64::new(0),
            write_millis: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            owner_changed: Notify::new(),
            member: AtomicBool::new(false),
            joins: AtomicU64::new(0),
            required_protocol: AtomicU32::new(0),
        }
    }

    /// Returns the poller of a manager that is not a node, which never polls.
    pub(crate) fn detached(self) -> Self {
        Self {
            detached: true,
            ..self
        }
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.detached
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Returns whether the store's member list contains this node.
    pub(super) fn is_member(&self) -> bool {
        self.member.load(Ordering::SeqCst)
    }

    /// Awaits a write of this node about itself, for longer than other calls may take.
    pub(super) async fn write_own(
        &self,
        deadline: Duration,
        write: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        let written = tokio::time::timeout(deadline, write).await;
        let written = written.unwrap_or_else(|_elapsed| Err(late(deadline)));
        let millis = millis_u64(began.elapsed());
        if written.is_ok() {
            self.write_millis.store(millis, Ordering::SeqCst);
        } else {
            // A write would take this long at least; one that fails at once says nothing about that.
            self.write_millis.fetch_max(millis, Ordering::SeqCst);
        }
        written
    }

    /// Returns how long the last such write took that succeeded, or a later one that failed if that is longer.
    pub(super) fn write_time(&self) -> Duration {
        Duration::from_millis(self.write_millis.load(Ordering::SeqCst))
    }

    pub(crate) fn followed(&self) -> Option<SyncPosition> {
        self.followed.borrow().clone()
    }

    /// Waits until a poll that begins after this call is done, and returns whether the store
    /// answered it before `until`. Callers share the poll. Such polls are at least 50 ms apart.
    pub(crate) async fn request_poll(&self, until: Instant) -> bool {
        self.wait_for_poll(&self.requested, until).await
    }

    /// Does the same without the minimum interval, for callers that changed something. They wait for a poll
    /// that is in flight, and for their own.
    pub(crate) async fn poll_now(&self) -> bool {
        let until = Instant::now() + self.shared.deadline * 2 + REQUEST_INTERVAL;
        self.wait_for_poll(&self.immediate, until).await
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

    /// Waits until an owner was changed, here or by another node. One such change is remembered between two calls.
    pub(crate) async fn owner_changed(&self) {
        self.owner_changed.notified().await;
    }

    /// Notes that this node changed an owner.
    pub(crate) fn note_owner_change(&self) {
        self.owner_changed.notify_one();
    }

    async fn wait_for_poll(&self, trigger: &Notify, until: Instant) -> bool {
        if self.detached {
            return false;
        }
        let polled = self.shared.wait_until(until, self.next_poll(trigger)).await;
        polled.unwrap_or(false)
    }

    async fn next_poll(&self, trigger: &Notify) -> bool {
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
        let mut outcome = PollOutcome::Answered;
        loop {
            let length = self.cache.lease.length();
            let interval = length.map_or(IDLE_INTERVAL, |length| length / 3);
            // The lease may end before the next poll is due.
            let pause = match outcome {
                PollOutcome::NotMember => REJOIN_DELAY,
                PollOutcome::Failed => interval.min(RETRY_INTERVAL),
                _ => interval,
            };
            let mut due = polled_at + pause;
            let [least, most] = PUSH_INTERVAL;
            let push_interval = (length.unwrap_or_default() / 200).clamp(least, most);
            let mut requested = false;
            loop {
                // `due` only moves to earlier times: the poll that the lease needs is never delayed.
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
            outcome = self.poll(&mut cursor).await;
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

    /// Polls once: evicts what changed since `cursor`, and takes the lease.
    async fn poll(&self, cursor: &mut Option<Cursor>) -> PollOutcome {
        let deadline = self.shared.deadline;
        let polled = self
            .poll_within(deadline, deadline * WRITE_FACTOR, cursor)
            .await;
        polled.unwrap_or(PollOutcome::Failed)
    }

    /// Does the same with these deadlines, of the poll and of the join before it. Logs a failure once, not at each poll.
    ///
    /// # Errors
    ///
    /// Returns the store's error, also if the deadline passes first.
    pub(crate) async fn poll_within(
        &self,
        deadline: Duration,
        join_deadline: Duration,
        cursor: &mut Option<Cursor>,
    ) -> Result<PollOutcome, StoreError> {
        let polled = self.poll_uncounted(deadline, join_deadline, cursor).await;
        let outcome = polled.as_ref().copied();
        self.shared
            .metrics
            .polled(outcome.unwrap_or(PollOutcome::Failed));
        if let Err(error) = &polled
            && self.shared.status.failed(CallClass::Polls, error)
            // The start, which has no lease yet, reports its error itself.
            && self.cache.lease.length().is_some()
        {
            tracing::warn!(error = %ErrorChain(error), "the key store's change log cannot be read; its lease expires");
        }
        polled
    }

    async fn poll_uncounted(
        &self,
        deadline: Duration,
        join_deadline: Duration,
        cursor: &mut Option<Cursor>,
    ) -> Result<PollOutcome, StoreError> {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        // Dropped on each return, and if the store panics.
        let mut guard = PollGuard {
            done: &self.done,
            number,
            answered: false,
        };
        // The node is a member before it sends the poll that grants its lease.
        let listed = self.join(join_deadline).await?;
        let sent_at = Instant::now();
        let polled = match self.shared.store.change_log() {
            Some(log) => self.follow_pages(log, cursor, listed, deadline).await?,
            None => PollOutcome::Answered,
        };
        self.answered(sent_at);
        guard.answered = true;
        Ok(polled)
    }

    /// Joins the store's members, if this node is not one. Returns `false` if the store does not have membership.
    async fn join(&self, deadline: Duration) -> Result<bool, StoreError> {
        // A manager that was shut down does not join again.
        if self.is_member() || self.cache.lease.is_closed() {
            return Ok(true);
        }
        let Some(membership) = self.shared.store.membership() else {
            return Ok(false);
        };
        self.write_own(deadline, membership.join(&self.node))
            .await?;
        self.joins.fetch_add(1, Ordering::SeqCst);
        self.member.store(true, Ordering::SeqCst);
        Ok(true)
    }

    fn answered(&self, sent_at: Instant) {
        if self.shared.status.answered(CallClass::Polls, sent_at) {
            tracing::info!("the key store's change log can be read again");
        }
    }
}

/// Returns the error of a call that took too long.
pub(super) fn late(deadline: Duration) -> StoreError {
    StoreError::timed_out(format!("no answer within {deadline:?}"))
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
