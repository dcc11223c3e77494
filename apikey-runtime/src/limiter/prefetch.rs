//! Units taken ahead of a limit from the store, to save round trips.
//!
//! What was taken is charged already, so that a quota is never exceeded. It is used within
//! [`PREFETCH_TTL`], so that a rate lets through, in any window w, at most burst + (w + PREFETCH_TTL) / T.
//! What is left of it then is given back to quotas; a process that ends by itself takes it along.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::{Mutex, MutexGuard};

use super::applied::{AppliedLimit, CountedBy};
use super::plan::hash_applied;
use crate::clock::ClockReading;
use crate::key::KeyId;
use crate::limit::{LimitDecision, LimitRule};
use crate::store::LimitCounter;

/// How long what was taken ahead may be used.
pub(crate) const PREFETCH_TTL: Duration = Duration::from_secs(1);

const SHARDS: usize = 64;

/// A key, and the limits that its request counts against in the store, with what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PrefetchKey(KeyId, u64);

/// What was taken ahead.
#[derive(Debug)]
struct PrefetchedBatch {
    /// For how many requests it was taken.
    size: u32,
    /// How many requests it is still good for.
    left: u32,
    cost: u32,
    /// When it was asked for: the store charged it then, or later.
    sent_nanos: u64,
    until_nanos: u64,
    /// Whether the next batch is being asked for.
    next_is_asked: bool,
    /// How each limit stood when it was taken, in the order of the bill.
    limits: Vec<(LimitCounter, LimitDecision)>,
}

/// What is to be given back.
#[derive(Debug)]
pub(crate) struct Refund {
    pub(crate) key: KeyId,
    pub(crate) units: u64,
    /// Each with the uptime at which its period ends at the earliest: what comes back later would be
    /// given to the next.
    pub(crate) quotas: Vec<(LimitCounter, Option<u64>)>,
}

/// What this process took ahead, of all keys.
#[derive(Debug)]
pub(crate) struct Prefetch {
    shards: Box<[Mutex<HashMap<PrefetchKey, PrefetchedBatch, RandomState>>]>,
    /// For how many requests it takes ahead at most; 1 is not at all.
    most: u32,
}

impl PrefetchKey {
    /// `None` where the store counts nothing, or not all at one cost.
    pub(crate) fn of(key: KeyId, applied: &[AppliedLimit]) -> Option<Self> {
        let mut stored = applied
            .iter()
            .filter(|limit| limit.counted_by == CountedBy::Store);
        let cost = stored.next()?.cost;
        let alike = cost > 0 && stored.all(|limit| limit.cost == cost);
        alike.then(|| Self(key, hash_applied(applied)))
    }
}

