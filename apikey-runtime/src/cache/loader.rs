//! Reads of the store: one at a time per key, on the manager's own thread. Reads of several keys are sent together, if the
//! store can do that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::entry::CachedKey;
use super::fence::Generation;
use super::idle::{IdleEnd, IdleExpiry};
use super::in_flight::{InFlightRead, QueuedRead, ReadAnswer, ReadError, ReadOutcome, ReadStamp};
use super::read_queue::ReadQueue;
use super::table::{Cache, ShardState};
use crate::error::{ErrorChain, StoreError};
use crate::key::{KeyHasher, KeyId};
use crate::limiter::Plans;
use crate::record::KeyRecord;
use crate::shared::{CallClass, Shared, is_down};
use crate::store::{FindResult, KeyStore, MAX_BATCH};

/// Reads keys that are not in the cache from the store, one read at a time for each key.
#[derive(Debug)]
pub(crate) struct Loader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) hasher: Arc<dyn KeyHasher>,
    /// The limits of the cached keys.
    pub(crate) plans: Plans,
    /// Tells when keys become idle, if they do.
    pub(crate) idle: Option<IdleExpiry>,
    /// The reads that are not sent yet.
    pub(crate) queue: ReadQueue<QueuedRead>,
    /// Permits the single reads of batches that failed.
    pub(crate) single_reads: Semaphore,
}

/// The maximum number of single reads that are sent at once, of batches that failed.
pub(crate) const SINGLE_READS: usize = 8;

/// The least time that a read has left when it is sent, or a tenth of the deadline of a read if that is less. The deadline of
/// a batch is that of its oldest read: a call of up to 100 keys that is given up at once would cost the store a connection,
/// and all of them a second read.
const LEAST_LEFT: Duration = Duration::from_millis(50);

/// A record, and when its key becomes idle.
type ReadRecord = (KeyRecord, Option<IdleEnd>);

type FoundRecord = Result<Option<ReadRecord>, StoreError>;

impl Loader {
    /// Creates the queue for the reads of a store.
    pub(crate) fn queue_of(store: &dyn KeyStore) -> ReadQueue<QueuedRead> {
        ReadQueue::new(store.batch_reads().map_or(1, |_| MAX_BATCH))
    }

    /// Returns the store's answer for `id`. Joins an in-flight read of the same key, unless `alone`
    /// is set: then a new read starts.
    ///
    /// The read runs on the manager's runtime, so it continues if its caller is dropped or busy.
    pub(crate) async fn read(
        self: &Arc<Self>,
        id: &KeyId,
        alone: bool,
    ) -> Result<ReadAnswer, ReadError> {
        // The thread outlives the end of the manager by a moment.
        if self.cache.lease.is_closed() {
            return Err(ReadError);
        }
        let mut started = None;
        let join_or_start = |state: &mut ShardState, generation| match state.in_flight.get(id) {
            // A read that panicked dropped its sender, but did not remove itself.
            Some(read) if !alone && read.outcome.has_changed().is_ok() => read.outcome.clone(),
            _ => {
                let (read, outcome) = self.start(state, *id, generation);
                started = Some(read);
                outcome
            }
        };
        let mut outcome = self.cache.shard(id).enter(join_or_start);
        let own = started.is_some();
        if let Some(read) = started {
            self.enqueue(read);
        }
        // The sender is dropped unsent only if the read panicked, or the manager's runtime has ended.
        let answer = outcome
            .wait_for(Option::is_some)
            .await
            .map_err(|_ended| ReadError)?;
        let mut answer = answer.as_ref().map_or(Err(ReadError), Clone::clone)?;
        answer.stamp.own = own;
        Ok(answer)
    }

    /// Returns whether neither the key nor any owner changed since the read began. Every change
    /// counts, whether the answer was cached or not.
    pub(crate) fn is_current(&self, id: &KeyId, stamp: ReadStamp) -> bool {
        self.cache.shard(id).is_current(stamp.generation)
    }

    /// Registers a read, which callers may join from now on.
    fn start(
        &self,
        state: &mut ShardState,
        id: KeyId,
        generation: Generation,
    ) -> (QueuedRead, watch::Receiver<ReadOutcome>) {
        let (sender, outcome) = watch::channel(None);
        state.started_reads += 1;
        let number = state.started_reads;
        state.in_flight.insert(
            id,
            InFlightRead {
                generation,
                number,
                outcome: outcome.clone(),
            },
        );
        let read = QueuedRead {
            id,
            generation,
            number,
            until: Instant::now() + self.shared.deadline,
            outcome: sender,
        };
        (read, outcome)
    }

