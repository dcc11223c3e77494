//! The defence against guessing: rejects clients with too many failed attempts before querying the
//! store.

use super::{Allowed, CheckRequest, Verifier};
use crate::denied::{Denied, DenyReason};
use crate::policy::RequestInfo;

impl Verifier {
    /// Rejects a client whose address has failed too often. This comes after the form, the checksum
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
        let now = self.shared.now().uptime_nanos;
        let address = request.info.counted_address();
        let blocked = address.and_then(|address| attempts.is_blocked(address, now));
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
        if let Some(address) = request.info.counted_address() {
            attempts.record_failure(address, self.shared.now().uptime_nanos);
        }
    }
}
