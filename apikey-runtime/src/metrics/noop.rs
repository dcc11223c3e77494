//! Metrics without the feature `metrics`: they do nothing.

use super::{PollOutcome, StoreCall};
use crate::denied::DenyReason;
use crate::error::StoreError;

/// Counts nothing.
#[derive(Debug)]
pub(crate) struct NoopMetrics;

/// Measures nothing.
#[derive(Clone, Copy)]
pub(crate) struct NoopTimer;

impl NoopMetrics {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn begin_check(&self) -> NoopTimer {
        NoopTimer
    }

    pub(crate) fn decided_from_cache(&self, _timer: NoopTimer) {}

    pub(crate) fn begin_deferred(&self) -> NoopTimer {
        NoopTimer
    }

    pub(crate) fn decided_by_store(&self, _timer: NoopTimer) {}

    pub(crate) fn allowed(&self) {}

    pub(crate) fn anonymous(&self) {}

    pub(crate) fn denied(&self, _reason: DenyReason) {}

    pub(crate) fn polled(&self, _result: PollOutcome) {}

    pub(crate) fn usage_written(&self, _rows: usize) {}

    pub(crate) fn set_usage_held(&self, _held: usize, _lost: u64) {}

    pub(crate) fn unreadable_record(&self) {}

    pub(crate) fn called<T>(&self, _call: StoreCall, _answer: Option<&Result<T, StoreError>>) {}
}

pub(crate) fn denied_without_manager(_reason: DenyReason) {}
