//! Start and shutdown of the manager, and its background tasks.

use std::sync::Arc;
use std::time::Duration;

use super::core::ManagerCore;
use super::start::{start_store, take_first_lease};
use crate::error::{Error, ErrorChain};

/// The pause of a task after the store panicked.
const PAUSE_AFTER_PANIC: Duration = Duration::from_millis(10);

/// Starts the store, joins its members, takes the first lease, and spawns the background tasks. A detached manager only
/// starts the store.
pub(super) async fn start(core: Arc<ManagerCore>) -> Result<(), Error> {
    start_store(&core).await?;
    if core.poller.is_detached() {
        return Ok(());
    }
    take_first_lease(&core).await?;
    spawn(&core, |core| async move { core.poller.run().await });
    spawn(&core, |core| async move {
        core.poller.send_heartbeats().await;
    });
    spawn(&core, |core| async move {
        core.poller.watch_members().await;
    });
    if core.verifier.prefetch.is_enabled() {
        spawn(&core, |core| async move {
            core.verifier.refund_expired_prefetch().await;
        });
    }
    spawn(&core, |core| async move {
        core.verifier.judge_watched_keys().await
    });
    spawn(&core, |core| async move { core.run_marking().await });
    let started = core.shared.now();
    spawn(&core, move |core| async move {
        core.run_audit_pruning(started).await;
    });
    spawn(&core, move |core| async move {
        core.run_usage_roll_up(started).await;
    });
    spawn(&core, |core| async move { core.run_expiry_notices().await });
    spawn(&core, |core| async move { core.usage.run().await });
    spawn(&core, |core| async move { core.run_probes().await });
    #[cfg(feature = "metrics")]
    spawn(&core, |core| async move {
        loop {
            core.publish_metrics();
            tokio::time::sleep(crate::metrics::PUBLISH_INTERVAL).await;
        }
    });
    Ok(())
}

/// Runs `task` for as long as the manager's thread lives. If the store's code panics, the task is
/// started again.
fn spawn<T, F>(core: &Arc<ManagerCore>, task: T)
where
    T: Fn(Arc<ManagerCore>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = core.shared.runtime.clone();
    let core = Arc::clone(core);
    runtime.spawn(async move {
        loop {
            match tokio::spawn(task(Arc::clone(&core))).await {
                Err(error) if error.is_panic() => {
                    tracing::error!(
                        "the key store panicked in the background; the task starts again"
                    );
                    // It may panic each time.
                    tokio::time::sleep(PAUSE_AFTER_PANIC).await;
                }
                _ => return,
            }
        }
    });
}

/// Shuts the manager down: finishes what is in progress, flushes usage, and stops the store.
pub(super) async fn stop(core: &ManagerCore) {
    let deadline = core.shared.deadline;
    // Before the lease is closed, while these checks may still trust the cache.
    let _ = tokio::time::timeout(deadline, core.verifier.finish_deferred()).await;
    core.cache.lease.close();
    core.cache.flush();
    core.cache.watchers.close();
    core.poller.close();
    let _ = tokio::time::timeout(deadline, core.verifier.refund_all_prefetched()).await;
    core.usage.finish().await;
    // Without a lease, it does not send more, and notes what it sent.
    let _ = tokio::time::timeout(deadline, core.sending_notices.lock()).await;
    core.events.close();
    #[cfg(feature = "metrics")]
    core.publish_metrics();
    let leave = async {
        // If this fails, other nodes remove this one, only later.
        if !core.poller.is_detached()
            && let Some(membership) = core.shared.store.membership()
            && let Err(error) = membership.leave(&core.poller.node()).await
        {
            tracing::debug!(error = %ErrorChain(&error), "this node stays in the key store's member list");
        }
        core.shared.store.stop().await;
    };
    // A store that does not stop must not delay the shutdown.
    let _ = tokio::time::timeout(deadline, leave).await;
}

#[cfg(feature = "metrics")]
impl ManagerCore {
    fn publish_metrics(&self) {
        let cache = &self.cache;
        let figures = crate::metrics::CacheFigures {
            hits: cache.counters.hits(),
            misses: cache.counters.misses(),
            entries: cache.len(),
            lease_remaining: cache.lease.remaining(self.shared.now()),
        };
        self.shared.metrics.publish(&figures);
    }
}
