//! Who shows too many keys that are none is turned away before anything is asked for him.

use super::{Admitted, Question, Verifier};
use crate::denied::{Denied, DenyReason};
use crate::policy::Caller;

impl Verifier {
    /// Refuses a caller whose address has failed too often. It stands behind the form, the checksum
    /// and the memory, where it costs right keys in memory nothing, and before the store and the
    /// poll that a refusal asks for. It knows nothing of the key: whose id is guessed is not locked
    /// out.
    pub(super) fn turn_away<C: Caller>(&self, question: &Question<'_, C>) -> Result<(), Denied> {
        let Some(attempts) = &self.attempts else {
            return Ok(());
        };
        let now = self.reader.clock.read().uptime_nanos;
        let blocked = question
            .caller
            .counted_address()
            .and_then(|address| attempts.is_blocked(address, now));
        blocked.map_or(Ok(()), |wait| {
            let denied = self.refuse(question, DenyReason::TooManyFailedAttempts);
            Err(denied.retrying(Some(wait)))
        })
    }

    /// Counts a key that is none against its caller's address. A key that is known and right is no
    /// guess, whatever else is wrong with it.
    pub(super) fn note_failure<C: Caller>(
        &self,
        question: &Question<'_, C>,
        decision: &Result<Admitted, Denied>,
    ) {
        let guessed = matches!(decision, Err(denied) if denied.reason() == DenyReason::InvalidKey);
        let Some(attempts) = self.attempts.as_ref().filter(|_| guessed) else {
            return;
        };
        if let Some(address) = question.caller.counted_address() {
            attempts.note_failure(address, self.reader.clock.read().uptime_nanos);
        }
    }
}
