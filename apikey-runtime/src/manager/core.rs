//! The state that the manager's calls use on its thread.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::cache::Cache;
use crate::cluster::ChangePoller;
use crate::error::{Error, StoreError};
use crate::events::{Event, EventKind, EventSender};
use crate::key::{KeyHasher, KeyId};
use crate::metrics::StoreCall;
use crate::record::{KeyPatch, KeyRecord, Validity};
use crate::shared::Shared;
use crate::usage::Usage;
use crate::verify::Verifier;

/// The parts of one manager. The verifier decides; the others create, change and revoke keys.
#[derive(Debug)]
pub(super) struct ManagerCore {
    pub(super) shared: Arc<Shared>,
    pub(super) cache: Arc<Cache>,
    pub(super) hasher: Arc<dyn KeyHasher>,
    pub(super) poller: Arc<ChangePoller>,
    pub(super) events: Arc<EventSender>,
    pub(super) usage: Arc<Usage>,
    pub(super) verifier: Arc<Verifier>,
    /// Wakes the task that probes the store.
    pub(super) probe_request: Notify,
}

impl ManagerCore {
    /// Reads a record from the store.
    pub(super) async fn find(&self, id: KeyId) -> Result<KeyRecord, Error> {
        self.shared.find(&id).await?.ok_or(Error::NotFound(id))
    }

    /// Reads the record of a key that is not revoked.
    pub(super) async fn find_unrevoked(&self, id: KeyId) -> Result<KeyRecord, Error> {
        let record = self.find(id).await?;
        if Validity::of(&record).revoked {
            Err(Error::Revoked(id))
        } else {
            Ok(record)
        }
    }

    /// Lets polls and other calls run between two pages of a call that may read the whole store: a
    /// store whose answers are ready at once does not.
    ///
    /// # Errors
    ///
    /// Returns [`Error::ShutDown`] if the manager shuts down.
    pub(super) async fn before_next_page(&self) -> Result<(), Error> {
        tokio::task::yield_now().await;
        match self.poller.is_stopping() {
            true => Err(Error::ShutDown),
            false => Ok(()),
        }
    }

    /// Applies a patch in the store, and evicts the key.
    pub(super) async fn patch(&self, id: KeyId, patch: &KeyPatch) -> Result<(), Error> {
        let update = self.shared.store.update(&id, patch);
        let outcome = self.shared.call(StoreCall::Update, update).await;
        // Evicted after an error too: the change may have been made, and the answer lost.
        self.cache.evict(&id);
        outcome.map_err(|error| missing(error, id))
    }

    /// Emits an event of a change that is durable and whose key was evicted from this cache.
    pub(super) fn emit(&self, kind: EventKind, id: KeyId, actor: Option<&str>) {
        self.events.emit(|| Event {
            at: self.shared.now().now,
            kind,
            key_id: Some(id),
            owner: None,
            actor: actor.map(str::to_owned),
        });
    }
}

/// Adds the key's id to the error that its record was not found.
pub(super) fn missing(error: StoreError, id: KeyId) -> Error {
    match error {
        StoreError::NotFound => Error::NotFound(id),
        other => Error::Store(other),
    }
}
