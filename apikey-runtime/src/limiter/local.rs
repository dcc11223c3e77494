//! The counters of this process.
//!
//! They count rates that the store does not count. If a route says so, they also count all limits
//! while a store that should count does not answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::{Mutex, MutexGuard};

use super::applied::{AppliedLimit, CountedBy};
use crate::clock::ClockReading;
use crate::key::KeyId;
use crate::limit::{CounterState, Gcra, LimitDecision, LimitRule, Rate};

const SHARDS: usize = 64;

/// The latest time that is distinguished: the year 9999.
const MAX_MILLIS: i64 = 253_402_300_799_999;

/// The maximum number of quotas that a shard counts while the store is down.
const QUOTAS_PER_SHARD: usize = 4_096;

/// The decision for a quota that does not fit into the table.
const TABLE_FULL: LimitDecision = LimitDecision {
    allowed: false,
    remaining: 0,
    reset_after: None,
    retry_after: None,
};

/// A key and the hash of a limit's name.
type CounterKey = (KeyId, u64);

/// The two clocks that limits are counted by, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimiterTime {
    /// For rates: elapsed time, regardless of the wall clock.
    uptime: i64,
    /// For quotas: days and months on the wall clock.
    wall: i64,
    nanos: u64,
}

impl From<ClockReading> for LimiterTime {
    fn from(reading: ClockReading) -> Self {
        Self {
            uptime: i64::try_from(reading.uptime_nanos / 1_000).unwrap_or(i64::MAX),
            // Clamped to the range that a counter can continue from.
            wall: reading.now.as_millis().clamp(-MAX_MILLIS, MAX_MILLIS) * 1_000,
            nanos: reading.uptime_nanos,
        }
    }
}

/// The limit counters of this process.
#[derive(Debug)]
pub(crate) struct LocalLimiter(Box<[Mutex<LimiterShard>]>);

#[derive(Debug, Default)]
struct LimiterShard {
    /// The `tat` of each rate. One in the past is equivalent to an unused rate.
    rates: HashMap<CounterKey, i64, RandomState>,
    /// The number of rates at which those in the past are removed.
    sweep_at: usize,
    quotas: HashMap<CounterKey, (LimitRule, CounterState), RandomState>,
}

impl LocalLimiter {
    pub(crate) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    /// Charges all of `limits` that this process counts, or none of them. Sets the decision of
    /// each, and returns whether they were charged.
    pub(crate) fn charge(&self, key: KeyId, limits: &mut [AppliedLimit], now: LimiterTime) -> bool {
        let own = |limit: &&mut AppliedLimit| limit.counted_by == CountedBy::Process;
        let mut shard = self.shard(&key);
        // Usually all of them allow it; then each is looked up once.
        let mut charging = limits.iter_mut().filter(own);
        let Some(charged) = charging.position(|limit| !shard.charge(key, limit, now)) else {
            return true;
        };
        for limit in limits.iter_mut().filter(own).take(charged) {
            shard.refund(key, limit, now);
        }
        for limit in limits.iter_mut().filter(own) {
            limit.decision = Some(shard.check(key, limit, now));
        }
        false
    }

    /// Undoes a `charge` after another limit denied the request, and sets the decision of each.
    pub(crate) fn undo(&self, key: KeyId, limits: &mut [AppliedLimit], now: LimiterTime) {
        let mut shard = self.shard(&key);
        for limit in limits
            .iter_mut()
            .filter(|limit| limit.counted_by == CountedBy::Process)
        {
            if limit.cost > 0 {
                shard.refund(key, limit, now);
            }
            let decision = shard.check(key, limit, now);
            // This limit does not deny, even if other requests have used it up meanwhile.
            limit.decision = Some(LimitDecision {
                allowed: true,
                ..decision
            });
        }
    }

    /// Refunds a `charge`, except for what others have benefited from: time that has passed has
    /// worked off a part, and a period may be over.
    pub(crate) fn refund(&self, key: KeyId, limits: &[AppliedLimit], now: LimiterTime) {
        let mut shard = self.shard(&key);
        let charged =
            |limit: &&AppliedLimit| limit.counted_by == CountedBy::Process && limit.cost > 0;
        for limit in limits.iter().filter(charged) {
            shard.refund(key, limit, now);
        }
    }

    fn shard(&self, key: &KeyId) -> MutexGuard<'_, LimiterShard> {
        let shard = &self.0[key.shard(SHARDS)];
        // A counter is written completely or not at all.
        shard.lock()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.lock().rates.len()).sum()
    }
}

