//! Prefetching of units from the store, to save round trips.
//!
//! Prefetched units are already charged, so a quota is never exceeded. They are used within
//! [`PREFETCH_TTL`], so a rate allows at most burst + (w + PREFETCH_TTL) / T units in any window w.
//! The rest is refunded to quotas; a process that is killed loses it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::{Mutex, MutexGuard};

use super::applied::{AppliedLimit, CountedBy};
use super::plan::HASHER;
use crate::clock::ClockReading;
use crate::key::KeyId;
use crate::limit::{LimitDecision, LimitRule};
use crate::store::LimitCounter;

/// How long prefetched units may be used.
pub(crate) const PREFETCH_TTL: Duration = Duration::from_secs(1);

const SHARDS: usize = 64;

/// A key, and the limits that its request counts against in the store, with the cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PrefetchKey(KeyId, u64);

/// A batch of prefetched units.
#[derive(Debug)]
struct PrefetchedBatch {
    /// The number of requests that it was charged for.
    size: u32,
    /// The number of requests that it can still serve.
    left: u32,
    cost: u32,
    /// When the charge was sent: the store charged it then or later.
    sent_nanos: u64,
    until_nanos: u64,
    /// Whether the next batch has been requested.
    next_requested: bool,
    /// The decision of each limit about the batch, in the order of the applied limits.
    limits: Vec<(LimitCounter, LimitDecision)>,
}

/// Units to refund.
#[derive(Debug)]
pub(crate) struct Refund {
    pub(crate) key: KeyId,
    pub(crate) units: u64,
    /// Each quota with the uptime at which the charged period, or part of a rolling window, ends at
    /// the earliest. A later refund would go to the next one.
    pub(crate) quotas: Vec<(LimitCounter, Option<u64>)>,
}

/// The prefetched units of all keys in this process.
#[derive(Debug)]
pub(crate) struct Prefetch {
    shards: Box<[Mutex<HashMap<PrefetchKey, PrefetchedBatch, RandomState>>]>,
    /// The maximum number of requests to prefetch for; 1 disables prefetching.
    max_size: u32,
}

impl PrefetchKey {
    /// Creates the key of a request's charge in the store. Returns `None` if the store does not
    /// count a limit of the request, if the request is free, if its limits have different costs, or if
    /// one is a rolling quota: prefetched units would leave the window earlier than the requests that
    /// use them.
    pub(crate) fn of(key: KeyId, applied: &[AppliedLimit]) -> Option<Self> {
        let mut stored = applied
            .iter()
            .filter(|limit| limit.counted_by == CountedBy::Store);
        let cost = stored.clone().next()?.cost;
        let fits = |limit: &AppliedLimit| limit.cost == cost && !is_rolling(limit.rule);
        (cost > 0 && stored.all(fits)).then(|| Self(key, hash_applied(applied)))
    }
}

