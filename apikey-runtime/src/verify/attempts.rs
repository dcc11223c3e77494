//! The defence against guessing: rejects clients with too many failed attempts before querying the
//! store.

use std::net::IpAddr;

use super::{Allowed, CheckRequest, Verifier};
use crate::denied::{Denied, DenyReason};
use crate::policy::{CountedClient, RequestInfo};

impl Verifier {
    /// Rejects a client whose address has failed too often; all clients without a known address
    /// share one count. This comes after the form, the checksum
    /// and the cache, where it costs a cached key nothing, and before the store and the poll that a
    /// denial requests. The key is not considered, so an attacker cannot block a key by
    /// guessing its id.
    pub(super) fn reject_if_blocked<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
    ) -> Result<(), Denied> {
        let Some(attempts) = &self.failed_attempts else {
            return Ok(());
        };
        let Some(address) = counted_address(request.info) else {
            return Ok(());
        };
        let now = self.shared.now().uptime_nanos;
        let blocked = attempts.is_blocked(address, now);
        blocked.map_or(Ok(()), |wait| {
            let denied = self.deny(request, DenyReason::TooManyFailedAttempts);
            Err(denied.retrying(Some(wait)))
        })
    }

    /// Counts an invalid key against the client's address. A right secret is not a guess, whatever
    /// else is wrong with the key.
    pub(super) fn record_failure<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        decision: &Result<Allowed, Denied>,
    ) {
        let guessed = matches!(decision, Err(denied) if denied.reason() == DenyReason::InvalidKey);
        let Some(attempts) = self.failed_attempts.as_ref().filter(|_| guessed) else {
            return;
        };
        let Some(address) = counted_address(request.info) else {
            return;
        };
        attempts.record_failure(address, self.shared.now().uptime_nanos);
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
