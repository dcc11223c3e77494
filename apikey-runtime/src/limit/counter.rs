//! Counting of rates and quotas.
//!
//! The functions are pure: time is an argument. The stores that count in a language of their own
//! (PostgreSQL, Redis) are tested against them.

use super::LimitRule;
use super::gcra::Gcra;
use super::state::{CounterState, LimitDecision};

impl CounterState {
    /// Decides whether `rule` allows `cost` at `now` (microseconds since 1970), without charging
    /// it.
    ///
    /// If the `tat` of a rate is later than `now` plus the burst by more than the cost takes up, since
    /// the clock was set back or the rate was another one, one charge is allowed.
    #[must_use]
    pub fn check(&self, rule: LimitRule, cost: u32, now: i64) -> LimitDecision {
        match rule {
            LimitRule::Rate(rate) => Gcra::of(rate, cost).check(self.tat, now),
            LimitRule::Quota(quota) => self.check_quota(quota, cost, now),
        }
    }

    /// Charges `cost`, which was allowed, and returns the state of the limit afterwards.
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
                    ..self.check_quota(quota, 0, now)
                }
            }
        }
    }

    /// Refills up to `amount` of a quota's used units, the newest first, since the oldest may have
    /// expired; refills a rate completely.
    pub fn refill(&mut self, rule: LimitRule, amount: u64) {
        match rule {
            LimitRule::Rate(_) => self.tat = 0,
            LimitRule::Quota(_) => self.refill_quota(amount),
        }
    }
}

#[cfg(test)]
mod tests;
