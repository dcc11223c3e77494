//! Removes usage whose retention has ended. The removal is permanent and affects all nodes, so it
//! requires a clock that did not step.

use std::time::Duration;

use super::tally::HOUR_MILLIS;
use super::{Usage, hour_of};
use crate::clock::{ClockReading, Timestamp, millis_i64};
use crate::error::ErrorChain;
use crate::metrics::StoreCall;

const DAY_MILLIS: i64 = 24 * HOUR_MILLIS;

/// How far the wall clock may step forward and still be trusted.
const MAX_STEP: i64 = DAY_MILLIS;

/// How long the clock is distrusted after a larger step: long enough for an operator to see the
/// warning, and finite, because a clock may also step when it is corrected.
const DISTRUST_FOR: i64 = DAY_MILLIS;

/// How long a process has to run before the clock that it started with is trusted with what cannot be
/// counted again: a clock that is wrong at the start is often set right soon, and a process that ends
/// earlier, such as a tool with other settings, removes nothing.
const SETTLES_AFTER: i64 = HOUR_MILLIS;

/// The progress of removal, and whether the clock is trusted.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// The hour before which usage was removed.
    done: Option<i64>,
    /// Milliseconds that the wall clock was ahead of uptime: the least since its last step that was
    /// too large.
    ahead: Option<i64>,
    /// The uptime in milliseconds from which the clock is trusted.
    trusted_from: i64,
    /// The uptime in milliseconds at the last step that was too large.
    stepped_at: Option<i64>,
}

impl Retention {
    /// Creates the state of a process that starts now, and does not remove anything for an hour.
    pub(crate) fn settling(now: ClockReading) -> Self {
        let mut retention = Self {
            trusted_from: uptime(now).saturating_add(SETTLES_AFTER),
            ..Self::default()
        };
        retention.watch(now);
        retention
    }

    /// Checks whether the clock stepped since the last call.
    pub(super) fn watch(&mut self, now: ClockReading) {
        let ahead = now.wall.as_millis().saturating_sub(uptime(now));
        let before = self.ahead.unwrap_or(ahead);
        if ahead.saturating_sub(before) <= MAX_STEP {
            // If the clock is set back, later steps are measured from there.
            self.ahead = Some(before.min(ahead));
            return;
        }
        tracing::warn!(
            hours = ahead.saturating_sub(before) / HOUR_MILLIS,
            "the clock stepped forward; old usage and old entries of the audit log are not removed for a day, and no \
             key is told to expire soon for an hour: if the clock is wrong, correct it before then, or it is too early"
        );
        self.ahead = Some(ahead);
        self.stepped_at = Some(uptime(now));
        self.trusted_from = uptime(now).saturating_add(DISTRUST_FOR);
    }

    /// Returns whether the clock stepped forward too far within this time before `now`.
    pub(crate) fn stepped_within(&mut self, now: ClockReading, time: Duration) -> bool {
        self.watch(now);
        let stepped = self.stepped_at;
        stepped.is_some_and(|at| uptime(now) < at.saturating_add(millis_i64(time)))
    }

    /// Returns the hour, since 1970, before which usage or entries are to be removed: once an hour, on
    /// every node.
    pub(crate) fn due(&mut self, now: ClockReading, retention: Duration) -> Option<i64> {
        self.watch(now);
        if uptime(now) < self.trusted_from {
            return None;
        }
        let kept = millis_i64(retention);
        // The wall clock is the earlier one if a clock that was ahead was corrected. The hour in
        // which the retention begins is kept, because it ended later than that.
        let begins = now.wall.as_millis().saturating_sub(kept);
        let before = hour_of(Timestamp::from_millis(begins));
        (self.done != Some(before)).then_some(before)
    }

    /// Notes that everything before `hour` was removed.
    pub(crate) fn finish(&mut self, hour: i64) {
        self.done = Some(hour);
    }
}

/// Returns the uptime in milliseconds.
fn uptime(now: ClockReading) -> i64 {
    i64::try_from(now.uptime_nanos / 1_000_000).unwrap_or(i64::MAX)
}

