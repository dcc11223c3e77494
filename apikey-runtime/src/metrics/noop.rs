//! Without the feature `metrics`: nothing.

use super::StoreCall;
use crate::cluster::PollOutcome;
use crate::denied::DenyReason;
use crate::error::StoreError;

/// Counts nothing.
#[derive(Debug)]
pub(crate) struct Metrics;

/// No beginning.
#[derive(Clone, Copy)]
pub(crate) struct Begun;

impl Metrics {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn begin_check(&self) -> Begun {
        Begun
    }

    pub(crate) fn decided_from_memory(&self, _begun: Begun) {}

    pub(crate) fn begin_late(&self) -> Begun {
        Begun
    }

    pub(crate) fn decided_by_store(&self, _begun: Begun) {}

    pub(crate) fn allowed(&self) {}

    pub(crate) fn anonymous(&self) {}

    pub(crate) fn refused(&self, _reason: DenyReason) {}

    pub(crate) fn polled(&self, _result: PollOutcome) {}

    pub(crate) fn usage_written(&self, _rows: usize) {}

    pub(crate) fn usage_stands(&self, _held: usize, _lost: u64) {}

    pub(crate) fn called<T>(&self, _call: StoreCall, _answer: Option<&Result<T, StoreError>>) {}
}

pub(crate) fn refused_without_manager(_reason: DenyReason) {}
