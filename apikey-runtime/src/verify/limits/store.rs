//! Limits that the key store counts.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::super::{Allowed, Verifier};
use super::status::statuses_of;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::limit::{Limit, LimitDecision, LimitRule, LimitStatus};
use crate::limiter::{
    AppliedLimit, CountedBy, LimitSource, PREFETCH_TTL, Plan, PrefetchKey, Refund, period_end,
};
use crate::metrics::StoreCall;
use crate::shared::Shared;
use crate::store::{Charge, ChargeOutcome, LimitCounter};

/// How many refills are under way at once.
const REFILLS_AT_ONCE: usize = 16;

/// What the store said of a bill.
pub(super) enum StoreCharge {
    Allowed,
    Denied,
    /// Whether it was counted is not known.
    Indeterminate,
}

impl Verifier {
    /// Charges what the store counts: in one call, since the lines of a bill have one cost, but for
    /// those of a second gate, whose route is charged first.
    pub(super) async fn charge_in_store(&self, key: KeyId, allowed: &mut Allowed) -> StoreCharge {
        let prefetch_key =
            PrefetchKey::of(key, &allowed.applied).filter(|_| self.prefetch.is_enabled());
        if let Some(prefetch_key) = prefetch_key {
            // Where it is not to be had for several requests, it may be for one.
            if let Some(paid) = self.charge_prefetch(prefetch_key, key, allowed).await {
                return paid;
            }
        }
        let mut charged: Vec<usize> = Vec::new();
        loop {
            let mut open = allowed.applied.iter().enumerate().rev();
            let next = open
                .find(|(at, limit)| limit.counted_by == CountedBy::Store && !charged.contains(at));
            let Some(cost) = next.map(|(_, limit)| limit.cost) else {
                return StoreCharge::Allowed;
            };
            let (places, counters) = self.lines_of_cost(allowed, cost);
            let sent = self.shared.now();
            let charge = Charge::new(key, cost, counters.clone());
            let Some(answer) = self.send_charge(charge).await else {
                self.refund_charged(allowed, &charged);
                return StoreCharge::Indeterminate;
            };
            for (at, decision) in places.iter().zip(&answer.decisions) {
                allowed.applied[*at].decision = Some(*decision);
                allowed.applied[*at].at_nanos = sent.uptime_nanos;
            }
            if !answer.allowed {
                self.refund_charged(allowed, &charged);
                return StoreCharge::Denied;
            }
            self.emit_thresholds(allowed, &places, &answer.decisions, u64::from(cost));
            if let Some(prefetch_key) = prefetch_key {
                let limits = counters.into_iter().zip(answer.decisions).collect();
                let rest = self
                    .prefetch
                    .insert(prefetch_key, (1, 0), cost, limits, sent);
                if let Some(rest) = rest {
                    self.refill_in_background(rest);
                }
            }
            charged.extend(places);
        }
    }

    /// Charges for several requests at once, and pays with it. `None` where that did not serve this
    /// one.
    async fn charge_prefetch(
        &self,
        prefetch_key: PrefetchKey,
        key: KeyId,
        allowed: &mut Allowed,
    ) -> Option<StoreCharge> {
        let now = self.shared.now();
        if self
            .prefetch
            .consume(prefetch_key, &mut allowed.applied, now)
        {
            return Some(StoreCharge::Allowed);
        }
        let size = self.prefetch.size(prefetch_key, now);
        let stored = allowed
            .applied
            .iter()
            .find(|limit| limit.counted_by == CountedBy::Store);
        let cost = stored.map_or(0, |limit| limit.cost);
        if size <= 1 {
            return None;
        }
        let (places, counters) = self.lines_of_cost(allowed, cost);
        let Some(decisions) = self
            .prefetch_units(prefetch_key, key, size, cost, counters)
            .await
        else {
            return Some(StoreCharge::Indeterminate);
        };
        let decisions = decisions?;
        let all = u64::from(cost) * u64::from(size);
        self.emit_thresholds(allowed, &places, &decisions, all);
        let now = self.shared.now();
        let paid = self
            .prefetch
            .consume(prefetch_key, &mut allowed.applied, now);
        paid.then_some(StoreCharge::Allowed)
    }

