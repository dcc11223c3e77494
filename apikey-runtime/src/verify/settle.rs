//! Limits: what a request that may pass has to keep to, and what it is charged.
//!
//! Nothing is charged before all else was judged, and a request that is refused here is charged
//! nothing. A request that passes several gates pays its key's limits once: the highest cost that a
//! gate asks.

use std::sync::Arc;
use std::time::Duration;

use super::{Admitted, Now, Question, Verifier, Why};
use crate::denied::{Denied, DenyReason, LimitStanding};
use crate::error::StoreError;
use crate::events::{Event, EventKind};
use crate::key::KeyId;
use crate::limit::{Limit, Rule};
use crate::limiter::{self, By, Line, Name, Plan};
use crate::meter::StoreCall;
use crate::policy::{Caller, LimiterDown};
use crate::store::{Charge, Charged, Meter};

/// At which parts of a quota it is told that they are used up, in percent.
const SHARES: [u64; 2] = [80, 100];

/// What the store said of a bill.
enum Paid {
    Yes,
    Refused,
    /// Whether it was counted is not known.
    Unknown,
}

impl Verifier {
    /// Charges what can be charged at once. A key and a route without limits cost nothing here.
    pub(super) fn settle_now<C: Caller>(
        &self,
        question: &Question<'_, C>,
        admitted: Admitted,
    ) -> Now {
        let own = admitted.key.facts().plan.is_some() || self.default_plan.is_some();
        if !own && question.policy.rate.is_none() {
            return Now::Decided(Ok(self.admit(admitted)));
        }
        self.settle_limited(question, admitted)
    }

    #[inline(never)]
    fn settle_limited<C: Caller>(&self, question: &Question<'_, C>, mut admitted: Admitted) -> Now {
        let key = admitted.key.id();
        let before = (question.known)().filter(|known| known.key.id() == key);
        let mut bill = self.bill(question, &admitted, before.as_ref());
        let by = |by: By| move |line: &Line| line.by == by;
        if bill.iter().any(by(By::Nobody)) {
            tracing::error!(
                key_id = %key,
                "a key has a quota, and the key store counts none; implement `KeyStore::charge`"
            );
            return Now::Decided(Err(self.refuse(question, DenyReason::Misconfigured)));
        }
        if !bill.iter().any(by(By::Store)) {
            let now = self.now();
            let paid = self.local.charge(key, &mut bill, now);
            let told = if paid { &bill[..] } else { &[] };
            self.tell_of_shares(&admitted, told);
            admitted.bill = bill;
            return Now::Decided(if paid {
                Ok(self.finish(before, admitted))
            } else {
                Err(self.refuse_limited(question, &admitted))
            });
        }
        admitted.bill = bill;
        Now::Ask(Why::Charge(Box::new(admitted)))
    }

    /// Charges what the store counts, and looks at the key once more: that took time.
    pub(super) async fn settle_late<C: Caller>(
        &self,
        question: &Question<'_, C>,
        mut admitted: Admitted,
    ) -> Result<Admitted, Denied> {
        let key = admitted.key.id();
        let before = (question.known)().filter(|known| known.key.id() == key);
        let now = self.now();
        if !self.local.charge(key, &mut admitted.bill, now) {
            return Err(self.refuse_limited(question, &admitted));
        }
        match self.charge_in_store(key, &mut admitted).await {
            Paid::Yes => {}
            Paid::Refused => {
                self.local.give_back(key, &admitted.bill);
                return Err(self.refuse_limited(question, &admitted));
            }
            Paid::Unknown => {
                self.local.give_back(key, &admitted.bill);
                self.settle_without_store(question, &mut admitted)?;
            }
        }
        match self.confirm_charged(question, &admitted).await {
            Ok(mut confirmed) => {
                self.tell_of_shares(&admitted, &admitted.bill);
                confirmed.bill = admitted.bill;
                Ok(self.finish(before, confirmed))
            }
            Err(denied) => {
                self.give_back(&admitted);
                Err(denied)
            }
        }
    }

    /// Takes back what a request was charged that came to nothing. The store is told in the
    /// background, of quotas alone: a rate mends itself.
    pub(crate) fn give_back(&self, admitted: &Admitted) {
        let key = admitted.key.id();
        self.local.give_back(key, &admitted.bill);
        for line in &admitted.bill {
            self.give_back_to_store(key, admitted, line);
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
        let (policy, counting) = (question.policy, self.reader.store.counting());
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
            let name = route_name(question);
            let paid =
                before.is_some_and(|before| before.bill.iter().any(|line| line.name == name));
            if !paid {
                bill.push(Line::of_route(name, rate, policy.cost, counting));
            }
        }
        bill
    }

