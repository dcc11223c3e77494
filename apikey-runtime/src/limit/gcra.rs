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

    /// Clamps `tat` to `now` plus the burst. It may be later if a clock was set back, or if the
    /// rate was raised.
    pub(crate) fn clamp(self, tat: i64, now: i64) -> i64 {
        tat.min(now + self.burst)
    }

    /// Decides whether the rate allows the cost, given a clamped `tat`.
    pub(crate) fn check(self, tat: i64, now: i64) -> LimitDecision {
        let ahead = positive(tat - now);
        let after = tat.max(now) - now + self.cost;
        LimitDecision {
            allowed: after <= self.burst,
            remaining: self.remaining(ahead),
            reset_after: Some(Duration::from_micros(ahead)),
            retry_after: self.fits.then(|| micros(after - self.burst)),
        }
    }

    /// Charges the cost, which was allowed. Returns the new `tat` and the state of the rate.
    pub(crate) fn charge(self, tat: i64, now: i64) -> (i64, LimitDecision) {
        let tat = self.clamp(tat.max(now) + self.cost, now);
        let ahead = positive(tat - now);
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
