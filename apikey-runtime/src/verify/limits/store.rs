//! Limits that the key store counts.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::under_way::Pass;
use super::super::{Admitted, Verifier};
use super::status::standings_of;
use crate::cache::Reader;
use crate::denied::LimitStatus;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::limit::{Limit, LimitDecision, LimitRule};
use crate::limiter::{By, GOOD_FOR, Line, Name, Plan, Rest, Slot, ends};
use crate::metrics::StoreCall;
use crate::store::{Charge, ChargeOutcome, LimitCounter};

/// How many refills are under way at once.
const REFILLS_AT_ONCE: usize = 16;

/// What the store said of a bill.
pub(super) enum Paid {
    Yes,
    Refused,
    /// Whether it was counted is not known.
    Unknown,
}

impl Verifier {
    /// Charges what the store counts: in one call, since the lines of a bill have one cost, but for
    /// those of a second gate, whose route is charged first.
    pub(super) async fn charge_in_store(&self, key: KeyId, admitted: &mut Admitted) -> Paid {
        let slot = Slot::of(key, &admitted.bill).filter(|_| self.ahead.is_on());
        if let Some(slot) = slot {
            // Where it is not to be had for several requests, it may be for one.
            if let Some(paid) = self.charge_ahead(slot, key, admitted).await {
                return paid;
            }
        }
        let mut charged: Vec<usize> = Vec::new();
        loop {
            let mut open = admitted.bill.iter().enumerate().rev();
            let next = open.find(|(at, line)| line.by == By::Store && !charged.contains(at));
            let Some(cost) = next.map(|(_, line)| line.cost) else {
                return Paid::Yes;
            };
            let (places, counters) = self.lines_of_cost(admitted, cost);
            let sent = self.reader.clock.read();
            let charge = Charge::new(key, cost, counters.clone());
            let Some(answer) = self.ask_to_charge(charge).await else {
                self.give_some_back(admitted, &charged);
                return Paid::Unknown;
            };
            for (at, decision) in places.iter().zip(&answer.decisions) {
                admitted.bill[*at].decision = Some(*decision);
                admitted.bill[*at].at_nanos = sent.uptime_nanos;
            }
            if !answer.allowed {
                self.give_some_back(admitted, &charged);
                return Paid::Refused;
            }
            self.tell_of_shares(admitted, &places, &answer.decisions, u64::from(cost));
            if let Some(slot) = slot {
                let limits = counters.into_iter().zip(answer.decisions).collect();
                let rest = self.ahead.keep(slot, (1, 0), cost, limits, sent);
                if let Some(rest) = rest {
                    self.refill_in_background(rest);
                }
            }
            charged.extend(places);
        }
    }

    /// Charges for several requests at once, and pays with it. `None` where that did not serve this
    /// one.
    async fn charge_ahead(&self, slot: Slot, key: KeyId, admitted: &mut Admitted) -> Option<Paid> {
        let now = self.reader.clock.read();
        if self.ahead.pay(slot, &mut admitted.bill, now) {
            return Some(Paid::Yes);
        }
        let size = self.ahead.size(slot, now);
        let stored = admitted.bill.iter().find(|line| line.by == By::Store);
        let cost = stored.map_or(0, |line| line.cost);
        if size <= 1 {
            return None;
        }
        let (places, counters) = self.lines_of_cost(admitted, cost);
        let Some(decisions) = self.take_ahead(slot, key, size, cost, counters).await else {
            return Some(Paid::Unknown);
        };
        let decisions = decisions?;
        let all = u64::from(cost) * u64::from(size);
        self.tell_of_shares(admitted, &places, &decisions, all);
        let now = self.reader.clock.read();
        let paid = self.ahead.pay(slot, &mut admitted.bill, now);
        paid.then_some(Paid::Yes)
    }

