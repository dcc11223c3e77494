//! Learning what changed: polls of the store's history, which also carry the lease.

use std::sync::Arc;
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

/// How often a store that does not answer is tried, where no lease was stated yet.
const RETRY: Duration = Duration::from_millis(100);

/// The poller's face: how others ask it for a poll, and learn that one is done.
#[derive(Debug)]
pub(crate) struct Feed {
    asked: Notify,
    /// The uptime at which the last poll that is done was sent, and whether the store answered it.
    done: watch::Sender<(u64, bool)>,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            asked: Notify::new(),
            done: watch::Sender::new((0, false)),
        }
    }

    /// Waits until a poll that was sent at `since` (nanoseconds of uptime) or later is done. Those
    /// who wait share it, and such polls are 50 ms apart at least, however many ask. `false` where
    /// the store gave no answer.
    pub(crate) async fn ask(&self, since: u64) -> bool {
        let mut done = self.done.subscribe();
        loop {
            let (sent, answered) = *done.borrow_and_update();
            if sent >= since && sent > 0 {
                return answered;
            }
            self.asked.notify_one();
            if done.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Polls for as long as it is polled itself: at each third of a lease, and when asked. Runs on
    /// the manager's runtime.
    pub(crate) async fn run(&self, reader: &Reader, mut cursor: Option<Cursor>) {
        let mut asked_at = Instant::now();
        loop {
            let pause = if cursor.is_some() {
                reader
                    .cache
                    .lease
                    .length()
                    .map_or(RETRY, |length| length / 3)
            } else {
                IDLE
            };
            if tokio::time::timeout(pause, self.asked.notified())
                .await
                .is_ok()
            {
                tokio::time::sleep_until(asked_at + ASKED_APART).await;
                asked_at = Instant::now();
            }
            self.poll(reader, &mut cursor).await;
        }
    }

    /// Asks once what changed since `cursor`, drops that from the cache, and takes the lease.
    /// `false` where the store gave no answer, or keeps no history.
    pub(crate) async fn poll(&self, reader: &Reader, cursor: &mut Option<Cursor>) -> bool {
        let sent = [reader.clock.read(), reader.clock.read()];
        let answer =
            tokio::time::timeout(reader.deadline, reader.store.changes(cursor.as_ref())).await;
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
            Ok(Err(error)) => {
                tracing::warn!(%error, "the key store's history could not be read; its lease runs out");
                false
            }
            Err(_) => {
                tracing::warn!(deadline = ?reader.deadline, "the key store's history did not come in time; its lease runs out");
                false
            }
        };
        self.done
            .send_replace((sent[0].uptime_nanos.max(1), answered));
        answered
    }
}

fn apply(cache: &Arc<Cache>, changes: Changes) -> Cursor {
    match changes.history {
        History::Changed(ids) => ids.iter().for_each(|id| cache.evict(id)),
        History::Unknown => cache.flush(),
    }
    changes.cursor
}
