//! Starting the store, and taking the first lease: patient with a store that is slow, and quick to
//! report one that refuses.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::core::ManagerCore;
use crate::error::{ErrorChain, StoreError};
use crate::metrics::PollOutcome;
use crate::store::{MAX_LEASE, outlasts};

/// A start that takes longer logs what it waits for, and then why, not more often than this.
const NOTICE: Duration = Duration::from_secs(1);

/// The pause after a call that took too long.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How often a node joins again if the store does not list it as a member.
const MAX_JOINS: u32 = 10;

/// The pause before it joins again the first time. Each pause is twice the one before.
const JOIN_PAUSE: Duration = Duration::from_millis(1);

/// Starts the store.
pub(super) async fn start_store(core: &Arc<ManagerCore>) -> Result<(), StoreError> {
    let patience = core.verifier.config.start_timeout();
    // A store whose lease was lowered waits until the longer ones have ended.
    let deadline = patience + outlasts(MAX_LEASE);
    let start = || {
        let core = Arc::clone(core);
        async move {
            let start = timeout(deadline, core.shared.store.start()).await;
            start.unwrap_or_else(|_elapsed| {
                Err(StoreError::timed_out(format!(
                    "it did not start within {deadline:?}"
                )))
            })
        }
    };
    patiently("the key store to start", patience, deadline, start).await
}

/// Joins the store's members, and takes the first lease.
pub(super) async fn take_first_lease(core: &Arc<ManagerCore>) -> Result<(), StoreError> {
    let patience = core.verifier.config.start_timeout();
    let poll = || join_and_poll(Arc::clone(core), patience);
    let outcome = patiently("the key store's change log", patience, patience, poll).await;
    outcome.map_err(|error| StoreError::Unavailable {
        reason: "its change log could not be read at the start".to_owned(),
        source: Some(Box::new(error)),
    })
}

async fn join_and_poll(core: Arc<ManagerCore>, deadline: Duration) -> Result<(), StoreError> {
    let mut pause = JOIN_PAUSE;
    let mut polled = core
        .poller
        .poll_within(deadline, deadline, &mut None)
        .await?;
    for _ in 0..MAX_JOINS {
        // A slow node may be removed as dead between its join and its poll.
        if polled != PollOutcome::NotMember {
            return Ok(());
        }
        sleep(pause).await;
        pause *= 2;
        polled = core
            .poller
            .poll_within(deadline, deadline, &mut None)
            .await?;
    }
    match polled {
        PollOutcome::NotMember => Err(StoreError::unavailable("it does not list this node")),
        _ => Ok(()),
    }
}

/// Repeats `step` for as long as the store only takes too long, and `patience` has not passed. Any
/// other error ends the start at once. A single step may take `deadline`, which the log states. Logs
/// at most one warning in [`NOTICE`].
async fn patiently<F>(
    what: &str,
    patience: Duration,
    deadline: Duration,
    step: impl Fn() -> F,
) -> Result<(), StoreError>
where
    F: Future<Output = Result<(), StoreError>>,
{
    let end = Instant::now() + patience;
    let mut quiet_until = Instant::now() + NOTICE;
    let mut is_noticed = false;
    loop {
        let mut attempt = pin!(step());
        let mut outcome = None;
        if !is_noticed {
            outcome = timeout_at(quiet_until, attempt.as_mut()).await.ok();
        }
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => {
                if !is_noticed {
                    tracing::warn!(?deadline, "the start waits for {what}");
                    is_noticed = true;
                    quiet_until = Instant::now() + NOTICE;
                }
                attempt.await
            }
        };
        let error = match outcome {
            Err(error) if error.is_timeout() && Instant::now() < end => error,
            outcome => return outcome,
        };
        if Instant::now() >= quiet_until {
            tracing::warn!(error = %ErrorChain(&error), "the start still waits for {what}");
            quiet_until = Instant::now() + NOTICE;
        }
        sleep(RETRY_PAUSE).await;
    }
}
