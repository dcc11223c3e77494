//! The types of the limits capability: charges, and how a store counts them.

use crate::clock::Clock;
use crate::key::KeyId;
use crate::limit::{CounterState, LimitDecision, LimitRule};

/// Which limits a store counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitSupport {
    /// Quotas, exactly and permanently. Rates are counted in the process.
    Quotas,
    /// Quotas and rates, shared by all processes.
    All,
}

/// A limit that a request counts against, and the name under which it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitCounter {
    name: String,
    rule: LimitRule,
}

/// The cost of a request, and the limits that it counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Charge {
    /// The key to charge.
    pub key: KeyId,
    /// The number of units. A cost of 0 reads the limits and counts nothing.
    pub cost: u32,
    /// The limits: at most [`Charge::MAX_COUNTERS`], with distinct names.
    pub counters: Vec<LimitCounter>,
}

/// The result of a [`Charge`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChargeOutcome {
    /// Whether all limits allowed the charge. If so, all were charged; if not, none was.
    pub allowed: bool,
    /// The decision of each limit, in the order of the charge. If the charge was allowed, they
    /// describe the limits after it; if it was denied, they are each limit's answer to it.
    pub decisions: Vec<LimitDecision>,
}

impl LimitCounter {
    /// The maximum length of a name in bytes.
    pub const MAX_NAME_LEN: usize = 300;

    /// Creates a counter for `rule` under `name`.
    ///
    /// A name longer than [`MAX_NAME_LEN`](Self::MAX_NAME_LEN) bytes is truncated. The rule's kind
    /// becomes part of the name, so a daily quota that is changed to a monthly one starts from
    /// zero.
    #[must_use]
    pub fn new(name: &str, rule: impl Into<LimitRule>) -> Self {
        let rule = rule.into();
        let kind = rule.kind();
        let room = Self::MAX_NAME_LEN - kind.len() - 1;
        let mut end = name.len().min(room);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            name: format!("{}/{kind}", &name[..end]),
            rule,
        }
    }

    /// Returns the name under which the limit is counted, at most
    /// [`MAX_NAME_LEN`](Self::MAX_NAME_LEN) bytes. Treat it as data: it may contain any character
    /// except control characters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the rule.
    #[must_use]
    pub fn rule(&self) -> LimitRule {
        self.rule
    }
}

impl Charge {
    /// The maximum number of limits in one charge.
    pub const MAX_COUNTERS: usize = 32;

    /// Creates a charge of `cost` units to `key`.
    #[must_use]
    pub fn new(key: KeyId, cost: u32, counters: Vec<LimitCounter>) -> Self {
        Self {
            key,
            cost,
            counters,
        }
    }

    /// Charges all limits at `now` (microseconds since 1970), or none.
    ///
    /// For stores that keep a [`CounterState`] per key and name. `counts` are the states of the
    /// counters, in their order.
    ///
    /// ```
    /// use apikey_runtime::{KeyId, Quota};
    /// use apikey_runtime::limit::CounterState;
    /// use apikey_runtime::store::{Charge, LimitCounter};
    ///
    /// let key = KeyId::from_u128(7);
    /// let charge = Charge::new(key, 2, vec![LimitCounter::new("daily", Quota::per_day(3))]);
    /// let mut counts = [CounterState::default()];
    /// assert!(charge.apply(&mut counts, 0).allowed);
    /// assert!(!charge.apply(&mut counts, 0).allowed);
    /// assert_eq!(counts[0].used, 2);
    /// ```
    pub fn apply(&self, counts: &mut [CounterState], now: i64) -> ChargeOutcome {
        let counters = || self.counters.iter().map(LimitCounter::rule);
        let asked = counts.iter_mut().zip(counters());
        let decisions: Vec<_> = asked
            .map(|(count, rule)| count.check(rule, self.cost, now))
            .collect();
        let allowed = decisions.iter().all(|decision| decision.allowed);
        if !allowed || self.cost == 0 {
            return ChargeOutcome { allowed, decisions };
        }
        let charged = counts.iter_mut().zip(counters());
        ChargeOutcome {
            allowed,
            decisions: charged
                .map(|(count, rule)| count.charge(rule, self.cost, now))
                .collect(),
        }
    }

