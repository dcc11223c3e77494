//! The queue of reads (`src/cache/read_queue.rs`), under every interleaving that loom explores: each read is sent once,
//! although workers end while reads come.

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
