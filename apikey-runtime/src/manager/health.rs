//! The manager's health report.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::core::ManagerCore;
use crate::clock::millis_u64;
use crate::shared::CallClass;

/// The manager's health report, from the outcomes of the last calls of the store; see
/// [`ApiKeyManager::health`](super::ApiKeyManager::health).
///
/// Each class of calls is reported by itself, since it can fail alone: a database that became
/// read-only, or a full disk, fails the writes and not the reads. A class is down from its first
/// failed call to its next successful one. That a record does not exist, changed meanwhile, or cannot
/// be parsed is not a failure.
///
/// When serialized, durations are whole milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether the store answers polls of the change log, which extend the lease.
    pub store: StoreHealth,
    /// Whether keys can be read. Without that, a request with a key that is not cached is denied
    /// with 503.
    pub reads: StoreHealth,
    /// Whether keys can be created, changed and revoked. The manager's heartbeats are writes too, so
    /// this is known without a change.
    pub writes: StoreHealth,
    /// Whether limits can be charged that the store counts, as of the last charge.
    pub charges: StoreHealth,
    /// Whether usage can be written, as of the last batch.
    pub usage: StoreHealth,
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
    /// The protocol version that the store requires, if this release does not speak it: the manager
    /// then takes no lease, and each request queries the store. Update this program.
    pub unsupported_protocol: Option<u32>,
    /// The number of cached keys.
    pub cached_keys: usize,
    /// The maximum number of cached keys.
    pub cache_capacity: usize,
    /// The number of checks that the cache decided since the start.
    pub cache_hits: u64,
    /// The number of checks that were deferred to the store since the start.
    pub cache_misses: u64,
}

/// Whether the store answers one class of calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum StoreHealth {
    /// It answered the last call, or was not called yet.
    Up,
    /// It did not answer the last call.
    Down {
        /// How long it has been down.
        #[serde(rename = "for_ms", serialize_with = "whole_millis")]
        elapsed: Duration,
        /// The error with its causes, up to the code of the server or of the operating system,
        /// without credentials and values of records.
        reason: String,
    },
    /// The manager was shut down.
    ShutDown,
}

impl Health {
    pub(super) fn of(core: &ManagerCore) -> Self {
        core.probe_request.notify_one();
        let cache = &core.cache;
        let of = |class| core.shared.status.of(class);
        let health = |failing: Option<(Instant, String)>| match failing {
            _ if cache.lease.is_closed() => StoreHealth::ShutDown,
            Some((since, reason)) => StoreHealth::Down {
                elapsed: since.elapsed(),
                reason,
            },
            None => StoreHealth::Up,
        };
        let (polls, reads) = (of(CallClass::Polls), of(CallClass::Reads));
        let lease_remaining = cache.lease.remaining(core.shared.now());
        // If polls fail and nothing was read since, reads probably fail too.
        let unproven = polls.failing.clone().filter(|(since, _)| {
            lease_remaining.is_none() && reads.answered.is_none_or(|read| read < *since)
        });
        let heartbeats = of(CallClass::Heartbeats).failing;
        Self {
            reads: health(reads.failing.or(unproven)),
            writes: health(of(CallClass::Changes).failing.or(heartbeats)),
            charges: health(of(CallClass::Charges).failing),
            usage: health(of(CallClass::Usage).failing),
            last_answer: polls.answered.map(|sent| sent.elapsed()),
            store: health(polls.failing),
            lease_remaining,
            lease_length: cache.lease.length(),
            unsupported_protocol: core.poller.unsupported_protocol(),
            cached_keys: cache.len(),
            cache_capacity: core.verifier.config.cache_capacity(),
            cache_hits: cache.counters.hits(),
            cache_misses: cache.counters.misses(),
        }
    }

    /// Returns whether requests can be served: keys can be [read](Self::reads). Writes, charges and
    /// usage do not matter here: a node that cannot change keys still serves requests. The other
    /// nodes on the same store cannot change keys either, so taking this one out of service would
    /// only deny more requests.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reads == StoreHealth::Up
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
