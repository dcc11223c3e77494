//! Marks keys: writes the revocation of an owner into the records of its keys.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, ErrorChain, StoreError};
use crate::manager::core::ManagerCore;
use crate::metrics::StoreCall;
use crate::store::OwnerStore;

/// How often this node looks for keys that another node, which ended in between, left unmarked.
const INTERVAL: Duration = Duration::from_secs(60);

/// The bounds of the pause after a step, which is as long as the step was: other users of the store
/// get half of its time.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(250)];

/// The pause after a first failure. Each pause is twice the one before, up to [`INTERVAL`].
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How often a call that waits for marking tries a step while the store is unavailable.
const TRIES: usize = 4;

impl ManagerCore {
    /// Marks, until the manager shuts down: at the start, when an owner was changed here or by
    /// another node, and at intervals.
    pub(in crate::manager) async fn run_marking(&self) {
        let Some(owners) = self.shared.store.owners() else {
            return;
        };
        let mut pause = FIRST_RETRY_PAUSE;
        while !self.poller.is_stopping() {
            if let Ok(false) = self.mark_step(owners, &mut pause).await {
                let _ = timeout(INTERVAL, self.poller.owner_changed()).await;
            }
        }
    }

    /// Marks to the end before a call returns. If the store is unavailable, tries a step again a few
    /// times.
    ///
    /// # Errors
    ///
    /// Returns the error of the last try, or [`Error::ShutDown`].
    pub(super) async fn mark_now(&self, owners: &dyn OwnerStore) -> Result<(), Error> {
        let (mut pause, mut failures) = (FIRST_RETRY_PAUSE, 0);
        while !self.poller.is_stopping() {
            match self.mark_step(owners, &mut pause).await {
                Ok(true) => failures = 0,
                Ok(false) => return Ok(()),
                Err(StoreError::Unavailable { .. }) if failures + 1 < TRIES => failures += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::ShutDown)
    }

    /// Makes a step, and a pause after it. Returns whether more may be left. After a failure, which is
    /// logged, it sets the pause after the next one.
    async fn mark_step(
        &self,
        owners: &dyn OwnerStore,
        pause: &mut Duration,
    ) -> Result<bool, StoreError> {
        let began = Instant::now();
        let step = owners.mark_revoked_keys();
        let outcome = self.shared.call(StoreCall::MarkKeys, step).await;
        match &outcome {
            Ok(more) => {
                *pause = FIRST_RETRY_PAUSE;
                if *more {
                    let [least, most] = PAUSE;
                    sleep(began.elapsed().clamp(least, most)).await;
                }
            }
            // The store was stopped with the manager.
            Err(_) if self.poller.is_stopping() => {}
            Err(error) => {
                tracing::warn!(error = %ErrorChain(error), ?pause, "revoked keys of an owner are not marked yet; it is tried again");
                sleep(*pause).await;
                *pause = INTERVAL.min(*pause * 2);
            }
        }
        outcome
    }
}
