//! Charges that wait for each other are done together.
//!
//! A charge is a transaction, of which SQLite does one at a time. While one is under way, others
//! come; the next transaction then does all of them, and the more there are, the less each costs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use sqlx::sqlite::SqlitePool;
use tokio::sync::oneshot;

use super::counts::{self, Work};
use super::error::failed;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::store::ChargeOutcome;

/// So many at most are done in one transaction: the first of them wait for the last.
const TOGETHER: usize = 128;

/// After so long without a pause there is one. Who else wants to write, here or in another process,
/// asks SQLite again and again, and would hardly ever find that nobody writes.
const BUSY: Duration = Duration::from_millis(5);

/// What comes in the meantime is done together, so little is lost.
const PAUSE: Duration = Duration::from_millis(2);

/// Work on counts that waits for its turn.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pool: SqlitePool,
    clock: Arc<dyn Clock>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    tasks: VecDeque<Task>,
    /// Whether someone is at it.
    worked: bool,
}

type Answer = Result<ChargeOutcome, StoreError>;

#[derive(Debug)]
struct Task {
    work: Work,
    answer: oneshot::Sender<Answer>,
}

impl Queue {
    /// Does its work on `pool`, at the time of `clock`.
    pub(super) fn new(pool: SqlitePool, clock: Arc<dyn Clock>) -> Self {
        Self {
            pool,
            clock,
            waiting: Arc::default(),
        }
    }

    /// What came of `work`. It may be done even where nobody waits for that any more, but not where
    /// it had not begun.
    pub(super) async fn done(&self, work: Work) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.push(Task { work, answer });
        let stopped = || StoreError::unavailable("it stopped while a charge was under way");
        answered.await.map_err(|_| stopped())?
    }

    fn push(&self, task: Task) {
        let mut waiting = self.waiting();
        waiting.tasks.push_back(task);
        if !std::mem::replace(&mut waiting.worked, true) {
            // A task of its own: a caller who goes away must not take the work of the others along.
            let worker = Worker {
                queue: self.clone(),
                done: false,
            };
            tokio::spawn(worker.run());
        }
    }

    /// What to do next; with none, the worker is at its end.
    fn next(&self) -> Option<Vec<Task>> {
        let mut waiting = self.waiting();
        let count = waiting.tasks.len().min(TOGETHER);
        waiting.worked = count > 0;
        waiting
            .worked
            .then(|| waiting.tasks.drain(..count).collect())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }

    async fn work(&self, tasks: Vec<Task>) {
        let wanted = |task: &Task| !task.answer.is_closed();
        let tasks: Vec<_> = tasks.into_iter().filter(wanted).collect();
        if tasks.is_empty() {
            return;
        }
        let work: Vec<_> = tasks.iter().map(|task| &task.work).collect();
        let outcome = counts::work(&self.pool, &work, &*self.clock).await;
        match outcome {
            Ok(answers) => {
                for (task, answer) in tasks.into_iter().zip(answers) {
                    // Nobody may wait for it any more.
                    let _ = task.answer.send(answer);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for task in tasks {
                    let _ = task
                        .answer
                        .send(Err(failed("counting", Arc::clone(&error))));
                }
            }
        }
    }
}

/// Works until nothing waits.
struct Worker {
    queue: Queue,
    done: bool,
}

impl Worker {
    async fn run(mut self) {
        let mut since = Instant::now();
        while let Some(tasks) = self.queue.next() {
            self.queue.work(tasks).await;
            if since.elapsed() > BUSY {
                tokio::time::sleep(PAUSE).await;
                since = Instant::now();
            }
        }
        self.done = true;
    }
}

impl Drop for Worker {
    /// Where the runtime ends in the midst of the work, those who wait learn that nobody will do
    /// it, and who comes later finds someone who does.
    fn drop(&mut self) {
        if !self.done {
            let mut waiting = self.queue.waiting();
            waiting.worked = false;
            waiting.tasks.clear();
        }
    }
}
