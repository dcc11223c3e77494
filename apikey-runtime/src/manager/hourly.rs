//! Works once an hour on what has become old, in bounded steps: removes entries of the audit log, and rolls usage up
//! from hours to days.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::core::ManagerCore;
use crate::clock::{ClockReading, Timestamp};
use crate::error::{ErrorChain, StoreError};
use crate::metrics::StoreCall;
use crate::usage::{HOUR_MILLIS, Retention};

/// How often this node looks whether an hour has ended.
const INTERVAL: Duration = Duration::from_secs(1);

/// The pause after a failed step.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// The bounds of the pause after a step, which is as long as the step was: other users of the store
/// get half of its time.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(250)];

/// A task of every hour.
#[derive(Debug, Clone, Copy)]
struct HourlyTask {
    call: StoreCall,
    /// How old is what it works on.
    age: Duration,
    /// What failed if a step did, for the log.
    failed: &'static str,
}

impl ManagerCore {
    /// Removes old entries of the audit log, until the manager shuts down: once an hour, and for the first time an
    /// hour after `started`.
    pub(super) async fn run_audit_pruning(&self, started: ClockReading) {
        let Some(audit) = self.shared.store.audit() else {
            return;
        };
        let task = HourlyTask {
            call: StoreCall::PruneAudit,
            age: self.verifier.config.audit_retention(),
            failed: "old entries of the audit log were not removed",
        };
        self.run_hourly(task, started, |hour| {
            audit.prune_audit(Timestamp::from_millis(hour.saturating_mul(HOUR_MILLIS)))
        })
        .await;
    }

    /// Rolls usage up, at the same times.
    pub(super) async fn run_usage_roll_up(&self, started: ClockReading) {
        let Some(usage) = self.shared.store.usage() else {
            return;
        };
        let task = HourlyTask {
            call: StoreCall::RollUpUsage,
            age: self.verifier.config.usage_roll_up_after(),
            failed: "old usage was not rolled up from hours to days",
        };
        self.run_hourly(task, started, |hour| {
            usage.roll_up_usage(hour.div_euclid(24))
        })
        .await;
    }

    /// Works in steps, each of which gets the hour before which its work ends.
    async fn run_hourly<F>(&self, task: HourlyTask, started: ClockReading, step: impl Fn(i64) -> F)
    where
        F: Future<Output = Result<bool, StoreError>>,
    {
        let mut retention = Retention::settling(started);
        while !self.poller.is_stopping() {
            let mut pause = INTERVAL;
            if let Some(hour) = retention.due(self.shared.now(), task.age) {
                match self.run_steps(task, || step(hour)).await {
                    true => retention.finish(hour),
                    false => pause = RETRY_AFTER,
                }
            }
            sleep(pause).await;
        }
    }

    /// Works in steps until one says that nothing is left. Returns whether one did.
    async fn run_steps<F>(&self, task: HourlyTask, step: impl Fn() -> F) -> bool
    where
        F: Future<Output = Result<bool, StoreError>>,
    {
        while !self.poller.is_stopping() {
            let began = Instant::now();
            match self.shared.call(task.call, step()).await {
                Ok(false) => return true,
                Ok(true) => {
                    let [least, most] = PAUSE;
                    sleep(began.elapsed().clamp(least, most)).await;
                }
                // The store was stopped with the manager.
                Err(_) if self.poller.is_stopping() => {}
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "{}; it is tried again", task.failed);
                    return false;
                }
            }
        }
        false
    }
}
