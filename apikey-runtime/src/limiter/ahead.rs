//! Units taken ahead of a limit from the store, to save round trips.
//!
//! What was taken is charged already, so that a quota is never exceeded. It is used within
//! [`GOOD_FOR`], so that a rate lets through, in any window w, at most burst + (w + GOOD_FOR) / T.
//! What is left of it then is given back to quotas; a process that ends by itself takes it along.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::line::{By, Line};
use super::plan::hash_bill;
use crate::clock::Reading;
use crate::key::KeyId;
use crate::limit::{Rule, Verdict};
use crate::store::Meter;

/// How long what was taken ahead may be used.
pub(crate) const GOOD_FOR: Duration = Duration::from_secs(1);

const SHARDS: usize = 64;

/// A key, and the limits that its request counts against in the store, with what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Slot(KeyId, u64);

/// What was taken ahead.
#[derive(Debug)]
struct Batch {
    /// For how many requests it was taken.
    size: u32,
    /// How many requests it is still good for.
    left: u32,
    cost: u32,
    taken_nanos: u64,
    until_nanos: u64,
    /// How each limit stood when it was taken, in the order of the bill.
    limits: Vec<(Meter, Verdict)>,
}

/// What is to be given back.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) key: KeyId,
    pub(crate) units: u64,
    pub(crate) quotas: Vec<Meter>,
}

/// What this process took ahead, of all keys.
#[derive(Debug)]
pub(crate) struct Ahead {
    shards: Box<[Mutex<HashMap<Slot, Batch, RandomState>>]>,
    /// For how many requests it takes ahead at most; 1 is not at all.
    most: u32,
    /// How long before a period's end nothing is given back: it could come into the next.
    margin: Duration,
}

impl Slot {
    /// `None` where the store counts nothing, or not all at one cost.
    pub(crate) fn of(key: KeyId, bill: &[Line]) -> Option<Self> {
        let mut stored = bill.iter().filter(|line| line.by == By::Store);
        let cost = stored.next()?.cost;
        let alike = cost > 0 && stored.all(|line| line.cost == cost);
        alike.then(|| Self(key, hash_bill(bill)))
    }
}

