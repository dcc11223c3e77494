//! The table of watches: who waits for which key, and which keys are marked.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::end::WatchEnd;
use crate::cache::CachedKey;
use crate::clock::{ClockReading, Timestamp};
use crate::key::{KeyId, ParsedDigest};
use crate::policy::RequiredScopes;

/// Tells the watches of one key apart.
pub(super) type WatchNumber = u64;

/// What a request showed of its key, and what it needs of the key to go on.
#[derive(Debug)]
pub(crate) struct WatchedRequest {
    /// The digest of the request's secret.
    pub(crate) digest: ParsedDigest,
    pub(crate) required: RequiredScopes,
}

/// A known end in the future: when, and which.
pub(crate) type KnownEnd = (Timestamp, WatchEnd);

/// Returns the first end that a record tells: the key's own, or that of the request's secret, whose grace ends then.
pub(crate) fn known_end(key: &CachedKey, grace: Option<Timestamp>) -> Option<KnownEnd> {
    let end = match key.ends_idle() {
        true => WatchEnd::Idle,
        false => WatchEnd::Expired,
    };
    let end = (key.ends_at() < Timestamp::MAX).then_some((key.ends_at(), end));
    let grace = grace.map(|until| (until, WatchEnd::GraceOver));
    end.into_iter().chain(grace).min_by_key(|(at, _)| *at)
}

#[derive(Debug, Default)]
pub(super) struct WatchTable {
    pub(super) watches: BTreeMap<(KeyId, WatchNumber), Waiter>,
    pub(super) keys: HashMap<KeyId, WatchedKey, foldhash::fast::RandomState>,
    /// The marked keys that can be judged now.
    pub(super) queue: VecDeque<KeyId>,
    /// The marked keys that can be judged now, and only by a read.
    pub(super) reads: VecDeque<KeyId>,
    /// When a key was last judged by a read.
    pub(super) last_answer: Option<Instant>,
    /// The marked keys whose judgement failed, and since when the first of them waits.
    pub(super) retries: Vec<KeyId>,
    pub(super) waiting_since: Option<Instant>,
    /// The first known end of each key that has one.
    pub(super) ends: BTreeSet<(Timestamp, KeyId)>,
    pub(super) is_closed: bool,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) request: WatchedRequest,
    pub(super) known_end: Option<KnownEnd>,
    pub(super) sender: oneshot::Sender<WatchEnd>,
}

#[derive(Debug, Default)]
pub(super) struct WatchedKey {
    pub(super) owner: Option<Box<str>>,
    /// Since when the key is marked.
    pub(super) marked: Option<Instant>,
    /// Since when it is being judged. Meanwhile the key stays in the table, also unwatched, so that two
    /// judgements of it do not overlap.
    pub(super) judging: Option<Instant>,
    /// When the first read began of those that failed since it was last judged.
    pub(super) failing: Option<Instant>,
    pub(super) first_end: Option<Timestamp>,
    /// When the record was read that it was last judged by; `None` if that was an entry of the cache.
    pub(super) read: Option<ClockReading>,
}

impl Waiter {
    /// Returns the known end, if it has passed. Only a read tells whether a key is idle: it may have been
    /// used meanwhile.
    pub(super) fn passed_end(&self, now: Timestamp) -> Option<WatchEnd> {
        let (at, end) = self.known_end?;
        (at <= now && end != WatchEnd::Idle).then_some(end)
    }
}

impl WatchedKey {
    /// Returns since when the store owes an answer. A key that waits for its turn waits for other reads,
    /// the last of which was answered at `last_answer`.
    fn waits_since(&self, last_answer: Option<Instant>) -> Option<Instant> {
        let in_queue = self.marked.filter(|_| self.judging.is_none());
        let in_queue = in_queue.map(|since| last_answer.map_or(since, |last| since.max(last)));
        earlier(earlier(self.failing, self.judging), in_queue)
    }

    /// Returns whether the key was not marked before and can be judged now. While it is being judged,
    /// it waits for that.
    pub(super) fn mark(&mut self, now: Instant) -> bool {
        let is_new = self.marked.is_none();
        self.marked.get_or_insert(now);
        is_new && self.judging.is_none()
    }

