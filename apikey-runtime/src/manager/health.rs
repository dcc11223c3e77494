//! The manager's health report.

use std::time::Duration;

use serde::Serialize;

use super::core::ManagerCore;
use crate::clock::millis_u64;

/// The manager's health report, as of its last poll of the store; see
/// [`ApiKeyManager::health`](super::ApiKeyManager::health).
///
/// When serialized, durations are whole milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether the store answers.
    pub store: StoreHealth,
    /// The time since the last answered poll was sent; `None` before the first.
    #[serde(rename = "last_answer_ms", with = "millis")]
    pub last_answer: Option<Duration>,
    /// How long the cache may still be trusted; `None` if it may not: each request then queries the
    /// store.
    #[serde(rename = "lease_remaining_ms", with = "millis")]
    pub lease_remaining: Option<Duration>,
    /// The length of a lease, as the store last stated it; `None` if it does not keep a change log.
    #[serde(rename = "lease_length_ms", with = "millis")]
    pub lease_length: Option<Duration>,
    /// The number of cached keys.
    pub cached_keys: usize,
    /// The maximum number of cached keys.
    pub cache_capacity: usize,
    /// The number of checks that the cache decided since the start.
    pub cache_hits: u64,
    /// The number of checks that were deferred to the store since the start.
    pub cache_misses: u64,
}

/// Whether the store answers the manager's polls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum StoreHealth {
    /// It answered the last poll.
    Up,
    /// It did not answer the last poll.
    Down {
        /// How long it has been down.
        #[serde(rename = "for_ms", serialize_with = "whole_millis")]
        elapsed: Duration,
        /// The reason as text, without credentials and values of records.
        reason: String,
    },
    /// The manager was shut down.
    ShutDown,
}

impl Health {
    pub(super) fn of(core: &ManagerCore) -> Self {
        let cache = &core.cache;
        let status = core.poller.status();
        let store = match status.failing {
            _ if cache.lease.is_closed() => StoreHealth::ShutDown,
            Some((since, reason)) => StoreHealth::Down {
                elapsed: since.elapsed(),
                reason,
            },
            None => StoreHealth::Up,
        };
        Self {
            store,
            last_answer: status.answered.map(|sent| sent.elapsed()),
            lease_remaining: cache.lease.remaining(core.shared.now()),
            lease_length: cache.lease.length(),
            cached_keys: cache.len(),
            cache_capacity: core.verifier.config.cache_capacity(),
            cache_hits: cache.counters.hits(),
            cache_misses: cache.counters.misses(),
        }
    }

    /// Returns whether requests can be served: the store answers, or the cache may still be
    /// trusted. A request with a key that is not cached is denied with 503 while the store does not
    /// answer.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self.store {
            StoreHealth::Up => true,
            StoreHealth::Down { .. } => self.lease_remaining.is_some(),
            StoreHealth::ShutDown => false,
        }
    }

    /// Returns the ratio of hits to all checks, 0 to 1; `None` before the first check.
    #[must_use]
    pub fn hit_rate(&self) -> Option<f64> {
        let all = self.cache_hits.saturating_add(self.cache_misses);
        (all > 0).then(|| self.cache_hits as f64 / all as f64)
    }
}

fn whole_millis<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(millis_u64(*span))
}

mod millis {
    use std::time::Duration;

    use serde::{Serialize, Serializer};

    use crate::clock::millis_u64;

    pub(super) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        span.map(millis_u64).serialize(serializer)
    }
}
