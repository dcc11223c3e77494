//! Group commit: operations on limit counters that wait for each other share a transaction.
//!
//! SQLite runs one write transaction at a time. Operations that arrive during one are done together
//! by the next; the more there are, the less each costs.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqlitePool;
use tokio::sync::oneshot;

use super::error::failed;
use super::limit_counters::{self, CounterOperation};
use crate::clock::Clock;
use crate::error::StoreError;
use crate::store::ChargeOutcome;

/// The most operations of one transaction: the first of them wait for the last.
const MAX_OPERATIONS: usize = 128;

/// After so long without a pause there is one. Another writer, here or in another process, asks
/// SQLite again and again, and would hardly ever find the file unlocked.
const BUSY: Duration = Duration::from_millis(5);

/// Operations that arrive during it are done together, so little is lost.
const PAUSE: Duration = Duration::from_millis(2);

/// Operations on limit counters that wait for a transaction.
#[derive(Debug, Clone)]
pub(super) struct GroupCommit {
    pool: SqlitePool,
    clock: Arc<dyn Clock>,
    queue: Arc<Mutex<CommitQueue>>,
}

#[derive(Debug, Default)]
struct CommitQueue {
    operations: VecDeque<QueuedOperation>,
    /// Whether a worker is running.
    has_worker: bool,
}

type OperationResult = Result<ChargeOutcome, StoreError>;

#[derive(Debug)]
struct QueuedOperation {
    operation: CounterOperation,
    reply: oneshot::Sender<OperationResult>,
}

impl GroupCommit {
    /// Writes through `pool`, at the time of `clock`.
    pub(super) fn new(pool: SqlitePool, clock: Arc<dyn Clock>) -> Self {
        Self {
            pool,
            clock,
            queue: Arc::default(),
        }
    }

    /// Runs `operation` and returns its result. If the caller goes away, an operation that has begun
    /// is done nevertheless, and one that has not begun is dropped.
    pub(super) async fn run(&self, operation: CounterOperation) -> OperationResult {
        let (reply, replied) = oneshot::channel();
        self.push(QueuedOperation { operation, reply });
        let stopped = || StoreError::unavailable("it stopped while a charge was under way");
        replied.await.map_err(|_dropped| stopped())?
    }

    fn push(&self, operation: QueuedOperation) {
        let mut queue = self.lock();
        queue.operations.push_back(operation);
        if !std::mem::replace(&mut queue.has_worker, true) {
            // A task of its own: a caller that goes away must not end the operations of the others.
            let worker = CommitWorker {
                group_commit: self.clone(),
                done: false,
            };
            tokio::spawn(worker.run());
        }
    }

    /// Takes the operations of the next transaction; with `None`, the worker ends.
    fn next(&self) -> Option<Vec<QueuedOperation>> {
        let mut queue = self.lock();
        let count = queue.operations.len().min(MAX_OPERATIONS);
        queue.has_worker = count > 0;
        queue
            .has_worker
            .then(|| queue.operations.drain(..count).collect())
    }

    fn lock(&self) -> MutexGuard<'_, CommitQueue> {
        self.queue.lock()
    }

    async fn commit(&self, mut queued: Vec<QueuedOperation>) {
        queued.retain(|queued| !queued.reply.is_closed());
        if queued.is_empty() {
            return;
        }
        let operations: Vec<_> = queued.iter().map(|queued| &queued.operation).collect();
        match limit_counters::run_all(&self.pool, &operations, &*self.clock).await {
            Ok(results) => {
                for (queued, result) in queued.into_iter().zip(results) {
                    // The caller may have gone away.
                    let _ = queued.reply.send(result);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for queued in queued {
                    let error = failed("counting", Arc::clone(&error));
                    let _ = queued.reply.send(Err(error));
                }
            }
        }
    }
}

/// Commits until the queue is empty.
struct CommitWorker {
    group_commit: GroupCommit,
    done: bool,
}

impl CommitWorker {
    async fn run(mut self) {
        let mut since = Instant::now();
        while let Some(queued) = self.group_commit.next() {
            self.group_commit.commit(queued).await;
            if since.elapsed() > BUSY {
                tokio::time::sleep(PAUSE).await;
                since = Instant::now();
            }
        }
        self.done = true;
    }
}

impl Drop for CommitWorker {
    /// If the runtime ends while operations wait, tells their callers, and lets the next operation
    /// start a new worker.
    fn drop(&mut self) {
        if !self.done {
            let mut queue = self.group_commit.lock();
            queue.has_worker = false;
            queue.operations.clear();
        }
    }
}
