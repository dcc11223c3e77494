//! Counting of quotas, by calendar periods or in parts of a rolling window.

use std::time::Duration;

use super::LimitRule;
use super::calendar::{end_of, period_of};
use super::quota::{PARTS, Quota, QuotaPeriod};
use super::state::{CounterState, LimitDecision, micros};

impl CounterState {
    pub(super) fn check_quota(&self, quota: Quota, cost: u32, now: i64) -> LimitDecision {
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
        let until = |at: i64| micros(at.saturating_mul(1_000).saturating_sub(now));
        LimitDecision {
            allowed,
            remaining,
            reset_after: reset.map(until),
            retry_after: if allowed {
                Some(Duration::ZERO)
            } else {
                retry.map(until)
            },
        }
    }

    pub(super) fn charge_quota(&mut self, quota: Quota, cost: u32, now: i64) {
        let millis = now.div_euclid(1_000);
        let cost = u64::from(cost);
        if let Some(part) = quota.period().part_millis() {
            let present = millis.div_euclid(part as i64);
            self.parts
                .retain(|number, _| *number >= present - PARTS as i64);
            // If the clock was set back, this counts into the latest part that was used.
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

    /// Returns the units that count against a quota at `millis`.
    ///
    /// A past period does not count. A future period counts, since only a clock that was set back
    /// can find one.
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

    /// Returns when all used units have expired, in milliseconds since 1970.
    fn reset(&self, period: QuotaPeriod, millis: i64) -> Option<i64> {
        match period.part_millis() {
            Some(part) => {
                let last = self.parts.keys().next_back().copied();
                Some(last.map_or(millis, |last| part_end(last, part)).max(millis))
            }
            None => end_of(period, millis),
        }
    }

    /// Returns when `cost`, which is denied now, would be allowed.
    fn retry(&self, quota: Quota, cost: u32, millis: i64) -> Option<i64> {
        let Some(part) = quota.period().part_millis() else {
            return end_of(quota.period(), millis);
        };
        let oldest = millis.div_euclid(part as i64) - PARTS as i64;
        let mut used = self.used_at(quota.period(), millis);
        for (number, part_used) in self.parts.range(oldest..) {
            used = used.saturating_sub(*part_used);
            if used.saturating_add(u64::from(cost)) <= quota.amount() {
                return Some(part_end(*number, part));
            }
        }
        None
    }

    /// Refills up to `amount` used units, the newest first, since the oldest may have expired.
    pub(super) fn refill_quota(&mut self, amount: u64) {
        self.used = self.used.saturating_sub(amount);
        let mut left = amount;
        for used in self.parts.values_mut().rev() {
            let back = left.min(*used);
            (*used, left) = (*used - back, left - back);
        }
        self.parts.retain(|_, used| *used > 0);
    }
}

impl LimitRule {
    /// Returns how long a charge with the decision `charged` can be refunded; `None` for ever.
    ///
    /// A refund takes units from the newest period or part. Once units can be charged to the next
    /// one, it would take those: what was refunded would stay in the older one, and leave the window
    /// with it before the units that were used leave.
    pub(crate) fn refund_span(self, charged: LimitDecision) -> Option<Duration> {
        let reset = charged.reset_after?;
        let part = match self {
            Self::Quota(quota) => quota.period().part_millis(),
            Self::Rate(_) => None,
        };
        // The charged part is the newest one, so all units are available again when it has left the
        // window: `PARTS` parts after its end.
        let kept = Duration::from_millis(part.unwrap_or(0).saturating_mul(PARTS));
        Some(reset.saturating_sub(kept))
    }
}

/// Returns when a part has left the rolling window completely.
fn part_end(number: i64, part: u64) -> i64 {
    number
        .saturating_add(PARTS as i64 + 1)
        .saturating_mul(part as i64)
}
