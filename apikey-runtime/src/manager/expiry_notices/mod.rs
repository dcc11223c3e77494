//! Sends the events of keys that expire soon.

mod agenda;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::agenda::Agenda;
use super::core::ManagerCore;
use super::notice_memory::{FinishedNotices, NoticeMemory};
use crate::audit::ChangeOrigin;
use crate::error::{ErrorChain, StoreError};
use crate::events::{EventKind, ROOM};
use crate::metrics::StoreCall;
use crate::record::Validity;
use crate::store::expiry_notices::MAX_NOTICES;
use crate::store::{ExpiryNotice, ExpiryNotices, NodeId, answer};

/// The maximum number of notices of a step that tells. One that only gives back has [`MAX_NOTICES`].
const STEP: u32 = 100;

/// The number of calls that fail after which a step does not try more notices.
const MAX_FAILURES: usize = 10;

/// The number of unread events up to which a step begins, and the maximum that it sends.
const HALF_ROOM: usize = ROOM / 2;

/// How long a step waits for a reader that does not read.
const READER_PATIENCE: Duration = Duration::from_secs(10);

/// The bounds of the pause after a step that found notices, which is as long as the step was: other users of the
/// store get half of its time.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(250)];

/// The pause after a first failure. Each pause is twice the one before, up to [`MAX_RETRY_PAUSE`].
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(50);

const MAX_RETRY_PAUSE: Duration = Duration::from_secs(10);

/// How long nothing is claimed after the clock stepped forward by more than a day: a node whose clock is ahead
/// would tell too early, and remove the notices of keys that are not expired. A clock that was ahead when the
/// manager was created is not found.
const DISTRUST_FOR: Duration = Duration::from_hours(1);

/// How often a node that has no lease, or distrusts its clock, looks whether that is over.
const IDLE_PAUSE: Duration = Duration::from_millis(250);

impl ManagerCore {
    /// Sends the events that are due, until the manager shuts down, for as long as they have a reader.
    pub(super) async fn run_expiry_notices(&self) {
        let days = self.verifier.config.expiry_notice_days();
        let Some(notices) = self.shared.store.expiry_notices() else {
            return;
        };
        if days.is_empty() {
            return;
        }
        let mut sender = NoticeSender {
            core: self,
            notices,
            days,
            memory: &mut *self.notice_memory.lock().await,
            retry_pause: FIRST_RETRY_PAUSE,
        };
        while !self.poller.is_stopping() {
            if self.events.has_readers() || sender.memory.may_hold_claims {
                let pause = sender.step().await;
                sleep(pause).await;
            } else {
                self.events.subscribed().await;
            }
        }
    }
}

/// Claims notices, sends their events, and then finishes them.
struct NoticeSender<'a> {
    core: &'a ManagerCore,
    notices: &'a dyn ExpiryNotices,
    /// The thresholds, the largest first.
    days: &'a [u32],
    memory: &'a mut NoticeMemory,
    retry_pause: Duration,
}

