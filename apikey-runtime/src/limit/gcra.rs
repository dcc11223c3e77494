//! Rates, counted by the generic cell rate algorithm.

use super::rate::{Rate, span};
use super::state::{LimitDecision, positive};

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
