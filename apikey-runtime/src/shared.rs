//! The state that the parts of one manager share: the store, the clock, the runtime, the deadline
//! and the metrics; and what became of the last calls of the store.

mod last_uses;
mod status;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::{Clock, ClockReading};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::metrics::{Metrics, StoreCall};
use crate::record::KeyRecord;
use crate::store::{
    KeyStore, LastUsed, LimitStore, LimitSupport, ListQuery, NetworkUse, RecordPage, UsageQuery,
    UsageRow, UsageStore, answer,
};

pub(crate) use last_uses::{LastUseTimes, UnflushedUses};
pub(crate) use status::{CallClass, StoreStatus};

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
    pub(crate) fn now(&self) -> ClockReading {
        self.clock.read()
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
        let read = async { answer::last_used_of(keys, self.usage()?.last_used(keys).await?) };
        self.call(StoreCall::ReadUsage, read).await
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
        self.metrics.called(which, answer.as_ref().ok());
        let outcome = answer.unwrap_or_else(|_elapsed| {
            Err(StoreError::timed_out(format!(
                "no answer within {deadline:?}; whether a write took effect is not known"
            )))
        });
        if let Some(class) = CallClass::of(which) {
            self.status.record(class, &outcome);
        }
        outcome
    }
}