impl Prefetch {
    /// Creates an empty table that prefetches for at most this many requests.
    pub(crate) fn new(max_size: u32) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            max_size,
        }
    }

    /// Returns whether prefetching is enabled.
    pub(crate) fn is_enabled(&self) -> bool {
        self.max_size > 1
    }

    /// Takes the units of one request from a batch, if enough are left, and sets the decision of
    /// each limit that the store counts. Returns whether it did.
    pub(crate) fn consume(
        &self,
        key: PrefetchKey,
        applied: &mut [AppliedLimit],
        now: ClockReading,
    ) -> bool {
        let mut shard = self.shard(key.0);
        let Some(batch) = shard.get_mut(&key) else {
            return false;
        };
        if batch.left == 0 || now.uptime_nanos >= batch.until_nanos {
            return false;
        }
        batch.left -= 1;
        let passed = Duration::from_nanos(now.uptime_nanos.saturating_sub(batch.sent_nanos));
        let kept = u64::from(batch.left) * u64::from(batch.cost);
        let stored = applied
            .iter_mut()
            .filter(|limit| limit.counted_by == CountedBy::Store);
        for (limit, (_, decision)) in stored.zip(&batch.limits) {
            limit.decision = Some(decision_after(*decision, kept, passed));
            // The decision is as of now.
            limit.at_nanos = now.uptime_nanos;
        }
        true
    }

    /// Returns how many requests to charge for now.
    ///
    /// It is twice the last size if that batch was used up before it expired, so a key that is
    /// rarely used prefetches nothing. Only one caller at a time gets more than 1, and must then
    /// report the outcome by `insert` or `record_denial`.
    pub(crate) fn size(&self, key: PrefetchKey, now: ClockReading) -> u32 {
        let mut shard = self.shard(key.0);
        let last = shard.get_mut(&key);
        let used_up =
            |batch: &&mut PrefetchedBatch| batch.left == 0 && now.uptime_nanos < batch.until_nanos;
        let Some(last) = last.filter(used_up).filter(|batch| !batch.next_requested) else {
            return 1;
        };
        let size = last.size.saturating_mul(2).clamp(1, self.max_size);
        last.next_requested = size > 1;
        size
    }

    /// Reports that the store denied a batch; `next` is the size to request the next time.
    pub(crate) fn record_denial(&self, key: PrefetchKey, next: u32) {
        if let Some(batch) = self.shard(key.0).get_mut(&key) {
            batch.size = next / 2;
            batch.next_requested = false;
        }
    }

    /// Stores a batch that was charged for `size` requests, of which `left` are not served yet.
    /// `limits` are the counters that were charged, with their decisions. Returns what remains of
    /// an earlier batch, to be refunded.
    pub(crate) fn insert(
        &self,
        key: PrefetchKey,
        (size, left): (u32, u32),
        cost: u32,
        limits: Vec<(LimitCounter, LimitDecision)>,
        sent: ClockReading,
    ) -> Option<Refund> {
        let batch = PrefetchedBatch {
            size,
            left,
            cost,
            sent_nanos: sent.uptime_nanos,
            until_nanos: sent.uptime_nanos.saturating_add(nanos(ttl(&limits))),
            next_requested: false,
            limits,
        };
        let mut shard = self.shard(key.0);
        // A charge for a single request does not replace a batch that another caller is requesting.
        if size == 1 && shard.get(&key).is_some_and(|batch| batch.next_requested) {
            return None;
        }
        let replaced = shard.insert(key, batch)?;
        into_refund(key, replaced)
    }

    /// Removes expired batches, or all of them, and returns what to refund.
    pub(crate) fn sweep(&self, now: ClockReading, all: bool) -> Vec<Refund> {
        let mut refunds = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let expired = |batch: &PrefetchedBatch| all || now.uptime_nanos >= batch.until_nanos;
            let ended = shard.extract_if(|_, batch| expired(batch));
            refunds.extend(ended.filter_map(|(key, batch)| into_refund(key, batch)));
        }
        refunds
    }

    fn shard(
        &self,
        key: KeyId,
    ) -> MutexGuard<'_, HashMap<PrefetchKey, PrefetchedBatch, RandomState>> {
        self.shards[key.shard(SHARDS)].lock()
    }
}

/// Returns what remains of a batch, to be refunded to its quotas.
fn into_refund(key: PrefetchKey, batch: PrefetchedBatch) -> Option<Refund> {
    let sent = batch.sent_nanos;
    let quotas = batch.limits.into_iter();
    let quotas = quotas.filter(|(counter, _)| matches!(counter.rule(), LimitRule::Quota(_)));
    let quotas: Vec<_> = quotas
        .map(|(counter, decision)| {
            let end = refund_end(sent, counter.rule(), decision);
            (counter, end)
        })
        .collect();
    let units = u64::from(batch.left) * u64::from(batch.cost);
    (units > 0 && !quotas.is_empty()).then_some(Refund {
        key: key.0,
        units,
        quotas,
    })
}

/// Returns the uptime at which it is too late for a refund at the earliest, given the `decision` of
/// `rule` about a charge that was sent at `sent_nanos`; `None` for never.
pub(crate) fn refund_end(sent_nanos: u64, rule: LimitRule, decision: LimitDecision) -> Option<u64> {
    let span = rule.refund_span(decision)?;
    Some(sent_nanos.saturating_add(nanos(span)))
}

fn is_rolling(rule: LimitRule) -> bool {
    matches!(rule, LimitRule::Quota(quota) if quota.period().part_millis().is_some())
}

/// Returns the decision a time of `passed` later, if `kept` of the prefetched units are left.
pub(crate) fn decision_after(
    decision: LimitDecision,
    kept: u64,
    passed: Duration,
) -> LimitDecision {
    LimitDecision {
        allowed: true,
        remaining: decision.remaining.saturating_add(kept),
        reset_after: decision
            .reset_after
            .map(|reset| reset.saturating_sub(passed)),
        retry_after: Some(Duration::ZERO),
    }
}

