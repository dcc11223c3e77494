//! Charges limits that the key store counts.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::super::{Allowed, Verifier};
use super::status::statuses_of;
use crate::error::{ErrorChain, StoreError};
use crate::key::KeyId;
use crate::limit::{Limit, LimitDecision, LimitRule, LimitStatus};
use crate::limiter::{
    AppliedLimit, CountedBy, LimitSource, PREFETCH_TTL, Plan, PrefetchKey, Refund, refund_end,
};
use crate::metrics::StoreCall;
use crate::shared::Shared;
use crate::store::{Charge, ChargeOutcome, LimitCounter};

/// The maximum number of concurrent refills.
const MAX_REFILLS: usize = 16;

/// The store's answer to a charge.
pub(super) enum StoreCharge {
    Allowed,
    Denied,
    /// It is not known whether the store counted it.
    Indeterminate,
}

impl Verifier {
    /// Charges the limits that the store counts, in one call for each cost. There are two costs
    /// only at a second guard, which charges its route first.
    pub(super) async fn charge_in_store(&self, key: KeyId, allowed: &mut Allowed) -> StoreCharge {
        let prefetch_key =
            PrefetchKey::of(key, &allowed.applied).filter(|_| self.prefetch.is_enabled());
        if let Some(prefetch_key) = prefetch_key {
            // If the limits do not allow a charge for several requests, they may allow one.
            if let Some(charge) = self.charge_prefetch(prefetch_key, key, allowed).await {
                return charge;
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
            let (positions, counters) = self.counters_of_cost(allowed, cost);
            let sent = self.shared.now();
            let charge = Charge::new(key, cost, counters.clone());
            let Some(answer) = self.send_charge(charge).await else {
                self.refund_charged(allowed, &charged);
                return StoreCharge::Indeterminate;
            };
            for (at, decision) in positions.iter().zip(&answer.decisions) {
                allowed.applied[*at].decision = Some(*decision);
                allowed.applied[*at].at_nanos = sent.uptime_nanos;
            }
            if !answer.allowed {
                self.refund_charged(allowed, &charged);
                return StoreCharge::Denied;
            }
            self.emit_thresholds(allowed, &positions, &answer.decisions, u64::from(cost));
            if let Some(prefetch_key) = prefetch_key {
                let limits = counters.into_iter().zip(answer.decisions).collect();
                let refund = self
                    .prefetch
                    .insert(prefetch_key, (1, 0), cost, limits, sent);
                if let Some(refund) = refund {
                    self.refill_in_background(refund);
                }
            }
            charged.extend(positions);
        }
    }

    /// Prefetches units for several requests, and consumes them for this one. Returns `None` if
    /// that was not enough.
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
        let (positions, counters) = self.counters_of_cost(allowed, cost);
        let Some(decisions) = self
            .prefetch_units(prefetch_key, key, size, cost, counters)
            .await
        else {
            return Some(StoreCharge::Indeterminate);
        };
        let decisions = decisions?;
        let all = u64::from(cost) * u64::from(size);
        self.emit_thresholds(allowed, &positions, &decisions, all);
        let now = self.shared.now();
        let consumed = self
            .prefetch
            .consume(prefetch_key, &mut allowed.applied, now);
        consumed.then_some(StoreCharge::Allowed)
    }

    /// Prefetches units for `size` requests. They are kept even if the caller is dropped meanwhile.
    /// Returns `None` if the store does not answer, and `Some(None)` if it denies the charge.
    async fn prefetch_units(
        &self,
        prefetch_key: PrefetchKey,
        key: KeyId,
        size: u32,
        cost: u32,
        counters: Vec<LimitCounter>,
    ) -> Option<Option<Vec<LimitDecision>>> {
        let (shared, prefetch) = (Arc::clone(&self.shared), Arc::clone(&self.prefetch));
        let prefetching = async move {
            let sent = shared.now();
            let charge = Charge::new(key, cost.saturating_mul(size), counters.clone());
            let answer = send_charge(&shared, charge).await;
            match answer {
                Err(_logged) => {
                    prefetch.record_denial(prefetch_key, size);
                    None
                }
                Ok(answer) if !answer.allowed => {
                    prefetch.record_denial(prefetch_key, size / 2);
                    Some(None)
                }
                Ok(answer) => {
                    let limits = counters.into_iter().zip(answer.decisions.iter().copied());
                    let refund =
                        prefetch.insert(prefetch_key, (size, size), cost, limits.collect(), sent);
                    if let Some(refund) = refund {
                        refill(&shared, refund).await;
                    }
                    Some(Some(answer.decisions))
                }
            }
        };
        let prefetched = self.deferred.spawn_on(prefetching, &self.shared.runtime);
        prefetched.await.ok().flatten()
    }

