//! Reads of the store: one at a time for a key, on the manager's own thread.

use std::sync::Arc;

use tokio::sync::watch;

use super::entry::CachedKey;
use super::fence::Generation;
use super::table::{Cache, ShardState};
use crate::clock::ClockReading;
use crate::error::StoreError;
use crate::key::{KeyHasher, KeyId};
use crate::limiter::Plans;
use crate::metrics::StoreCall;
use crate::shared::Shared;

/// When and how the store was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadStamp {
    /// When the question was sent: the answer is that old.
    pub(crate) sent: ClockReading,
    generation: Generation,
    /// Whether it was asked for the one who got the answer, who did not join on the way.
    pub(crate) own: bool,
}

/// What the store said of an id.
#[derive(Debug, Clone)]
pub(crate) struct ReadAnswer {
    pub(crate) stamp: ReadStamp,
    /// The key, if the store has it and it can be read.
    pub(crate) found: Option<Arc<CachedKey>>,
}

/// The store gave no answer. Never cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadError;

/// What those who wait for a read are handed.
type ReadOutcome = Option<Result<ReadAnswer, ReadError>>;

/// A read under way.
#[derive(Debug)]
pub(super) struct InFlightRead {
    /// Tells the read that takes itself off the desk from a later one of the same key.
    generation: Generation,
    number: u64,
    outcome: watch::Receiver<ReadOutcome>,
}

/// Reads keys that are not in the cache from the store, one read at a time for each key.
#[derive(Debug)]
pub(crate) struct Loader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) hasher: Arc<dyn KeyHasher>,
    /// The limits of the keys in the cache.
    pub(crate) plans: Plans,
}

impl Loader {
    /// What the store says of `id`. A read of the same key under way is waited for, unless `alone`:
    /// then a new one is started.
    ///
    /// The read runs on the manager's runtime, so it goes on when its caller goes away or is busy.
    pub(crate) async fn read(
        self: &Arc<Self>,
        id: &KeyId,
        alone: bool,
    ) -> Result<ReadAnswer, ReadError> {
        // The thread outlives the manager's end by a moment.
        if self.cache.lease.is_closed() {
            return Err(ReadError);
        }
        let join_or_start = |state: &mut ShardState, generation| match state.in_flight.get(id) {
            // A read that panicked has taken its sender with it, and itself not off the desk.
            Some(read) if !alone && read.outcome.has_changed().is_ok() => {
                (read.outcome.clone(), false)
            }
            _ => (self.start(state, *id, generation), true),
        };
        let (mut outcome, own) = self.cache.shard(id).enter(join_or_start);
        // The sender is dropped unsent only where the manager's runtime is gone.
        let answer = outcome
            .wait_for(Option::is_some)
            .await
            .map_err(|_| ReadError)?;
        let mut answer = answer.as_ref().map_or(Err(ReadError), Clone::clone)?;
        answer.stamp.own = own;
        Ok(answer)
    }

    /// Whether no change of the key came since it was asked for. Every change tells, whether the
    /// answer was kept or not.
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
            let answer = loader.read_store(&id, generation).await;
            if let Ok(answer) = &answer {
                loader.cache.commit_if_current(
                    &id,
                    generation,
                    answer.stamp.sent,
                    answer.found.as_ref(),
                );
            }
            loader.finish(&id, generation, number);
            // Nobody waits any more: fine, the entry is in the cache.
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
        let answer = tokio::time::timeout(self.shared.deadline, self.shared.store.find(id)).await;
        self.shared
            .metrics
            .called(StoreCall::Find, answer.as_ref().ok());
        match answer {
            Ok(Ok(None)) => Ok(ReadAnswer { stamp, found: None }),
            Ok(Ok(Some(record))) => {
                let found = CachedKey::of(record, &*self.hasher, &self.plans).map(Arc::new);
                if found.is_none() {
                    tracing::error!(key_id = %id, "key refused: its stored digest has an unknown tag or form");
                }
                Ok(ReadAnswer { stamp, found })
            }
            Ok(Err(error @ StoreError::Corrupt { .. })) => {
                tracing::error!(key_id = %id, %error, "key refused: its record cannot be read");
                Ok(ReadAnswer { stamp, found: None })
            }
            Ok(Err(error)) => {
                tracing::warn!(key_id = %id, %error, "the key store failed");
                Err(ReadError)
            }
            Err(_) => {
                tracing::warn!(key_id = %id, deadline = ?self.shared.deadline, "the key store gave no answer in time");
                Err(ReadError)
            }
        }
    }
}