    /// How the limits of a key stand. Charges nothing.
    pub(crate) async fn look_at_limits(
        &self,
        id: KeyId,
        limits: &[Limit],
    ) -> Result<Vec<LimitStanding>, StoreError> {
        let own = Plan::of(limits);
        let plan = own.as_ref().or(self.default_plan.as_ref());
        let prepared = plan.map_or(&[][..], |plan| &plan.0);
        let counting = self.reader.store.counting();
        let lines = (0..).zip(prepared);
        let mut bill: Vec<_> = lines
            .map(|(at, one)| Line::of_plan(one, Name::Key(at), 0, counting))
            .collect();
        self.local.charge(id, &mut bill, self.now());
        let stored = || {
            (0..)
                .zip(prepared)
                .filter(|(at, _)| bill[*at].by == By::Store)
        };
        let meters: Vec<_> = stored().map(|(_, one)| one.meter.clone()).collect();
        let places: Vec<_> = stored().map(|(at, _)| at).collect();
        if !meters.is_empty() {
            let charge = Charge::new(id, 0, meters);
            let silent = || StoreError::unavailable("it did not tell how limits stand");
            let answer = self.ask_to_charge(charge).await.ok_or_else(silent)?;
            for (at, verdict) in places.into_iter().zip(answer.verdicts) {
                bill[at].verdict = Some(verdict);
            }
        }
        Ok(standings_of(&bill, plan))
    }

    /// Charges what the store counts, in one call: the lines of a bill have one cost, but for those of
    /// a second gate, whose route is charged first.
    async fn charge_in_store(&self, key: KeyId, admitted: &mut Admitted) -> Paid {
        let mut charged: Vec<usize> = Vec::new();
        loop {
            let mut open = admitted.bill.iter().enumerate().rev();
            let next = open.find(|(at, line)| line.by == By::Store && !charged.contains(at));
            let Some(cost) = next.map(|(_, line)| line.cost) else {
                return Paid::Yes;
            };
            let lines = admitted.bill.iter().enumerate();
            let places: Vec<_> = lines
                .filter(|(_, line)| line.by == By::Store && line.cost == cost)
                .map(|(at, _)| at)
                .collect();
            let meters = places
                .iter()
                .map(|at| self.meter_of(admitted, &admitted.bill[*at]));
            let charge = Charge::new(key, cost, meters.collect());
            let Some(answer) = self.ask_to_charge(charge).await else {
                self.give_some_back(admitted, &charged);
                return Paid::Unknown;
            };
            for (at, verdict) in places.iter().zip(&answer.verdicts) {
                admitted.bill[*at].verdict = Some(*verdict);
            }
            if !answer.admitted {
                self.give_some_back(admitted, &charged);
                return Paid::Refused;
            }
            charged.extend(places);
        }
    }