    /// Takes units for `size` requests. They are kept also where the one who asked has gone away by
    /// then. `None` where the store gives no answer, and `Some(None)` where it does not admit so many.
    async fn take_ahead(
        &self,
        slot: Slot,
        key: KeyId,
        size: u32,
        cost: u32,
        counters: Vec<LimitCounter>,
    ) -> Option<Option<Vec<LimitDecision>>> {
        let (reader, ahead) = (Arc::clone(&self.reader), Arc::clone(&self.ahead));
        let under_way = self.under_way.follow();
        let taken = self.reader.runtime.spawn(async move {
            let sent = reader.clock.read();
            let charge = Charge::new(key, cost.saturating_mul(size), counters.clone());
            let answer = ask_to_charge(&reader, charge).await;
            let taken = match answer {
                None => {
                    ahead.refuse(slot, size);
                    None
                }
                Some(answer) if !answer.allowed => {
                    ahead.refuse(slot, size / 2);
                    Some(None)
                }
                Some(answer) => {
                    let limits = counters.into_iter().zip(answer.decisions.iter().copied());
                    let rest = ahead.keep(slot, (size, size), cost, limits.collect(), sent);
                    if let Some(rest) = rest {
                        refill(&reader, rest).await;
                    }
                    Some(Some(answer.decisions))
                }
            };
            drop(under_way);
            taken
        });
        taken.await.ok().flatten()
    }

    /// The lines that the store counts at this cost: their places, and their meters.
    fn lines_of_cost(&self, admitted: &Admitted, cost: u32) -> (Vec<usize>, Vec<LimitCounter>) {
        let lines = admitted.bill.iter().enumerate();
        lines
            .filter(|(_, line)| line.by == By::Store && line.cost == cost)
            .map(|(at, line)| (at, self.meter_of(admitted, line)))
            .unzip()
    }

    /// Gives back, every so often, what was taken ahead and not used.
    pub(crate) async fn tend_what_was_taken(&self) {
        loop {
            tokio::time::sleep(GOOD_FOR).await;
            let rests = self.ahead.sweep(self.reader.clock.read(), false);
            refill_all(&self.reader, rests).await;
        }
    }

    /// Gives all back that was taken ahead and not used: the manager ends.
    pub(crate) async fn give_up_what_was_taken(&self) {
        let rests = self.ahead.sweep(self.reader.clock.read(), true);
        refill_all(&self.reader, rests).await;
    }

    /// How the limits of a key stand. Charges nothing.
    pub(crate) async fn look_at_limits(
        &self,
        id: KeyId,
        limits: &[Limit],
    ) -> Result<Vec<LimitStatus>, StoreError> {
        let own = Plan::of(limits);
        let plan = own.as_ref().or(self.default_plan.as_ref());
        let prepared = plan.map_or(&[][..], |plan| &plan.0);
        let counting = self.reader.store.limit_support();
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
        let counters: Vec<_> = stored().map(|(_, one)| one.counter.clone()).collect();
        let places: Vec<_> = stored().map(|(at, _)| at).collect();
        if !counters.is_empty() {
            let charge = Charge::new(id, 0, counters);
            let silent = || StoreError::unavailable("it did not tell how limits stand");
            let answer = ask_to_charge(&self.reader, charge).await;
            let answer = answer.ok_or_else(silent)?;
            for (at, decision) in places.into_iter().zip(answer.decisions) {
                bill[at].decision = Some(decision);
            }
        }
        Ok(standings_of(&bill, plan))
    }

    /// Takes back what a request was charged that came to nothing, and that it was let through. The
    /// store is told of quotas alone, in the background: a rate mends itself.
    pub(crate) fn give_back(&self, admitted: &Admitted) {
        let key = admitted.key.id();
        if let Some(noted) = admitted.noted {
            self.usage.take_back(&key, noted);
        }
        self.local.give_back(key, &admitted.bill, self.now());
        for line in &admitted.bill {
            self.give_back_to_store(key, admitted, line);
        }
    }

    /// Takes back what an earlier part of the same bill was charged.
    fn give_some_back(&self, admitted: &Admitted, charged: &[usize]) {
        for line in charged.iter().map(|at| &admitted.bill[*at]) {
            self.give_back_to_store(admitted.key.id(), admitted, line);
        }
    }

