//! Removing usage that is no longer to be kept: that of all nodes, and for good. So it goes by a clock
//! that did not jump.

use std::time::Duration;

use super::tally::HOUR_MILLIS;
use super::{Usage, hour_of};
use crate::clock::{ClockReading, Timestamp, millis_i64};
use crate::metrics::StoreCall;

const DAY_MILLIS: i64 = 24 * HOUR_MILLIS;

/// By how much more than has passed the wall clock may go ahead and be believed.
const MAX_STEP: i64 = DAY_MILLIS;

/// For how long it is not believed after it went ahead by more: long enough for somebody to see the
/// warning, and an end for a clock that was set right.
const DISTRUST_FOR: i64 = DAY_MILLIS;

/// What was removed, and whether the clock can be trusted with more.
#[derive(Debug, Default)]
pub(super) struct Retention {
    /// The hour before which all was removed.
    done: Option<i64>,
    /// By how many milliseconds the wall clock was ahead of uptime, at the least since it last went
    /// ahead by too much.
    ahead: Option<i64>,
    /// The uptime, in milliseconds, from which on the clock is believed.
    believed_from: i64,
}

impl Retention {
    /// Sees whether the clock jumped since the last time.
    pub(super) fn watch(&mut self, now: ClockReading) {
        let ahead = now.wall.as_millis().saturating_sub(uptime(now));
        let before = self.ahead.unwrap_or(ahead);
        if ahead.saturating_sub(before) <= MAX_STEP {
            // Where it is set back, what follows is measured from there.
            self.ahead = Some(before.min(ahead));
            return;
        }
        tracing::warn!(
            hours = ahead.saturating_sub(before) / HOUR_MILLIS,
            "the clock went ahead; no usage is removed for a day, or is kept for too short a time if \
             the clock is wrong then: set it right"
        );
        self.ahead = Some(ahead);
        self.believed_from = uptime(now).saturating_add(DISTRUST_FOR);
    }

    /// The hour before which usage is to be removed: once an hour, whichever nodes do.
    fn due(&mut self, now: ClockReading, retention: Duration) -> Option<i64> {
        self.watch(now);
        if uptime(now) < self.believed_from {
            return None;
        }
        let kept = millis_i64(retention);
        // The wall's, which is the earlier where a clock that was ahead was set right. The hour in
        // which the retention begins has not been over for as long.
        let begins = now.wall.as_millis().saturating_sub(kept);
        let before = hour_of(Timestamp::from_millis(begins));
        (self.done != Some(before)).then_some(before)
    }
}

fn uptime(now: ClockReading) -> i64 {
    i64::try_from(now.uptime_nanos / 1_000_000).unwrap_or(i64::MAX)
}

impl Usage {
    /// Removes what is no longer to be kept.
    pub(super) async fn prune(&self) {
        let mut forgetting = self.forgetting.lock().await;
        let Some(before) = forgetting.due(self.shared.now(), self.retention) else {
            return;
        };
        let call = self.shared.store.prune_usage(before);
        let answer = tokio::time::timeout(self.shared.deadline, call).await;
        self.shared
            .metrics
            .called(StoreCall::PruneUsage, answer.as_ref().ok());
        match answer {
            Ok(Ok(())) => forgetting.done = Some(before),
            Ok(Err(error)) => {
                tracing::debug!(%error, "old usage was not removed; it is tried again")
            }
            Err(_) => tracing::debug!("old usage was not removed in time; it is tried again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};

    const HOUR: Duration = Duration::from_secs(3_600);
    const YEAR: i64 = 365 * DAY_MILLIS;

    /// A clock at the beginning of the hour 1000, and what has seen it.
    fn watched() -> (ManualClock, Retention) {
        let clock = ManualClock::at(Timestamp::from_millis(1_000 * HOUR_MILLIS));
        let mut forgetting = Retention::default();
        forgetting.watch(clock.read());
        (clock, forgetting)
    }

    fn due(forgetting: &mut Retention, clock: &ManualClock) -> Option<i64> {
        forgetting.due(clock.read(), HOUR * 10)
    }

    #[test]
    fn it_is_due_once_an_hour_however_long_nobody_looked() {
        let (clock, mut forgetting) = watched();
        for (hours, expected) in [(0, 990), (1, 991), (24 * 365, 991 + 24 * 365)] {
            clock.advance(HOUR * hours);
            assert_eq!(due(&mut forgetting, &clock), Some(expected));
            // Until it is done.
            assert_eq!(due(&mut forgetting, &clock), Some(expected));
            forgetting.done = Some(expected);
            assert_eq!(due(&mut forgetting, &clock), None);
        }
    }

    #[test]
    fn a_clock_that_jumped_is_believed_after_a_day() {
        let (clock, mut forgetting) = watched();
        clock.step_wall(MAX_STEP);
        assert_eq!(due(&mut forgetting, &clock), Some(1_014), "not by more");
        clock.step_wall(1);
        assert_eq!(due(&mut forgetting, &clock), None);
        clock.advance(HOUR * 24 - Duration::from_millis(1));
        assert_eq!(due(&mut forgetting, &clock), None);
        clock.advance(Duration::from_millis(1));
        assert_eq!(due(&mut forgetting, &clock), Some(1_038));
    }

    /// In steps, each of which could be believed; and there and back and there again.
    #[test]
    fn no_way_leads_around_the_doubt() {
        let (clock, mut forgetting) = watched();
        clock.step_wall(MAX_STEP);
        assert!(due(&mut forgetting, &clock).is_some());
        clock.step_wall(MAX_STEP);
        assert_eq!(due(&mut forgetting, &clock), None);
        clock.advance(HOUR * 24);
        assert!(due(&mut forgetting, &clock).is_some());
        clock.step_wall(YEAR);
        assert_eq!(due(&mut forgetting, &clock), None);
        clock.step_wall(-YEAR);
        assert_eq!(due(&mut forgetting, &clock), None);
        clock.advance(HOUR * 24);
        assert!(due(&mut forgetting, &clock).is_some());
        clock.step_wall(YEAR);
        assert_eq!(due(&mut forgetting, &clock), None);
    }

    /// It was ahead when the manager was made, whose time never goes back.
    #[test]
    fn a_clock_that_is_set_right_is_believed_at_once() {
        let (clock, mut forgetting) = watched();
        clock.step_wall(-900 * HOUR_MILLIS);
        assert_eq!(clock.read().now.as_millis(), 1_000 * HOUR_MILLIS);
        assert_eq!(due(&mut forgetting, &clock), Some(90));
    }
}