    /// `None` where there is no answer.
    async fn ask_to_charge(&self, charge: Charge) -> Option<Charged> {
        let (reader, expected) = (Arc::clone(&self.reader), charge.meters.len());
        let key = charge.key;
        // On the manager's runtime, where the store's connections are driven, and to its end though
        // the client goes away.
        let call = self.reader.runtime.spawn(async move {
            let answer = tokio::time::timeout(reader.deadline, reader.store.charge(&charge)).await;
            reader.meter.called(StoreCall::Charge, answer.as_ref().ok());
            answer
        });
        match call.await {
            Ok(Ok(Ok(charged))) if charged.verdicts.len() == expected => Some(charged),
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

    /// Takes back what an earlier part of the same bill was charged.
    fn give_some_back(&self, admitted: &Admitted, charged: &[usize]) {
        for line in charged.iter().map(|at| &admitted.bill[*at]) {
            self.give_back_to_store(admitted.key.id(), admitted, line);
        }
    }

    fn give_back_to_store(&self, key: KeyId, admitted: &Admitted, line: &Line) {
        if line.by != By::Store || line.cost == 0 || !matches!(line.rule, Rule::Quota(_)) {
            return;
        }
        let (reader, cost) = (Arc::clone(&self.reader), u64::from(line.cost));
        let meter = self.meter_of(admitted, line);
        self.reader.runtime.spawn(async move {
            let call = reader.store.refill(&key, &meter, cost);
            let answer = tokio::time::timeout(reader.deadline, call).await;
            reader.meter.called(StoreCall::Refill, answer.as_ref().ok());
            if !matches!(answer, Ok(Ok(()))) {
                tracing::warn!(key_id = %key, "the charge of a refused request was not given back");
            }
        });
    }

    /// What is left where the store counts nothing: 503, or, where the route says so, counting here.
    fn settle_without_store<C: Caller>(
        &self,
        question: &Question<'_, C>,
        admitted: &mut Admitted,
    ) -> Result<(), Denied> {
        if question.policy.limiter_down == LimiterDown::Refuse {
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

    fn meter_of(&self, admitted: &Admitted, line: &Line) -> Meter {
        let own = admitted.key.facts().plan.as_deref();
        line.meter(own, self.default_plan.as_ref())
    }

    /// Lets the request through; what it paid at an earlier gate stays known.
    fn finish(&self, before: Option<Admitted>, mut admitted: Admitted) -> Admitted {
        if let Some(before) = before {
            add_earlier(&mut admitted.bill, before.bill);
        }
        self.admit(admitted)
    }

    fn refuse_limited<C: Caller>(&self, question: &Question<'_, C>, admitted: &Admitted) -> Denied {
        let asked = admitted
            .bill
            .iter()
            .filter_map(|line| Some((line.rule, line.verdict?)));
        let refusing = asked.filter(|(_, verdict)| !verdict.admits);
        // The one that takes longest is what the client waits for; without an end is longest.
        let longest = refusing.max_by_key(|(_, verdict)| verdict.retry.unwrap_or(u64::MAX));
        let reason = match longest {
            Some((Rule::Quota(_), _)) => DenyReason::QuotaExceeded,
            _ => DenyReason::RateLimited,
        };
        let retry = longest.and_then(|(_, verdict)| verdict.retry);
        self.refuse(question, reason)
            .retrying(retry.map(Duration::from_micros))
            .with_limits(standings(admitted))
    }

    /// Tells of quotas that this charge brought to one of [`SHARES`].
    fn tell_of_shares(&self, admitted: &Admitted, charged: &[Line]) {
        for line in charged {
            let (Rule::Quota(quota), Some(verdict)) = (line.rule, line.verdict) else {
                continue;
            };
            let used = quota.amount().saturating_sub(verdict.remaining);
            let before = used.saturating_sub(u64::from(line.cost));
            for share in SHARES {
                let threshold = (u128::from(quota.amount()) * u128::from(share)).div_ceil(100);
                if u128::from(before) < threshold && threshold <= u128::from(used) {
                    self.tell_of_share(admitted, line, share);
                }
            }
        }
    }

    fn tell_of_share(&self, admitted: &Admitted, line: &Line, share: u64) {
        let own = admitted.key.facts().plan.as_deref();
        let limit = line.shown(own);
        tracing::info!(key_id = %admitted.key.id(), limit, share, "a quota is used up to this part");
        self.teller.tell(|| Event {
            at: self.reader.clock.read().now,
            kind: EventKind::LimitReached {
                limit: limit.to_owned(),
                percent: u8::try_from(share).unwrap_or(100),
            },
            key_id: Some(admitted.key.id()),
            actor: None,
        });
    }
}

/// How the limits stand that a request was counted against.
pub(crate) fn standings(admitted: &Admitted) -> Vec<LimitStanding> {
    standings_of(&admitted.bill, admitted.key.facts().plan.as_deref())
}

fn standings_of(bill: &[Line], own: Option<&Plan>) -> Vec<LimitStanding> {
    bill.iter()
        .filter_map(|line| Some((line, line.verdict?)))
        .map(|(line, verdict)| LimitStanding {
            name: line.shown(own).to_owned(),
            rule: line.rule,
            remaining: verdict.remaining,
            reset: verdict.reset.map(Duration::from_micros),
        })
        .collect()
}

/// What a request paid its key's limits; `None` where it has not been asked to.
fn paid_by_key(before: &Admitted) -> Option<u32> {
    let of_key = |line: &&Line| matches!(line.name, Name::Key(_) | Name::Default);
    before.bill.iter().find(of_key).map(|line| line.cost)
}

/// Joins what an earlier gate charged to what this one did.
fn add_earlier(bill: &mut Vec<Line>, earlier: Vec<Line>) {
    for line in earlier {
        match bill.iter_mut().find(|own| own.name == line.name) {
            Some(own) => own.cost += line.cost,
            None => bill.push(line),
        }
    }
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