    fn enqueue(self: &Arc<Self>, read: QueuedRead) {
        if self.queue.push(read) {
            self.start_worker();
        }
    }

    fn start_worker(self: &Arc<Self>) {
        let worker = ReadWorker {
            loader: Arc::clone(self),
            batch: Vec::new(),
            has_run: false,
            is_done: false,
        };
        self.shared.runtime.spawn(worker.run());
    }

    fn finish(&self, read: &QueuedRead) {
        self.cache.shard(&read.id).enter(|state, _| {
            let own = |known: &InFlightRead| {
                known.generation == read.generation && known.number == read.number
            };
            if state.in_flight.get(&read.id).is_some_and(own) {
                state.in_flight.remove(&read.id);
            }
        });
    }

    /// Reads records of different ids, and when their keys become idle. `None` is in the place of a record whose last use was
    /// not read, and which may be read by itself.
    async fn find(
        &self,
        ids: &[KeyId],
        until: Instant,
    ) -> Result<Vec<Option<FoundRecord>>, StoreError> {
        let found = self.shared.find_many(ids, until).await?;
        let records: Vec<&KeyRecord> = found.iter().flatten().flatten().collect();
        let Some(idle) = &self.idle else {
            let without_end = |found: Option<KeyRecord>| found.map(|record| (record, None));
            let found = found.into_iter().map(|found| Some(found.map(without_end)));
            return Ok(found.collect());
        };
        let (ends, outcome) = idle.ends_of(&records, &self.shared, until).await;
        match outcome {
            Err(error) if ids.len() == 1 => return Err(error),
            Err(error) => note_failed_batch(ids.len(), &error),
            Ok(()) => {}
        }
        let mut ends = ends.into_iter();
        let with_end = |found: FindResult| match found {
            Ok(Some(record)) => {
                let end = ends.next().flatten()?;
                Some(Ok(Some((record, Some(end)))))
            }
            Ok(None) => Some(Ok(None)),
            Err(error) => Some(Err(error)),
        };
        Ok(found.into_iter().map(with_end).collect())
    }

    /// Sends a batch and answers its reads. Reads of one key share its record. Leaves those in the
    /// batch that the store did not answer together.
    async fn read_batch(&self, batch: &mut Vec<QueuedRead>) {
        self.deny_late(batch);
        if batch.is_empty() {
            return;
        }
        batch.sort_unstable_by_key(|read| read.id);
        let mut ids: Vec<KeyId> = batch.iter().map(|read| read.id).collect();
        ids.dedup();
        // The others are read again if this is earlier than their own.
        let until = batch.iter().map(|read| read.until).min();
        let until = until.unwrap_or_else(Instant::now);
        let (last_watch, sent) = (self.cache.watchers.last_number(), self.shared.now());
        let answers = match self.find(&ids, until).await {
            Ok(answers) => answers,
            Err(error) if batch.len() == 1 || is_of_record(&ids, &error) => vec![Some(Err(error))],
            Err(error) => return note_failed_batch(ids.len(), &error),
        };
        let mut reads = std::mem::take(batch).into_iter().peekable();
        for (id, answer) in ids.iter().zip(answers) {
            let Some(answer) = answer else {
                batch.extend(std::iter::from_fn(|| reads.next_if(|read| read.id == *id)));
                continue;
            };
            let mut answer = self.answered(id, answer);
            while let Some(read) = reads.next_if(|read| read.id == *id) {
                let is_last = reads.peek().is_none_or(|next| next.id != *id);
                let own = match &mut answer {
                    Ok(record) if is_last => Ok(record.take()),
                    answer => answer.clone(),
                };
                let stamp = ReadStamp {
                    sent,
                    last_watch,
                    generation: read.generation,
                    own: false,
                };
                self.answer(read, stamp, own);
            }
        }
    }