    /// Returns the outcome if the store itself decided and counted; `counts` are the states
    /// afterwards.
    #[must_use]
    pub fn answer(&self, allowed: bool, counts: &mut [CounterState], now: i64) -> ChargeOutcome {
        let cost = if allowed { 0 } else { self.cost };
        let asked = counts.iter_mut().zip(&self.counters);
        let decisions = asked.map(|(count, counter)| count.check(counter.rule, cost, now));
        ChargeOutcome {
            allowed,
            decisions: decisions.collect(),
        }
    }
}

impl ChargeOutcome {
    /// Creates an outcome.
    #[must_use]
    pub fn new(allowed: bool, decisions: Vec<LimitDecision>) -> Self {
        Self { allowed, decisions }
    }
}

/// Returns the time by which a store in this process counts, in microseconds since 1970. It stays
/// far from the bounds of `i64`, so that additions cannot overflow.
pub(crate) fn micros(clock: &dyn Clock) -> i64 {
    const FARTHEST: i64 = i64::MAX / 4;
    let micros = clock.read().now.as_millis().saturating_mul(1_000);
    micros.clamp(-FARTHEST, FARTHEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Quota, Rate};

    /// R-07.
    #[test]
    fn r07_where_one_limit_refuses_none_is_charged() {
        let charge = Charge::new(
            KeyId::from_u128(1),
            1,
            vec![
                LimitCounter::new("a", Quota::per_day(5)),
                LimitCounter::new("b", Rate::per_minute(2)),
                LimitCounter::new("c", Quota::lifetime(9)),
            ],
        );
        let mut counts = [
            CounterState::default(),
            CounterState::default(),
            CounterState::default(),
        ];
        let passed = (0..5).filter(|_| charge.apply(&mut counts, 0).allowed);
        assert_eq!(passed.count(), 2);
        assert_eq!((counts[0].used, counts[2].used), (2, 2));
        let refused = charge.apply(&mut counts, 0);
        let allowed: Vec<_> = refused.decisions.iter().map(|one| one.allowed).collect();
        assert_eq!((refused.allowed, allowed), (false, vec![true, false, true]));
    }

    #[test]
    fn a_name_is_cut_between_characters_and_keeps_its_kind() {
        let counter = LimitCounter::new(&"ü".repeat(400), Rate::per_minute(1));
        assert!(
            counter.name().len() <= LimitCounter::MAX_NAME_LEN && counter.name().ends_with("/rate")
        );
        let month = LimitCounter::new("a", Quota::per_month(1));
        assert_ne!(
            month.name(),
            LimitCounter::new("a", Quota::per_day(1)).name()
        );
    }
}

#[cfg(all(test, any(feature = "postgres", feature = "redis")))]
mod answers {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::limit::{Quota, Rate};

    proptest! {
        /// A store that counts in a language of its own answers what `apply` answers.
        #[test]
        fn an_answer_made_of_the_counts_is_that_of_who_counted(
            amount in 1u32..6, steps in prop::collection::vec((-5i64..40, 0u32..4), 1..60),
        ) {
            let counters = vec![
                LimitCounter::new("a", Rate::per_minute(amount).with_burst(3)),
                LimitCounter::new("b", Quota::rolling(u64::from(amount), Duration::from_secs(60))),
                LimitCounter::new("c", Quota::lifetime(20)),
            ];
            let (mut counts, mut now) = (<[CounterState; 3]>::default(), 1_700_000_000_000_000);
            for (seconds, cost) in steps {
                now += seconds * 1_000_000;
                let charge = Charge::new(KeyId::from_u128(1), cost, counters.clone());
                let applied = charge.apply(&mut counts, now);
                prop_assert_eq!(charge.answer(applied.allowed, &mut counts.clone(), now), applied);
            }
        }
    }
}
