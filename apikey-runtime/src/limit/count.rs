//! How a limit is counted: what is remembered of it, and what a charge makes of that.
//!
//! Pure: time comes in as a number. The stores that count in languages of their own (PostgreSQL,
//! Redis) are held against this.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Rule;
use super::quota::{PARTS, Period, Quota};
use super::rate::{Rate, span};

/// What is remembered of one limit of one key: what a store keeps that counts.
///
/// The default is that of a limit of which nothing was used yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Count {
    /// A rate's theoretical arrival time: when all that has passed is worked off, in microseconds
    /// since 1970.
    pub arrival: i64,
    /// Which period of a quota this counts: days or months since January 1970; 0 for the others.
    pub period: i64,
    /// What was used in it.
    pub used: u64,
    /// What was used in each part of a rolling window, by the part's number since 1970.
    pub parts: BTreeMap<i64, u64>,
}

/// What a limit says to a charge, or how it stands after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// Whether the charge may pass.
    pub admits: bool,
    /// What could still pass at once.
    pub remaining: u64,
    /// Microseconds until all of it is there again; `None` for never.
    pub reset: Option<u64>,
    /// Microseconds until the charge would be admitted; `None` for never.
    pub retry: Option<u64>,
}

/// A rate and a cost as times, in microseconds: worked out once for all that a charge asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    step: u64,
    burst: i64,
    cost: i64,
    /// Whether so much can ever pass at once.
    fits: bool,
}

impl Pace {
    pub(crate) fn of(rate: Rate, cost: u32) -> Self {
        let step = rate.step_micros();
        Self {
            step,
            burst: span(step, rate.burst()),
            cost: span(step, cost),
            fits: cost <= rate.burst(),
        }
    }

    /// The arrival time, no further ahead than a whole burst: there a clock that was set back, or a
    /// rate that was raised, would leave it.
    pub(crate) fn within(self, arrival: i64, now: i64) -> i64 {
        arrival.min(now + self.burst)
    }

    /// What the rate says to the cost, after an arrival time that is within its burst.
    pub(crate) fn ask(self, arrival: i64, now: i64) -> Verdict {
        let ahead = positive(arrival - now);
        let after = arrival.max(now) - now + self.cost;
        Verdict {
            admits: after <= self.burst,
            remaining: self.remaining(ahead),
            reset: Some(ahead),
            retry: self.fits.then(|| positive(after - self.burst)),
        }
    }

    /// The arrival time with the cost, which was admitted, and how the rate stands then.
    pub(crate) fn charge(self, arrival: i64, now: i64) -> (i64, Verdict) {
        let arrival = self.within(arrival.max(now) + self.cost, now);
        let ahead = positive(arrival - now);
        let verdict = Verdict {
            admits: true,
            remaining: self.remaining(ahead),
            reset: Some(ahead),
            retry: Some(0),
        };
        (arrival, verdict)
    }

    fn remaining(self, ahead: u64) -> u64 {
        self.burst.unsigned_abs().saturating_sub(ahead) / self.step
    }
}

impl Count {
    /// What `rule` says to `cost` at `now` (microseconds since 1970). Nothing is counted yet, but a
    /// rate is brought within its burst, which holds from then on.
    pub fn ask(&mut self, rule: Rule, cost: u32, now: i64) -> Verdict {
        match rule {
            Rule::Rate(rate) => {
                let pace = Pace::of(rate, cost);
                // Which holds from then on.
                self.arrival = pace.within(self.arrival, now);
                pace.ask(self.arrival, now)
            }
            Rule::Quota(quota) => self.ask_quota(quota, cost, now),
        }
    }

    /// Counts `cost`, which was admitted; how the limit stands then.
    pub fn charge(&mut self, rule: Rule, cost: u32, now: i64) -> Verdict {
        match rule {
            Rule::Rate(rate) => {
                let verdict;
                (self.arrival, verdict) = Pace::of(rate, cost).charge(self.arrival, now);
                verdict
            }
            Rule::Quota(quota) => {
                self.charge_quota(quota, cost, now);
                Verdict {
                    admits: true,
                    ..self.ask_quota(quota, 0, now)
                }
            }
        }
    }

