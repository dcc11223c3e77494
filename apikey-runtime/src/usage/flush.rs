//! Writing usage: batch after batch, the same one again until the store has taken it.

use super::batch::Waiting;
use super::{Usage, hour_of};
use crate::cache::Reader;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::meter::StoreCall;
use crate::store::UsageBatch;

/// How often the last of it is offered when a manager ends.
const LAST_TRIES: usize = 2;

/// What is to be written.
#[derive(Debug)]
pub(super) struct Flusher {
    waiting: Waiting,
    /// The batch that the store has not said to have taken. It may have, with the answer lost, and
    /// knows it by its number: so it is offered again as it is, before anything newer.
    offered: Option<UsageBatch>,
    failing: bool,
    /// How many requests were told to be lost.
    told_lost: u64,
}

impl Flusher {
    pub(super) fn new(waiting: Waiting) -> Self {
        Self {
            waiting,
            offered: None,
            failing: false,
            told_lost: 0,
        }
    }
}

impl Usage {
    /// Writes what was counted, again and again, for as long as it is polled. Returns where the
    /// store keeps no usage.
    pub(crate) async fn run(&self, reader: &Reader) {
        if !self.kept {
            return;
        }
        let mut forgotten = None;
        loop {
            // Sooner where much is held.
            let _ = tokio::time::timeout(self.interval, self.gather.is_full()).await;
            // It has said so itself, and is tried again.
            let _ = self.flush(reader).await;
            self.forget(reader, &mut forgotten).await;
        }
    }

    /// Writes all that was counted when this is called.
    ///
    /// # Errors
    ///
    /// The store's. Nothing is lost then.
    pub(crate) async fn flush(&self, reader: &Reader) -> Result<(), StoreError> {
        if !self.kept {
            return Ok(());
        }
        let mut flusher = self.flusher.lock().await;
        let outcome = self.write(&mut flusher, reader).await;
        self.tell(&mut flusher, &outcome, reader);
        outcome
    }

    /// Writes the last of it.
    pub(crate) async fn finish(&self, reader: &Reader) {
        for _ in 0..LAST_TRIES {
            if self.flush(reader).await.is_ok() {
                return;
            }
        }
        tracing::warn!(
            cells = self.gather.held(),
            "the key store did not take the last of the usage; it is lost"
        );
    }

    async fn write(&self, flusher: &mut Flusher, reader: &Reader) -> Result<(), StoreError> {
        // Taken even where nothing can be written: what threads counted apart takes less room in
        // one place.
        let settled = hour_of(reader.clock.read().now) - 1;
        let merged = flusher.waiting.add(self.gather.take());
        self.gather.release(merged);
        loop {
            if flusher.offered.is_none() {
                let (batch, done) = flusher.waiting.next(self.network, settled);
                self.gather.release(done);
                flusher.offered = batch;
            }
            if flusher.offered.is_none() {
                return Ok(());
            }
            self.offer(&mut flusher.offered, reader).await?;
        }
    }

    /// Offers the batch, and forgets it where the store has taken it.
    async fn offer(
        &self,
        offered: &mut Option<UsageBatch>,
        reader: &Reader,
    ) -> Result<(), StoreError> {
        let Some(batch) = offered else { return Ok(()) };
        let call = reader.store.add_usage(batch);
        let answer = tokio::time::timeout(reader.deadline, call).await;
        reader
            .meter
            .called(StoreCall::AddUsage, answer.as_ref().ok());
        answer.unwrap_or_else(|_| {
            let deadline = reader.deadline;
            Err(StoreError::unavailable(format!(
                "usage was not taken within {deadline:?}; it is offered again"
            )))
        })?;
        reader.meter.usage_written(batch.rows.len());
        *offered = None;
        Ok(())
    }

    /// Says what has to be known, once and not at each turn.
    fn tell(&self, flusher: &mut Flusher, outcome: &Result<(), StoreError>, reader: &Reader) {
        let (lost, before) = (self.gather.lost(), flusher.told_lost);
        match outcome {
            Err(error) if !flusher.failing => {
                tracing::warn!(%error, "usage cannot be written; it is kept in memory and offered again");
            }
            Ok(()) if flusher.failing => tracing::info!("usage can be written again"),
            _ => {}
        }
        flusher.failing = outcome.is_err();
        if lost > 0 && before == 0 {
            tracing::warn!("more usage is kept in memory than fits; requests go uncounted");
        }
        flusher.told_lost = lost;
        reader.meter.usage_stands(self.gather.held(), lost - before);
    }

    /// Removes what is no longer to be kept: once an hour, whichever nodes do.
    async fn forget(&self, reader: &Reader, forgotten: &mut Option<i64>) {
        let now = reader.clock.read().now;
        if *forgotten == Some(hour_of(now)) {
            return;
        }
        let kept = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
        // The hour in which the retention begins has not been over for as long.
        let before = hour_of(Timestamp::from_millis(now.as_millis().saturating_sub(kept)));
        let call = reader.store.forget_usage(before);
        let answer = tokio::time::timeout(reader.deadline, call).await;
        reader
            .meter
            .called(StoreCall::ForgetUsage, answer.as_ref().ok());
        match answer {
            Ok(Ok(())) => *forgotten = Some(hour_of(now)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "old usage was not removed; it is tried again")
            }
            Err(_) => tracing::debug!("old usage was not removed in time; it is tried again"),
        }
    }
}
