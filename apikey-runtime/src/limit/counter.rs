//! How a limit is counted, whether it is a rate or a quota.
//!
//! Pure: time comes in as a number. The stores that count in languages of their own (PostgreSQL,
//! Redis) are held against this.

use super::LimitRule;
use super::gcra::Gcra;
use super::state::{CounterState, LimitDecision};

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
            LimitRule::Quota(_) => self.refill_quota(amount),
        }
    }
}

#[cfg(test)]
mod tests;