    /// Gives back up to `amount` of what was used of a quota, the newest first, since the oldest may
    /// count no more; of a rate, all.
    pub fn refill(&mut self, rule: Rule, amount: u64) {
        match rule {
            Rule::Rate(_) => self.arrival = 0,
            Rule::Quota(_) => {
                self.used = self.used.saturating_sub(amount);
                let mut left = amount;
                for used in self.parts.values_mut().rev() {
                    let back = left.min(*used);
                    (*used, left) = (*used - back, left - back);
                }
                self.parts.retain(|_, used| *used > 0);
            }
        }
    }

    fn ask_quota(&self, quota: Quota, cost: u32, now: i64) -> Verdict {
        let millis = now.div_euclid(1_000);
        let used = self.used_at(quota.period(), millis);
        let remaining = quota.amount().saturating_sub(used);
        let admits = u64::from(cost) <= remaining;
        let reset = self.reset(quota.period(), millis);
        let retry = if u64::from(cost) > quota.amount() {
            None
        } else {
            self.retry(quota, cost, millis)
        };
        let micros = |at: i64| positive(at.saturating_mul(1_000) - now);
        Verdict {
            admits,
            remaining,
            reset: reset.map(micros),
            retry: if admits { Some(0) } else { retry.map(micros) },
        }
    }

    fn charge_quota(&mut self, quota: Quota, cost: u32, now: i64) {
        let millis = now.div_euclid(1_000);
        let cost = u64::from(cost);
        if let Some(part) = quota.period().part_millis() {
            let present = millis.div_euclid(part as i64);
            self.parts
                .retain(|number, _| *number >= present - PARTS as i64);
            // A clock that was set back counts into the latest part that was used.
            let latest = self.parts.keys().next_back().copied().unwrap_or(present);
            let part = self.parts.entry(present.max(latest)).or_default();
            *part = part.saturating_add(cost);
        } else {
            let present = period_of(quota.period(), millis);
            if present > self.period {
                (self.period, self.used) = (present, 0);
            }
            self.used = self.used.saturating_add(cost);
        }
    }

    /// What counts against a quota at that time. A period that is over counts no more; one that has
    /// not come counts, since only a clock that was set back can find it.
    fn used_at(&self, period: Period, millis: i64) -> u64 {
        match period.part_millis() {
            Some(part) => {
                let oldest = millis.div_euclid(part as i64) - PARTS as i64;
                self.parts
                    .range(oldest..)
                    .fold(0, |sum: u64, (_, used)| sum.saturating_add(*used))
            }
            None if period_of(period, millis) > self.period => 0,
            None => self.used,
        }
    }

    /// When nothing that was used counts any more, in milliseconds since 1970.
    fn reset(&self, period: Period, millis: i64) -> Option<i64> {
        match period.part_millis() {
            Some(part) => {
                let last = self.parts.keys().next_back().copied();
                Some(last.map_or(millis, |last| leaves(last, part)).max(millis))
            }
            None => end_of(period, millis),
        }
    }

    /// When `cost` would be admitted that is not now.
    fn retry(&self, quota: Quota, cost: u32, millis: i64) -> Option<i64> {
        let Some(part) = quota.period().part_millis() else {
            return end_of(quota.period(), millis);
        };
        let oldest = millis.div_euclid(part as i64) - PARTS as i64;
        let mut used = self.used_at(quota.period(), millis);
        for (number, part_used) in self.parts.range(oldest..) {
            used = used.saturating_sub(*part_used);
            if used.saturating_add(u64::from(cost)) <= quota.amount() {
                return Some(leaves(*number, part));
            }
        }
        None
    }
}

/// When a part of a rolling window has left it as a whole.
fn leaves(number: i64, part: u64) -> i64 {
    (number + PARTS as i64 + 1).saturating_mul(part as i64)
}

/// The number of the period that a time is in.
fn period_of(period: Period, millis: i64) -> i64 {
    match period {
        Period::Day => millis.div_euclid(86_400_000),
        Period::Month => month_of(millis.div_euclid(86_400_000)),
        Period::Rolling(_) | Period::Lifetime => 0,
    }
}

/// When the period ends that a time is in.
fn end_of(period: Period, millis: i64) -> Option<i64> {
    let day = millis.div_euclid(86_400_000);
    let first_day = match period {
        Period::Day => day + 1,
        Period::Month => first_day_of(month_of(day) + 1),
        Period::Rolling(_) | Period::Lifetime => return None,
    };
    first_day.checked_mul(86_400_000)
}

