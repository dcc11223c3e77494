//! Stores that charge incorrectly, for the negative controls of limits.

use std::time::Duration;

use apikey_runtime::store::{Charge, ChargeOutcome, LimitStore, StoreError};
use tokio::time::sleep;

/// The time between the look and the charge, in which other nodes look too.
const TURN: Duration = Duration::from_millis(10);

/// How a store charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charging {
    /// Charges correctly.
    Soundly,
    /// Looks whether enough units are left, and charges in a second step, whatever other nodes did
    /// meanwhile.
    AfterALook,
    /// Charges each limit by itself.
    OneByOne,
}

impl Charging {
    /// Returns the name for the environment of a node.
    pub fn name(self) -> &'static str {
        match self {
            Self::Soundly => "soundly",
            Self::AfterALook => "after-a-look",
            Self::OneByOne => "one-by-one",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Soundly, Self::AfterALook, Self::OneByOne];
        all.into_iter().find(|charging| charging.name() == name)
    }

    pub(super) async fn charge(
        self,
        store: &dyn LimitStore,
        charge: &Charge,
    ) -> Result<ChargeOutcome, StoreError> {
        match self {
            Self::Soundly => store.charge(charge).await,
            _ if charge.cost == 0 => store.charge(charge).await,
            Self::AfterALook => after_a_look(store, charge).await,
            Self::OneByOne => one_by_one(store, charge).await,
        }
    }
}

async fn after_a_look(
    store: &dyn LimitStore,
    charge: &Charge,
) -> Result<ChargeOutcome, StoreError> {
    let look = Charge::new(charge.key, 0, charge.counters.clone());
    let seen = store.charge(&look).await?;
    let cost = u64::from(charge.cost);
    if seen
        .decisions
        .iter()
        .any(|decision| decision.remaining < cost)
    {
        return store.charge(charge).await;
    }
    sleep(TURN).await;
    let mut charged = store.charge(charge).await?;
    charged
        .decisions
        .iter_mut()
        .for_each(|decision| decision.allowed = true);
    Ok(ChargeOutcome::new(true, charged.decisions))
}

async fn one_by_one(store: &dyn LimitStore, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
    let (mut allowed, mut decisions) = (true, Vec::new());
    for counter in &charge.counters {
        let one = Charge::new(charge.key, charge.cost, vec![counter.clone()]);
        let charged = store.charge(&one).await?;
        allowed &= charged.allowed;
        decisions.extend(charged.decisions);
    }
    Ok(ChargeOutcome::new(allowed, decisions))
}
