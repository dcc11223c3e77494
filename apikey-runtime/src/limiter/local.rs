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
use crate::limit::{CounterState, Gcra, LimitDecision, LimitRule, MAX_MILLIS, Rate};

const SHARDS: usize = 64;

/// The maximum number of quotas that a shard counts while the store is down.
const QUOTAS_PER_SHARD: usize = 4_096;

/// How long a full shard is not swept again, in nanoseconds.
const SWEEP_PAUSE: u64 = 1_000_000_000;

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

impl LimiterTime {
    fn new(nanos: u64, wall: i64) -> Self {
        Self {
            uptime: i64::try_from(nanos / 1_000).unwrap_or(i64::MAX),
            wall,
            nanos,
        }
    }
}

impl From<ClockReading> for LimiterTime {
    fn from(reading: ClockReading) -> Self {
        // Clamped to the range that a counter can continue from.
        let wall = reading.now.as_millis().clamp(-MAX_MILLIS, MAX_MILLIS) * 1_000;
        Self::new(reading.uptime_nanos, wall)
    }
}

/// The limit counters of this process.
#[derive(Debug)]
pub(crate) struct LocalLimiter(Box<[Mutex<LimiterShard>]>);

#[derive(Debug, Default)]
struct LimiterShard {
    /// The latest uptime at which the shard was used, in nanoseconds. A thread may wait for long between its
    /// reading of the clock and its turn here; by a reading that is older than those before it, a rate
    /// would look as if its clock had been set back, and be cut.
    latest_nanos: u64,
    /// The `tat` of each rate. One in the past is equivalent to an unused rate.
    rates: HashMap<CounterKey, i64, RandomState>,
    /// The number of rates at which those in the past are removed.
    sweep_at: usize,
    quotas: HashMap<CounterKey, (LimitRule, CounterState), RandomState>,
    /// The uptime in nanoseconds before which quotas are not swept again, since a sweep has left the
    /// shard full.
    full_until: u64,
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
        let now = shard.catch_up(now);
        // A single limit is looked up once. Of several, none is charged before all have allowed it:
        // a refund would not restore a `tat` that was capped.
        if limits.iter_mut().filter(own).nth(1).is_some() {
            let mut allowed = true;
            for limit in limits.iter_mut().filter(own) {
                let decision = shard.check(key, limit, now);
                allowed &= decision.allowed;
                limit.decision = Some(decision);
            }
            if !allowed {
                return false;
            }
        }
        let mut charging = limits.iter_mut().filter(own);
        charging.all(|limit| shard.charge(key, limit, now))
    }

    /// Undoes a `charge` after another limit denied the request, and sets the decision of each.
    pub(crate) fn undo(&self, key: KeyId, limits: &mut [AppliedLimit], now: LimiterTime) {
        let mut shard = self.shard(&key);
        let now = shard.catch_up(now);
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
        let now = shard.catch_up(now);
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
    /// Returns `now`, or the latest uptime that the shard was used at if that is later. It has passed by now, too.
    fn catch_up(&mut self, now: LimiterTime) -> LimiterTime {
        self.latest_nanos = self.latest_nanos.max(now.nanos);
        LimiterTime::new(self.latest_nanos, now.wall)
    }

    /// Charges a limit if it allows that, and sets its decision.
    fn charge(&mut self, key: KeyId, limit: &mut AppliedLimit, now: LimiterTime) -> bool {
        let counter_key = (key, limit.hash);
        let decision = match limit.rule {
            LimitRule::Rate(rate) => self.charge_rate(counter_key, rate, limit, now.uptime),
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
        limit: &mut AppliedLimit,
        now: i64,
    ) -> LimitDecision {
        let gcra = Gcra::of(rate, limit.cost);
        self.sweep_rates(now);
        let entry = self.rates.entry(counter_key);
        let tat = match &entry {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(_) => 0,
        };
        let decision = gcra.check(tat, now);
        if !decision.allowed || limit.cost == 0 {
            return decision;
        }
        limit.former_tat = tat;
        let (tat, decision) = gcra.charge(tat, now);
        entry.insert_entry(tat);
        decision
    }

    fn check(&mut self, key: KeyId, limit: &AppliedLimit, now: LimiterTime) -> LimitDecision {
        let counter_key = (key, limit.hash);
        let count = match limit.rule {
            LimitRule::Rate(rate) => {
                let gcra = Gcra::of(rate, limit.cost);
                let tat = self.rates.get(&counter_key).copied().unwrap_or(0);
                return gcra.check(tat, now.uptime);
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
        let span = limit
            .decision
            .and_then(|decision| limit.rule.refund_span(decision));
        // Whole microseconds, as `reset` has: rounded up, an idle rate would stay used for one.
        let passed = now.nanos.saturating_sub(limit.at_nanos) / 1_000;
        let passed = Duration::from_micros(passed);
        match limit.rule {
            LimitRule::Rate(rate) => {
                // The last units that were ahead of time then are those of this charge.
                let left = reset.unwrap_or_default().saturating_sub(passed);
                let left = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
                let charged =
                    Duration::from_micros(limit.at_nanos / 1_000) + reset.unwrap_or_default();
                match self.rates.get_mut(&counter_key) {
                    // No other charge came since. This one may have capped the `tat`, so that taking
                    // its units off would not restore it.
                    Some(tat) if i128::from(*tat) == charged.as_micros().cast_signed() => {
                        *tat = limit.former_tat;
                    }
                    Some(tat) => *tat -= left.min(rate.span(limit.cost)),
                    None => {}
                }
            }
            LimitRule::Quota(_) if span.is_some_and(|span| span <= passed) => {}
            LimitRule::Quota(_) => {
                if let Some((_, count)) = self.quotas.get_mut(&counter_key) {
                    count.refill(limit.rule, u64::from(limit.cost));
                }
            }
        }
    }

    /// Returns whether another quota fits. If the shard is full, it removes unused quotas first, at
    /// most once in [`SWEEP_PAUSE`] if there are none: requests wait for it.
    fn has_room(&mut self, now: LimiterTime) -> bool {
        if self.quotas.len() >= QUOTAS_PER_SHARD && now.nanos >= self.full_until {
            self.quotas.retain(|_, (rule, count)| {
                count.check(*rule, 0, now.wall).remaining < rule.largest_cost()
            });
            if self.quotas.len() >= QUOTAS_PER_SHARD {
                self.full_until = now.nanos.saturating_add(SWEEP_PAUSE);
            }
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
mod tests;