    /// Takes units for `size` requests. They are kept also where the one who asked has gone away by
    /// then. `None` where the store gives no answer, and `Some(None)` where it does not allow so many.
    async fn prefetch_units(
        &self,
        prefetch_key: PrefetchKey,
        key: KeyId,
        size: u32,
        cost: u32,
        counters: Vec<LimitCounter>,
    ) -> Option<Option<Vec<LimitDecision>>> {
        let (shared, prefetch) = (Arc::clone(&self.shared), Arc::clone(&self.prefetch));
        let taken = async move {
            let sent = shared.now();
            let charge = Charge::new(key, cost.saturating_mul(size), counters.clone());
            let answer = send_charge(&shared, charge).await;
            match answer {
                None => {
                    prefetch.record_denial(prefetch_key, size);
                    None
                }
                Some(answer) if !answer.allowed => {
                    prefetch.record_denial(prefetch_key, size / 2);
                    Some(None)
                }
                Some(answer) => {
                    let limits = counters.into_iter().zip(answer.decisions.iter().copied());
                    let rest =
                        prefetch.insert(prefetch_key, (size, size), cost, limits.collect(), sent);
                    if let Some(rest) = rest {
                        refill(&shared, rest).await;
                    }
                    Some(Some(answer.decisions))
                }
            }
        };
        let taken = self.deferred.spawn_on(taken, &self.shared.runtime);
        taken.await.ok().flatten()
    }

    /// The lines that the store counts at this cost: their places, and their meters.
    fn lines_of_cost(&self, allowed: &Allowed, cost: u32) -> (Vec<usize>, Vec<LimitCounter>) {
        let limits = allowed.applied.iter().enumerate();
        limits
            .filter(|(_, limit)| limit.counted_by == CountedBy::Store && limit.cost == cost)
            .map(|(at, limit)| (at, self.counter_of(allowed, limit)))
            .unzip()
    }

    /// Gives back, every so often, what was taken ahead and not used.
    pub(crate) async fn refund_expired_prefetch(&self) {
        loop {
            tokio::time::sleep(PREFETCH_TTL).await;
            let rests = self.prefetch.sweep(self.shared.now(), false);
            refill_all(&self.shared, rests).await;
        }
    }

    /// Gives all back that was taken ahead and not used: the manager ends.
    pub(crate) async fn refund_all_prefetched(&self) {
        let rests = self.prefetch.sweep(self.shared.now(), true);
        refill_all(&self.shared, rests).await;
    }

    /// How the limits of a key stand. Charges nothing.
    pub(crate) async fn read_limits(
        &self,
        id: KeyId,
        limits: &[Limit],
    ) -> Result<Vec<LimitStatus>, StoreError> {
        let own = Plan::of(limits);
        let plan = own.as_ref().or(self.default_plan.as_ref());
        let prepared = plan.map_or(&[][..], |plan| &plan.0);
        let counting = self.shared.store.limit_support();
        let limits = (0..).zip(prepared);
        let mut applied: Vec<_> = limits
            .map(|(at, one)| AppliedLimit::of_plan(one, LimitSource::Key(at), 0, counting))
            .collect();
        self.local_limiter.charge(id, &mut applied, self.now());
        let stored = || {
            (0..)
                .zip(prepared)
                .filter(|(at, _)| applied[*at].counted_by == CountedBy::Store)
        };
        let counters: Vec<_> = stored().map(|(_, one)| one.counter.clone()).collect();
        let places: Vec<_> = stored().map(|(at, _)| at).collect();
        if !counters.is_empty() {
            let charge = Charge::new(id, 0, counters);
            let silent = || StoreError::unavailable("it did not tell how limits stand");
            let answer = send_charge(&self.shared, charge).await;
            let answer = answer.ok_or_else(silent)?;
            for (at, decision) in places.into_iter().zip(answer.decisions) {
                applied[at].decision = Some(decision);
            }
        }
        Ok(statuses_of(&applied, plan))
    }

    /// Takes back what a request was charged that came to nothing, and that it was let through. The
    /// store is told of quotas alone, in the background: a rate mends itself.
    pub(crate) fn refund(&self, allowed: &Allowed) {
        let key = allowed.key.id();
        if let Some(usage_entry) = allowed.usage_entry {
            self.usage.undo(&key, usage_entry);
        }
        self.local_limiter.refund(key, &allowed.applied, self.now());
        for limit in &allowed.applied {
            self.refund_in_store(key, allowed, limit);
        }
    }

    /// Takes back what an earlier part of the same bill was charged.
    fn refund_charged(&self, allowed: &Allowed, charged: &[usize]) {
        for limit in charged.iter().map(|at| &allowed.applied[*at]) {
            self.refund_in_store(allowed.key.id(), allowed, limit);
        }
    }

