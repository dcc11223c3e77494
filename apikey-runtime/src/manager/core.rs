//! The state that the manager's calls use on its thread.

use std::sync::Arc;

use tokio::sync::{Mutex, Notify};

use super::notice_memory::NoticeMemory;
use crate::audit::ChangeOrigin;
use crate::cache::Cache;
use crate::cluster::ChangePoller;
use crate::error::{Error, ErrorChain, StoreError};
use crate::events::{Event, EventKind, EventSender};
use crate::key::{KeyHasher, KeyId};
use crate::metrics::StoreCall;
use crate::policy::IssuePolicy;
use crate::record::{KeyPatch, KeyRecord, Validity};
use crate::shared::Shared;
use crate::store::WriteOptions;
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
    /// Locked while events of keys that expire soon are sent and not yet noted as sent.
    pub(super) sending_notices: Mutex<()>,
    /// What the task that sends them remembers if it panics. Only that task locks it.
    pub(super) notice_memory: Mutex<NoticeMemory>,
}

impl ManagerCore {
    /// Reads a record from the store.
    pub(super) async fn find(&self, id: KeyId) -> Result<KeyRecord, Error> {
        self.shared.find(&id).await?.ok_or(Error::NotFound(id))
    }

    /// Reads a record of the owner and version that a call expects.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotFound`] for the key of another owner, whatever it is like, and
    /// [`Error::Conflict`] for another version.
    pub(super) async fn find_expected(
        &self,
        id: KeyId,
        options: &WriteOptions,
    ) -> Result<KeyRecord, Error> {
        let record = match self.find(id).await {
            // Whose it is cannot be read either.
            Err(Error::Store(error @ StoreError::Corrupt { .. }))
                if options.expected_owner.is_some() =>
            {
                tracing::error!(key_id = %id, error = %ErrorChain(&error), "the key is treated as if it did not exist");
                return Err(Error::NotFound(id));
            }
            found => found?,
        };
        let checked = options.check_record(&record);
        checked.map_err(|error| missing(error, id))?;
        Ok(record)
    }

    /// Reads a record as [`find_expected`](Self::find_expected) does, of a key that is not revoked.
    pub(super) async fn find_unrevoked(
        &self,
        id: KeyId,
        options: &WriteOptions,
    ) -> Result<KeyRecord, Error> {
        let record = self.find_expected(id, options).await?;
        if Validity::of(&record).revoked {
            Err(Error::Revoked(id))
        } else {
            Ok(record)
        }
    }

    /// Rejects a policy whose maximum of live keys the store does not count.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`].
    pub(super) fn check_countable(&self, policy: &IssuePolicy) -> Result<(), Error> {
        let store = &self.shared.store;
        match policy.max_live_keys {
            Some(_) if store.owners().is_none() => Err(Error::Unsupported(format!(
                "an owner's live keys have a maximum (`max_keys_per_owner`), and the key store ({store:?}) does not \
                 keep owners; use a store of this crate, implement `KeyStore::owners`, or leave the maximum out"
            ))),
            _ => Ok(()),
        }
    }

    /// Rejects an idle expiry if the store does not keep the last uses of keys.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`].
    pub(super) fn check_idle_expiry(&self) -> Result<(), Error> {
        let is_set = self.verifier.config.idle_expiry().is_some();
        if !is_set || self.usage.is_enabled() {
            return Ok(());
        }
        let store = &self.shared.store;
        Err(Error::Unsupported(format!(
            "unused keys are denied (`idle_expiry_hours`), and the key store ({store:?}) does not keep usage; use a \
             store of this crate, implement `KeyStore::usage`, or leave `idle_expiry_hours` out"
        )))
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
    pub(super) async fn patch(
        &self,
        id: KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), Error> {
        let update = self.shared.store.update(&id, patch, options);
        let outcome = self.shared.call(StoreCall::Update, update).await;
        // A repeated change of the owner may find that the first one was made.
        if patch.owner.is_some() {
            self.cache.evict(&id);
        }
        self.evict_unless_foreign(id, options, &outcome);
        outcome.map_err(|error| missing(error, id))
    }

    /// Evicts a key after a call that may have changed it: after an error too, since the change may have
    /// been made, and the answer lost. A key that the store did not find for the call's owner was not
    /// changed, and a person cannot evict the keys of others.
    pub(super) fn evict_unless_foreign<T>(
        &self,
        id: KeyId,
        options: &WriteOptions,
        outcome: &Result<T, StoreError>,
    ) {
        let is_refused = matches!(outcome, Err(StoreError::NotFound));
        if !(is_refused && options.expected_owner.is_some()) {
            self.cache.evict(&id);
        }
    }

    /// Emits an event of a change that is durable and whose key was evicted from this cache. Returns whether
    /// it had a reader.
    pub(super) fn emit(&self, kind: EventKind, id: KeyId, origin: &ChangeOrigin) -> bool {
        self.events.emit(|| Event {
            at: self.shared.now().now,
            kind,
            key_id: Some(id),
            owner: None,
            actor: origin.actor.clone(),
        })
    }
}

/// Adds the key's id to the error that its record was not found.
pub(super) fn missing(error: StoreError, id: KeyId) -> Error {
    match error {
        StoreError::NotFound => Error::NotFound(id),
        StoreError::Conflict => Error::Conflict(id),
        other => other.into(),
    }
}
