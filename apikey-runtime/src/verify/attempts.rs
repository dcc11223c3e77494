//! The defence against guessing: rejects clients with too many failed attempts before querying the
//! store.

use std::net::IpAddr;
use std::time::Duration;

use super::{CheckRequest, Verifier};
use crate::clock::ClockReading;
use crate::denied::{Denied, DenyReason};
use crate::policy::{CountedClient, RequestInfo};

impl Verifier {
    /// Rejects a client whose address has failed too often; all clients without a known address
    /// share one count. This comes after the form, the checksum
    /// and the cache, where it costs a cached key nothing, and before the store, the poll that a
    /// denial requests, and a denial that needs neither. The key is not considered, so an attacker cannot block a key by
    /// guessing its id. `now` is called only if failed attempts are counted.
    pub(super) fn reject_if_blocked<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        now: impl FnOnce() -> ClockReading,
    ) -> Result<(), Denied> {
        if self.failed_attempts.is_none() {
            return Ok(());
        }
        let Some(address) = counted_address(request.info) else {
            return Ok(());
        };
        self.blocked_for(address, now()).map_or(Ok(()), |wait| {
            let denied = self.deny(request, DenyReason::TooManyFailedAttempts);
            Err(denied.retrying(Some(wait)))
        })
    }

    /// Counts a denial against the client's address, if the key is invalid. A right secret is not a guess,
    /// whatever else is wrong with the key. `now` is called only if failed attempts are counted.
    pub(super) fn record_failure<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        denied: &Denied,
        now: impl FnOnce() -> ClockReading,
    ) {
        let guessed = self.failed_attempts.is_some()
            && denied.reason() == DenyReason::InvalidKey
            && !denied.has_secret();
        if let Some(address) = counted_address(request.info).filter(|_| guessed) {
            self.count_failure(address, now());
        }
    }

    /// Returns how long a client must wait before its next attempt; `None` if it is not blocked. All
    /// clients without a known address count as one.
    pub(crate) fn blocked_for(
        &self,
        address: Option<IpAddr>,
        now: ClockReading,
    ) -> Option<Duration> {
        let attempts = self.failed_attempts.as_ref()?;
        attempts.is_blocked(address, now.uptime_nanos)
    }

    /// Counts a failed attempt of a client.
    pub(crate) fn count_failure(&self, address: Option<IpAddr>, now: ClockReading) {
        if let Some(attempts) = &self.failed_attempts {
            attempts.record_failure(address, now.uptime_nanos);
        }
    }
}

/// Returns the address to count by, which may be unknown; `None` if the attempt is not counted.
fn counted_address(info: &impl RequestInfo) -> Option<Option<IpAddr>> {
    match info.counted_client() {
        CountedClient::Address(address) => Some(Some(address)),
        CountedClient::Unknown => Some(None),
        CountedClient::Application => None,
    }
}