impl Prefetch {
    /// `most` is for how many requests it may take ahead.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            most,
        }
    }

    /// Whether anything is taken ahead at all.
    pub(crate) fn is_on(&self) -> bool {
        self.most > 1
    }

    /// Pays the lines that the store counts with what was taken ahead. Whether there was enough.
    pub(crate) fn consume(
        &self,
        slot: PrefetchKey,
        applied: &mut [AppliedLimit],
        now: ClockReading,
    ) -> bool {
        let mut shard = self.shard(slot.0);
        let Some(batch) = shard.get_mut(&slot) else {
            return false;
        };
        if batch.left == 0 || now.uptime_nanos >= batch.until_nanos {
            return false;
        }
        batch.left -= 1;
        let passed = now.uptime_nanos.saturating_sub(batch.sent_nanos) / 1_000;
        let kept = u64::from(batch.left) * u64::from(batch.cost);
        let stored = applied
            .iter_mut()
            .filter(|limit| limit.counted_by == CountedBy::Store);
        for (limit, (_, decision)) in stored.zip(&batch.limits) {
            limit.decision = Some(later(*decision, kept, passed));
            // How the limit stands is as of now.
            limit.at_nanos = now.uptime_nanos;
        }
        true
    }

    /// For how many requests to charge now: twice as many as the last time where those were used up
    /// while they were good, so that a key that is used rarely takes nothing along. More than one is
    /// said to one caller at a time, who then tells what came of it: `keep` or `refuse`.
    pub(crate) fn size(&self, slot: PrefetchKey, now: ClockReading) -> u32 {
        let mut shard = self.shard(slot.0);
        let last = shard.get_mut(&slot);
        let used_up =
            |batch: &&mut PrefetchedBatch| batch.left == 0 && now.uptime_nanos < batch.until_nanos;
        let Some(last) = last.filter(used_up).filter(|batch| !batch.next_is_asked) else {
            return 1;
        };
        let size = last.size.saturating_mul(2).clamp(1, self.most);
        last.next_is_asked = size > 1;
        size
    }

    /// So many were not to be had; `next` is what to ask for the next time.
    pub(crate) fn refuse(&self, slot: PrefetchKey, next: u32) {
        if let Some(batch) = self.shard(slot.0).get_mut(&slot) {
            batch.size = next / 2;
            batch.next_is_asked = false;
        }
    }

    /// Keeps what was charged for `size` requests, of which `left` are not served yet. `limits` are
    /// those of the bill, and how they stand after it. Returns what of an earlier batch is to be
    /// given back.
    pub(crate) fn keep(
        &self,
        slot: PrefetchKey,
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
            until_nanos: sent.uptime_nanos.saturating_add(nanos(good_for(&limits))),
            next_is_asked: false,
            limits,
        };
        let mut shard = self.shard(slot.0);
        // One by itself says nothing about the batch that another is asking for.
        if size == 1 && shard.get(&slot).is_some_and(|batch| batch.next_is_asked) {
            return None;
        }
        let replaced = shard.insert(slot, batch)?;
        rest(slot, replaced)
    }

    /// Takes out what is good no longer, or all; returns what is to be given back.
    pub(crate) fn sweep(&self, now: ClockReading, all: bool) -> Vec<Refund> {
        let mut refunds = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let over = |batch: &PrefetchedBatch| all || now.uptime_nanos >= batch.until_nanos;
            let ended = shard.extract_if(|_, batch| over(batch));
            refunds.extend(ended.filter_map(|(slot, batch)| rest(slot, batch)));
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

/// What is left of a batch.
fn rest(slot: PrefetchKey, batch: PrefetchedBatch) -> Option<Refund> {
    let sent = batch.sent_nanos;
    let quotas = batch.limits.into_iter();
    let quotas = quotas.filter(|(counter, _)| matches!(counter.rule(), LimitRule::Quota(_)));
    let quotas: Vec<_> = quotas
        .map(|(counter, decision)| (counter, ends(sent, decision)))
        .collect();
    let units = u64::from(batch.left) * u64::from(batch.cost);
    (units > 0 && !quotas.is_empty()).then_some(Refund {
        key: slot.0,
        units,
        quotas,
    })
}

/// The uptime at which a limit's period ends at the earliest that said this to a charge that was sent
/// at `sent_nanos`.
pub(crate) fn ends(sent_nanos: u64, decision: LimitDecision) -> Option<u64> {
    let reset = decision.reset?;
    Some(sent_nanos.saturating_add(reset.saturating_mul(1_000)))
}

/// How a limit stands a while later, with `kept` units still here.
pub(crate) fn later(decision: LimitDecision, kept: u64, passed_micros: u64) -> LimitDecision {
    LimitDecision {
        allowed: true,
        remaining: decision.remaining.saturating_add(kept),
        reset: decision
            .reset
            .map(|reset| reset.saturating_sub(passed_micros)),
        retry: Some(0),
    }
}

/// [`PREFETCH_TTL`], but not into the next period of a quota.
fn good_for(limits: &[(LimitCounter, LimitDecision)]) -> Duration {
    let quotas = limits
        .iter()
        .filter(|(counter, _)| matches!(counter.rule(), LimitRule::Quota(_)));
    let ends = quotas.filter_map(|(_, decision)| decision.reset.map(Duration::from_micros));
    ends.fold(PREFETCH_TTL, Duration::min)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
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
        let mut limit = AppliedLimit::of_route(LimitSource::Route("a"), rate, 2, LimitSupport::All);
        limit.rule = Quota::per_day(100).into();
        vec![limit]
    }

    fn stands(reset: Duration) -> Vec<(LimitCounter, LimitDecision)> {
        let decision = LimitDecision {
            allowed: true,
            remaining: 50,
            reset: Some(reset.as_micros() as u64),
            retry: Some(0),
        };
        vec![(LimitCounter::new("a", Quota::per_day(100)), decision)]
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn what_was_taken_pays_for_as_many_and_no_more() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let ahead = Prefetch::new(8);
        let mut applied = applied();
        let slot = PrefetchKey::of(KeyId::from_u128(1), &applied).unwrap();
        assert_eq!(ahead.size(slot, clock.read()), 1);
        assert!(!ahead.consume(slot, &mut applied, clock.read()));
        assert!(
            ahead
                .keep(slot, (4, 3), 2, stands(HOUR), clock.read())
                .is_none()
        );
        clock.advance(Duration::from_millis(500));
        let paid = (0..9).filter(|_| ahead.consume(slot, &mut applied, clock.read()));
        assert_eq!(paid.count(), 3);
        // What is given back of it is told apart from what a period that is over was charged.
        assert_eq!(applied[0].at_nanos, clock.read().uptime_nanos);
        assert_eq!(applied[0].decision.unwrap().remaining, 50);
        // It was used up while it was good: more the next time, up to the most, for one who asks.
        assert_eq!(ahead.size(slot, clock.read()), 8);
        assert_eq!(ahead.size(slot, clock.read()), 1);
        assert!(
            ahead
                .keep(slot, (1, 0), 2, stands(HOUR), clock.read())
                .is_none()
        );
        assert_eq!(ahead.size(slot, clock.read()), 1);
        ahead.refuse(slot, 4);
        assert_eq!(ahead.size(slot, clock.read()), 4);
        assert!(ahead.sweep(clock.read(), true).is_empty());
    }

    #[test]
    fn what_was_not_used_in_time_is_given_back_and_not_used_later() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let ahead = Prefetch::new(8);
        let mut applied = applied();
        let slot = PrefetchKey::of(KeyId::from_u128(1), &applied).unwrap();
        ahead.keep(slot, (4, 3), 2, stands(HOUR), clock.read());
        clock.advance(PREFETCH_TTL);
        assert!(!ahead.consume(slot, &mut applied, clock.read()));
        assert_eq!(ahead.size(slot, clock.read()), 1);
        let refunds = ahead.sweep(clock.read(), false);
        assert_eq!(
            (refunds.len(), refunds[0].units, refunds[0].quotas.len()),
            (1, 6, 1)
        );
        assert!(ahead.sweep(clock.read(), true).is_empty());
    }

    /// What was charged to one day is neither used nor given back in the next.
    #[test]
    fn nothing_is_carried_into_the_next_period() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let ahead = Prefetch::new(8);
        let mut applied = applied();
        let slot = PrefetchKey::of(KeyId::from_u128(1), &applied).unwrap();
        ahead.keep(
            slot,
            (4, 3),
            2,
            stands(Duration::from_millis(300)),
            clock.read(),
        );
        clock.advance(Duration::from_millis(300));
        assert!(!ahead.consume(slot, &mut applied, clock.read()));
        let refunds = ahead.sweep(clock.read(), true);
        let end = Duration::from_millis(300).as_nanos() as u64;
        assert_eq!(
            refunds[0].quotas[0].1,
            Some(end),
            "it says when it is too late"
        );
    }
}
