//! Limits: what a request that may pass has to keep to, and what it is charged.
//!
//! Nothing is charged before all else was judged, and a request that is refused here is charged
//! nothing. A request that passes several gates pays its key's limits once: the highest cost that a
//! gate asks.

mod status;
mod store;

use std::time::Duration;

use super::{Admitted, Now, Question, Verifier, Why};
use crate::denied::{Denied, DenyReason};
use crate::limit::{LimitRule, Rate};
use crate::limiter::{self, By, Line, Name, Slot, pin};
use crate::policy::{Caller, LimiterFallback};
use crate::store::LimitCounter;
use store::Paid;

pub(crate) use status::standings;

impl Verifier {
    /// Charges what can be charged at once. A key and a route without limits cost nothing here.
    pub(super) fn settle_now<C: Caller>(
        &self,
        question: &Question<'_, C>,
        admitted: Admitted,
    ) -> Now {
        let own = admitted.key.facts().plan.is_some() || self.default_plan.is_some();
        if !own && question.policy.rate.is_none() {
            return Now::Decided(Ok(self.admit(question, admitted)));
        }
        self.settle_limited(question, admitted)
    }

    #[inline(never)]
    fn settle_limited<C: Caller>(&self, question: &Question<'_, C>, mut admitted: Admitted) -> Now {
        let key = admitted.key.id();
        let before = (question.known)(question.caller).filter(|known| known.key.id() == key);
        admitted.bill = self.bill(question, &admitted, before.as_ref());
        let bill = &mut admitted.bill;
        if bill.iter().any(|line| line.by == By::Nobody) {
            tracing::error!(
                key_id = %key,
                "a key has a quota, and the key store counts none; implement `KeyStore::charge`"
            );
            return Now::Decided(Err(self.refuse(question, DenyReason::Misconfigured)));
        }
        let stored = bill.iter().any(|line| line.by == By::Store);
        let slot = Slot::of(key, bill).filter(|_| self.ahead.is_on());
        if stored && slot.is_none() {
            return Now::Ask(Why::Charge(Box::new(admitted)));
        }
        // It was judged just now: the clock takes longer to read than all that is counted here.
        let now = admitted.at;
        if !self.local.charge(key, bill, now.into()) {
            return Now::Decided(Err(self.refuse_limited(question, &admitted)));
        }
        if slot.is_some_and(|slot| !self.ahead.pay(slot, bill, now)) {
            // It is all charged together, later.
            self.local.give_back(key, bill, now.into());
            return Now::Ask(Why::Charge(Box::new(admitted)));
        }
        Now::Decided(Ok(self.finish(question, before, admitted)))
    }

    /// Charges what the store counts, and looks at the key once more: that took time.
    pub(super) async fn settle_late<C: Caller>(
        &self,
        question: &Question<'_, C>,
        mut admitted: Admitted,
    ) -> Result<Admitted, Denied> {
        let key = admitted.key.id();
        let before = (question.known)(question.caller).filter(|known| known.key.id() == key);
        if !self.local.charge(key, &mut admitted.bill, self.now()) {
            return Err(self.refuse_limited(question, &admitted));
        }
        match self.charge_in_store(key, &mut admitted).await {
            Paid::Yes => {}
            Paid::Refused => {
                self.local.retract(key, &mut admitted.bill, self.now());
                return Err(self.refuse_limited(question, &admitted));
            }
            Paid::Unknown => {
                self.local.give_back(key, &admitted.bill, self.now());
                self.settle_without_store(question, &mut admitted)?;
            }
        }
        match self.confirm_charged(question, &admitted).await {
            Ok(mut confirmed) => {
                let (made_by, now) = (&admitted.key, &confirmed.key);
                pin(
                    &mut admitted.bill,
                    made_by.facts().plan.as_ref(),
                    now.facts().plan.as_ref(),
                );
                confirmed.bill = admitted.bill;
                Ok(self.finish(question, before, confirmed))
            }
            Err(denied) => {
                self.give_back(&admitted);
                Err(denied)
            }
        }
    }

    /// The decision once more, at a time after the charge.
    async fn confirm_charged<C: Caller>(
        &self,
        question: &Question<'_, C>,
        admitted: &Admitted,
    ) -> Result<Admitted, Denied> {
        if question.policy.fresh {
            return self.judge_late(question, false, Some(admitted)).await;
        }
        match self.judge_memory(question) {
            Now::Decided(decision) => decision,
            Now::Ask(why) => {
                let refused = matches!(why, Why::Refused);
                self.judge_late(question, refused, Some(admitted)).await
            }
        }
    }

