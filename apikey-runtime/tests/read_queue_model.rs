//! The queue of reads (`src/cache/read_queue.rs`), under every interleaving that loom explores: each read is sent once,
//! although workers end while reads come; and none waits after the end of the runtime.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

use loom::sync::{Arc, Mutex};
use loom::thread;

mod sync {
    pub(super) use loom::sync::{Mutex, MutexGuard};
    pub(super) use std::sync::PoisonError;
}

#[path = "../src/cache/read_queue.rs"]
mod read_queue;

use read_queue::ReadQueue;

struct Model {
    queue: ReadQueue<usize>,
    sent: Mutex<Vec<usize>>,
}

impl Model {
    /// Adds a read, and is the worker if there has to be another. With `loses`, the worker ends after its first batch as if
    /// it had panicked.
    fn read(&self, read: usize, loses: bool) {
        let mut works = self.queue.push(read);
        while works {
            let Some(batch) = self.queue.next_batch() else {
                return;
            };
            self.sent.lock().unwrap().extend(batch);
            if loses {
                works = self.queue.lose_worker(false);
            }
        }
    }
}

/// Checks that reads that come at once are sent, in each interleaving.
fn sent(reads: usize, max_batch: usize, max_workers: usize, loses: bool) {
    loom::model(move || {
        let model = Arc::new(Model {
            queue: ReadQueue::with_workers(max_batch, max_workers),
            sent: Mutex::new(Vec::new()),
        });
        let readers: Vec<_> = (1..reads)
            .map(|read| {
                let model = Arc::clone(&model);
                thread::spawn(move || model.read(read, loses))
            })
            .collect();
        model.read(0, loses);
        for reader in readers {
            reader.join().unwrap();
        }
        let mut sent = model.sent.lock().unwrap().clone();
        sent.sort_unstable();
        let all: Vec<usize> = (0..reads).collect();
        assert_eq!(sent, all, "a read is lost, or sent twice");
    });
}

#[test]
fn each_read_is_sent_once_by_one_worker() {
    sent(3, 2, 1, false);
}

#[test]
fn each_read_is_sent_once_by_two_workers() {
    sent(2, 1, 2, false);
}

#[test]
fn a_read_that_waits_outlives_a_worker() {
    sent(2, 1, 1, true);
}

/// A runtime that ends: it drops its workers, and those that are started later at once.
struct EndingRuntime {
    queue: ReadQueue<Read>,
    /// The number of workers; `None` after the end.
    workers: Mutex<Option<usize>>,
    /// What a dropped worker says of the runtime.
    says_ended: bool,
}

/// A read, which is over when the queue does not have it any more.
type Read = std::sync::Arc<()>;

impl EndingRuntime {
    fn read(&self, read: Read) {
        if !self.queue.push(read) {
            return;
        }
        match &mut *self.workers.lock().unwrap() {
            Some(workers) => *workers += 1,
            None => self.drop_worker(),
        }
    }

    fn end(&self) {
        let workers = self.workers.lock().unwrap().take();
        for _ in 0..workers.unwrap() {
            self.drop_worker();
        }
    }

    fn drop_worker(&self) {
        let starts = self.queue.lose_worker(self.says_ended);
        assert!(!starts || !self.says_ended, "no worker runs after the end");
    }
}

/// Checks that no read waits after the end of the runtime, in each interleaving.
fn ended(reads: usize, max_workers: usize, says_ended: bool) {
    loom::model(move || {
        let runtime = Arc::new(EndingRuntime {
            queue: ReadQueue::with_workers(1, max_workers),
            workers: Mutex::new(Some(0)),
            says_ended,
        });
        let reads: Vec<_> = (0..reads).map(|_| Read::default()).collect();
        runtime.read(Read::clone(&reads[0]));
        let readers = reads[1..].iter().map(|read| {
            let (runtime, read) = (Arc::clone(&runtime), Read::clone(read));
            thread::spawn(move || runtime.read(read))
        });
        let readers: Vec<_> = readers.collect();
        // A worker waits for the answer to its batch when the runtime ends.
        drop(runtime.queue.next_batch());
        runtime.end();
        for reader in readers {
            reader.join().unwrap();
        }
        for read in &reads {
            assert_eq!(Read::strong_count(read), 1, "a read waits for ever");
        }
    });
}

#[test]
fn no_read_waits_after_the_end_of_the_runtime() {
    ended(3, 1, true);
    ended(2, 2, true);
}

/// Negative control: reads that wait are not dropped with the worker.
#[test]
#[should_panic(expected = "a read waits for ever")]
fn reads_wait_for_ever_if_a_worker_does_not_say_that_the_runtime_ended() {
    ended(3, 1, false);
}

/// Negative control: reads that wait for a worker which does not look again are lost.
#[test]
#[should_panic(expected = "a read is lost")]
fn reads_are_lost_with_a_worker_that_does_not_look_again() {
    loom::model(|| {
        let model = Arc::new(Model {
            queue: ReadQueue::with_workers(1, 1),
            sent: Mutex::new(Vec::new()),
        });
        let other = {
            let model = Arc::clone(&model);
            thread::spawn(move || model.read(1, false))
        };
        if model.queue.push(0) {
            let batch = model.queue.next_batch().unwrap();
            model.sent.lock().unwrap().extend(batch);
            // It ends without another worker in its place.
            model.queue.lose_worker(false);
        }
        other.join().unwrap();
        assert_eq!(model.sent.lock().unwrap().len(), 2, "a read is lost");
    });
}