    /// Returns the positions and counters of the limits that the store counts at this cost.
    fn counters_of_cost(&self, allowed: &Allowed, cost: u32) -> (Vec<usize>, Vec<LimitCounter>) {
        let limits = allowed.applied.iter().enumerate();
        limits
            .filter(|(_, limit)| limit.counted_by == CountedBy::Store && limit.cost == cost)
            .map(|(at, limit)| (at, self.counter_of(allowed, limit)))
            .unzip()
    }

    /// Refunds unused prefetched units, repeatedly, after their TTL.
    pub(crate) async fn refund_expired_prefetch(&self) {
        loop {
            tokio::time::sleep(PREFETCH_TTL).await;
            let refunds = self.prefetch.sweep(self.shared.now(), false);
            refill_all(&self.shared, refunds).await;
        }
    }

    /// Refunds all unused prefetched units, at shutdown.
    pub(crate) async fn refund_all_prefetched(&self) {
        let refunds = self.prefetch.sweep(self.shared.now(), true);
        refill_all(&self.shared, refunds).await;
    }

    /// Reads the status of a key's limits, without charging them.
    pub(crate) async fn read_limits(
        &self,
        id: KeyId,
        limits: &[Limit],
    ) -> Result<Vec<LimitStatus>, StoreError> {
        let own = Plan::of(limits);
        let plan = own.as_ref().or(self.default_plan.as_ref());
        let prepared = plan.map_or(&[][..], |plan| &plan.0);
        let support = self.shared.limit_support;
        let limits = (0..).zip(prepared);
        let mut applied: Vec<_> = limits
            .map(|(at, one)| AppliedLimit::of_plan(one, LimitSource::Key(at), 0, support))
            .collect();
        self.local_limiter.charge(id, &mut applied, self.now());
        let stored = || {
            (0..)
                .zip(prepared)
                .filter(|(at, _)| applied[*at].counted_by == CountedBy::Store)
        };
        let counters: Vec<_> = stored().map(|(_, one)| one.counter.clone()).collect();
        let positions: Vec<_> = stored().map(|(at, _)| at).collect();
        if !counters.is_empty() {
            let charge = Charge::new(id, 0, counters);
            let answer = send_charge(&self.shared, charge).await?;
            for (at, decision) in positions.into_iter().zip(answer.decisions) {
                applied[at].decision = Some(decision);
            }
        }
        Ok(statuses_of(&applied, plan))
    }

    /// Refunds the charges of a request that was denied afterwards, and undoes its usage. Only
    /// quotas are refunded in the store, in the background, since rates recover by themselves.
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

    /// Refunds limits that were charged before another one denied.
    fn refund_charged(&self, allowed: &Allowed, charged: &[usize]) {
        for limit in charged.iter().map(|at| &allowed.applied[*at]) {
            self.refund_in_store(allowed.key.id(), allowed, limit);
        }
    }

    /// Sends a charge; returns `None` if the store does not answer. If the caller is dropped
    /// meanwhile, the charge is refunded, since the request was not served.
    async fn send_charge(&self, charge: Charge) -> Option<ChargeOutcome> {
        let (shared, token) = (Arc::clone(&self.shared), self.deferred.token());
        let call = self.shared.runtime.spawn(async move {
            let sent = shared.now().uptime_nanos;
            let answer = send_charge(&shared, charge.clone()).await.ok();
            let charged = answer.as_ref().filter(|answer| answer.allowed);
            let refund = charged.map(|charged| refund_of(charge, charged, sent));
            let unclaimed = UnclaimedCharge {
                shared,
                refund,
                token,
            };
            (answer, unclaimed)
        });
        // If the caller is dropped before this point, so is the task's output, which refunds.
        let (answer, mut unclaimed) = call.await.ok()?;
        unclaimed.refund = None;
        answer
    }