    /// What the request has to pay, beyond what it paid `before`.
    fn bill<C: Caller>(
        &self,
        question: &Question<'_, C>,
        admitted: &Admitted,
        before: Option<&Admitted>,
    ) -> Vec<Line> {
        let (policy, counting) = (question.policy, self.reader.store.limit_support());
        let (plan, name): (_, fn(u16) -> Name) = match &admitted.key.facts().plan {
            Some(plan) => (Some(&**plan), Name::Key),
            None => (self.default_plan.as_ref(), |_| Name::Default),
        };
        let prepared = plan.map_or(&[][..], |plan| &plan.0);
        let mut bill = Vec::with_capacity(prepared.len() + 1);
        let paid = before.and_then(paid_by_key);
        // A second gate pays what its cost is higher.
        let cost = policy.cost.saturating_sub(paid.unwrap_or(0));
        if paid.is_none() || cost > 0 {
            let lines = (0..).zip(prepared);
            bill.extend(lines.map(|(at, one)| Line::of_plan(one, name(at), cost, counting)));
        }
        if let Some(rate) = policy.rate {
            let earlier = before.map_or(&[][..], |before| &before.bill);
            if let Some(name) = unpaid_name(route_name(question), rate, earlier) {
                bill.push(Line::of_route(name, rate, policy.cost, counting));
            }
        }
        bill
    }

    /// What is left where the store counts nothing: 503, or, where the route says so, counting here.
    fn settle_without_store<C: Caller>(
        &self,
        question: &Question<'_, C>,
        admitted: &mut Admitted,
    ) -> Result<(), Denied> {
        // Nothing was to be charged, so nothing is missing.
        if admitted.bill.iter().all(|line| line.cost == 0) {
            return Ok(());
        }
        if question.policy.limiter_down == LimiterFallback::Deny {
            return Err(self.refuse(question, DenyReason::StoreUnavailable));
        }
        for line in &mut admitted.bill {
            line.by = By::Process;
        }
        let now = self.now();
        if self
            .local
            .charge(admitted.key.id(), &mut admitted.bill, now)
        {
            Ok(())
        } else {
            Err(self.refuse_limited(question, admitted))
        }
    }

    fn now(&self) -> limiter::Now {
        self.reader.clock.read().into()
    }

    fn meter_of(&self, admitted: &Admitted, line: &Line) -> LimitCounter {
        let own = admitted.key.facts().plan.as_deref();
        line.counter(own, self.default_plan.as_ref())
    }

    /// Lets the request through; what it paid at an earlier gate stays known.
    fn finish<C: Caller>(
        &self,
        question: &Question<'_, C>,
        before: Option<Admitted>,
        mut admitted: Admitted,
    ) -> Admitted {
        if let Some(mut before) = before {
            let (made_by, now) = (&before.key, &admitted.key);
            pin(
                &mut before.bill,
                made_by.facts().plan.as_ref(),
                now.facts().plan.as_ref(),
            );
            admitted.bill.append(&mut before.bill);
        }
        self.admit(question, admitted)
    }

    fn refuse_limited<C: Caller>(&self, question: &Question<'_, C>, admitted: &Admitted) -> Denied {
        let asked = admitted
            .bill
            .iter()
            .filter_map(|line| Some((line.rule, line.decision?)));
        let refusing = asked.filter(|(_, decision)| !decision.allowed);
        // The one that takes longest is what the client waits for; without an end is longest.
        let longest = refusing.max_by_key(|(_, decision)| decision.retry.unwrap_or(u64::MAX));
        let reason = match longest {
            Some((LimitRule::Quota(_), _)) => DenyReason::QuotaExceeded,
            _ => DenyReason::RateLimited,
        };
        let retry = longest.and_then(|(_, decision)| decision.retry);
        self.refuse(question, reason)
            .retrying(retry.map(Duration::from_micros))
            .with_limits(standings(admitted))
    }
}

/// What a request paid its key's limits; `None` where it has not been asked to.
fn paid_by_key(before: &Admitted) -> Option<u32> {
    let first = before.bill.iter().find(|line| line.name.is_of_key())?;
    let same = before.bill.iter().filter(|line| line.name == first.name);
    Some(same.fold(0, |sum, line| sum.saturating_add(line.cost)))
}

/// The name under which a route's rate is charged; `None` where an earlier gate has charged it. Another
/// rate of that name, as an app and a scope inside may have for one pattern, is counted apart from
/// it.
fn unpaid_name(name: Name, rate: Rate, earlier: &[Line]) -> Option<Name> {
    let taken = |name: &Name| {
        let same = |line: &&Line| line.name.of_route() == name.of_route();
        earlier.iter().find(same)
    };
    let (first, mut number, mut name) = (name.clone(), 1, name);
    while let Some(line) = taken(&name) {
        if line.rule == LimitRule::Rate(rate) {
            return None;
        }
        number += 1;
        let base = first.of_route().unwrap_or_default();
        name = Name::Pattern(format!("{base}#{number}").into());
    }
    Some(name)
}

fn route_name<C: Caller>(question: &Question<'_, C>) -> Name {
    match question.policy.name {
        Some(name) => Name::Route(name),
        None => {
            let mut pattern = String::new();
            question
                .caller
                .write_route(&mut |piece| pattern.push_str(piece));
            Name::Pattern(pattern.into())
        }
    }
}
