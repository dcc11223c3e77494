//! Judges watched keys: whether a request that was allowed may go on.
//!
//! A key is judged by its entry in the cache under the lease, or by a read. An end that a newer record
//! could overturn is taken from a read only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Verifier;
use super::evaluate::judge;
use crate::cache::{ReadError, WatchEnd, WatchTime, WatchedRequest};
use crate::key::KeyId;

/// The number of keys that are read at once.
const MAX_READS: usize = 64;

/// The number of keys that are judged by the cache before other tasks of the thread run.
const BATCH: usize = 64;

/// How often the clocks are read while keys are watched.
const TICK: Duration = Duration::from_millis(250);

impl Verifier {
    /// Judges watched keys for as long as it is polled. Runs on the manager's runtime.
    pub(crate) async fn judge_watched_keys(self: &Arc<Self>) {
        let watchers = &self.loader.cache.watchers;
        watchers.begin();
        let reads = Arc::new(Semaphore::new(MAX_READS));
        let mut looked: Option<Instant> = None;
        loop {
            // A look at each key costs too much for each mark.
            if looked.is_none_or(|at| at.elapsed() >= TICK) {
                looked = Some(Instant::now());
                watchers.follow_time(&self.watch_time());
            } else {
                watchers.mark_due(self.shared.now().now);
            }
            self.judge_marked(&reads).await;
            match watchers.until_next_end(self.shared.now().now) {
                None => watchers.marked().await,
                Some(next) => {
                    let until_look = looked.map_or(TICK, |at| TICK.saturating_sub(at.elapsed()));
                    let pause = next.min(until_look);
                    // An error means that the time has come.
                    let _ = tokio::time::timeout(pause, watchers.marked()).await;
                }
            }
        }
    }

    fn watch_time(&self) -> WatchTime {
        let (now, lease) = (self.shared.now(), &self.loader.cache.lease);
        let length = lease.length().unwrap_or(self.shared.deadline);
        WatchTime {
            now,
            patience: self.config.watch_patience(),
            trust: (!lease.holds(now)).then_some(length),
        }
    }

    /// Judges the marked keys that the cache suffices for, and starts reads of the others.
    async fn judge_marked(self: &Arc<Self>, reads: &Arc<Semaphore>) {
        let watchers = &self.loader.cache.watchers;
        let mut judged = 0;
        while let Some(id) = watchers.next_marked() {
            if !self.judge_by_cache(&id) {
                watchers.needs_read(&id);
            }
            judged += 1;
            if judged % BATCH == 0 {
                self.start_reads(reads);
                tokio::task::yield_now().await;
            }
        }
        self.start_reads(reads);
    }

    /// Starts as many reads as may run at once. The end of each wakes the task again.
    fn start_reads(self: &Arc<Self>, reads: &Arc<Semaphore>) {
        let watchers = &self.loader.cache.watchers;
        while let Ok(permit) = Arc::clone(reads).try_acquire_owned()
            && let Some(id) = watchers.next_to_read()
        {
            // A check may have read the key meanwhile.
            if !self.judge_by_cache(&id) {
                let verifier = Arc::clone(self);
                self.shared
                    .runtime
                    .spawn(verifier.judge_by_read(id, permit));
            }
        }
    }

    /// Judges a key by its entry. Returns `false` if that does not suffice.
    fn judge_by_cache(&self, id: &KeyId) -> bool {
        let cache = &self.loader.cache;
        let Some(entry) = cache.peek(id.as_text(), Arc::clone) else {
            return false;
        };
        // In the order of a check: the clock after the entry, and the owners' changes after the lease.
        let now = self.shared.now();
        if !cache.lease.holds(now) || entry.is_stale() {
            return false;
        }
        let changes = cache.owner_changes();
        if entry.is_owner_stale(changes) {
            return false;
        }
        let verdict = |request: &WatchedRequest| judge(request, &entry, now.now, changes);
        // A revocation is never undone.
        let accepts = |end| end == WatchEnd::Revoked;
        let watchers = &cache.watchers;
        watchers.judge(id, entry.owner(), None, verdict, accepts)
    }

    async fn judge_by_read(self: Arc<Self>, id: KeyId, permit: OwnedSemaphorePermit) {
        let watchers = &self.loader.cache.watchers;
        if !self.try_judge_by_read(&id).await {
            watchers.not_judged(&id, self.shared.now().now);
        }
        drop(permit);
        watchers.notify();
    }

    /// Reads a key and judges it. Returns `false` if the store did not answer, or if its answer may not
    /// be trusted any more.
    async fn try_judge_by_read(&self, id: &KeyId) -> bool {
        let (cache, watchers) = (&self.loader.cache, &self.loader.cache.watchers);
        // Without a lease, only a read that begins now sees everything that was confirmed before.
        let alone = !cache.lease.holds(self.shared.now());
        let answer = match self.loader.read(id, alone).await {
            Ok(answer) => answer,
            Err(ReadError) => return false,
        };
        let stamp = answer.stamp;
        let now = self.shared.now();
        let trust = cache.lease.length().unwrap_or(self.shared.deadline);
        if stamp.sent.elapsed_until(now) >= trust {
            return false;
        }
        let changes = cache.owner_changes();
        match &answer.found {
            Some(key) if key.is_owner_stale(changes) => false,
            Some(key) => {
                let verdict = |request: &WatchedRequest| judge(request, key, now.now, changes);
                // If the time came after the read, the last use is not known.
                let accepts = |end| end != WatchEnd::Idle || key.found_idle().is_some();
                watchers.judge(id, key.owner(), Some(stamp), verdict, accepts)
            }
            None => watchers.judge(id, None, Some(stamp), |_| Err(WatchEnd::Unknown), |_| true),
        }
    }
}
