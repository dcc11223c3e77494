//! Removes entries of the audit log whose retention has ended.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clock::{ClockReading, Timestamp};
use crate::error::ErrorChain;
use crate::manager::core::ManagerCore;
use crate::metrics::StoreCall;
use crate::store::AuditStore;
use crate::usage::{HOUR_MILLIS, Retention};

/// How often this node looks whether an hour has ended.
const INTERVAL: Duration = Duration::from_secs(1);

/// The pause after a failed step.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// The bounds of the pause after a step, which is as long as the step was: other users of the store
/// get half of its time.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(250)];

impl ManagerCore {
    /// Removes old entries, until the manager shuts down: once an hour, and for the first time an hour
    /// after `started`.
    pub(in crate::manager) async fn run_audit_pruning(&self, started: ClockReading) {
        let Some(audit) = self.shared.store.audit() else {
            return;
        };
        let kept = self.verifier.config.audit_retention();
        let mut retention = Retention::settling(started);
        while !self.poller.is_stopping() {
            let mut pause = INTERVAL;
            if let Some(hour) = retention.due(self.shared.now(), kept) {
                match self.prune_audit(audit, hour).await {
                    true => retention.finish(hour),
                    false => pause = RETRY_AFTER,
                }
            }
            sleep(pause).await;
        }
    }

    /// Removes the entries from before `hour`, step by step. Returns whether all are removed.
    async fn prune_audit(&self, audit: &dyn AuditStore, hour: i64) -> bool {
        let before = Timestamp::from_millis(hour.saturating_mul(HOUR_MILLIS));
        while !self.poller.is_stopping() {
            let began = Instant::now();
            let step = audit.prune_audit(before);
            match self.shared.call(StoreCall::PruneAudit, step).await {
                Ok(false) => return true,
                Ok(true) => {
                    let [least, most] = PAUSE;
                    sleep(began.elapsed().clamp(least, most)).await;
                }
                // The store was stopped with the manager.
                Err(_) if self.poller.is_stopping() => {}
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "old entries of the audit log were not removed; it is tried again");
                    return false;
                }
            }
        }
        false
    }
}
