//! Writes usage to the store, batch by batch; a batch is retried until the store takes it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::batch::PendingBatches;
use super::{Usage, hour_of};
use crate::clock::Timestamp;
use crate::error::{ErrorChain, StoreError};
use crate::key::KeyId;
use crate::metrics::StoreCall;
use crate::shared::CallClass;
use crate::store::UsageBatch;

/// How often the last batch is offered when the manager shuts down.
const LAST_TRIES: usize = 2;

/// How often in a row the store may reject a batch, once per turn, before it is dropped.
const MAX_REJECTIONS: u32 = 5;

/// A background write may take this many times as long as a call for a request. A batch that does
/// not fit into the deadline is retried unchanged, so it would never fit.
const BACKGROUND_FACTOR: u32 = 10;

/// The usage to be written, and the state of writing it.
#[derive(Debug)]
pub(super) struct Flusher {
    pending: PendingBatches,
    /// The batch whose success the store has not confirmed. The store may have taken it and the
    /// answer was lost; it recognizes the batch by its number. So the batch is retried unchanged,
    /// before any newer one.
    offered: Option<UsageBatch>,
    /// How often in a row the store rejected it.
    rejections: u32,
    /// Number of requests in dropped batches.
    dropped: u64,
    failing: bool,
    /// Whether the warning that the tally is full was logged.
    full_logged: bool,
    /// Number of lost requests already reported.
    lost_reported: u64,
}

impl Flusher {
    pub(super) fn new(pending: PendingBatches) -> Self {
        Self {
            pending,
            offered: None,
            rejections: 0,
            dropped: 0,
            failing: false,
            full_logged: false,
            lost_reported: 0,
        }
    }

    /// Handles the result of a turn. A batch that the store keeps rejecting would be rejected
    /// forever and block all newer ones, so it is dropped. An unavailable store is waited for.
    fn count_rejections(&mut self, outcome: &Result<(), StoreError>) {
        match outcome {
            Ok(()) | Err(StoreError::Unavailable { .. }) => self.rejections = 0,
            Err(error) => {
                self.rejections += 1;
                if self.rejections >= MAX_REJECTIONS {
                    self.drop_offered(error);
                }
            }
        }
    }

    /// Returns the last uses of keys that the store may not have yet. One key may come several times.
    fn last_uses(&self) -> impl Iterator<Item = (KeyId, Timestamp)> {
        let offered = self.offered.iter().flat_map(|batch| &batch.last_used);
        let offered = offered.map(|used| (used.key, used.at));
        self.pending.last_uses().chain(offered)
    }

    fn drop_offered(&mut self, error: &StoreError) {
        self.rejections = 0;
        let Some(batch) = self.offered.take() else {
            return;
        };
        let requests = batch.rows.iter().map(|row| row.requests);
        let requests = requests.fold(0, u64::saturating_add);
        let hours = batch.rows.iter().map(|row| row.hour);
        tracing::error!(
            error = %ErrorChain(error),
            requests,
            counts = batch.rows.len(),
            first_hour = hours.clone().min(),
            last_hour = hours.max(),
            node = %batch.node,
            number = batch.number,
            "the key store rejected a batch of usage {MAX_REJECTIONS} times in a row: it is dropped, \
             and these requests (their hours are since 1970) are in no count; mend what the error names"
        );
        self.dropped = self.dropped.saturating_add(requests);
    }
}

impl Usage {
    /// Writes usage repeatedly, for as long as it is polled. Returns if the store does not keep
    /// usage.
    pub(crate) async fn run(&self) {
        if !self.kept {
            return;
        }
        self.pruning.lock().await.watch(self.shared.now());
        loop {
            // Sooner if the tally holds many cells.
            let _ = tokio::time::timeout(self.interval, self.usage_tally.is_full()).await;
            self.take_turn().await;
            self.prune().await;
        }
    }

    /// Writes usage while no caller waits. Only here is time for large batches, and only turns an
    /// interval apart show that the store rejects a batch permanently.
    async fn take_turn(&self) {
        let mut flusher = self.flusher.lock().await;
        let deadline = self.shared.deadline.saturating_mul(BACKGROUND_FACTOR);
        let work = self.write(&mut flusher, deadline);
        // If the manager shuts down, the last flush offers the same batch again.
        if let Some(outcome) = self.until_shutdown(work).await {
            flusher.count_rejections(&outcome);
            self.report(&mut flusher, &outcome);
        }
    }

