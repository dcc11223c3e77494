//! What became of the last calls of the store, for each class of calls.

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::{ErrorChain, StoreError};
use crate::metrics::StoreCall;

/// Calls of the store that work or fail together. Stores make those of different classes on
/// different connections, and a database that became read-only fails the writes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallClass {
    /// Polls of the change log, and joins.
    Polls,
    /// Reads of single keys, by which requests are decided.
    Reads,
    /// Changes of keys.
    Changes,
    /// What a node writes about itself.
    Heartbeats,
    /// Charges and refunds of limits.
    Charges,
    /// Batches of usage.
    Usage,
}

impl CallClass {
    /// Returns the class of a call. Calls that read many rows do not have one: that they take too long
    /// does not tell how others fare.
    pub(super) fn of(call: StoreCall) -> Option<Self> {
        match call {
            StoreCall::Find => Some(Self::Reads),
            StoreCall::Insert
            | StoreCall::Update
            | StoreCall::Revoke
            | StoreCall::RevokeOwner
            | StoreCall::RevokeOwnerKeys
            | StoreCall::SuspendOwner
            | StoreCall::Purge => Some(Self::Changes),
            StoreCall::Charge | StoreCall::Refill => Some(Self::Charges),
            StoreCall::AddUsage => Some(Self::Usage),
            // A step of marking that finds nothing to do does not write.
            StoreCall::FindOwner
            | StoreCall::MarkKeys
            | StoreCall::List
            | StoreCall::Members
            | StoreCall::ReadUsage
            | StoreCall::RollUpUsage
            | StoreCall::PruneUsage
            | StoreCall::CountLiveKeys
            | StoreCall::ReadAudit
            | StoreCall::PruneAudit
            | StoreCall::ClaimNotices
            | StoreCall::FinishNotices
            | StoreCall::SharedSecret
            | StoreCall::ListOwners => None,
        }
    }
}

/// What became of the last calls of one class.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClassStatus {
    /// When the store last answered. Of polls, when the last answered one was sent.
    pub(crate) answered: Option<Instant>,
    /// Since when it has not answered, and the reason.
    pub(crate) failing: Option<(Instant, String)>,
    /// When the last call ended.
    pub(crate) ended: Option<Instant>,
}

/// What became of the last calls of each class.
#[derive(Debug, Default)]
pub(crate) struct StoreStatus([Mutex<ClassStatus>; 6]);

impl StoreStatus {
    pub(crate) fn of(&self, class: CallClass) -> ClassStatus {
        self.0[class as usize].lock().clone()
    }

    /// Records how a call ended. Returns whether the class fails now and did not before, or the other
    /// way round.
    pub(crate) fn record<T>(&self, class: CallClass, outcome: &Result<T, StoreError>) -> bool {
        match outcome {
            Err(error) if is_down(error) => self.failed(class, error),
            _ => self.answered(class, Instant::now()),
        }
    }

    /// Records that the store answered at `at`. Returns whether the class failed before.
    pub(crate) fn answered(&self, class: CallClass, at: Instant) -> bool {
        let mut status = self.0[class as usize].lock();
        status.answered = Some(at);
        status.ended = Some(Instant::now());
        status.failing.take().is_some()
    }

    /// Records that the store did not answer. Returns whether it did before.
    pub(crate) fn failed(&self, class: CallClass, error: &StoreError) -> bool {
        let now = Instant::now();
        let mut status = self.0[class as usize].lock();
        status.ended = Some(now);
        match &mut status.failing {
            // That a later call took too long says less than the reason that is known.
            Some((_, reason)) => {
                if !error.is_timeout() {
                    *reason = ErrorChain(error).to_string();
                }
                false
            }
            none => {
                *none = Some((now, ErrorChain(error).to_string()));
                true
            }
        }
    }
}

/// Returns whether the store could not do what was asked. An error about a single record, or about
/// what the caller wrote, is an answer.
pub(crate) fn is_down(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable { .. } | StoreError::Backend { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> StoreError {
        StoreError::unavailable("connection refused")
    }

    fn reason(status: &StoreStatus) -> Option<String> {
        let (_, reason) = status.of(CallClass::Reads).failing?;
        Some(reason)
    }

    #[test]
    fn a_class_fails_from_its_first_failure_to_its_next_answer() {
        let status = StoreStatus::default();
        assert!(status.record(CallClass::Reads, &Err::<(), _>(refused())));
        let since = status.of(CallClass::Reads).failing.unwrap().0;
        assert!(!status.record(CallClass::Reads, &Err::<(), _>(refused())));
        assert_eq!(status.of(CallClass::Reads).failing.unwrap().0, since);
        assert!(status.of(CallClass::Changes).failing.is_none());
        assert!(status.record(CallClass::Reads, &Ok(())));
        assert_eq!(reason(&status), None);
    }

    #[test]
    fn a_call_that_took_too_long_does_not_hide_the_reason() {
        let status = StoreStatus::default();
        let late = || Err::<(), _>(StoreError::timed_out("no answer"));
        status.record(CallClass::Reads, &late());
        assert!(reason(&status).unwrap().contains("no answer"));
        status.record(CallClass::Reads, &Err::<(), _>(refused()));
        status.record(CallClass::Reads, &late());
        assert!(reason(&status).unwrap().contains("connection refused"));
    }

    #[test]
    fn an_error_of_one_record_or_of_the_caller_is_an_answer() {
        let status = StoreStatus::default();
        for answer in [
            StoreError::NotFound,
            StoreError::Conflict,
            StoreError::InvalidArgument("too long".to_owned()),
            StoreError::Corrupt {
                id: "1".to_owned(),
                reason: "a test".to_owned(),
            },
        ] {
            status.record(CallClass::Reads, &Err::<(), _>(refused()));
            assert!(status.record(CallClass::Reads, &Err::<(), _>(answer)));
        }
    }
}
