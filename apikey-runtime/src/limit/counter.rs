//! How a limit is counted: what is remembered of it, and what a charge makes of that.
//!
//! Pure: time comes in as a number. The stores that count in languages of their own (PostgreSQL,
//! Redis) are held against this.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LimitRule;
use super::quota::{PARTS, Quota, QuotaPeriod};
use super::rate::{Rate, span};

/// What is remembered of one limit of one key: what a store keeps that counts.
///
/// The default is that of a limit of which nothing was used yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CounterState {
    /// A rate's theoretical arrival time: when all that has passed is worked off, in microseconds
    /// since 1970.
    pub tat: i64,
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
pub struct LimitDecision {
    /// Whether the charge may pass.
    pub allowed: bool,
    /// What could still pass at once.
    pub remaining: u64,
    /// Microseconds until all of it is there again; `None` for never.
    pub reset: Option<u64>,
    /// Microseconds until the charge would be admitted; `None` for never.
    pub retry: Option<u64>,
}

/// A rate and a cost as times, in microseconds: worked out once for all that a charge asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gcra {
    step: u64,
    burst: i64,
    cost: i64,
    /// Whether so much can ever pass at once.
    fits: bool,
}

impl Gcra {
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
    pub(crate) fn within(self, tat: i64, now: i64) -> i64 {
        tat.min(now + self.burst)
    }

    /// What the rate says to the cost, after an arrival time that is within its burst.
    pub(crate) fn ask(self, tat: i64, now: i64) -> LimitDecision {
        let ahead = positive(tat - now);
        let after = tat.max(now) - now + self.cost;
        LimitDecision {
            allowed: after <= self.burst,
            remaining: self.remaining(ahead),
            reset: Some(ahead),
            retry: self.fits.then(|| positive(after - self.burst)),
        }
    }

    /// The arrival time with the cost, which was admitted, and how the rate stands then.
    pub(crate) fn charge(self, tat: i64, now: i64) -> (i64, LimitDecision) {
        let tat = self.within(tat.max(now) + self.cost, now);
        let ahead = positive(tat - now);
        let decision = LimitDecision {
            allowed: true,
            remaining: self.remaining(ahead),
            reset: Some(ahead),
            retry: Some(0),
        };
        (tat, decision)
    }

    fn remaining(self, ahead: u64) -> u64 {
        self.burst.unsigned_abs().saturating_sub(ahead) / self.step
    }
}

impl CounterState {
    /// What `rule` says to `cost` at `now` (microseconds since 1970). Nothing is counted yet, but a
    /// rate is brought within its burst, which holds from then on.
    pub fn ask(&mut self, rule: LimitRule, cost: u32, now: i64) -> LimitDecision {
        match rule {
            LimitRule::Rate(rate) => {
                let gcra = Gcra::of(rate, cost);
                // Which holds from then on.
                self.tat = gcra.within(self.tat, now);
                gcra.ask(self.tat, now)
            }
            LimitRule::Quota(quota) => self.ask_quota(quota, cost, now),
        }
    }

    /// Counts `cost`, which was admitted; how the limit stands then.
    pub fn charge(&mut self, rule: LimitRule, cost: u32, now: i64) -> LimitDecision {
        match rule {
            LimitRule::Rate(rate) => {
                let decision;
                (self.tat, decision) = Gcra::of(rate, cost).charge(self.tat, now);
                decision
            }
            LimitRule::Quota(quota) => {
                self.charge_quota(quota, cost, now);
                LimitDecision {
                    allowed: true,
                    ..self.ask_quota(quota, 0, now)
                }
            }
        }
    }

    /// Gives back up to `amount` of what was used of a quota, the newest first, since the oldest may
    /// count no more; of a rate, all.
    pub fn refill(&mut self, rule: LimitRule, amount: u64) {
        match rule {
            LimitRule::Rate(_) => self.tat = 0,
            LimitRule::Quota(_) => {
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

    fn ask_quota(&self, quota: Quota, cost: u32, now: i64) -> LimitDecision {
        let millis = now.div_euclid(1_000);
        let used = self.used_at(quota.period(), millis);
        let remaining = quota.amount().saturating_sub(used);
        let allowed = u64::from(cost) <= remaining;
        let reset = self.reset(quota.period(), millis);
        let retry = if u64::from(cost) > quota.amount() {
            None
        } else {
            self.retry(quota, cost, millis)
        };
        let micros = |at: i64| positive(at.saturating_mul(1_000) - now);
        LimitDecision {
            allowed,
            remaining,
            reset: reset.map(micros),
            retry: if allowed { Some(0) } else { retry.map(micros) },
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
    fn used_at(&self, period: QuotaPeriod, millis: i64) -> u64 {
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
    fn reset(&self, period: QuotaPeriod, millis: i64) -> Option<i64> {
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
fn period_of(period: QuotaPeriod, millis: i64) -> i64 {
    match period {
        QuotaPeriod::Day => millis.div_euclid(86_400_000),
        QuotaPeriod::Month => month_of(millis.div_euclid(86_400_000)),
        QuotaPeriod::Rolling(_) | QuotaPeriod::Lifetime => 0,
    }
}

/// When the period ends that a time is in.
fn end_of(period: QuotaPeriod, millis: i64) -> Option<i64> {
    let day = millis.div_euclid(86_400_000);
    let first_day = match period {
        QuotaPeriod::Day => day + 1,
        QuotaPeriod::Month => first_day_of(month_of(day) + 1),
        QuotaPeriod::Rolling(_) | QuotaPeriod::Lifetime => return None,
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
mod tests;
