//! The generic cell rate algorithm (GCRA), which counts rates.

use std::time::Duration;

use super::rate::{Rate, span};
use super::state::{LimitDecision, micros, positive};

/// A rate and a cost as durations in microseconds, computed once per charge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gcra {
    step: u64,
    burst: i64,
    cost: i64,
    /// Whether the burst is large enough for the cost.
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

    /// Returns the arrival time from which a charge at `now` starts.
    ///
    /// A `tat` later than `now` plus the burst is not of this rate and this clock: the clock was set
    /// back, or the rate was another one. If it is later by at most what this charge takes up, it stays,
    /// and passes by itself within that time. A later one would lock the key out for long, so it is
    /// capped such that this charge is just allowed. A step of the clock therefore allows at most one
    /// charge too many.
    fn start(self, tat: i64, now: i64) -> i64 {
        let latest = now.saturating_add(self.burst);
        if tat <= latest.saturating_add(self.cost) {
            return tat.max(now);
        }
        latest - if self.fits { self.cost } else { 0 }
    }

    /// Decides whether the rate allows the cost. A cost of zero is always allowed.
    pub(crate) fn check(self, tat: i64, now: i64) -> LimitDecision {
        let ahead = self.start(tat, now).saturating_sub(now);
        let excess = ahead.saturating_add(self.cost).saturating_sub(self.burst);
        let allowed = self.cost == 0 || excess <= 0;
        let retry_after = if allowed {
            Some(Duration::ZERO)
        } else {
            self.fits.then(|| micros(excess))
        };
        LimitDecision {
            allowed,
            remaining: self.remaining(positive(ahead)),
            reset_after: Some(micros(ahead)),
            retry_after,
        }
    }

    /// Charges the cost, which was allowed. Returns the new `tat` and the state of the rate.
    ///
    /// The new `tat` is never later than `now` plus the burst.
    pub(crate) fn charge(self, tat: i64, now: i64) -> (i64, LimitDecision) {
        let latest = now.saturating_add(self.burst);
        let charged = self.start(tat, now).saturating_add(self.cost);
        let tat = charged.min(latest);
        let ahead = positive(tat.saturating_sub(now));
        let decision = LimitDecision {
            allowed: true,
            remaining: self.remaining(ahead),
            reset_after: Some(Duration::from_micros(ahead)),
            retry_after: Some(Duration::ZERO),
        };
        (tat, decision)
    }

    fn remaining(self, ahead: u64) -> u64 {
        self.burst.unsigned_abs().saturating_sub(ahead) / self.step
    }
}