impl LimiterShard {
    /// Charges a limit if it allows that, and sets its decision.
    fn charge(&mut self, key: KeyId, limit: &mut AppliedLimit, now: LimiterTime) -> bool {
        let counter_key = (key, limit.hash);
        let decision = match limit.rule {
            LimitRule::Rate(rate) => self.charge_rate(counter_key, rate, limit.cost, now.uptime),
            LimitRule::Quota(_) => {
                let decision = self.check(key, limit, now);
                if decision.allowed && limit.cost > 0 {
                    let empty = || (limit.rule, CounterState::default());
                    let (rule, count) = self.quotas.entry(counter_key).or_insert_with(empty);
                    *rule = limit.rule;
                    count.charge(limit.rule, limit.cost, now.wall)
                } else {
                    decision
                }
            }
        };
        limit.at_nanos = now.nanos;
        limit.decision = Some(decision);
        decision.allowed
    }

    fn charge_rate(
        &mut self,
        counter_key: CounterKey,
        rate: Rate,
        cost: u32,
        now: i64,
    ) -> LimitDecision {
        let gcra = Gcra::of(rate, cost);
        self.sweep_rates(now);
        let entry = self.rates.entry(counter_key);
        let tat = match &entry {
            Entry::Occupied(entry) => gcra.clamp(*entry.get(), now),
            Entry::Vacant(_) => 0,
        };
        let decision = gcra.check(tat, now);
        if !decision.allowed || cost == 0 {
            return decision;
        }
        let (tat, decision) = gcra.charge(tat, now);
        entry.insert_entry(tat);
        decision
    }

    fn check(&mut self, key: KeyId, limit: &AppliedLimit, now: LimiterTime) -> LimitDecision {
        let counter_key = (key, limit.hash);
        let mut count = match limit.rule {
            LimitRule::Rate(rate) => {
                let gcra = Gcra::of(rate, limit.cost);
                let tat = self.rates.get(&counter_key).copied().unwrap_or(0);
                return gcra.check(gcra.clamp(tat, now.uptime), now.uptime);
            }
            // Fails closed: a quota that does not fit into the table is denied.
            LimitRule::Quota(_) => match self
                .quotas
                .get(&counter_key)
                .map(|(_, count)| count.clone())
            {
                Some(count) => count,
                None if self.has_room(now) => CounterState::default(),
                None => return TABLE_FULL,
            },
        };
        count.check(limit.rule, limit.cost, now.wall)
    }

    fn refund(&mut self, key: KeyId, limit: &AppliedLimit, now: LimiterTime) {
        let counter_key = (key, limit.hash);
        let reset = limit.decision.and_then(|decision| decision.reset_after);
        // Whole microseconds, as `reset` has: rounded up, an idle rate would stay used for one.
        let passed = now.nanos.saturating_sub(limit.at_nanos) / 1_000;
        let passed = Duration::from_micros(passed);
        match limit.rule {
            LimitRule::Rate(rate) => {
                // The last units that were ahead of time then are those of this charge.
                let left = reset.unwrap_or_default().saturating_sub(passed);
                let left = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
                if let Some(tat) = self.rates.get_mut(&counter_key) {
                    *tat -= left.min(rate.span(limit.cost));
                }
            }
            LimitRule::Quota(_) if reset.is_some_and(|reset| reset <= passed) => {}
            LimitRule::Quota(_) => {
                if let Some((_, count)) = self.quotas.get_mut(&counter_key) {
                    count.refill(limit.rule, u64::from(limit.cost));
                }
            }
        }
    }

    /// Returns whether another quota fits. If the shard is full, it removes unused quotas first.
    fn has_room(&mut self, now: LimiterTime) -> bool {
        if self.quotas.len() >= QUOTAS_PER_SHARD {
            self.quotas.retain(|_, (rule, count)| {
                count.check(*rule, 0, now.wall).remaining < rule.largest_cost()
            });
        }
        self.quotas.len() < QUOTAS_PER_SHARD
    }

