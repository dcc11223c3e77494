//! When a node trims the change log.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{ErrorChain, StoreError};

/// The minimum interval between two trims, unless the last one left entries that could go: that of heartbeats.
const INTERVAL: Duration = Duration::from_millis(250);

/// When this node trims the change log next. A trim follows a heartbeat, which it does not delay.
#[derive(Debug, Default)]
pub(super) struct TrimSchedule {
    last: Mutex<Option<Instant>>,
}

impl TrimSchedule {
    /// Awaits `trim` if one is due. It returns whether there may be more to remove. A failure is
    /// logged, and the next trim repeats it.
    pub(super) async fn run(&self, trim: impl Future<Output = Result<bool, StoreError>>) {
        if !self.is_due() {
            return;
        }
        match trim.await {
            Ok(left_more) => self.done(left_more),
            Err(error) => {
                tracing::debug!(error = %ErrorChain(&error), "the change log was not trimmed; it is tried again");
            }
        }
    }

    /// Returns whether a trim is due, and takes it as begun.
    fn is_due(&self) -> bool {
        let mut last = self.last.lock();
        let is_due = last.is_none_or(|last| last.elapsed() >= INTERVAL);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }

    /// Notes that a trim succeeded, and whether there may be more to remove.
    fn done(&self, left_more: bool) {
        if left_more {
            *self.last.lock() = None;
        }
    }
}
