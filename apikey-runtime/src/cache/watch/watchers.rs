//! Watched keys: who waits for the end of which key, and which keys await a judgement.
//!
//! Whatever could end a key *marks* it here. The manager's thread takes marked keys, one at a time, and
//! judges them once more, with all that wait for them; see [`verify`](crate::verify). A key that is
//! marked again meanwhile is judged again.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::end::WatchEnd;
use super::table::{
    KnownEnd, Waiter, WatchNumber, WatchTable, WatchedKey, WatchedRequest, earlier,
};
use super::waiter_count::WaiterCount;
use crate::cache::in_flight::ReadStamp;
use crate::clock::{ClockReading, Timestamp};
use crate::key::KeyId;

/// The pause before a key is judged again that could not be.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Identifies the watches of one manager in this process.
///
/// A key that a request is allowed with has this number. A pointer would cost each request an increment
/// of a count that all requests of the manager share, or each entry of the cache 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WatchersId(NonZeroU32);

/// The watches of all managers of this process.
static MANAGERS: Mutex<BTreeMap<WatchersId, Weak<Watchers>>> = Mutex::new(BTreeMap::new());

/// The watches of one manager.
#[derive(Debug)]
pub(crate) struct Watchers {
    id: WatchersId,
    pub(super) count: WaiterCount,
    pub(super) table: Mutex<WatchTable>,
    /// Wakes the task that judges.
    marked: Notify,
    /// The number of the last watch. Changed under the lock of the table.
    last_number: AtomicU64,
}

/// What [`Watchers::follow_time`] needs to know of the time.
pub(crate) struct WatchTime {
    pub(crate) now: ClockReading,
    /// How long the store may leave a marked key without an answer before its watches end.
    pub(crate) patience: Duration,
    /// For how long a record may be trusted that was read; `None` while the lease holds.
    pub(crate) trust: Option<Duration>,
}

