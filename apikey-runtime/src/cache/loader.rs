//! Reads of the store: one at a time for a key, on the manager's own thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::entry::CachedKey;
use super::fence::Ticket;
use super::table::{Cache, Desk};
use crate::clock::{Clock, ClockReading};
use crate::error::StoreError;
use crate::key::{KeyHasher, KeyId};
use crate::limiter::Plans;
use crate::metrics::{Metrics, StoreCall};
use crate::store::KeyStore;

/// When and how the store was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// When the question was sent: the answer is that old.
    pub(crate) sent: ClockReading,
    ticket: Ticket,
    /// Whether it was asked for the one who got the answer, who did not join on the way.
    pub(crate) own: bool,
}

/// What the store said of an id.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) asked: Asked,
    /// The key, if the store has it and it can be read.
    pub(crate) found: Option<Arc<CachedKey>>,
}

/// The store gave no answer. Never cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadFault;

/// What those who wait for a read are handed.
type Outcome = Option<Result<Answer, ReadFault>>;

/// A read under way.
#[derive(Debug)]
pub(super) struct Flight {
    /// Tells the read that takes itself off the desk from a later one of the same key.
    ticket: Ticket,
    number: u64,
    outcome: watch::Receiver<Outcome>,
}

/// Reads the store for those whose key is not in the cache.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) hasher: Arc<dyn KeyHasher>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cache: Arc<Cache>,
    /// The limits of the keys in the cache.
    pub(crate) plans: Plans,
    pub(crate) metrics: Metrics,
    pub(crate) runtime: Handle,
    /// How long the store may take.
    pub(crate) deadline: Duration,
}

impl Reader {
    /// What the store says of `id`. A read of the same key under way is waited for, unless `alone`:
    /// then a new one is started.
    ///
    /// The read runs on the manager's runtime, so it goes on when its caller goes away or is busy.
    pub(crate) async fn read(
        self: &Arc<Self>,
        id: &KeyId,
        alone: bool,
    ) -> Result<Answer, ReadFault> {
        // The thread outlives the manager's end by a moment.
        if self.cache.lease.is_closed() {
            return Err(ReadFault);
        }
        let board = |desk: &mut Desk, ticket| match desk.flights.get(id) {
            // A read that panicked has taken its sender with it, and itself not off the desk.
            Some(flight) if !alone && flight.outcome.has_changed().is_ok() => {
                (flight.outcome.clone(), false)
            }
            _ => (self.take_off(desk, *id, ticket), true),
        };
        let (mut outcome, own) = self.cache.shard(id).enter(board);
        // The sender is dropped unsent only where the manager's runtime is gone.
        let answer = outcome
            .wait_for(Option::is_some)
            .await
            .map_err(|_| ReadFault)?;
        let mut answer = answer.as_ref().map_or(Err(ReadFault), Clone::clone)?;
        answer.asked.own = own;
        Ok(answer)
    }

    /// Whether no change of the key came since it was asked for. Every change tells, whether the
    /// answer was kept or not.
    pub(crate) fn is_current(&self, id: &KeyId, asked: Asked) -> bool {
        self.cache.shard(id).is_current(asked.ticket)
    }

    fn take_off(
        self: &Arc<Self>,
        desk: &mut Desk,
        id: KeyId,
        ticket: Ticket,
    ) -> watch::Receiver<Outcome> {
        let (sender, outcome) = watch::channel(None);
        desk.flown += 1;
        let number = desk.flown;
        desk.flights.insert(
            id,
            Flight {
                ticket,
                number,
                outcome: outcome.clone(),
            },
        );
        let reader = Arc::clone(self);
        self.runtime.spawn(async move {
            let answer = reader.ask(&id, ticket).await;
            if let Ok(answer) = &answer {
                reader
                    .cache
                    .keep(&id, ticket, answer.asked.sent, answer.found.as_ref());
            }
            reader.land(&id, ticket, number);
            // Nobody waits any more: fine, the entry is in the cache.
            let _ = sender.send(Some(answer));
        });
        outcome
    }

    fn land(&self, id: &KeyId, ticket: Ticket, number: u64) {
        self.cache.shard(id).enter(|desk, _| {
            let own = |flight: &Flight| flight.ticket == ticket && flight.number == number;
            if desk.flights.get(id).is_some_and(own) {
                desk.flights.remove(id);
            }
        });
    }

    async fn ask(&self, id: &KeyId, ticket: Ticket) -> Result<Answer, ReadFault> {
        let asked = Asked {
            sent: self.clock.read(),
            ticket,
            own: false,
        };
        let answer = tokio::time::timeout(self.deadline, self.store.find(id)).await;
        self.metrics.called(StoreCall::Find, answer.as_ref().ok());
        match answer {
            Ok(Ok(None)) => Ok(Answer { asked, found: None }),
            Ok(Ok(Some(record))) => {
                let found = CachedKey::of(record, &*self.hasher, &self.plans).map(Arc::new);
                if found.is_none() {
                    tracing::error!(key_id = %id, "key refused: its stored digest has an unknown tag or form");
                }
                Ok(Answer { asked, found })
            }
            Ok(Err(error @ StoreError::Corrupt { .. })) => {
                tracing::error!(key_id = %id, %error, "key refused: its record cannot be read");
                Ok(Answer { asked, found: None })
            }
            Ok(Err(error)) => {
                tracing::warn!(key_id = %id, %error, "the key store failed");
                Err(ReadFault)
            }
            Err(_) => {
                tracing::warn!(key_id = %id, deadline = ?self.deadline, "the key store gave no answer in time");
                Err(ReadFault)
            }
        }
    }
}
