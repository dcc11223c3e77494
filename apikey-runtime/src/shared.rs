//! The state that the parts of one manager share: the store, the clock, the runtime, the deadline
//! and the metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::{Clock, ClockReading};
use crate::error::StoreError;
use crate::metrics::{Metrics, StoreCall};
use crate::store::{KeyStore, LimitStore, LimitSupport, UsageStore};

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

    /// Awaits a store call for at most the deadline, and counts its result in the metrics.
    ///
    /// # Errors
    ///
    /// Returns the store's error, or [`StoreError::Unavailable`] if the deadline passes first.
    pub(crate) async fn call<T>(
        &self,
        which: StoreCall,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let deadline = self.deadline;
        let answer = tokio::time::timeout(deadline, call).await;
        self.metrics.called(which, answer.as_ref().ok());
        answer.unwrap_or_else(|_| {
            Err(StoreError::unavailable(format!(
                "no answer within {deadline:?}; whether a write took effect is not known"
            )))
        })
    }
}
