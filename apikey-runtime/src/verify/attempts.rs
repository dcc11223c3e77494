//! Who shows too many keys that are none is turned away before anything is asked for him.

use super::{Allowed, CheckRequest, Verifier};
use crate::denied::{Denied, DenyReason};
use crate::policy::RequestInfo;

impl Verifier {
    /// Refuses a caller whose address has failed too often. It stands behind the form, the checksum
    /// and the memory, where it costs right keys in memory nothing, and before the store and the
    /// poll that a refusal asks for. It knows nothing of the key: whose id is guessed is not locked
    /// out.
    pub(super) fn reject_if_blocked<C: RequestInfo>(
        &self,
        request: &CheckRequest<'_, C>,
    ) -> Result<(), Denied> {
        let Some(failed_attempts) = &self.failed_attempts else {
            return Ok(());
        };
        let now = self.reader.clock.read().uptime_nanos;
        let blocked = request
            .info
            .counted_address()
            .and_then(|address| failed_attempts.is_blocked(address, now));
        blocked.map_or(Ok(()), |wait| {
            let denied = self.refuse(request, DenyReason::TooManyFailedAttempts);
            Err(denied.retrying(Some(wait)))
        })
    }

    /// Counts a key that is none against its caller's address. A key that is known and right is no
    /// guess, whatever else is wrong with it.
    pub(super) fn record_failure<C: RequestInfo>(
        &self,
        request: &CheckRequest<'_, C>,
        decision: &Result<Allowed, Denied>,
    ) {
        let guessed = matches!(decision, Err(denied) if denied.reason() == DenyReason::InvalidKey);
        let Some(failed_attempts) = self.failed_attempts.as_ref().filter(|_| guessed) else {
            return;
        };
        if let Some(address) = request.info.counted_address() {
            failed_attempts.record_failure(address, self.reader.clock.read().uptime_nanos);
        }
    }
}
