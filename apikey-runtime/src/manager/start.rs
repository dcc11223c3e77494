//! Starting the store, and taking the first lease: patient with a store that is slow, and quick to
//! report one that refuses.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

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
            let store = &core.shared.store;
            unless_upgrading(store.start(), || store.is_upgrading(), deadline).await
        }
    };
    patiently("the key store to start", patience, deadline, start).await
}

/// Gives `start` up at the deadline, unless the store brings what an older release wrote up to date: what is given up is
/// undone, and the next start would come no further. The deadline counts from the end of that.
async fn unless_upgrading(
    start: impl Future<Output = Result<(), StoreError>>,
    is_upgrading: impl Fn() -> bool,
    deadline: Duration,
) -> Result<(), StoreError> {
    let (mut start, mut end) = (pin!(start), pin!(sleep(deadline)));
    let mut was_upgrading = false;
    poll_fn(|context| {
        if let Poll::Ready(outcome) = start.as_mut().poll(context) {
            return Poll::Ready(outcome);
        }
        let upgrades = is_upgrading();
        if upgrades || was_upgrading {
            end.as_mut().reset(Instant::now() + deadline);
        }
        was_upgrading = upgrades;
        let late = |()| {
            let reason = format!("it did not start within {deadline:?}");
            Err(StoreError::timed_out(reason))
        };
        end.as_mut().poll(context).map(late)
    })
    .await
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_start_is_given_up_when_the_store_does_not_upgrade_any_more() {
        let asked = Cell::new(0);
        let is_upgrading = || asked.replace(asked.get() + 1) < 3;
        let outcome = unless_upgrading(pending(), is_upgrading, DEADLINE).await;
        assert!(outcome.unwrap_err().is_timeout());
        assert_eq!(asked.get(), 5, "there is a whole deadline after it");
    }

    #[tokio::test]
    async fn an_upgrade_comes_to_its_end() {
        let asked = Cell::new(0);
        let is_upgrading = || asked.replace(asked.get() + 1) < 9;
        let start = poll_fn(|_| match asked.get() {
            3.. => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        });
        let outcome = unless_upgrading(start, is_upgrading, DEADLINE).await;
        assert!(outcome.is_ok());
        assert_eq!(asked.get(), 3);
    }
}