impl NoticeSender<'_> {
    /// Makes a step, and returns the pause after it.
    async fn step(&mut self) -> Duration {
        let core = self.core;
        let is_distrusted = self
            .memory
            .clock
            .stepped_within(core.shared.now(), DISTRUST_FOR);
        let is_behind = self.memory.unnoted.len() >= MAX_NOTICES as usize;
        let membership = core.poller.membership();
        let Some(membership) = membership.filter(|_| !is_distrusted && !is_behind) else {
            return match self.note().await {
                Ok(()) => IDLE_PAUSE,
                Err(error) => self.failed(&error),
            };
        };
        self.wait_for_readers().await;
        let began = Instant::now();
        let limit = self.limit();
        let held_claims = self.memory.may_hold_claims;
        let mut claimed = match self.claim(limit).await {
            Ok(claimed) => claimed,
            Err(error) => return self.failed(&error),
        };
        let is_full = claimed.len() >= limit as usize;
        claimed.sort_by_key(|notice| self.memory.unreadable.contains(&notice.key));
        // The shutdown waits for this, so that it does not leave between an event and its note.
        let sending = core.sending_notices.lock().await;
        #[cfg(apikey_faults)]
        if crate::faults::notes_before_sending() {
            let agenda = |notice| Agenda::of(notice, self.days, core.shared.now().now);
            let all = claimed.iter().map(|notice| (*notice, agenda(notice)));
            let all = all.map(|(notice, agenda)| (notice, agenda.next(agenda.due().count())));
            let _ = self
                .notices
                .finish_notices(&self.node(), &all.collect::<FinishedNotices>())
                .await;
        }
        let (is_complete, sent) = self.send(&claimed, membership).await;
        let before = self.memory.unnoted.len();
        let noted = self.note().await;
        let makes_progress = self.memory.unnoted.len() < before;
        drop(sending);
        // A reader that is left makes the next call anyway.
        let may_hide = held_claims && is_full && core.events.has_readers();
        self.memory.may_hold_claims = !is_complete || !self.memory.unnoted.is_empty() || may_hide;
        if makes_progress {
            self.retry_pause = FIRST_RETRY_PAUSE;
        }
        if let Err(error) = sent.and(noted) {
            return self.failed(&error);
        }
        self.retry_pause = FIRST_RETRY_PAUSE;
        let [least, most] = PAUSE;
        if !is_complete {
            IDLE_PAUSE
        } else if claimed.is_empty() {
            core.verifier.config.expiry_notice_interval()
        } else {
            began.elapsed().clamp(least, most)
        }
    }

    /// Waits until the readers have room for the events of a step, but not for ever: one that does not read must
    /// not keep the others from theirs.
    async fn wait_for_readers(&self) {
        let began = Instant::now();
        while self.core.events.unread() > HALF_ROOM
            && began.elapsed() < READER_PATIENCE
            && !self.core.poller.is_stopping()
        {
            sleep(IDLE_PAUSE).await;
        }
    }

    /// Returns the number of notices that a step claims.
    fn limit(&self) -> u32 {
        if !self.core.events.has_readers() {
            return MAX_NOTICES;
        }
        let fit = HALF_ROOM / self.days.len().max(1);
        STEP.min(u32::try_from(fit).unwrap_or(STEP)).max(1)
    }

    async fn claim(&mut self, limit: u32) -> Result<Vec<ExpiryNotice>, StoreError> {
        let (node, now) = (self.node(), self.core.shared.now().now);
        self.memory.may_hold_claims = true;
        let claim = async {
            let claimed = self.notices.claim_notices(&node, now, limit).await?;
            answer::notices_of(now, limit, claimed)
        };
        self.core.shared.call(StoreCall::ClaimNotices, claim).await
    }

    /// Sends the events of claimed notices, and keeps them to be noted. Returns whether these are all, and the first
    /// error. The others stay claimed, and the next call returns them again: those that cannot be read, and all that
    /// are left after this node was not certain to be a member. Other nodes may have claimed and told these.
    async fn send(
        &mut self,
        claimed: &[ExpiryNotice],
        membership: u64,
    ) -> (bool, Result<(), StoreError>) {
        let mut unreadable = Vec::new();
        let mut outcome = Ok(());
        for notice in claimed {
            if self.memory.is_unnoted(notice) {
                continue;
            }
            let agenda = Agenda::of(notice, self.days, self.core.shared.now().now);
            let mut next = agenda.next(0);
            if agenda.due().next().is_some() && self.core.events.has_readers() {
                if unreadable.len() >= MAX_FAILURES || self.core.poller.is_stopping() {
                    unreadable.push(notice.key);
                    continue;
                }
                let is_live = match self.is_live(notice).await {
                    Ok(is_live) => is_live,
                    Err(error) => {
                        unreadable.push(notice.key);
                        outcome = outcome.and(Err(error));
                        continue;
                    }
                };
                if !self.is_still_member(membership) {
                    return (false, outcome);
                }
                next = match is_live {
                    true => agenda.next(self.emit(notice, &agenda)),
                    false => None,
                };
            }
            self.memory.unnoted.push((*notice, next));
        }
        let is_complete = unreadable.is_empty();
        self.memory.unreadable = unreadable;
        (is_complete, outcome)
    }

    /// Sends the events that are due, for as long as they have a reader, and returns their number.
    fn emit(&self, notice: &ExpiryNotice, agenda: &Agenda) -> usize {
        let origin = ChangeOrigin::new();
        let sent = agenda.due().take_while(|days| {
            let kind = EventKind::ExpiringSoon {
                days: *days,
                expires: notice.expires,
            };
            self.core.emit(kind, notice.key, &origin)
        });
        sent.count()
    }

    /// Reads whether the key still exists with this expiry, and is not revoked. A disabled key or a
    /// suspended owner may come back, so their keys are told. So is one whose record cannot be read.
    async fn is_live(&self, notice: &ExpiryNotice) -> Result<bool, StoreError> {
        match self.core.shared.find(&notice.key).await {
            Ok(Some(record)) => {
                let is_same = record.expires == Some(notice.expires);
                Ok(is_same && !Validity::of(&record).revoked)
            }
            Ok(None) => Ok(false),
            Err(StoreError::Corrupt { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Finishes what was sent. What cannot be noted is kept and tried again after the next claim: it must not keep
    /// the others from being noted or told. Returns the first error.
    async fn note(&mut self) -> Result<(), StoreError> {
        let all = &self.memory.unnoted;
        let parts = all.chunks(MAX_NOTICES as usize).map(<[_]>::to_vec);
        let mut parts: Vec<FinishedNotices> = parts.collect();
        let (mut failures, mut outcome) = (0, Ok(()));
        while let Some(mut part) = parts.pop() {
            let node = self.node();
            let finish = self.notices.finish_notices(&node, &part);
            let call = self.core.shared.call(StoreCall::FinishNotices, finish);
            let Err(error) = call.await else {
                self.memory.noted(&part);
                continue;
            };
            outcome = outcome.and(Err(error));
            failures += 1;
            if failures >= MAX_FAILURES || self.core.poller.is_stopping() {
                break;
            }
            // One of them may be the cause.
            if part.len() > 1 {
                let half = part.split_off(part.len() / 2);
                parts.extend([half, part]);
            }
        }
        outcome
    }

    /// Returns whether other nodes cannot have claimed what this node claimed in this membership.
    fn is_still_member(&self, membership: u64) -> bool {
        #[cfg(apikey_faults)]
        if crate::faults::sends_after_removal() {
            return true;
        }
        self.core.poller.membership() == Some(membership)
    }

    fn node(&self) -> NodeId {
        #[cfg(apikey_faults)]
        if crate::faults::shares_claims() {
            return NodeId::from_u128(0);
        }
        self.core.poller.node()
    }

    /// Logs a failure, and returns the pause after it.
    fn failed(&mut self, error: &StoreError) -> Duration {
        let pause = self.retry_pause;
        // The store was stopped with the manager.
        if !self.core.poller.is_stopping() {
            tracing::warn!(error = %ErrorChain(error), ?pause, "the keys that expire soon cannot be told from the key store; it is tried again");
        }
        self.retry_pause = MAX_RETRY_PAUSE.min(pause * 2);
        pause
    }
}
