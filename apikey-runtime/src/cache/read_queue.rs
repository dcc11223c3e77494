//! Reads that wait to be sent.
//!
//! A few workers send reads, each of them one batch at a time. A read that comes while all workers are busy waits, and the
//! next worker that is ready sends all reads that wait. A read never waits for others to come: if a worker is idle, the read is
//! sent at once.
//!
//! A read takes its generation of the [`fence`](super::fence) before it waits here, and its batch is sent after the batch was
//! taken from here. So a read that starts now is never part of a batch that was sent earlier.

use std::collections::VecDeque;

use super::sync::{Mutex, MutexGuard, PoisonError};

/// The maximum number of batches under way. With more of them, batches are smaller; with fewer, a connection that was lost
/// delays more reads.
const WORKERS: usize = 4;

/// Reads that wait for a worker.
#[derive(Debug)]
pub(crate) struct ReadQueue<R> {
    max_workers: usize,
    max_batch: usize,
    inside: Mutex<QueuedReads<R>>,
}

#[derive(Debug)]
struct QueuedReads<R> {
    waiting: VecDeque<R>,
    workers: usize,
}

impl<R> ReadQueue<R> {
    /// Creates a queue for batches of up to `max_batch` reads. If that is 1, each read is sent at once.
    pub(crate) fn new(max_batch: usize) -> Self {
        let max_workers = if max_batch > 1 { WORKERS } else { usize::MAX };
        Self::with_workers(max_batch, max_workers)
    }

    pub(super) fn with_workers(max_batch: usize, max_workers: usize) -> Self {
        Self {
            max_workers,
            max_batch,
            inside: Mutex::new(QueuedReads {
                waiting: VecDeque::new(),
                workers: 0,
            }),
        }
    }

    /// Adds a read. Returns whether the caller has to start a worker.
    pub(super) fn push(&self, read: R) -> bool {
        let mut inside = self.lock();
        inside.waiting.push_back(read);
        let starts = inside.workers < self.max_workers;
        inside.workers += usize::from(starts);
        starts
    }

    /// Takes the next batch of a worker. `None` ends the worker.
    pub(super) fn next_batch(&self) -> Option<Vec<R>> {
        let mut inside = self.lock();
        let count = inside.waiting.len().min(self.max_batch);
        if count == 0 {
            inside.workers -= 1;
            return None;
        }
        Some(inside.waiting.drain(..count).collect())
    }

    /// Removes a worker that ended otherwise. If its runtime has ended too, drops all reads that wait: no worker would send
    /// them. Returns whether the caller has to start another worker.
    pub(super) fn lose_worker(&self, runtime_ended: bool) -> bool {
        let mut inside = self.lock();
        inside.workers -= 1;
        if runtime_ended {
            let dropped = std::mem::take(&mut inside.waiting);
            drop(inside);
            drop(dropped);
            return false;
        }
        let starts = !inside.waiting.is_empty();
        inside.workers += usize::from(starts);
        starts
    }

    /// A poisoned lock is safe to use: nothing panics between two steps of a change.
    fn lock(&self) -> MutexGuard<'_, QueuedReads<R>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
