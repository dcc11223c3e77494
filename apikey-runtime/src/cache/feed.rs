//! Learning what changed: polls of the store's history, which also carry the lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::map::Cache;
use super::read::Reader;
use crate::store::{Changes, Cursor, History};

/// The least time between two polls that refused requests ask for.
const ASKED_APART: Duration = Duration::from_millis(50);

/// How often a store is asked again that keeps no history.
const IDLE: Duration = Duration::from_secs(60);

/// The poller's face: how others ask it for a poll, and learn that one is done.
#[derive(Debug)]
pub(crate) struct Feed {
    asked: Notify,
    /// How many polls were begun. Polls are counted, and not told apart by a clock that may stand
    /// still.
    begun: AtomicU64,
    /// The number of the last poll that is done.
    done: watch::Sender<u64>,
    /// Whether the last poll failed.
    failing: AtomicBool,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            asked: Notify::new(),
            begun: AtomicU64::new(0),
            done: watch::Sender::new(0),
            failing: AtomicBool::new(false),
        }
    }

    /// Waits until a poll that begins from now on is done, whether or not the store answered it.
    /// Those who wait share it, and such polls are 50 ms apart at least, however many ask.
    pub(crate) async fn ask(&self) {
        let mut done = self.done.subscribe();
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        while *done.borrow_and_update() < wanted {
            self.asked.notify_one();
            // The sender lives as long as this does; what else could come is the end.
            if done.changed().await.is_err() {
                return;
            }
        }
    }

    /// Lets go of all who wait: there will be no poll any more.
    pub(crate) fn close(&self) {
        self.done.send_replace(u64::MAX);
    }

    /// Polls for as long as it is polled itself: at each third of a lease, and when asked. Runs on
    /// the manager's runtime.
    pub(crate) async fn run(&self, reader: &Reader, mut cursor: Option<Cursor>) {
        let mut asked_at = Instant::now();
        let mut polled_at = asked_at;
        loop {
            let length = reader.cache.lease.length();
            let pause = length.map_or(IDLE, |length| length / 3);
            if tokio::time::timeout(pause, self.asked.notified())
                .await
                .is_ok()
            {
                // Those who ask put no poll off that the lease needs.
                let soonest = asked_at + ASKED_APART;
                tokio::time::sleep_until(soonest.min(polled_at + pause)).await;
                asked_at = Instant::now();
            }
            polled_at = Instant::now();
            self.poll(reader, &mut cursor).await;
        }
    }

    /// Asks once what changed since `cursor`, drops that from the cache, and takes the lease.
    /// `false` where the store gave no answer; that it keeps no history is one.
    pub(crate) async fn poll(&self, reader: &Reader, cursor: &mut Option<Cursor>) -> bool {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        // Told on every way out, that of a store that panics too.
        let _told = Told {
            done: &self.done,
            number,
        };
        let sent = [reader.clock.read(), reader.clock.read()];
        let answer =
            tokio::time::timeout(reader.deadline, reader.store.changes(cursor.as_ref(), None))
                .await;
        let answered = match answer {
            Ok(Ok(Some(changes))) => {
                let length = changes.lease;
                *cursor = Some(apply(&reader.cache, changes));
                // Evictions first: whoever sees the lease sees them done.
                reader.cache.lease.grant(sent, length);
                true
            }
            Ok(Ok(None)) => {
                reader.cache.lease.end();
                true
            }
            Ok(Err(error)) => self.failed(&error),
            Err(_) => self.failed(&format_args!("no answer within {:?}", reader.deadline)),
        };
        if answered && self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the key store's history can be read again");
        }
        answered
    }

    /// Says so once, and not at each poll until it is over.
    fn failed(&self, error: &dyn std::fmt::Display) -> bool {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the key store's history cannot be read; its lease runs out");
        }
        false
    }
}

/// Tells those who wait that a poll is over, when it is dropped.
struct Told<'f> {
    done: &'f watch::Sender<u64>,
    number: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.done.send_modify(|done| *done = self.number.max(*done));
    }
}

fn apply(cache: &Arc<Cache>, changes: Changes) -> Cursor {
    match changes.history {
        History::Changed(ids) => ids.iter().for_each(|id| cache.evict(id)),
        History::Unknown => cache.flush(),
    }
    changes.cursor
}