impl Watchers {
    pub(in crate::cache) fn new() -> Arc<Self> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let watchers = Arc::new(Self {
            id: WatchersId(NonZeroU32::new(number).unwrap_or(NonZeroU32::MAX)),
            count: WaiterCount::new(),
            table: Mutex::default(),
            marked: Notify::new(),
            last_number: AtomicU64::new(0),
        });
        let mut managers = MANAGERS.lock();
        managers.insert(watchers.id, Arc::downgrade(&watchers));
        watchers
    }

    pub(crate) fn id(&self) -> WatchersId {
        self.id
    }

    /// Returns the watches of a manager, unless it is gone.
    pub(super) fn of(manager: WatchersId) -> Option<Arc<Self>> {
        MANAGERS.lock().get(&manager)?.upgrade()
    }

    /// Adds a watch and marks its key. Returns `None` if the manager has shut down.
    pub(super) fn add(
        &self,
        id: KeyId,
        owner: Option<&str>,
        request: WatchedRequest,
        known_end: Option<KnownEnd>,
    ) -> Option<(WatchNumber, oneshot::Receiver<WatchEnd>)> {
        let (sender, end) = oneshot::channel();
        // Before the key is marked: see `WaiterCount`.
        self.count.enter();
        let mut table = self.table.lock();
        if table.is_closed {
            self.count.leave(1);
            return None;
        }
        let number = self.last_number.fetch_add(1, Ordering::SeqCst) + 1;
        let waiter = Waiter {
            request,
            known_end,
            sender,
        };
        let is_first = table.watches_of(&id).next().is_none();
        table.watches.insert((id, number), waiter);
        let key = table.keys.entry(id).or_default();
        if is_first {
            // A read may go on that was begun for earlier watches.
            key.judging = key.judging.map(|_| Instant::now());
        }
        key.set_owner(owner);
        let first_end = earlier(key.first_end, known_end.map(|(at, _)| at));
        table.set_first_end(&id, first_end);
        table.mark(&id);
        drop(table);
        self.marked.notify_one();
        Some((number, end))
    }

    /// Returns the number of the watch that was added last.
    pub(in crate::cache) fn last_number(&self) -> u64 {
        self.last_number.load(Ordering::SeqCst)
    }

    /// Forgets a watch, unless it has ended.
    pub(super) fn remove(&self, id: KeyId, number: WatchNumber) {
        let mut table = self.table.lock();
        let removed = table.watches.remove(&(id, number));
        if removed.is_some() {
            table.forget_unwatched(&id);
            self.count.leave(1);
        }
        drop(table);
    }

    /// Marks a key that changed. Call it after the change can be seen; so with the next two.
    pub(in crate::cache) fn key_changed(&self, id: &KeyId) {
        if self.count.must_wake() && self.table.lock().mark(id) {
            self.marked.notify_one();
        }
    }

    /// Marks the keys of owners that changed, and those that are being judged: the read of one may tell
    /// that the key changed its owner, and not yet what became of the new owner.
    pub(in crate::cache) fn owners_changed<'o>(&self, owners: impl Iterator<Item = &'o str>) {
        if self.count.must_wake() {
            let owners: HashSet<_, foldhash::fast::RandomState> = owners.collect();
            let changed = |key: &WatchedKey| {
                let owner = key.owner.as_deref();
                key.judging.is_some() || owner.is_some_and(|owner| owners.contains(owner))
            };
            self.table.lock().mark_where(changed);
            self.marked.notify_one();
        }
    }

    /// Marks all keys.
    pub(in crate::cache) fn all_changed(&self) {
        if self.count.must_wake() {
            self.table.lock().mark_where(|_| true);
            self.marked.notify_one();
        }
    }

    /// Wakes the task that judges.
    pub(crate) fn notify(&self) {
        self.marked.notify_one();
    }

    /// Waits until a key is marked. One mark is remembered between two calls.
    pub(crate) async fn marked(&self) {
        self.marked.notified().await;
    }

    /// Marks all keys for a task that begins to judge, also those that an earlier one was judging.
    pub(crate) fn begin(&self) {
        let mut table = self.table.lock();
        table.clear_queues();
        for key in table.keys.values_mut() {
            key.marked = None;
            key.judging = None;
            key.failing = None;
        }
        table.forget_all_unwatched();
        table.mark_where(|_| true);
    }

    /// Takes a marked key to be judged.
    pub(crate) fn next_marked(&self) -> Option<KeyId> {
        self.table.lock().next_of(|table| &mut table.queue)
    }

    /// Puts a key back that is to be judged by a read.
    pub(crate) fn needs_read(&self, id: &KeyId) {
        let mut table = self.table.lock();
        if let Some(key) = table.keys.get_mut(id) {
            let since = earlier(key.judging.take(), key.marked);
            key.marked = since.or_else(|| Some(Instant::now()));
            table.reads.push_back(*id);
            table.forget_unwatched(id);
        }
    }

    /// Takes a key to be judged by a read.
    pub(crate) fn next_to_read(&self) -> Option<KeyId> {
        self.table.lock().next_of(|table| &mut table.reads)
    }

    /// Judges all watches of a key by `verdict`, which returns the next end that is known. If `accepts`
    /// rejects an end, changes nothing and returns `false`.
    ///
    /// A read that is older than a watch may be older than what its request was allowed by. It does not
    /// end the watch, and the key is judged again.
    pub(crate) fn judge(
        &self,
        id: &KeyId,
        owner: Option<&str>,
        read: Option<ReadStamp>,
        verdict: impl Fn(&WatchedRequest) -> Result<Option<KnownEnd>, WatchEnd>,
        accepts: impl Fn(WatchEnd) -> bool,
    ) -> bool {
        let mut table = self.table.lock();
        let mut first_end = None;
        let mut ended = Vec::new();
        let mut is_older = false;
        for (place, watch) in table.watches_of(id) {
            match verdict(&watch.request) {
                Ok(known_end) => {
                    watch.known_end = known_end;
                    first_end = earlier(first_end, known_end.map(|(at, _)| at));
                }
                Err(_) if read.is_some_and(|read| read.last_watch < place.1) => {
                    is_older = true;
                    first_end = earlier(first_end, watch.known_end.map(|(at, _)| at));
                }
                Err(end) if accepts(end) => ended.push((*place, end)),
                Err(_) => return false,
            }
        }
        table.set_first_end(id, first_end);
        if read.is_some() {
            table.last_answer = Some(Instant::now());
        }
        let mut is_marked = false;
        if let Some(key) = table.keys.get_mut(id) {
            key.judging = None;
            key.failing = None;
            key.read = read.map(|read| read.sent);
            key.set_owner(owner);
            if is_older {
                key.marked.get_or_insert_with(Instant::now);
            }
            is_marked = key.marked.is_some();
        }
        if is_marked {
            table.queue.push_back(*id);
            self.marked.notify_one();
        }
        let ended = table.take(ended);
        table.forget_unwatched(id);
        drop(table);
        self.end(ended);
        true
    }

    /// Notes that a key could not be judged. Ends the watches whose known end has passed.
    pub(crate) fn not_judged(&self, id: &KeyId, now: Timestamp) {
        let mut table = self.table.lock();
        let ended: Vec<_> = table
            .watches_of(id)
            .filter_map(|(place, watch)| Some((*place, watch.passed_end(now)?)))
            .collect();
        if let Some(key) = table.keys.get_mut(id) {
            key.failing = earlier(key.failing, key.judging.take());
            key.marked.get_or_insert_with(Instant::now);
            table.retries.push(*id);
            table.waiting_since.get_or_insert_with(Instant::now);
        }
        let ended = table.take(ended);
        table.forget_unwatched(id);
        drop(table);
        self.end(ended);
    }

    /// Marks keys whose known end has come, and those that could not be judged, after a pause. Costs
    /// nothing for the other keys.
    pub(crate) fn mark_due(&self, now: Timestamp) {
        let mut table = self.table.lock();
        while let Some((at, id)) = table.ends.first().copied().filter(|(at, _)| *at <= now) {
            table.ends.remove(&(at, id));
            if let Some(key) = table.keys.get_mut(&id) {
                key.first_end = None;
            }
            table.mark(&id);
        }
        let is_due = |since: Instant| since.elapsed() >= RETRY_PAUSE;
        if table.waiting_since.is_some_and(is_due) {
            table.waiting_since = None;
            let retries = std::mem::take(&mut table.retries);
            table.queue.extend(retries);
        }
    }

    /// Follows the time: marks keys that are [due](Self::mark_due) and those whose records may not be
    /// trusted any more, and ends the watches of keys for which the store did not answer for too long.
    /// Looks at each key.
    pub(crate) fn follow_time(&self, time: &WatchTime) {
        self.mark_due(time.now.now);
        let mut table = self.table.lock();
        if let Some(trust) = time.trust {
            let untrusted = |key: &WatchedKey| {
                key.read
                    .is_none_or(|read| read.elapsed_until(time.now) >= trust)
            };
            table.mark_where(untrusted);
        }
        let ended = table.give_up(time.patience, time.now.now);
        drop(table);
        self.end(ended);
    }

    /// Returns how long it is until the next known end; `None` if nothing is watched.
    pub(crate) fn until_next_end(&self, now: Timestamp) -> Option<Duration> {
        let table = self.table.lock();
        if table.keys.is_empty() {
            return None;
        }
        let until = |at: &Timestamp| at.as_millis().saturating_sub(now.as_millis());
        let next = table.ends.first().map(|(at, _)| until(at));
        Some(next.map_or(Duration::MAX, |millis| {
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        }))
    }

    /// Ends all watches, and each that starts later.
    pub(crate) fn close(&self) {
        let mut table = self.table.lock();
        table.is_closed = true;
        let all = std::mem::take(&mut table.watches);
        table.keys.clear();
        table.clear_queues();
        table.ends.clear();
        drop(table);
        let all = all.into_values().map(|watch| (watch, WatchEnd::Unknown));
        self.end(all.collect());
    }

    fn end(&self, ended: Vec<(Waiter, WatchEnd)>) {
        self.count.leave(ended.len());
        for (watch, end) in ended {
            // An error means that the watch was dropped meanwhile.
            let _ = watch.sender.send(end);
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        MANAGERS.lock().remove(&self.id);
    }
}
