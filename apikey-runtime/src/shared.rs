//! The state that the parts of one manager share: the store, the clock, the runtime, the deadline
//! and the metrics; and what became of the last calls of the store.

mod last_uses;
mod status;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, Timeout};

use crate::clock::{Clock, ClockReading};
use crate::error::{ErrorChain, StoreError};
use crate::key::KeyId;
use crate::metrics::{Metrics, StoreCall};
use crate::record::KeyRecord;
use crate::store::{
    FindResult, KeyStore, LastUsed, LimitStore, LimitSupport, ListQuery, NetworkUse, RecordPage,
    UsageQuery, UsageRow, UsageStore, answer,
};

pub(crate) use last_uses::{LastUseTimes, UnflushedUses};
pub(crate) use status::{CallClass, StoreStatus, is_down};

/// The store and the clock of one manager, and the runtime on which it calls the store.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn KeyStore>,
    /// The limits that the store counts; `None` if it has no limit counters.
    pub(crate) limit_support: Option<LimitSupport>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The runtime of the manager's thread. It drives the store's connections.
    pub(crate) runtime: Handle,
    /// The time that a call of the store may take.
    pub(crate) deadline: Duration,
    pub(crate) metrics: Metrics,
    /// What became of the last calls of the store.
    pub(crate) status: StoreStatus,
}

impl Shared {
    /// Combines these parts, and asks the store once which limits it counts.
    pub(crate) fn new(
        store: Arc<dyn KeyStore>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
        deadline: Duration,
    ) -> Self {
        Self {
            limit_support: store.limits().map(|limits| limits.support()),
            store,
            clock,
            runtime,
            deadline,
            metrics: Metrics::new(),
            status: StoreStatus::default(),
        }
    }

    /// Returns the store's limit counters.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store does not count limits.
    pub(crate) fn limits(&self) -> Result<&dyn LimitStore, StoreError> {
        let limits = self.store.limits();
        limits.ok_or_else(|| StoreError::unavailable("it does not count limits"))
    }

    /// Returns the store's usage.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store does not keep usage.
    pub(crate) fn usage(&self) -> Result<&dyn UsageStore, StoreError> {
        let usage = self.store.usage();
        usage.ok_or_else(|| StoreError::unavailable("it does not keep usage"))
    }

    /// Returns the time of the manager's clock.
    #[inline]
    pub(crate) fn now(&self) -> ClockReading {
        self.clock.read()
    }

    /// Waits for what another thread does, until a time. The caller may be on any thread, also on one without a
    /// runtime.
    pub(crate) fn wait_until<F: Future>(&self, until: Instant, future: F) -> Timeout<F> {
        let _entered = self.runtime.enter();
        tokio::time::timeout_at(until, future)
    }