/// Returns [`PREFETCH_TTL`], cut at the end of a quota's period.
fn ttl(limits: &[(LimitCounter, LimitDecision)]) -> Duration {
    let quotas = limits
        .iter()
        .filter(|(counter, _)| matches!(counter.rule(), LimitRule::Quota(_)));
    let ends = quotas.filter_map(|(_, decision)| decision.reset_after);
    ends.fold(PREFETCH_TTL, Duration::min)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Hashes what the store charges a request for. The hash is valid in this process only.
fn hash_applied(applied: &[AppliedLimit]) -> u64 {
    let mut hasher = HASHER.build_hasher();
    for limit in applied
        .iter()
        .filter(|limit| limit.counted_by == CountedBy::Store)
    {
        (limit.hash, limit.rule, limit.cost).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::applied::LimitSource;
    use super::*;
    use crate::clock::{Clock, ManualClock, Timestamp};
    use crate::limit::Quota;
    use crate::store::LimitSupport;

    fn applied() -> Vec<AppliedLimit> {
        let rate = crate::limit::Rate::per_minute(1);
        let support = Some(LimitSupport::All);
        let limit = AppliedLimit::of_route(LimitSource::Route("a"), rate, 2, support, &[]);
        let mut limit = limit.unwrap();
        limit.rule = Quota::per_day(100).into();
        vec![limit]
    }

    fn charged(reset: Duration) -> Vec<(LimitCounter, LimitDecision)> {
        let decision = LimitDecision {
            allowed: true,
            remaining: 50,
            reset_after: Some(reset),
            retry_after: Some(Duration::ZERO),
        };
        vec![(LimitCounter::new("a", Quota::per_day(100)), decision)]
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn what_was_taken_pays_for_as_many_and_no_more() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let prefetch = Prefetch::new(8);
        let mut applied = applied();
        let key = PrefetchKey::of(KeyId::from_u128(1), &applied).unwrap();
        assert_eq!(prefetch.size(key, clock.read()), 1);
        assert!(!prefetch.consume(key, &mut applied, clock.read()));
        assert!(
            prefetch
                .insert(key, (4, 3), 2, charged(HOUR), clock.read())
                .is_none()
        );
        clock.advance(Duration::from_millis(500));
        let paid = (0..9).filter(|_| prefetch.consume(key, &mut applied, clock.read()));
        assert_eq!(paid.count(), 3);
        // A refund is distinguished from one of a period that is over.
        assert_eq!(applied[0].at_nanos, clock.read().uptime_nanos);
        assert_eq!(applied[0].decision.unwrap().remaining, 50);
        // The batch was used up before it expired: the next one is larger, up to the maximum, for
        // one caller.
        assert_eq!(prefetch.size(key, clock.read()), 8);
        assert_eq!(prefetch.size(key, clock.read()), 1);
        assert!(
            prefetch
                .insert(key, (1, 0), 2, charged(HOUR), clock.read())
                .is_none()
        );
        assert_eq!(prefetch.size(key, clock.read()), 1);
        prefetch.record_denial(key, 4);
        assert_eq!(prefetch.size(key, clock.read()), 4);
        assert!(prefetch.sweep(clock.read(), true).is_empty());
    }

    #[test]
    fn what_was_not_used_in_time_is_given_back_and_not_used_later() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let prefetch = Prefetch::new(8);
        let mut applied = applied();
        let key = PrefetchKey::of(KeyId::from_u128(1), &applied).unwrap();
        prefetch.insert(key, (4, 3), 2, charged(HOUR), clock.read());
        clock.advance(PREFETCH_TTL);
        assert!(!prefetch.consume(key, &mut applied, clock.read()));
        assert_eq!(prefetch.size(key, clock.read()), 1);
        let refunds = prefetch.sweep(clock.read(), false);
        assert_eq!(
            (refunds.len(), refunds[0].units, refunds[0].quotas.len()),
            (1, 6, 1)
        );
        assert!(prefetch.sweep(clock.read(), true).is_empty());
    }

    /// The control is the same request with a daily quota.
    #[test]
    fn a_request_with_a_rolling_quota_is_not_prefetched_for() {
        let mut applied = applied();
        applied.push(applied[0].clone());
        assert!(PrefetchKey::of(KeyId::from_u128(1), &applied).is_some());
        for at in 0..applied.len() {
            let mut applied = applied.clone();
            applied[at].rule = Quota::rolling(100, HOUR).into();
            assert!(PrefetchKey::of(KeyId::from_u128(1), &applied).is_none());
        }
    }

    /// Units that were charged to one day are neither used nor refunded in the next.
    #[test]
    fn nothing_is_carried_into_the_next_period() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let prefetch = Prefetch::new(8);
        let mut applied = applied();
        let key = PrefetchKey::of(KeyId::from_u128(1), &applied).unwrap();
        prefetch.insert(
            key,
            (4, 3),
            2,
            charged(Duration::from_millis(300)),
            clock.read(),
        );
        clock.advance(Duration::from_millis(300));
        assert!(!prefetch.consume(key, &mut applied, clock.read()));
        let refunds = prefetch.sweep(clock.read(), true);
        let end = Duration::from_millis(300).as_nanos() as u64;
        assert_eq!(
            refunds[0].quotas[0].1,
            Some(end),
            "it says when it is too late"
        );
    }
}