    /// `None` where there is no answer. What was charged to one who has gone away by then is given
    /// back: nothing came of it.
    async fn send_charge(&self, charge: Charge) -> Option<ChargeOutcome> {
        let (shared, pass) = (Arc::clone(&self.shared), self.deferred.token());
        let call = self.shared.runtime.spawn(async move {
            let sent = shared.now().uptime_nanos;
            let answer = send_charge(&shared, charge.clone()).await;
            let charged = answer.as_ref().filter(|answer| answer.allowed);
            let rest = charged.map(|charged| refund_of(charge, charged, sent));
            let unclaimed = UnclaimedCharge { shared, rest, pass };
            (answer, unclaimed)
        });
        // Where this is not reached, the output of the task is dropped.
        let (answer, mut unclaimed) = call.await.ok()?;
        unclaimed.rest = None;
        answer
    }

    fn refund_in_store(&self, key: KeyId, allowed: &Allowed, limit: &AppliedLimit) {
        let quota = matches!(limit.rule, LimitRule::Quota(_));
        if limit.counted_by == CountedBy::Store && limit.cost > 0 && quota {
            let until = limit
                .decision
                .and_then(|decision| period_end(limit.at_nanos, decision));
            self.refill_in_background(Refund {
                key,
                units: u64::from(limit.cost),
                quotas: vec![(self.counter_of(allowed, limit), until)],
            });
        }
    }

    fn refill_in_background(&self, rest: Refund) {
        let shared = Arc::clone(&self.shared);
        let refill = async move { refill(&shared, rest).await };
        self.deferred.spawn_on(refill, &self.shared.runtime);
    }
}

/// What was charged, and is given back where nobody is there any more to take it.
struct UnclaimedCharge {
    shared: Arc<Shared>,
    rest: Option<Refund>,
    pass: TaskTrackerToken,
}

impl Drop for UnclaimedCharge {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            let shared = Arc::clone(&self.shared);
            let refill = async move { refill(&shared, rest).await };
            let tracker = self.pass.task_tracker();
            tracker.spawn_on(refill, &self.shared.runtime);
        }
    }
}

/// What of a charge can be given back to quotas.
fn refund_of(charge: Charge, charged: &ChargeOutcome, sent_nanos: u64) -> Refund {
    let counters = charge.counters.into_iter().zip(&charged.decisions);
    let quotas = counters.filter(|(meter, _)| matches!(meter.rule(), LimitRule::Quota(_)));
    Refund {
        key: charge.key,
        units: u64::from(charge.cost),
        quotas: quotas
            .map(|(meter, decision)| (meter, period_end(sent_nanos, *decision)))
            .collect(),
    }
}

/// `None` where there is no answer.
async fn send_charge(shared: &Arc<Shared>, charge: Charge) -> Option<ChargeOutcome> {
    let (key, expected) = (charge.key, charge.counters.len());
    let own = Arc::clone(shared);
    // On the manager's runtime, where the store's connections are driven, and to its end though the
    // client goes away.
    let call = shared.runtime.spawn(async move {
        let answer = tokio::time::timeout(own.deadline, own.store.charge(&charge)).await;
        own.metrics.called(StoreCall::Charge, answer.as_ref().ok());
        answer
    });
    match call.await {
        Ok(Ok(Ok(charged))) if charged.decisions.len() == expected => Some(charged),
        Ok(Ok(Ok(_))) => {
            tracing::error!(key_id = %key, "the key store's answer to a charge does not fit it");
            None
        }
        Ok(Ok(Err(error))) => {
            tracing::warn!(key_id = %key, %error, "the key store counted no limit");
            None
        }
        Ok(Err(_)) | Err(_) => {
            tracing::warn!(key_id = %key, "the key store gave no answer to a charge in time");
            None
        }
    }
}

async fn refill_all(shared: &Arc<Shared>, rests: Vec<Refund>) {
    let mut refills = JoinSet::new();
    for rest in rests {
        if refills.len() >= REFILLS_AT_ONCE {
            refills.join_next().await;
        }
        let shared = Arc::clone(shared);
        refills.spawn(async move { refill(&shared, rest).await });
    }
    while refills.join_next().await.is_some() {}
}

async fn refill(shared: &Shared, rest: Refund) {
    // What is under way when a period ends would be given to the next.
    let margin = u64::try_from((shared.deadline * 2).as_nanos()).unwrap_or(u64::MAX);
    for (meter, until) in rest.quotas.iter().filter(|_| rest.units > 0) {
        let latest = shared.now().uptime_nanos.saturating_add(margin);
        if until.is_some_and(|until| latest >= until) {
            continue;
        }
        let call = shared.store.refill(&rest.key, meter, rest.units);
        let answer = tokio::time::timeout(shared.deadline, call).await;
        shared
            .metrics
            .called(StoreCall::Refill, answer.as_ref().ok());
        if !matches!(answer, Ok(Ok(()))) {
            tracing::warn!(key_id = %rest.key, "what was charged and not used was not given back");
        }
    }
}