    /// Reads the record of `id`. Each record that a manager uses comes from here or from
    /// [`list`](Self::list), which check that the answer fits the question.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`call`](Self::call), and [`StoreError::Corrupt`].
    pub(crate) async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let find = async { answer::record_of(id, self.store.find(id).await?) };
        self.call(StoreCall::Find, find).await
    }

    /// Reads the records of different ids, in their order, until a time. Several ids need the store's
    /// [`batch_reads`](KeyStore::batch_reads).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`find`](Self::find). With several ids, [`StoreError::Corrupt`] of one record is in the place of
    /// that record.
    pub(crate) async fn find_many(
        &self,
        ids: &[KeyId],
        until: Instant,
    ) -> Result<Vec<FindResult>, StoreError> {
        let find = async {
            match (ids, self.store.batch_reads()) {
                ([id], _) => {
                    answer::record_of(id, self.store.find(id).await?).map(|found| vec![Ok(found)])
                }
                (_, Some(store)) => answer::records_of(ids, store.find_many(ids).await?),
                (_, None) => Err(StoreError::unavailable("it reads one record at a time")),
            }
        };
        let left = until.saturating_duration_since(Instant::now());
        // A call that is given up at once would only cost the store a connection.
        let answer = match left.is_zero() {
            true => None,
            false => tokio::time::timeout(left, find).await.ok(),
        };
        self.ended(StoreCall::Find, self.deadline, answer)
    }

    /// Reads a page of records.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`find`](Self::find).
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        let list = async { answer::page_of(query, self.store.list(query).await?) };
        self.call(StoreCall::List, list).await
    }

    /// Reads counts of keys.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`find`](Self::find).
    pub(crate) async fn read_usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        let read = async { answer::usage_of(query, self.usage()?.read_usage(query).await?) };
        self.call(StoreCall::ReadUsage, read).await
    }

    /// Reads when keys were last allowed.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`find`](Self::find).
    pub(crate) async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        self.last_used_until(keys, Instant::now() + self.deadline)
            .await
    }

    /// Does the same until a time.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`find`](Self::find).
    pub(crate) async fn last_used_until(
        &self,
        keys: &[KeyId],
        until: Instant,
    ) -> Result<Vec<LastUsed>, StoreError> {
        let read = async { answer::last_used_of(keys, self.usage()?.last_used(keys).await?) };
        let left = until.saturating_duration_since(Instant::now());
        self.call_within(left, StoreCall::ReadUsage, read).await
    }

    /// Reads the networks from which keys were last allowed, the latest first.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`find`](Self::find).
    pub(crate) async fn read_networks(
        &self,
        keys: &[KeyId],
    ) -> Result<Vec<NetworkUse>, StoreError> {
        let read = async { answer::networks_of(keys, self.usage()?.read_networks(keys).await?) };
        self.call(StoreCall::ReadUsage, read).await
    }

    /// Awaits a store call for at most the deadline, and records its result in the metrics and in
    /// the status.
    ///
    /// # Errors
    ///
    /// Returns the store's error, or [`StoreError::Unavailable`] if the deadline passes first.
    pub(crate) async fn call<T>(
        &self,
        which: StoreCall,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.call_within(self.deadline, which, call).await
    }

    /// Does the same with another deadline.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Self::call).
    pub(crate) async fn call_within<T>(
        &self,
        deadline: Duration,
        which: StoreCall,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answer = tokio::time::timeout(deadline, call).await;
        self.ended(which, deadline, answer.ok())
    }

    /// Records the answer of a call that ended; `None` if it did not come within the deadline.
    fn ended<T>(
        &self,
        which: StoreCall,
        deadline: Duration,
        answer: Option<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.metrics.called(which, answer.as_ref());
        let outcome = answer.unwrap_or_else(|| {
            Err(StoreError::timed_out(format!(
                "no answer within {deadline:?}; whether a write took effect is not known"
            )))
        });
        match (CallClass::of(which), &outcome) {
            (Some(CallClass::Reads), Err(error)) if is_down(error) => self.reads_failed(error),
            (Some(class), _) => {
                if self.status.record(class, &outcome) && class == CallClass::Reads {
                    tracing::info!("the key store can be read again");
                }
            }
            (None, _) => {}
        }
        outcome
    }

    /// Records that the store did not answer a read of a key. Logs the first such failure, and not those that follow it.
    pub(crate) fn reads_failed(&self, error: &StoreError) {
        if self.status.failed(CallClass::Reads, error) {
            tracing::warn!(error = %ErrorChain(error), "the key store failed: keys cannot be read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::MemoryStore;

    /// A read waits before it is sent, and the time is a part of its deadline.
    #[tokio::test]
    async fn a_read_whose_deadline_has_passed_is_not_sent() {
        const LONG: Duration = Duration::from_secs(60);
        let (store, clock) = (MemoryStore::new(), SystemClock::new());
        let shared = Shared::new(Arc::new(store), Arc::new(clock), Handle::current(), LONG);
        for ids in [&[1][..], &[1, 2]] {
            let ids: Vec<_> = ids.iter().copied().map(KeyId::from_u128).collect();
            let late = shared.find_many(&ids, Instant::now()).await;
            assert!(late.is_err_and(|error| error.is_timeout()));
            // Control: the store answers at once.
            let found = shared.find_many(&ids, Instant::now() + LONG).await;
            assert_eq!(found.map_or(0, |found| found.len()), ids.len());
        }
    }
}