    fn refund_in_store(&self, key: KeyId, allowed: &Allowed, limit: &AppliedLimit) {
        let quota = matches!(limit.rule, LimitRule::Quota(_));
        if limit.counted_by == CountedBy::Store && limit.cost > 0 && quota {
            let until = limit
                .decision
                .and_then(|decision| refund_end(limit.at_nanos, limit.rule, decision));
            self.refill_in_background(Refund {
                key,
                units: u64::from(limit.cost),
                quotas: vec![(self.counter_of(allowed, limit), until)],
            });
        }
    }

    fn refill_in_background(&self, refund: Refund) {
        let shared = Arc::clone(&self.shared);
        let refill = async move { refill(&shared, refund).await };
        self.deferred.spawn_on(refill, &self.shared.runtime);
    }
}

/// A charge that is refunded when dropped, unless its caller takes it first.
struct UnclaimedCharge {
    shared: Arc<Shared>,
    refund: Option<Refund>,
    token: TaskTrackerToken,
}

impl Drop for UnclaimedCharge {
    fn drop(&mut self) {
        if let Some(refund) = self.refund.take() {
            let shared = Arc::clone(&self.shared);
            let refill = async move { refill(&shared, refund).await };
            let tracker = self.token.task_tracker();
            tracker.spawn_on(refill, &self.shared.runtime);
        }
    }
}

/// Returns the refund of a charge: its quotas.
fn refund_of(charge: Charge, charged: &ChargeOutcome, sent_nanos: u64) -> Refund {
    let counters = charge.counters.into_iter().zip(&charged.decisions);
    let quotas = counters.filter(|(counter, _)| matches!(counter.rule(), LimitRule::Quota(_)));
    Refund {
        key: charge.key,
        units: u64::from(charge.cost),
        quotas: quotas
            .map(|(counter, decision)| {
                let end = refund_end(sent_nanos, counter.rule(), *decision);
                (counter, end)
            })
            .collect(),
    }
}

/// Sends a charge, and logs the error if the store does not count it.
async fn send_charge(shared: &Arc<Shared>, charge: Charge) -> Result<ChargeOutcome, StoreError> {
    let (key, expected) = (charge.key, charge.counters.len());
    let own = Arc::clone(shared);
    // On the manager's runtime, which drives the store's connections. It completes even if the
    // client disconnects.
    let call = shared.runtime.spawn(async move {
        let charged = async { own.limits()?.charge(&charge).await };
        own.call(StoreCall::Charge, charged).await
    });
    let answer = call.await.unwrap_or_else(|panicked| {
        Err(StoreError::Backend {
            reason: "the key store panicked".to_owned(),
            source: Box::new(panicked),
        })
    });
    let answer = answer.and_then(|charged| match fits(&charged, expected) {
        true => Ok(charged),
        false => Err(StoreError::unavailable(
            "its answer does not fit the charge",
        )),
    });
    answer.inspect_err(|error| {
        tracing::warn!(key_id = %key, error = %ErrorChain(error), "the key store did not count a charge");
    })
}

/// Returns whether an outcome is one of a charge of `count` limits.
fn fits(charged: &ChargeOutcome, count: usize) -> bool {
    let mut decisions = charged.decisions.iter();
    charged.decisions.len() == count && charged.allowed == decisions.all(|one| one.allowed)
}

async fn refill_all(shared: &Arc<Shared>, refunds: Vec<Refund>) {
    let mut refills = JoinSet::new();
    for refund in refunds {
        if refills.len() >= MAX_REFILLS {
            refills.join_next().await;
        }
        let shared = Arc::clone(shared);
        refills.spawn(async move { refill(&shared, refund).await });
    }
    while refills.join_next().await.is_some() {}
}

async fn refill(shared: &Shared, refund: Refund) {
    // A refill in progress when a period ends, or a part of a rolling window, would be credited to
    // the next one.
    let margin = u64::try_from((shared.deadline * 2).as_nanos()).unwrap_or(u64::MAX);
    for (counter, until) in refund.quotas.iter().filter(|_| refund.units > 0) {
        let latest = shared.now().uptime_nanos.saturating_add(margin);
        if until.is_some_and(|until| latest >= until) {
            continue;
        }
        let call = async {
            shared
                .limits()?
                .refill(&refund.key, counter, refund.units)
                .await
        };
        if let Err(error) = shared.call(StoreCall::Refill, call).await {
            tracing::warn!(key_id = %refund.key, error = %ErrorChain(&error), "unused units could not be refunded");
        }
    }
}