    /// `None` where there is no answer. What was charged to one who has gone away by then is given
    /// back: nothing came of it.
    async fn ask_to_charge(&self, charge: Charge) -> Option<ChargeOutcome> {
        let (reader, pass) = (Arc::clone(&self.reader), self.under_way.follow());
        let call = self.reader.runtime.spawn(async move {
            let sent = reader.clock.read().uptime_nanos;
            let answer = ask_to_charge(&reader, charge.clone()).await;
            let charged = answer.as_ref().filter(|answer| answer.allowed);
            let rest = charged.map(|charged| rest_of(charge, charged, sent));
            let unclaimed = Unclaimed {
                reader,
                rest,
                pass: Some(pass),
            };
            (answer, unclaimed)
        });
        // Where this is not reached, the output of the task is dropped.
        let (answer, mut unclaimed) = call.await.ok()?;
        unclaimed.rest = None;
        answer
    }

    fn give_back_to_store(&self, key: KeyId, admitted: &Admitted, line: &Line) {
        let quota = matches!(line.rule, LimitRule::Quota(_));
        if line.by == By::Store && line.cost > 0 && quota {
            let until = line
                .decision
                .and_then(|decision| ends(line.at_nanos, decision));
            self.refill_in_background(Rest {
                key,
                units: u64::from(line.cost),
                quotas: vec![(self.meter_of(admitted, line), until)],
            });
        }
    }

    fn refill_in_background(&self, rest: Rest) {
        let (reader, under_way) = (Arc::clone(&self.reader), self.under_way.follow());
        self.reader.runtime.spawn(async move {
            refill(&reader, rest).await;
            drop(under_way);
        });
    }
}

/// What was charged, and is given back where nobody is there any more to take it.
struct Unclaimed {
    reader: Arc<Reader>,
    rest: Option<Rest>,
    pass: Option<Pass>,
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let (reader, pass) = (Arc::clone(&self.reader), self.pass.take());
        if let Some(rest) = self.rest.take() {
            self.reader.runtime.spawn(async move {
                refill(&reader, rest).await;
                drop(pass);
            });
        }
    }
}

/// What of a charge can be given back to quotas.
fn rest_of(charge: Charge, charged: &ChargeOutcome, sent_nanos: u64) -> Rest {
    let counters = charge.counters.into_iter().zip(&charged.decisions);
    let quotas = counters.filter(|(meter, _)| matches!(meter.rule(), LimitRule::Quota(_)));
    Rest {
        key: charge.key,
        units: u64::from(charge.cost),
        quotas: quotas
            .map(|(meter, decision)| (meter, ends(sent_nanos, *decision)))
            .collect(),
    }
}

/// `None` where there is no answer.
async fn ask_to_charge(reader: &Arc<Reader>, charge: Charge) -> Option<ChargeOutcome> {
    let (key, expected) = (charge.key, charge.counters.len());
    let own = Arc::clone(reader);
    // On the manager's runtime, where the store's connections are driven, and to its end though the
    // client goes away.
    let call = reader.runtime.spawn(async move {
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

async fn refill_all(reader: &Arc<Reader>, rests: Vec<Rest>) {
    let mut under_way = JoinSet::new();
    for rest in rests {
        if under_way.len() >= REFILLS_AT_ONCE {
            under_way.join_next().await;
        }
        let reader = Arc::clone(reader);
        under_way.spawn(async move { refill(&reader, rest).await });
    }
    while under_way.join_next().await.is_some() {}
}

async fn refill(reader: &Reader, rest: Rest) {
    // What is under way when a period ends would be given to the next.
    let margin = u64::try_from((reader.deadline * 2).as_nanos()).unwrap_or(u64::MAX);
    for (meter, until) in rest.quotas.iter().filter(|_| rest.units > 0) {
        let latest = reader.clock.read().uptime_nanos.saturating_add(margin);
        if until.is_some_and(|until| latest >= until) {
            continue;
        }
        let call = reader.store.refill(&rest.key, meter, rest.units);
        let answer = tokio::time::timeout(reader.deadline, call).await;
        reader
            .metrics
            .called(StoreCall::Refill, answer.as_ref().ok());
        if !matches!(answer, Ok(Ok(()))) {
            tracing::warn!(key_id = %rest.key, "what was charged and not used was not given back");
        }
    }
}
