//! Changes of any number of keys: the manager runs them step by step.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::audit::ChangeOrigin;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorChain, StoreError};
use crate::events::EventKind;
use crate::manager::core::ManagerCore;
use crate::metrics::StoreCall;
use crate::record::Revocation;
use crate::store::{BulkStep, ListCursor};

/// How often a step is tried while the store is unavailable.
const TRIES: usize = 4;

/// The pause before the second try of a step. Each pause is twice the one before.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of the pause after a step, which is as long as the step was. The polls and heartbeats
/// of all nodes, and other writers, thus get half of the store's time: SQLite does not queue the
/// writers of several processes, each must find the file unlocked by itself.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(250)];

/// A change of any number of keys.
#[derive(Debug)]
pub(in crate::manager) enum BulkChange {
    Revoke {
        owner: String,
        revocation: Revocation,
    },
    Purge {
        before: Timestamp,
    },
}

impl BulkChange {
    fn event(&self) -> EventKind {
        match self {
            Self::Revoke { revocation, .. } => EventKind::Revoked {
                reason: revocation.reason.clone(),
            },
            Self::Purge { .. } => EventKind::Purged,
        }
    }
}

impl ManagerCore {
    /// Runs all steps of `change`, and returns the number of changed keys. When this returns, this
    /// node does not trust any entry from before the change.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Incomplete`] if a step fails, or if the manager shuts down between two
    /// steps, and [`Error::ShutDown`] if it does before the first.
    pub(in crate::manager) async fn change_in_steps(
        &self,
        change: &BulkChange,
        origin: &ChangeOrigin,
    ) -> Result<u64, Error> {
        let mut done = 0;
        let mut after = None;
        if self.poller.is_stopping() {
            return Err(Error::ShutDown);
        }
        loop {
            let began = Instant::now();
            let step = self.step_with_retries(change, after.as_ref(), origin).await;
            let BulkStep { keys, next, .. } = step.map_err(|error| incomplete(done, error))?;
            keys.iter().for_each(|id| self.cache.evict(id));
            for id in &keys {
                self.emit(change.event(), *id, origin);
            }
            done += keys.len() as u64;
            if next.is_none() {
                break;
            }
            after = next;
            let [least, most] = PAUSE;
            sleep(began.elapsed().clamp(least, most)).await;
            if self.poller.is_stopping() {
                return Err(incomplete(done, Error::ShutDown));
            }
        }
        // Keys that another node changed before are not among those that were evicted.
        if !self.poller.poll_now().await {
            self.cache.flush();
        }
        Ok(done)
    }

    /// Runs one step. If the store is unavailable, tries again a few times.
    async fn step_with_retries(
        &self,
        change: &BulkChange,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, Error> {
        let mut pause = FIRST_RETRY_PAUSE;
        let mut tries = 1;
        loop {
            let error = match self.step(change, after, origin).await {
                Ok(step) => {
                    // A try whose answer was lost may have changed keys later than the flush.
                    if tries > 1 {
                        self.cache.flush();
                    }
                    return Ok(step);
                }
                Err(error) => error,
            };
            // The keys that it may have changed are not known here.
            self.cache.flush();
            let is_transient = matches!(error, StoreError::Unavailable { .. });
            if !is_transient || tries == TRIES || self.poller.is_stopping() {
                return Err(error.into());
            }
            tracing::warn!(error = %ErrorChain(&error), "a step of a bulk change failed; it is tried again");
            sleep(pause).await;
            pause *= 2;
            tries += 1;
        }
    }

    async fn step(
        &self,
        change: &BulkChange,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        let store = &self.shared.store;
        match change {
            BulkChange::Revoke { owner, revocation } => {
                let step = store.revoke_owner(owner, revocation, after, origin);
                self.shared.call(StoreCall::RevokeOwner, step).await
            }
            BulkChange::Purge { before } => {
                let step = store.purge(*before, after, origin);
                self.shared.call(StoreCall::Purge, step).await
            }
        }
    }
}

fn incomplete(done: u64, error: Error) -> Error {
    Error::Incomplete {
        done,
        source: Box::new(error),
    }
}