impl Usage {
    /// Removes usage whose retention has ended.
    pub(super) async fn prune(&self) {
        let mut pruning = self.pruning.lock().await;
        let Some(before) = pruning.due(self.shared.now(), self.retention) else {
            return;
        };
        // The row of a day is that of its first hour, and is kept for as long as its last.
        let end = match self.is_rolled_up {
            true => before.saturating_sub(before.rem_euclid(24)),
            false => before,
        };
        let call = async { self.shared.usage()?.prune_usage(end).await };
        match self.shared.call(StoreCall::PruneUsage, call).await {
            Ok(()) => pruning.finish(before),
            Err(error) => {
                tracing::debug!(error = %ErrorChain(&error), "old usage was not removed; it is tried again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};

    const HOUR: Duration = Duration::from_secs(3_600);
    const YEAR: i64 = 365 * DAY_MILLIS;

    /// Returns a clock at the beginning of the hour 1000, and a `Retention` that has seen it.
    fn watched() -> (ManualClock, Retention) {
        let clock = ManualClock::at(Timestamp::from_millis(1_000 * HOUR_MILLIS));
        let mut pruning = Retention::default();
        pruning.watch(clock.read());
        (clock, pruning)
    }

    fn due(pruning: &mut Retention, clock: &ManualClock) -> Option<i64> {
        pruning.due(clock.read(), HOUR * 10)
    }

    #[test]
    fn it_is_due_once_an_hour_however_long_nobody_looked() {
        let (clock, mut pruning) = watched();
        for (hours, expected) in [(0, 990), (1, 991), (24 * 365, 991 + 24 * 365)] {
            clock.advance(HOUR * hours);
            assert_eq!(due(&mut pruning, &clock), Some(expected));
            // It stays due until it is done.
            assert_eq!(due(&mut pruning, &clock), Some(expected));
            pruning.done = Some(expected);
            assert_eq!(due(&mut pruning, &clock), None);
        }
    }

    #[test]
    fn a_clock_that_jumped_is_believed_after_a_day() {
        let (clock, mut pruning) = watched();
        clock.step_wall(MAX_STEP);
        assert_eq!(due(&mut pruning, &clock), Some(1_014), "at the bound");
        clock.step_wall(1);
        assert_eq!(due(&mut pruning, &clock), None);
        clock.advance(HOUR * 24 - Duration::from_millis(1));
        assert_eq!(due(&mut pruning, &clock), None);
        clock.advance(Duration::from_millis(1));
        assert_eq!(due(&mut pruning, &clock), Some(1_038));
    }

    /// Small steps that would each be trusted; and forward, back and forward again.
    #[test]
    fn no_way_leads_around_the_doubt() {
        let (clock, mut pruning) = watched();
        clock.step_wall(MAX_STEP);
        assert!(due(&mut pruning, &clock).is_some());
        clock.step_wall(MAX_STEP);
        assert_eq!(due(&mut pruning, &clock), None);
        clock.advance(HOUR * 24);
        assert!(due(&mut pruning, &clock).is_some());
        clock.step_wall(YEAR);
        assert_eq!(due(&mut pruning, &clock), None);
        clock.step_wall(-YEAR);
        assert_eq!(due(&mut pruning, &clock), None);
        clock.advance(HOUR * 24);
        assert!(due(&mut pruning, &clock).is_some());
        clock.step_wall(YEAR);
        assert_eq!(due(&mut pruning, &clock), None);
    }

    /// The wall clock is a year ahead at the start, and is set right within the hour.
    #[test]
    fn a_clock_is_not_believed_in_the_first_hour() {
        let start = Timestamp::from_millis(YEAR + 1_000 * HOUR_MILLIS);
        let clock = ManualClock::at(start);
        let mut pruning = Retention::settling(clock.read());
        assert_eq!(due(&mut pruning, &clock), None);
        clock.advance(HOUR - Duration::from_millis(1));
        assert_eq!(due(&mut pruning, &clock), None);
        clock.step_wall(-YEAR);
        // The wall clock does not count, whichever way it steps.
        clock.step_wall(2 * HOUR_MILLIS);
        assert_eq!(due(&mut pruning, &clock), None);
        clock.step_wall(-2 * HOUR_MILLIS);
        clock.advance(Duration::from_millis(1));
        assert_eq!(due(&mut pruning, &clock), Some(991));
        // The steps of a clock are found from the start.
        let mut pruning = Retention::settling(clock.read());
        clock.advance(HOUR / 2);
        clock.step_wall(YEAR);
        clock.advance(HOUR);
        assert_eq!(due(&mut pruning, &clock), None);
    }

    #[test]
    fn a_step_is_remembered_for_a_while() {
        let (clock, mut pruning) = watched();
        assert!(!pruning.stepped_within(clock.read(), HOUR));
        clock.step_wall(MAX_STEP + 1);
        assert!(pruning.stepped_within(clock.read(), HOUR));
        clock.advance(HOUR - Duration::from_millis(1));
        assert!(pruning.stepped_within(clock.read(), HOUR));
        clock.advance(Duration::from_millis(1));
        assert!(!pruning.stepped_within(clock.read(), HOUR));
    }

    /// The wall clock was ahead when the manager was created, whose time never goes back.
    #[test]
    fn a_clock_that_is_set_right_is_believed_at_once() {
        let (clock, mut pruning) = watched();
        clock.step_wall(-900 * HOUR_MILLIS);
        assert_eq!(clock.read().now.as_millis(), 1_000 * HOUR_MILLIS);
        assert_eq!(due(&mut pruning, &clock), Some(90));
    }
}