    fn sweep_rates(&mut self, now: i64) {
        if self.rates.len() >= self.sweep_at {
            self.rates.retain(|_, tat| *tat > now);
            self.sweep_at = (self.rates.len() * 2).max(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::applied::LimitSource;
    use super::*;
    use crate::limit::Quota;
    use crate::store::{Charge, LimitCounter};

    const SECOND: i64 = 1_000_000;

    fn at(uptime: i64) -> LimiterTime {
        LimiterTime {
            uptime,
            wall: 1_700_000_000 * SECOND + uptime,
            nanos: uptime as u64 * 1_000,
        }
    }

    fn limit(name: &'static str, rate: Rate, cost: u32) -> AppliedLimit {
        AppliedLimit::of_route(LimitSource::Route(name), rate, cost, None)
    }

    proptest! {
        /// Also if one limit was charged before another denied.
        #[test]
        fn a_rate_is_counted_as_a_store_would_by_itself_and_beside_others(
            amount in 1u32..6, steps in prop::collection::vec((0i64..30, 0u32..5), 1..60),
        ) {
            let (key, mut now) = (KeyId::from_u128(1), 1_000 * SECOND);
            let rate = Rate::per_minute(amount).with_burst(3);
            let other = Rate::per_minute(amount + 2).with_burst(2);
            let (alone, beside) = (LocalLimiter::new(), LocalLimiter::new());
            let (mut counts, mut both_counts) = (<[CounterState; 1]>::default(), <[CounterState; 2]>::default());
            for (seconds, cost) in steps {
                now += seconds * SECOND;
                let counters = vec![LimitCounter::new("a", rate), LimitCounter::new("b", other)];
                let charge = Charge::new(key, cost, counters[..1].to_vec());
                let model = charge.apply(&mut counts, now);
                let mut limits = [limit("a", rate, cost)];
                prop_assert_eq!(alone.charge(key, &mut limits, at(now)), model.allowed);
                prop_assert_eq!(limits[0].decision, Some(model.decisions[0]));
                let model = Charge::new(key, cost, counters).apply(&mut both_counts, now);
                let mut limits = [limit("a", rate, cost), limit("b", other, cost)];
                prop_assert_eq!(beside.charge(key, &mut limits, at(now)), model.allowed);
                prop_assert_eq!(limits.map(|limit| limit.decision.unwrap()).to_vec(), model.decisions);
            }
        }
    }

    #[test]
    fn where_one_limit_refuses_none_is_charged() {
        let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
        let mut limits = [
            limit("wide", Rate::per_minute(10), 1),
            limit("narrow", Rate::per_minute(2), 1),
        ];
        let passed = (0..9).filter(|_| local.charge(key, &mut limits, at(0)));
        assert_eq!(passed.count(), 2);
        assert_eq!(limits[0].decision.unwrap().remaining, 8);
        assert!(local.charge(KeyId::from_u128(2), &mut limits, at(0)));
    }

    #[test]
    fn what_is_given_back_can_be_used_again() {
        let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
        let mut limits = [limit("a", Rate::per_minute(5), 5)];
        assert!(local.charge(key, &mut limits, at(0)));
        assert!(!local.charge(key, &mut limits, at(0)));
        local.refund(key, &limits, at(0));
        assert!(local.charge(key, &mut limits, at(0)));
    }

    /// R-02, if a request is denied long after it was charged: another request has used the time
    /// that has passed.
    #[test]
    fn what_was_worked_off_meanwhile_is_not_given_back() {
        let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
        let rate = Rate::new(1, Duration::from_secs(1));
        let (mut first, mut second) = ([limit("a", rate, 1)], [limit("a", rate, 1)]);
        assert!(local.charge(key, &mut first, at(0)));
        assert!(local.charge(key, &mut second, at(SECOND)));
        local.refund(key, &first, at(SECOND));
        assert!(!local.charge(key, &mut [limit("a", rate, 1)], at(SECOND)));
        // Half of the unit was not worked off.
        local.refund(key, &second, at(SECOND * 3 / 2));
        assert!(local.charge(key, &mut [limit("a", rate, 1)], at(SECOND * 3 / 2)));
    }

    /// Clocks read nanoseconds, and rates count microseconds: nothing of an idle rate stays used.
    #[test]
    fn a_refund_within_a_microsecond_leaves_an_idle_rate_idle() {
        let rate = Rate::new(1, Duration::from_secs(10));
        let at = |nanos: u64| LimiterTime {
            uptime: (nanos / 1_000) as i64,
            wall: 0,
            nanos,
        };
        for (charged, refunded) in [(200, 350_500), (900, 1_100), (999, 1_000)] {
            let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
            let (charged, refunded) = (1_000_000_000 + charged, 1_000_000_000 + refunded);
            let mut limits = [limit("a", rate, 1)];
            assert!(local.charge(key, &mut limits, at(charged)));
            local.refund(key, &limits, at(refunded));
            let mut again = [limit("a", rate, 1)];
            assert!(local.charge(key, &mut again, at(refunded)), "{charged}");
        }
    }

    #[test]
    fn a_quota_is_counted_here_from_nothing_on() {
        let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
        let mut limits = [limit("a", Rate::per_minute(5), 1)];
        limits[0].rule = Quota::per_day(3).into();
        let passed = (0..9).filter(|_| local.charge(key, &mut limits, at(0)));
        assert_eq!(passed.count(), 3);
    }

    #[test]
    fn keys_that_are_no_longer_ahead_leave_the_memory() {
        let local = LocalLimiter::new();
        let rate = Rate::new(1, Duration::from_secs(1));
        for second in 0..200 {
            for key in 0..100 {
                let key = KeyId::from_u128(second * 100 + key);
                let now = at(second as i64 * SECOND);
                assert!(local.charge(key, &mut [limit("a", rate, 1)], now));
            }
        }
        assert!(local.len() <= SHARDS * 64, "{}", local.len());
    }
}