    pub(super) fn set_owner(&mut self, owner: Option<&str>) {
        if self.owner.as_deref() != owner {
            self.owner = owner.map(Box::from);
        }
    }
}

impl WatchTable {
    pub(super) fn watches_of(
        &mut self,
        id: &KeyId,
    ) -> impl Iterator<Item = (&(KeyId, WatchNumber), &mut Waiter)> {
        self.watches.range_mut((*id, 0)..=(*id, WatchNumber::MAX))
    }

    /// Marks a key, if it is watched. Returns whether it is.
    pub(super) fn mark(&mut self, id: &KeyId) -> bool {
        let Some(key) = self.keys.get_mut(id) else {
            return false;
        };
        if key.mark(Instant::now()) {
            self.queue.push_back(*id);
        }
        true
    }

    /// Takes the next key of a queue to be judged.
    pub(super) fn next_of(
        &mut self,
        queue: impl Fn(&mut Self) -> &mut VecDeque<KeyId>,
    ) -> Option<KeyId> {
        while let Some(id) = queue(self).pop_front() {
            // Otherwise it is not watched any more, or its watches are new and it is in a queue twice.
            if let Some(key) = self.keys.get_mut(&id)
                && key.judging.is_none()
                && key.marked.take().is_some()
            {
                key.judging = Some(Instant::now());
                return Some(id);
            }
        }
        None
    }

    pub(super) fn clear_queues(&mut self) {
        self.queue.clear();
        self.reads.clear();
        self.retries.clear();
    }

    pub(super) fn mark_where(&mut self, which: impl Fn(&WatchedKey) -> bool) {
        let now = Instant::now();
        for (id, key) in &mut self.keys {
            if which(key) && key.mark(now) {
                self.queue.push_back(*id);
            }
        }
    }

    pub(super) fn set_first_end(&mut self, id: &KeyId, first_end: Option<Timestamp>) {
        let Some(key) = self.keys.get_mut(id) else {
            return;
        };
        let former = std::mem::replace(&mut key.first_end, first_end);
        if former != first_end {
            former.map(|at| self.ends.remove(&(at, *id)));
            self.ends.extend(first_end.map(|at| (at, *id)));
        }
    }

    /// Takes out watches.
    pub(super) fn take(
        &mut self,
        ended: Vec<((KeyId, WatchNumber), WatchEnd)>,
    ) -> Vec<(Waiter, WatchEnd)> {
        let mut taken = Vec::with_capacity(ended.len());
        for (place, end) in ended {
            taken.extend(self.watches.remove(&place).map(|watch| (watch, end)));
            self.forget_unwatched(&place.0);
        }
        taken
    }

    /// Takes out the watches of the keys for which the store did not answer for `patience`.
    pub(super) fn give_up(
        &mut self,
        patience: Duration,
        now: Timestamp,
    ) -> Vec<(Waiter, WatchEnd)> {
        let last_answer = self.last_answer;
        let is_over = |since: Instant| since.elapsed() >= patience;
        let late = |key: &WatchedKey| key.waits_since(last_answer).is_some_and(is_over);
        let late: Vec<_> = self.keys.iter().filter(|(_, key)| late(key)).collect();
        let late: Vec<KeyId> = late.into_iter().map(|(id, _)| *id).collect();
        let places = late.iter().flat_map(|id| {
            let watches = self.watches.range((*id, 0)..=(*id, WatchNumber::MAX));
            watches
                .map(|(place, watch)| (*place, watch.passed_end(now).unwrap_or(WatchEnd::Unknown)))
        });
        let places = places.collect();
        self.take(places)
    }

    /// Forgets a key that is neither watched nor being judged.
    pub(super) fn forget_unwatched(&mut self, id: &KeyId) {
        let mut watches = self.watches.range((*id, 0)..=(*id, WatchNumber::MAX));
        if watches.next().is_some() {
            return;
        }
        self.set_first_end(id, None);
        if self.keys.get(id).is_some_and(|key| key.judging.is_none()) {
            self.keys.remove(id);
        }
    }

    pub(super) fn forget_all_unwatched(&mut self) {
        let ids: Vec<KeyId> = self.keys.keys().copied().collect();
        for id in ids {
            self.forget_unwatched(&id);
        }
    }
}

/// Returns the earlier of two times, of which each may be absent.
pub(super) fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
