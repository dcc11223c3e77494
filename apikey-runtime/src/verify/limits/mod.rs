//! Enforces the limits of keys and routes.
//!
//! A request is charged only after all other checks, and a request that is denied here is not
//! charged. If a request passes several guards, its key's limits are charged once, with the highest
//! cost of the guards.

mod status;
mod store;

use std::time::Duration;

use super::{Allowed, CachedDecision, CheckRequest, DeferReason, FastPath, Verifier};
use crate::denied::{Denied, DenyReason};
use crate::limit::LimitRule;
use crate::limiter::{self, AppliedLimit, CountedBy, LimitSource, PrefetchKey, pin_former_plan};
use crate::policy::{LimiterFallback, RequestInfo};
use crate::store::LimitCounter;
use store::StoreCharge;

pub(crate) use status::limit_statuses;

impl Verifier {
    /// Charges the limits that do not need the store now. Returns at once if neither the key nor
    /// the route has limits.
    pub(super) fn try_enforce_limits<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        mut allowed: Allowed,
    ) -> FastPath {
        let own = allowed.key.record().plan.is_some() || self.default_plan.is_some();
        if !own && request.policy.rate.is_none() {
            if request.earlier.is_some() {
                let before = request.earlier_for(allowed.key.id());
                return FastPath::Decided(Ok(self.finish(request, before, allowed)));
            }
            self.allow(request, &mut allowed);
            return FastPath::Decided(Ok(allowed));
        }
        self.try_enforce_applied(request, allowed)
    }

    #[inline(never)]
    fn try_enforce_applied<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        mut allowed: Allowed,
    ) -> FastPath {
        let key = allowed.key.id();
        let before = request.earlier_for(key);
        allowed.applied = self.applied(request, &allowed, before);
        let applied = &mut allowed.applied;
        if applied
            .iter()
            .any(|limit| limit.counted_by == CountedBy::Unsupported)
        {
            tracing::error!(
                key_id = %key,
                "a key has a quota, and the key store does not count quotas; implement `LimitStore` for it"
            );
            return FastPath::Decided(Err(self.deny(request, DenyReason::Misconfigured)));
        }
        let stored = applied
            .iter()
            .any(|limit| limit.counted_by == CountedBy::Store);
        let prefetch_key = PrefetchKey::of(key, applied).filter(|_| self.prefetch.is_enabled());
        if stored && prefetch_key.is_none() {
            return FastPath::Deferred(DeferReason::ChargeInStore(Box::new(allowed)));
        }
        // Read moments ago. Reading the clock again would take longer than the charge.
        let now = allowed.at;
        if !self.local_limiter.charge(key, applied, now.into()) {
            return FastPath::Decided(Err(self.deny_limited(request, &allowed)));
        }
        if prefetch_key
            .is_some_and(|prefetch_key| !self.prefetch.consume(prefetch_key, applied, now))
        {
            // All limits are charged together later.
            self.local_limiter.refund(key, applied, now.into());
            return FastPath::Deferred(DeferReason::ChargeInStore(Box::new(allowed)));
        }
        FastPath::Decided(Ok(self.finish(request, before, allowed)))
    }

    /// Charges the limits that the store counts, and then evaluates the key again, since that took
    /// time.
    pub(super) async fn enforce_limits<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        mut allowed: Allowed,
    ) -> Result<Allowed, Denied> {
        let key = allowed.key.id();
        let before = request.earlier_for(key);
        if !self
            .local_limiter
            .charge(key, &mut allowed.applied, self.now())
        {
            return Err(self.deny_limited(request, &allowed));
        }
        match self.charge_in_store(key, &mut allowed).await {
            StoreCharge::Allowed => {}
            StoreCharge::Denied => {
                self.local_limiter
                    .undo(key, &mut allowed.applied, self.now());
                return Err(self.deny_limited(request, &allowed));
            }
            StoreCharge::Indeterminate => {
                self.local_limiter.refund(key, &allowed.applied, self.now());
                self.enforce_without_store(request, &mut allowed)?;
            }
        }
        match self.reevaluate(request, &allowed).await {
            Ok(mut confirmed) => {
                let (made_by, now) = (&allowed.key, &confirmed.key);
                pin_former_plan(
                    &mut allowed.applied,
                    made_by.record().plan.as_ref(),
                    now.record().plan.as_ref(),
                );
                confirmed.applied = allowed.applied;
                Ok(self.finish(request, before, confirmed))
            }
            Err(denied) => {
                self.refund(&allowed);
                Err(denied)
            }
        }
    }

    /// Evaluates the request again, after the charge. Its secret was right before, so a denial is not a failed attempt.
    async fn reevaluate<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        allowed: &Allowed,
    ) -> Result<Allowed, Denied> {
        if request.policy.fresh {
            return self.evaluate_with_store(request, None, Some(allowed)).await;
        }
        let decision = match self.check_cache(request, None) {
            CachedDecision::Allow(key, at) => return Ok(Allowed::new(key, None, at)),
            CachedDecision::StillInvalid(_) => {
                return Err(self.deny(request, DenyReason::InvalidKey));
            }
            denial => self.evaluate_denial(request, denial),
        };
        match decision {
            FastPath::Decided(decision) => decision,
            FastPath::Deferred(reason) => {
                let denial = match reason {
                    DeferReason::RecheckDenial(denial) => Some(denial),
                    // The limits were charged before, and this is not about them.
                    DeferReason::CacheMiss | DeferReason::ChargeInStore(_) => None,
                };
                self.evaluate_with_store(request, denial.as_ref(), Some(allowed))
                    .await
            }
        }
    }

    /// Returns the limits to charge, without what an earlier guard charged (`before`).
    fn applied<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        allowed: &Allowed,
        before: Option<&Allowed>,
    ) -> Vec<AppliedLimit> {
        let (policy, support) = (request.policy, self.shared.limit_support);
        let (plan, source): (_, fn(u16) -> LimitSource) = match &allowed.key.record().plan {
            Some(plan) => (Some(&**plan), LimitSource::Key),
            None => (self.default_plan.as_ref(), |_| LimitSource::Default),
        };
        let prepared = plan.map_or(&[][..], |plan| &plan.0);
        let mut applied = Vec::with_capacity(prepared.len() + 1);
        let paid = before.and_then(charged_to_key);
        // A second guard charges only what its cost exceeds that of the first.
        let cost = policy.cost.saturating_sub(paid.unwrap_or(0));
        if paid.is_none() || cost > 0 {
            let limits = (0..).zip(prepared);
            applied.extend(
                limits.map(|(at, one)| AppliedLimit::of_plan(one, source(at), cost, support)),
            );
        }
        if let Some(rate) = policy.rate {
            let earlier = before.map_or(&[][..], |before| &before.applied);
            let source = route_source(request);
            applied.extend(AppliedLimit::of_route(
                source,
                rate,
                policy.cost,
                support,
                earlier,
            ));
        }
        applied
    }

    /// Handles a store that did not count: denies with 503, or counts in this process if the route
    /// permits it.
    fn enforce_without_store<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        allowed: &mut Allowed,
    ) -> Result<(), Denied> {
        // A charge of zero does not need the store.
        if allowed.applied.iter().all(|limit| limit.cost == 0) {
            return Ok(());
        }
        if request.policy.limiter_down == LimiterFallback::Deny {
            return Err(self.deny(request, DenyReason::StoreUnavailable));
        }
        for limit in &mut allowed.applied {
            limit.counted_by = CountedBy::Process;
        }
        let now = self.now();
        if self
            .local_limiter
            .charge(allowed.key.id(), &mut allowed.applied, now)
        {
            Ok(())
        } else {
            Err(self.deny_limited(request, allowed))
        }
    }

    fn now(&self) -> limiter::LimiterTime {
        self.shared.now().into()
    }

    fn counter_of(&self, allowed: &Allowed, limit: &AppliedLimit) -> LimitCounter {
        let own = allowed.key.record().plan.as_deref();
        let namespace = self.config.counter_namespace();
        limit.counter(own, self.default_plan.as_ref(), namespace)
    }

    /// Allows the request, and keeps the charges of an earlier guard.
    fn finish<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        before: Option<&Allowed>,
        mut allowed: Allowed,
    ) -> Allowed {
        if let Some(before) = before {
            let (made_by, now) = (&before.key, &allowed.key);
            let mut applied = before.applied.clone();
            pin_former_plan(
                &mut applied,
                made_by.record().plan.as_ref(),
                now.record().plan.as_ref(),
            );
            allowed.applied.append(&mut applied);
        }
        self.allow(request, &mut allowed);
        allowed
    }

    fn deny_limited<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        allowed: &Allowed,
    ) -> Denied {
        let decisions = allowed
            .applied
            .iter()
            .filter_map(|limit| Some((limit.rule, limit.decision?)));
        let denying = decisions.filter(|(_, decision)| !decision.allowed);
        // The client must wait for the limit that takes longest. One that never resets takes
        // longest.
        let longest =
            denying.max_by_key(|(_, decision)| decision.retry_after.unwrap_or(Duration::MAX));
        let reason = match longest {
            Some((LimitRule::Quota(_), _)) => DenyReason::QuotaExceeded,
            _ => DenyReason::RateLimited,
        };
        let retry_after = longest.and_then(|(_, decision)| decision.retry_after);
        self.deny(request, reason)
            .retrying(retry_after)
            .with_limits(limit_statuses(allowed))
    }
}

/// Returns the cost that an earlier guard charged to the key's limits; `None` if it did not charge
/// them.
fn charged_to_key(before: &Allowed) -> Option<u32> {
    let first = before
        .applied
        .iter()
        .find(|limit| limit.source.is_of_key())?;
    let same = before
        .applied
        .iter()
        .filter(|limit| limit.source == first.source);
    Some(same.fold(0, |sum, limit| sum.saturating_add(limit.cost)))
}

fn route_source<I: RequestInfo>(request: &CheckRequest<'_, I>) -> LimitSource {
    match request.policy.name {
        Some(name) => LimitSource::Route(name),
        None => {
            let mut pattern = String::new();
            request
                .info
                .write_route(&mut |piece| pattern.push_str(piece));
            LimitSource::Pattern(pattern.into())
        }
    }
}
