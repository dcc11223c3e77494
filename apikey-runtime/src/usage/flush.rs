//! Writing usage: batch after batch, the same one again until the store has taken it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::batch::PendingBatches;
use super::{Usage, hour_of};
use crate::error::StoreError;
use crate::metrics::StoreCall;
use crate::store::UsageBatch;

/// How often the last of it is offered when a manager ends.
const LAST_TRIES: usize = 2;

/// How often in a row the store may refuse a batch, once at each turn, before it is dropped.
const MOST_REFUSALS: u32 = 5;

/// Writing that nobody waits for may take so many times as long as a call of a request: a batch that
/// does not fit into the time is offered again as it is, and would never fit.
const UNHURRIED: u32 = 10;

/// What is to be written.
#[derive(Debug)]
pub(super) struct Flusher {
    pending: PendingBatches,
    /// The batch that the store has not said to have taken. It may have, with the answer lost, and
    /// knows it by its number: so it is offered again as it is, before anything newer.
    offered: Option<UsageBatch>,
    /// How often in a row the store refused it.
    refusals: u32,
    /// How many requests were in batches that were dropped.
    dropped: u64,
    failing: bool,
    /// Whether it was told that more is counted than fits.
    told_full: bool,
    /// How many requests were told to be lost.
    told_lost: u64,
}

impl Flusher {
    pub(super) fn new(pending: PendingBatches) -> Self {
        Self {
            pending,
            offered: None,
            refusals: 0,
            dropped: 0,
            failing: false,
            told_full: false,
            told_lost: 0,
        }
    }

    /// A turn came to this. What the store refuses again and again it would refuse for ever, and all
    /// that is newer would wait behind it. A store that cannot be reached is waited for.
    fn mind(&mut self, outcome: &Result<(), StoreError>) {
        match outcome {
            Ok(()) | Err(StoreError::Unavailable { .. }) => self.refusals = 0,
            Err(error) => {
                self.refusals += 1;
                if self.refusals >= MOST_REFUSALS {
                    self.drop_offered(error);
                }
            }
        }
    }

    fn drop_offered(&mut self, error: &StoreError) {
        self.refusals = 0;
        let Some(batch) = self.offered.take() else {
            return;
        };
        let requests = batch.rows.iter().map(|row| row.requests);
        let requests = requests.fold(0, u64::saturating_add);
        let hours = batch.rows.iter().map(|row| row.hour);
        tracing::error!(
            %error,
            requests,
            counts = batch.rows.len(),
            first_hour = hours.clone().min(),
            last_hour = hours.max(),
            node = %batch.node,
            number = batch.number,
            "the key store refused a batch of usage {MOST_REFUSALS} times in a row: it is dropped, \
             and these requests (their hours are since 1970) are in no count; mend what the error names"
        );
        self.dropped = self.dropped.saturating_add(requests);
    }
}

impl Usage {
    /// Writes what was counted, again and again, for as long as it is polled. Returns where the
    /// store keeps no usage.
    pub(crate) async fn run(&self) {
        if !self.kept {
            return;
        }
        self.forgetting.lock().await.watch(self.shared.now());
        loop {
            // Sooner where much is held.
            let _ = tokio::time::timeout(self.interval, self.usage_tally.is_full()).await;
            self.take_turn().await;
            self.prune().await;
        }
    }

    /// Writes what was counted, while nobody waits for that: only here is time for what is large, and
    /// only turns that are an interval apart tell of a store that refuses for good.
    async fn take_turn(&self) {
        let mut flusher = self.flusher.lock().await;
        let deadline = self.shared.deadline.saturating_mul(UNHURRIED);
        let work = self.write(&mut flusher, deadline);
        // The end offers the same batch again.
        if let Some(outcome) = self.until_the_end(work).await {
            flusher.mind(&outcome);
            self.tell(&mut flusher, &outcome);
        }
    }

    /// `None` where the manager ends before that.
    async fn until_the_end<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut end) = (pin!(work), pin!(self.end.notified()));
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => end.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// Writes all that was counted when this is called, for somebody who waits.
    ///
    /// # Errors
    ///
    /// The store's. Nothing is lost then.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        if !self.kept {
            return Ok(());
        }
        let turn = tokio::time::timeout(self.shared.deadline, self.flusher.lock()).await;
        let mut flusher = turn.map_err(|_| {
            StoreError::unavailable("usage is being written, and the store is slow to take it")
        })?;
        let outcome = self.write(&mut flusher, self.shared.deadline).await;
        self.tell(&mut flusher, &outcome);
        outcome
    }

    /// Writes the last of it.
    pub(crate) async fn finish(&self) {
        // A turn that is under way has more time than an end has.
        self.end.notify_one();
        for _ in 0..LAST_TRIES {
            if self.flush().await.is_ok() {
                return;
            }
        }
        tracing::warn!(
            cells = self.usage_tally.held(),
            "the key store did not take the last of the usage; it is lost"
        );
    }

    async fn write(&self, flusher: &mut Flusher, deadline: Duration) -> Result<(), StoreError> {
        // Taken even where nothing can be written: what threads counted apart takes less room in
        // one place.
        let settled = hour_of(self.shared.now().now) - 1;
        let merged = flusher.pending.add(self.usage_tally.take());
        self.usage_tally.release(merged);
        loop {
            if flusher.offered.is_none() {
                let (batch, done) = flusher.pending.next(self.network, settled);
                self.usage_tally.release(done);
                flusher.offered = batch;
            }
            if flusher.offered.is_none() {
                return Ok(());
            }
            self.offer(flusher, deadline).await?;
        }
    }

    /// Offers the batch, and forgets it where the store has taken it.
    async fn offer(&self, flusher: &mut Flusher, deadline: Duration) -> Result<(), StoreError> {
        let Some(batch) = &flusher.offered else {
            return Ok(());
        };
        let call = self.shared.store.add_usage(batch);
        let answer = tokio::time::timeout(deadline, call).await;
        self.shared
            .metrics
            .called(StoreCall::AddUsage, answer.as_ref().ok());
        answer.unwrap_or_else(|_| {
            Err(StoreError::unavailable(format!(
                "usage was not taken within {deadline:?}; it is offered again"
            )))
        })?;
        self.shared.metrics.usage_written(batch.rows.len());
        flusher.offered = None;
        flusher.refusals = 0;
        Ok(())
    }

    /// Says what has to be known, once and not at each turn.
    fn tell(&self, flusher: &mut Flusher, outcome: &Result<(), StoreError>) {
        match outcome {
            Err(error) if !flusher.failing => {
                tracing::warn!(%error, "usage cannot be written; it is kept in memory and offered again");
            }
            Ok(()) if flusher.failing => tracing::info!("usage can be written again"),
            _ => {}
        }
        flusher.failing = outcome.is_err();
        let uncounted = self.usage_tally.lost();
        if uncounted > 0 && !flusher.told_full {
            tracing::warn!("more usage is kept in memory than fits; requests go uncounted");
            flusher.told_full = true;
        }
        let lost = uncounted.saturating_add(flusher.dropped);
        let newly = lost.saturating_sub(flusher.told_lost);
        flusher.told_lost = lost;
        self.shared
            .metrics
            .usage_stands(self.usage_tally.held(), newly);
    }
}
