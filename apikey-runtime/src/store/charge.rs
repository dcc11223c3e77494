//! The types of the limits capability: charges, and how a store counts them.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::clock::Clock;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::error::StoreError;
use crate::key::KeyId;
use crate::limit::{CounterState, LimitDecision, LimitRule, MAX_MILLIS};

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
    /// The rule's kind becomes part of the name, so a daily quota that is changed to a monthly one
    /// starts from zero. If both are longer than [`MAX_NAME_LEN`](Self::MAX_NAME_LEN) bytes, the name
    /// is truncated and ends in a hash of the whole: two names never become one.
    #[must_use]
    pub fn new(name: &str, rule: impl Into<LimitRule>) -> Self {
        let rule = rule.into();
        let kind = rule.kind();
        let name = shorten(name, Self::MAX_NAME_LEN - kind.len() - 1);
        Self {
            name: format!("{name}/{kind}"),
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

/// Returns a different text of at most `room` bytes for each name. The texts of long names are longer
/// than those of all others, so they are never equal.
fn shorten(name: &str, room: usize) -> Cow<'_, str> {
    const HASH_LEN: usize = 16;
    // A cut between two characters may leave out three bytes more.
    if name.len() < room - 3 {
        return Cow::Borrowed(name);
    }
    let mut end = room - 1 - 2 * HASH_LEN;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let mut short = format!("{}~", &name[..end]);
    for byte in Sha256::digest(name).iter().take(HASH_LEN) {
        // Writing to a `String` cannot fail.
        let _ = write!(short, "{byte:02x}");
    }
    Cow::Owned(short)
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
    /// counters, in their order; a denied charge leaves all of them unchanged.
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
        let asked = counts.iter().zip(counters());
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
    pub fn answer(&self, allowed: bool, counts: &[CounterState], now: i64) -> ChargeOutcome {
        let cost = if allowed { 0 } else { self.cost };
        let asked = counts.iter().zip(&self.counters);
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

/// Returns the time by which a store in this process counts, in microseconds, from 1970 to the latest
/// time that a [`CounterState`] can have.
pub(crate) fn micros(clock: &dyn Clock) -> i64 {
    clock.read().now.as_millis().clamp(0, MAX_MILLIS) * 1_000
}

/// Returns the error for a row of `api_key_limit_counters` that a charge cannot have written. It does
/// not name the limit, since the name may contain a route.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn corrupt_row(key: &KeyId) -> StoreError {
    StoreError::Corrupt {
        id: key.to_string(),
        reason: "a number of a limit counter is broken; delete its row from the key's rows in \
                 `api_key_limit_counters`"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
    fn names_of_any_length_stay_different_and_keep_their_kind() {
        let counted = |name: &String| {
            let name = LimitCounter::new(name, Rate::per_minute(1)).name;
            assert!(name.len() <= LimitCounter::MAX_NAME_LEN, "{name}");
            name.strip_suffix("/rate").unwrap().to_owned()
        };
        let lengths = (60..400).flat_map(|length| ["a", "ü", "語"].map(|one| one.repeat(length)));
        let mut names: HashSet<_> = lengths
            .flat_map(|name| [format!("{name}b"), format!("{name}c"), name])
            .collect();
        // What a shortened name is counted as is a name too.
        let shortened: Vec<_> = names.iter().map(counted).collect();
        names.extend(shortened);
        let different: HashSet<_> = names.iter().map(counted).collect();
        assert_eq!(different.len(), names.len());
        let month = LimitCounter::new("a", Quota::per_month(1));
        assert_ne!(
            month.name(),
            LimitCounter::new("a", Quota::per_day(1)).name()
        );
    }
}

#[cfg(test)]
mod properties {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::limit::{Quota, Rate};

    /// Rates of one name, as when a key's own rate is changed.
    fn rates() -> impl Strategy<Value = Rate> {
        prop_oneof![
            Just(Rate::per_minute(5)),
            Just(Rate::per_second(100).with_burst(5)),
            Just(Rate::per_hour(3)),
        ]
    }

    proptest! {
        #[test]
        fn a_denied_charge_changes_nothing(
            steps in prop::collection::vec((-9_000i64..900, rates(), 0u32..7), 1..60),
        ) {
            let (mut counts, mut now) = (<[CounterState; 2]>::default(), 1_700_000_000_000_000);
            for (seconds, rate, cost) in steps {
                now += seconds * 1_000_000;
                let counters = vec![LimitCounter::new("a", rate), LimitCounter::new("b", Quota::lifetime(9))];
                let before = counts.clone();
                let charged = Charge::new(KeyId::from_u128(1), cost, counters).apply(&mut counts, now);
                prop_assert_eq!(charged.allowed, charged.decisions.iter().all(|one| one.allowed));
                if !charged.allowed || cost == 0 {
                    prop_assert_eq!(counts.clone(), before);
                }
            }
        }

        /// A store that counts in a language of its own answers what `apply` answers.
        #[test]
        fn an_answer_made_of_the_counts_is_that_of_who_counted(
            amount in 1u32..6, steps in prop::collection::vec(
                (prop_oneof![4 => -5i64..40, 1 => -9_000i64..0], rates(), 0u32..7), 1..60,
            ),
        ) {
            let counters = |rate: Rate| vec![
                LimitCounter::new("a", rate),
                LimitCounter::new("b", Quota::rolling(u64::from(amount), Duration::from_secs(60))),
                LimitCounter::new("c", Quota::lifetime(20)),
            ];
            let (mut counts, mut now) = (<[CounterState; 3]>::default(), 1_700_000_000_000_000);
            for (seconds, rate, cost) in steps {
                now += seconds * 1_000_000;
                let charge = Charge::new(KeyId::from_u128(1), cost, counters(rate));
                let applied = charge.apply(&mut counts, now);
                prop_assert_eq!(charge.answer(applied.allowed, &counts, now), applied);
            }
        }
    }
}