    /// Runs `work`; returns `None` if the manager shuts down first.
    async fn until_shutdown<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut end) = (pin!(work), pin!(self.end.notified()));
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => end.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// Writes everything counted before this call, for a caller that waits.
    ///
    /// # Errors
    ///
    /// Returns the store's error. The usage is kept and retried.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        if !self.kept {
            return Ok(());
        }
        let turn = tokio::time::timeout(self.shared.deadline, self.flusher.lock()).await;
        let mut flusher = turn.map_err(|_elapsed| {
            let failing = self.shared.status.of(CallClass::Usage).failing;
            let known = failing.map_or_else(String::new, |(_, reason)| format!(": {reason}"));
            StoreError::timed_out(format!(
                "usage is being written, and the store is slow to take it{known}"
            ))
        })?;
        let outcome = self.write(&mut flusher, self.shared.deadline).await;
        self.report(&mut flusher, &outcome);
        outcome
    }

    /// Writes the remaining usage at shutdown.
    pub(crate) async fn finish(&self) {
        // Interrupts a turn in progress, which may take longer than the shutdown has.
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
        // Taken even if nothing can be written: counts of several threads take less memory once
        // merged.
        let settled = hour_of(self.shared.now().now) - 1;
        let merged = flusher.pending.add(self.take_cells());
        self.usage_tally.release(merged);
        loop {
            if flusher.offered.is_none() {
                let (batch, done) = flusher.pending.next(settled);
                self.usage_tally.release(done);
                flusher.offered = batch;
            }
            if flusher.offered.is_none() {
                self.forget_taken();
                return Ok(());
            }
            let offered = self.offer(flusher, deadline).await;
            if offered.is_err() {
                // Without those that were written, and those of batches that were dropped.
                self.keep_taken(flusher.last_uses());
                return offered;
            }
        }
    }

    /// Offers the batch, and drops it once the store has taken it.
    async fn offer(&self, flusher: &mut Flusher, deadline: Duration) -> Result<(), StoreError> {
        let Some(batch) = &flusher.offered else {
            return Ok(());
        };
        let call = async { self.shared.usage()?.add_usage(batch).await };
        self.shared
            .call_within(deadline, StoreCall::AddUsage, call)
            .await?;
        self.shared.metrics.usage_written(batch.rows.len());
        flusher.offered = None;
        flusher.rejections = 0;
        Ok(())
    }

    /// Logs each problem once instead of on every turn, and updates the metrics.
    fn report(&self, flusher: &mut Flusher, outcome: &Result<(), StoreError>) {
        match outcome {
            Err(error) if !flusher.failing => {
                tracing::warn!(error = %ErrorChain(error), "usage cannot be written; it is kept in memory and offered again");
            }
            Ok(()) if flusher.failing => tracing::info!("usage can be written again"),
            _ => {}
        }
        flusher.failing = outcome.is_err();
        let uncounted = self.usage_tally.lost();
        if uncounted > 0 && !flusher.full_logged {
            tracing::warn!("more usage is kept in memory than fits; requests go uncounted");
            flusher.full_logged = true;
        }
        let lost = uncounted.saturating_add(flusher.dropped);
        let newly = lost.saturating_sub(flusher.lost_reported);
        flusher.lost_reported = lost;
        self.shared
            .metrics
            .set_usage_held(self.usage_tally.held(), newly);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NodeId;
    use crate::usage::batch::MAX_ROWS;
    use crate::usage::tally::{UsageEvent, UsageTally};
    use crate::usage::unflushed::TakenUses;

    /// If they stayed, they would become ever more while the store rejects what it is offered.
    #[test]
    fn the_uses_of_a_dropped_batch_are_forgotten() {
        const KEYS: usize = MAX_ROWS * 2 + 500;
        let usage_tally = UsageTally::new();
        for number in 0..KEYS {
            let used = UsageEvent {
                id: &KeyId::from_u128(number as u128),
                at: Timestamp::from_millis(number as i64),
                denied: None,
                cost: 0,
                rotations: 0,
                network: None,
            };
            usage_tally.record(&used, &|write: &mut dyn FnMut(&str)| write("/"));
        }
        let pending = PendingBatches::new(NodeId::from_u128(9), Duration::from_secs(60));
        let mut flusher = Flusher::new(pending);
        flusher.pending.add(usage_tally.take());
        let taken = TakenUses::default();
        let kept = |flusher: &Flusher| {
            taken.keep(flusher.last_uses());
            taken.len()
        };
        assert_eq!(kept(&flusher), KEYS);
        flusher.offered = flusher.pending.next(0).0;
        assert_eq!(kept(&flusher), KEYS, "it may not be written");
        let rejected = Err(StoreError::InvalidArgument("a test".to_owned()));
        for _ in 0..MAX_REJECTIONS {
            assert_eq!(kept(&flusher), KEYS);
            flusher.count_rejections(&rejected);
        }
        assert_eq!(kept(&flusher), KEYS - MAX_ROWS);
        flusher.offered = flusher.pending.next(0).0;
        flusher.offered = None;
        assert_eq!(kept(&flusher), KEYS - MAX_ROWS * 2, "it was written");
        let uses: std::collections::BTreeMap<_, _> = flusher.last_uses().collect();
        let number = KEYS - 1;
        let last = uses.get(&KeyId::from_u128(number as u128));
        assert_eq!(last, Some(&Timestamp::from_millis(number as i64)));
    }
}