/// Months since January 1970, of a day since 1970-01-01, in the proleptic Gregorian calendar. By
/// years that start in March, so that the leap day comes last (Howard Hinnant, "chrono-compatible
/// low-level date algorithms").
fn month_of(day: i64) -> i64 {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    // March is the first.
    (era * 400 + year) * 12 + month + 2 - 1970 * 12
}

/// The first day of a month, in days since 1970-01-01.
fn first_day_of(month: i64) -> i64 {
    let from_march = month + 1970 * 12 - 2;
    let (year, month) = (from_march.div_euclid(12), from_march.rem_euclid(12));
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Charges where it is admitted.
    fn pass(count: &mut Count, rule: Rule, cost: u32, now: i64) -> bool {
        let admits = count.ask(rule, cost, now).admits;
        if admits {
            count.charge(rule, cost, now);
        }
        admits
    }

    proptest! {
        /// in any window w at most burst + w / T. A plain model: all that passed is kept.
        #[test]
        fn r02_in_any_window_at_most_a_burst_and_what_the_window_allows(
            amount in 1u32..50, seconds in 1u64..100, burst in 1u32..30,
            steps in prop::collection::vec((0i64..30 * SECOND, 1u32..4), 1..120),
        ) {
            let rate = Rate::new(amount, Duration::from_secs(seconds)).with_burst(burst);
            let (mut count, mut now, mut passed) = (Count::default(), 1_700_000_000 * SECOND, Vec::new());
            for (pause, cost) in steps {
                now += pause;
                if pass(&mut count, rate.into(), cost, now) {
                    passed.push((now, u64::from(cost)));
                }
            }
            for (index, (from, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for (to, cost) in &passed[index..] {
                    sum += cost;
                    let window = u64::try_from(to - from).unwrap();
                    prop_assert!(sum <= u64::from(burst) + window / rate.step_micros());
                }
            }
        }

        /// What is refused is admitted after the time that it was told, and not before.
        #[test]
        fn a_refusal_says_when_it_would_have_passed(
            amount in 1u32..50, burst in 1u32..30, cost in 1u32..30,
            used in prop::collection::vec(1u32..5, 0..40),
        ) {
            for rule in [
                Rule::from(Rate::new(amount, Duration::from_secs(60)).with_burst(burst)),
                Rule::from(Quota::rolling(u64::from(burst), Duration::from_secs(3_600))),
                Rule::from(Quota::per_month(u64::from(burst))),
            ] {
                let (mut count, now) = (Count::default(), 1_700_000_000 * SECOND);
                for (step, cost) in used.iter().enumerate() {
                    pass(&mut count, rule, *cost, now + step as i64 * SECOND);
                }
                let now = now + 40 * SECOND;
                let verdict = count.ask(rule, cost, now);
                match verdict.retry {
                    None => prop_assert!(u64::from(cost) > rule.largest_cost()),
                    Some(wait) => {
                        let then = now + i64::try_from(wait).unwrap();
                        prop_assert!(count.ask(rule, cost, then).admits);
                        prop_assert!(verdict.admits || !count.ask(rule, cost, then - 1_000).admits);
                    }
                }
            }
        }

        /// A quota of Q admits Q in any window, by a plain model.
        #[test]
        fn a_rolling_quota_holds_in_any_stretch_of_its_length(
            amount in 1u64..20, seconds in 60u64..600,
            steps in prop::collection::vec((0i64..200 * SECOND, 1u32..4), 1..100),
        ) {
            let quota = Quota::rolling(amount, Duration::from_secs(seconds));
            let (mut count, mut now, mut passed) = (Count::default(), 1_700_000_000 * SECOND, Vec::new());
            for (pause, cost) in steps {
                now += pause;
                if pass(&mut count, quota.into(), cost, now) {
                    passed.push((now, u64::from(cost)));
                }
            }
            let window = i64::try_from(seconds).unwrap() * SECOND;
            for (from, _) in &passed {
                let sum: u64 = passed.iter().filter(|(at, _)| (*from..from + window).contains(at))
                    .map(|(_, cost)| cost).sum();
                prop_assert!(sum <= amount, "{sum} in a window");
            }
        }

        #[test]
        fn what_is_given_back_can_be_used_again(
            used in 0u64..50, amount in 0u64..60, seconds in 60u64..600,
        ) {
            let now = 1_700_000_000 * SECOND;
            for rule in [
                Rule::from(Quota::lifetime(50)),
                Rule::from(Quota::per_day(50)),
                Rule::from(Quota::rolling(50, Duration::from_secs(seconds))),
            ] {
                let mut count = Count::default();
                for step in 0..used {
                    count.charge(rule, 1, now + step as i64 * SECOND / 2);
                }
                count.refill(rule, amount);
                let left = 50 - used.saturating_sub(amount);
                prop_assert_eq!(count.ask(rule, 0, now + 25 * SECOND).remaining, left);
            }
        }

        #[test]
        fn months_are_those_of_the_calendar(day in -1_000_000i64..4_000_000) {
            let month = month_of(day);
            prop_assert!(first_day_of(month) <= day && day < first_day_of(month + 1));
            prop_assert!((28..=31).contains(&(first_day_of(month + 1) - first_day_of(month))));
        }
    }

    #[test]
    fn known_months() {
        // 1970-01-01, 2000-02-29, 2000-03-01, 2026-11-22.
        for (day, month) in [(0, 0), (11_016, 361), (11_017, 362), (20_779, 682)] {
            assert_eq!(month_of(day), month, "{day}");
        }
        assert_eq!(first_day_of(682), 20_758);
    }

    /// What left the window soaks up nothing.
    #[test]
    fn a_rolling_quota_is_refilled_from_what_still_counts() {
        let rule = Rule::from(Quota::rolling(10, Duration::from_secs(3_600)));
        let (mut count, minute) = (Count::default(), 60 * SECOND);
        assert!(pass(&mut count, rule, 5, 0));
        assert!(pass(&mut count, rule, 5, 50 * minute));
        count.refill(rule, 5);
        assert_eq!(count.ask(rule, 0, 70 * minute).remaining, 10);
    }

    ///
    #[test]
    fn r04_there_is_no_edge_at_which_twice_as_much_passes() {
        let rule = Rule::from(Rate::per_minute(10));
        let mut count = Count::default();
        let edge = 60 * SECOND * 1_000;
        let passed = |count: &mut Count, at| (0..20).filter(|_| pass(count, rule, 1, at)).count();
        assert_eq!(passed(&mut count, edge - SECOND), 10);
        assert_eq!(passed(&mut count, edge + SECOND), 0);
    }

    /// A month's end.
    #[test]
    fn a_quota_of_the_calendar_starts_anew_at_midnight_utc() {
        // 2026-11-30T23:59:59Z.
        let last = (20_787 * 86_400 + 86_399) * SECOND;
        for quota in [Quota::per_month(3), Quota::per_day(3)] {
            let rule = Rule::from(quota);
            let mut count = Count::default();
            assert_eq!(
                (0..5).filter(|_| pass(&mut count, rule, 1, last)).count(),
                3
            );
            let refused = count.ask(rule, 1, last);
            assert_eq!((refused.admits, refused.remaining), (false, 0));
            assert_eq!(
                (refused.retry, refused.reset),
                (Some(1_000_000), Some(1_000_000))
            );
            assert!(pass(&mut count, rule, 1, last + SECOND));
            // A clock that is set back finds the period that it left used up or gone: never a new
            // quota.
            assert_eq!(
                (0..5).filter(|_| pass(&mut count, rule, 1, last)).count(),
                2
            );
        }
    }

    #[test]
    fn a_clock_that_jumps_locks_nobody_out_for_longer_than_the_burst() {
        let rule = Rule::from(Rate::per_minute(10));
        let mut count = Count::default();
        let now = 1_700_000_000 * SECOND;
        assert!(pass(&mut count, rule, 10, now + 3_600 * SECOND));
        let back = count.ask(rule, 1, now);
        assert!(!back.admits && back.retry <= Some(6_000_000), "{back:?}");
    }

    #[test]
    fn a_limit_that_is_changed_counts_on() {
        let mut count = Count::default();
        let now = 1_700_000_000 * SECOND;
        assert!(pass(&mut count, Rule::from(Quota::lifetime(5)), 5, now));
        assert!(!pass(&mut count, Rule::from(Quota::lifetime(5)), 1, now));
        assert_eq!(
            count.ask(Rule::from(Quota::lifetime(8)), 1, now).remaining,
            3
        );
        assert_eq!(
            count.ask(Rule::from(Quota::lifetime(3)), 1, now).remaining,
            0
        );
        assert!(pass(&mut count, Rule::from(Rate::per_minute(1)), 1, now));
        let raised = Rule::from(Rate::per_second(100));
        assert!(!pass(&mut count, raised, 1, now));
        assert!(pass(&mut count, raised, 1, now + 10_000));
    }
}
