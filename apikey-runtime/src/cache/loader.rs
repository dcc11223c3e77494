//! Reads of the store: one at a time per key, on the manager's own thread.

use std::sync::Arc;

use tokio::sync::watch;

use super::entry::CachedKey;
use super::fence::Generation;
use super::idle::{IdleEnd, IdleExpiry};
use super::in_flight::{InFlightRead, ReadAnswer, ReadError, ReadOutcome, ReadStamp};
use super::table::{Cache, ShardState};
use crate::error::{ErrorChain, StoreError};
use crate::key::{KeyHasher, KeyId};
use crate::limiter::Plans;
use crate::record::KeyRecord;
use crate::shared::Shared;

/// Reads keys that are not in the cache from the store, one read at a time for each key.
#[derive(Debug)]
pub(crate) struct Loader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) hasher: Arc<dyn KeyHasher>,
    /// The limits of the cached keys.
    pub(crate) plans: Plans,
    /// Tells when keys become idle, if they do.
    pub(crate) idle: Option<IdleExpiry>,
}

impl Loader {
    /// Returns the store's answer for `id`. Joins an in-flight read of the same key, unless `alone`
    /// is set: then a new read starts.
    ///
    /// The read runs on the manager's runtime, so it continues if its caller is dropped or busy.
    pub(crate) async fn read(
        self: &Arc<Self>,
        id: &KeyId,
        alone: bool,
    ) -> Result<ReadAnswer, ReadError> {
        // The thread outlives the end of the manager by a moment.
        if self.cache.lease.is_closed() {
            return Err(ReadError);
        }
        let join_or_start = |state: &mut ShardState, generation| match state.in_flight.get(id) {
            // A read that panicked dropped its sender, but did not remove itself.
            Some(read) if !alone && read.outcome.has_changed().is_ok() => {
                (read.outcome.clone(), false)
            }
            _ => (self.start(state, *id, generation), true),
        };
        let (mut outcome, own) = self.cache.shard(id).enter(join_or_start);
        // The sender is dropped unsent only if the manager's runtime has ended.
        let answer = outcome
            .wait_for(Option::is_some)
            .await
            .map_err(|_ended| ReadError)?;
        let mut answer = answer.as_ref().map_or(Err(ReadError), Clone::clone)?;
        answer.stamp.own = own;
        Ok(answer)
    }

    /// Returns whether neither the key nor any owner changed since the read began. Every change
    /// counts, whether the answer was cached or not.
    pub(crate) fn is_current(&self, id: &KeyId, stamp: ReadStamp) -> bool {
        self.cache.shard(id).is_current(stamp.generation)
    }

    fn start(
        self: &Arc<Self>,
        state: &mut ShardState,
        id: KeyId,
        generation: Generation,
    ) -> watch::Receiver<ReadOutcome> {
        let (sender, outcome) = watch::channel(None);
        state.started_reads += 1;
        let number = state.started_reads;
        state.in_flight.insert(
            id,
            InFlightRead {
                generation,
                number,
                outcome: outcome.clone(),
            },
        );
        let loader = Arc::clone(self);
        self.shared.runtime.spawn(async move {
            let mut answer = loader.read_store(&id, generation).await;
            if let Ok(answer) = &mut answer {
                loader.cache.commit_if_current(
                    &id,
                    generation,
                    answer.stamp.sent,
                    answer.found.as_mut(),
                );
            }
            loader.finish(&id, generation, number);
            // If no caller waits any more, the entry is in the cache anyway.
            let _ = sender.send(Some(answer));
        });
        outcome
    }

    fn finish(&self, id: &KeyId, generation: Generation, number: u64) {
        self.cache.shard(id).enter(|state, _| {
            let own = |read: &InFlightRead| read.generation == generation && read.number == number;
            if state.in_flight.get(id).is_some_and(own) {
                state.in_flight.remove(id);
            }
        });
    }

    /// Reads a record, and when its key becomes idle.
    async fn find(&self, id: &KeyId) -> Result<Option<(KeyRecord, Option<IdleEnd>)>, StoreError> {
        let Some(record) = self.shared.find(id).await? else {
            return Ok(None);
        };
        let idle = match &self.idle {
            Some(idle) => Some(idle.end_of(&record, &self.shared).await?),
            None => None,
        };
        Ok(Some((record, idle)))
    }

    async fn read_store(
        &self,
        id: &KeyId,
        generation: Generation,
    ) -> Result<ReadAnswer, ReadError> {
        let stamp = ReadStamp {
            sent: self.shared.now(),
            generation,
            own: false,
        };
        match self.find(id).await {
            Ok(None) => Ok(ReadAnswer { stamp, found: None }),
            Ok(Some((record, idle))) => {
                let mut found = CachedKey::of(record, &*self.hasher, &self.plans);
                if found.is_none() {
                    tracing::error!(key_id = %id, "key denied: its stored digest has an unknown tag or form");
                }
                if let Some((found, idle)) = found.as_mut().zip(idle) {
                    found.end_idle(idle);
                }
                let found = found.map(Arc::new);
                Ok(ReadAnswer { stamp, found })
            }
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(key_id = %id, error = %ErrorChain(&error), "key denied: its record cannot be read");
                Ok(ReadAnswer { stamp, found: None })
            }
            Err(error) => {
                tracing::warn!(key_id = %id, error = %ErrorChain(&error), "the key store failed");
                Err(ReadError)
            }
        }
    }
}