    /// Answers the reads that have waited until their deadline has passed, or is so near that the store can hardly answer. The
    /// store is not asked, and the other reads keep their own deadlines.
    fn deny_late(&self, batch: &mut Vec<QueuedRead>) {
        let least = Instant::now() + LEAST_LEFT.min(self.shared.deadline / 10);
        let mut denied = 0;
        for read in batch.extract_if(.., |read| read.until <= least) {
            self.finish(&read);
            let _ = read.outcome.send(Some(Err(ReadError)));
            denied += 1;
        }
        // If others are left, their call tells how the store is.
        if denied > 0 && batch.is_empty() {
            self.shared.reads_failed(&StoreError::timed_out(format!(
                "{denied} reads waited too long for earlier ones, and were not sent"
            )));
        }
    }

    fn answer(
        &self,
        read: QueuedRead,
        stamp: ReadStamp,
        answer: Result<Option<ReadRecord>, ReadError>,
    ) {
        let answer = answer.map(|record| {
            let mut found = record
                .and_then(|record| self.entry_of(record))
                .map(Arc::new);
            self.cache
                .commit_if_current(&read.id, stamp.generation, stamp.sent, found.as_mut());
            ReadAnswer { stamp, found }
        });
        self.finish(&read);
        // If no caller waits any more, the entry is in the cache anyway.
        let _ = read.outcome.send(Some(answer));
    }

    fn entry_of(&self, (record, idle): ReadRecord) -> Option<CachedKey> {
        let now = self.shared.now().now;
        let Some(mut found) = CachedKey::of(record, &*self.hasher, &self.plans, now) else {
            self.shared.metrics.unreadable_record();
            return None;
        };
        if let Some(idle) = idle {
            found.end_idle(idle);
        }
        Some(found)
    }

    /// Logs why a record was not read; a store that does not answer is logged once for all reads. A record that cannot be read
    /// denies its key as an unknown id does.
    fn answered(&self, id: &KeyId, answer: FoundRecord) -> Result<Option<ReadRecord>, ReadError> {
        match answer {
            Ok(record) => Ok(record),
            Err(error @ StoreError::Corrupt { .. }) => {
                self.shared.metrics.unreadable_record();
                tracing::error!(key_id = %id, error = %ErrorChain(&error), "key denied: its record cannot be read");
                Ok(None)
            }
            // That was logged when reads began to fail. A failed read of last uses is not one of those.
            Err(error)
                if is_down(&error) && self.shared.status.of(CallClass::Reads).failing.is_some() =>
            {
                tracing::debug!(key_id = %id, error = %ErrorChain(&error), "the key store failed");
                Err(ReadError)
            }
            Err(error) => {
                tracing::warn!(key_id = %id, error = %ErrorChain(&error), "the key store failed");
                Err(ReadError)
            }
        }
    }
}

fn note_failed_batch(keys: usize, error: &StoreError) {
    tracing::debug!(keys, error = %ErrorChain(error), "reading several keys at once failed; each is read by itself");
}

/// Returns whether an error is about the one record that was asked for.
fn is_of_record(ids: &[KeyId], error: &StoreError) -> bool {
    ids.len() == 1 && matches!(error, StoreError::Corrupt { .. })
}

/// Sends batches until no read waits.
struct ReadWorker {
    loader: Arc<Loader>,
    batch: Vec<QueuedRead>,
    has_run: bool,
    is_done: bool,
}

impl ReadWorker {
    async fn run(mut self) {
        self.has_run = true;
        while let Some(batch) = self.loader.queue.next_batch() {
            self.batch = batch;
            self.loader.read_batch(&mut self.batch).await;
            self.read_singly();
        }
        self.is_done = true;
    }

    /// Sends the reads of a batch that failed again, each by itself and a few at a time: a record that makes the batch fail does not deny other
    /// keys.
    fn read_singly(&mut self) {
        for read in self.batch.drain(..) {
            let loader = Arc::clone(&self.loader);
            self.loader.shared.runtime.spawn(async move {
                // It is never closed.
                let _permit = loader.single_reads.acquire().await;
                loader.read_batch(&mut vec![read]).await;
            });
        }
    }
}

impl Drop for ReadWorker {
    /// If the worker did not come to its end, its batch panicked, or the manager's runtime has ended.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        // A runtime that has ended drops a worker unrun, also while a panic unwinds.
        let runtime_ended = !self.has_run || !std::thread::panicking();
        if !runtime_ended && self.batch.len() > 1 {
            self.read_singly();
        }
        if self.loader.queue.lose_worker(runtime_ended) {
            self.loader.start_worker();
        }
    }
}

#[cfg(test)]
mod tests;