impl Ahead {
    /// `most` is for how many requests it may take ahead, `deadline` how long the store may take.
    pub(crate) fn new(most: u32, deadline: Duration) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            most,
            margin: deadline * 2,
        }
    }

    /// Whether anything is taken ahead at all.
    pub(crate) fn is_on(&self) -> bool {
        self.most > 1
    }

    /// Pays the lines that the store counts with what was taken ahead. Whether there was enough.
    pub(crate) fn pay(&self, slot: Slot, bill: &mut [Line], now: Reading) -> bool {
        let mut shard = self.shard(slot.0);
        let Some(batch) = shard.get_mut(&slot) else {
            return false;
        };
        if batch.left == 0 || now.uptime_nanos >= batch.until_nanos {
            return false;
        }
        batch.left -= 1;
        let passed = now.uptime_nanos.saturating_sub(batch.taken_nanos) / 1_000;
        let kept = u64::from(batch.left) * u64::from(batch.cost);
        let stored = bill.iter_mut().filter(|line| line.by == By::Store);
        for (line, (_, verdict)) in stored.zip(&batch.limits) {
            line.verdict = Some(later(*verdict, kept, passed));
        }
        true
    }

    /// For how many requests to charge now: twice as many as the last time where those were used up
    /// while they were good, so that a key that is used rarely takes nothing along.
    pub(crate) fn size(&self, slot: Slot, now: Reading) -> u32 {
        let shard = self.shard(slot.0);
        let last = shard.get(&slot);
        let last = last.filter(|batch| batch.left == 0 && now.uptime_nanos < batch.until_nanos);
        last.map_or(1, |batch| batch.size.saturating_mul(2).clamp(1, self.most))
    }

    /// The limits did not admit `size`: half of it the next time.
    pub(crate) fn shrink(&self, slot: Slot, size: u32) {
        if let Some(batch) = self.shard(slot.0).get_mut(&slot) {
            batch.size = size / 4;
        }
    }

    /// Keeps what was charged for `size` requests, of which one is served at once. `limits` are those
    /// of the bill, and how they stand after it. Returns what of an earlier batch is to be given
    /// back.
    pub(crate) fn keep(
        &self,
        slot: Slot,
        size: u32,
        cost: u32,
        limits: Vec<(Meter, Verdict)>,
        sent: Reading,
    ) -> Option<Rest> {
        let mut batch = Batch {
            size,
            left: size.saturating_sub(1),
            cost,
            taken_nanos: sent.uptime_nanos,
            until_nanos: sent.uptime_nanos.saturating_add(nanos(good_for(&limits))),
            limits,
        };
        let mut shard = self.shard(slot.0);
        match shard.remove(&slot) {
            // Two requests took ahead at the same time.
            Some(other) if sent.uptime_nanos < other.until_nanos => {
                batch.left += other.left;
                batch.until_nanos = batch.until_nanos.min(other.until_nanos);
                shard.insert(slot, batch);
                None
            }
            other => {
                shard.insert(slot, batch);
                self.rest(slot, other?, sent)
            }
        }
    }

    /// Takes out what is good no longer, or all; returns what is to be given back.
    pub(crate) fn sweep(&self, now: Reading, all: bool) -> Vec<Rest> {
        let mut rests = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let over = |batch: &Batch| all || now.uptime_nanos >= batch.until_nanos;
            let ended = shard.extract_if(|_, batch| over(batch));
            rests.extend(ended.filter_map(|(slot, batch)| self.rest(slot, batch, now)));
        }
        rests
    }

    /// What is left of a batch, for those quotas whose period does not end meanwhile.
    fn rest(&self, slot: Slot, batch: Batch, now: Reading) -> Option<Rest> {
        let passed = now.uptime_nanos.saturating_sub(batch.taken_nanos) / 1_000;
        let margin = u64::try_from(self.margin.as_micros()).unwrap_or(u64::MAX);
        let lasts = |verdict: &Verdict| {
            verdict
                .reset
                .is_none_or(|reset| reset > passed.saturating_add(margin))
        };
        let quotas: Vec<_> = batch
            .limits
            .into_iter()
            .filter(|(meter, verdict)| matches!(meter.rule(), Rule::Quota(_)) && lasts(verdict))
            .map(|(meter, _)| meter)
            .collect();
        let units = u64::from(batch.left) * u64::from(batch.cost);
        (units > 0 && !quotas.is_empty()).then_some(Rest {
            key: slot.0,
            units,
            quotas,
        })
    }

    fn shard(&self, key: KeyId) -> MutexGuard<'_, HashMap<Slot, Batch, RandomState>> {
        let [.., a, b] = key.bytes();
        let shard = &self.shards[(usize::from(*a) * 31 + usize::from(*b)) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a limit stands a while later, with `kept` units still here.
pub(crate) fn later(verdict: Verdict, kept: u64, passed_micros: u64) -> Verdict {
    Verdict {
        admits: true,
        remaining: verdict.remaining.saturating_add(kept),
        reset: verdict
            .reset
            .map(|reset| reset.saturating_sub(passed_micros)),
        retry: Some(0),
    }
}

/// [`GOOD_FOR`], but not into the next period of a quota.
fn good_for(limits: &[(Meter, Verdict)]) -> Duration {
    let quotas = limits
        .iter()
        .filter(|(meter, _)| matches!(meter.rule(), Rule::Quota(_)));
    let ends = quotas.filter_map(|(_, verdict)| verdict.reset.map(Duration::from_micros));
    ends.fold(GOOD_FOR, Duration::min)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::line::Name;
    use super::*;
    use crate::clock::{Clock, ManualClock, Timestamp};
    use crate::limit::Quota;
    use crate::store::Counting;

    const DEADLINE: Duration = Duration::from_secs(2);

    fn bill() -> Vec<Line> {
        let rate = crate::limit::Rate::per_minute(1);
        let mut line = Line::of_route(Name::Route("a"), rate, 2, Counting::All);
        line.rule = Quota::per_day(100).into();
        vec![line]
    }

    fn stands(reset: Duration) -> Vec<(Meter, Verdict)> {
        let verdict = Verdict {
            admits: true,
            remaining: 50,
            reset: Some(reset.as_micros() as u64),
            retry: Some(0),
        };
        vec![(Meter::new("a", Quota::per_day(100)), verdict)]
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn what_was_taken_pays_for_as_many_and_no_more() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let ahead = Ahead::new(8, DEADLINE);
        let mut bill = bill();
        let slot = Slot::of(KeyId::from_u128(1), &bill).unwrap();
        assert_eq!(ahead.size(slot, clock.read()), 1);
        assert!(!ahead.pay(slot, &mut bill, clock.read()));
        assert!(ahead.keep(slot, 4, 2, stands(HOUR), clock.read()).is_none());
        let paid = (0..9).filter(|_| ahead.pay(slot, &mut bill, clock.read()));
        assert_eq!(paid.count(), 3);
        assert_eq!(bill[0].verdict.unwrap().remaining, 50);
        // It was used up while it was good: more the next time, up to the most.
        assert_eq!(ahead.size(slot, clock.read()), 8);
        assert!(ahead.sweep(clock.read(), true).is_empty());
    }

    #[test]
    fn what_was_not_used_in_time_is_given_back_and_not_used_later() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let ahead = Ahead::new(8, DEADLINE);
        let mut bill = bill();
        let slot = Slot::of(KeyId::from_u128(1), &bill).unwrap();
        ahead.keep(slot, 4, 2, stands(HOUR), clock.read());
        clock.advance(GOOD_FOR);
        assert!(!ahead.pay(slot, &mut bill, clock.read()));
        assert_eq!(ahead.size(slot, clock.read()), 1);
        let rests = ahead.sweep(clock.read(), false);
        assert_eq!(
            (rests.len(), rests[0].units, rests[0].quotas.len()),
            (1, 6, 1)
        );
        assert!(ahead.sweep(clock.read(), true).is_empty());
    }

    /// What was charged to one day is neither used nor given back in the next.
    #[test]
    fn nothing_is_carried_into_the_next_period() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let ahead = Ahead::new(8, DEADLINE);
        let mut bill = bill();
        let slot = Slot::of(KeyId::from_u128(1), &bill).unwrap();
        ahead.keep(slot, 4, 2, stands(Duration::from_millis(300)), clock.read());
        clock.advance(Duration::from_millis(300));
        assert!(!ahead.pay(slot, &mut bill, clock.read()));
        assert!(ahead.sweep(clock.read(), true).is_empty());
    }
}
