//! Stores that charge wrongly, for the negative controls of limits.

use std::time::Duration;

use apikey_runtime::{Charge, Charged, KeyStore, StoreError};
use tokio::time::sleep;

/// In this time others look who look at the same moment.
const TURN: Duration = Duration::from_millis(10);

/// How a store charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charging {
    /// As it does.
    Soundly,
    /// Looks whether there is enough, and charges in a second step, whatever others did meanwhile.
    AfterALook,
    /// Charges each limit for itself.
    OneByOne,
}

impl Charging {
    /// For the environment of a node.
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
        store: &dyn KeyStore,
        charge: &Charge,
    ) -> Result<Charged, StoreError> {
        match self {
            Self::Soundly => store.charge(charge).await,
            _ if charge.cost == 0 => store.charge(charge).await,
            Self::AfterALook => after_a_look(store, charge).await,
            Self::OneByOne => one_by_one(store, charge).await,
        }
    }
}

async fn after_a_look(store: &dyn KeyStore, charge: &Charge) -> Result<Charged, StoreError> {
    let look = Charge::new(charge.key, 0, charge.meters.clone());
    let seen = store.charge(&look).await?;
    let cost = u64::from(charge.cost);
    if seen.verdicts.iter().any(|verdict| verdict.remaining < cost) {
        return store.charge(charge).await;
    }
    sleep(TURN).await;
    let mut charged = store.charge(charge).await?;
    charged
        .verdicts
        .iter_mut()
        .for_each(|verdict| verdict.admits = true);
    Ok(Charged::new(true, charged.verdicts))
}

async fn one_by_one(store: &dyn KeyStore, charge: &Charge) -> Result<Charged, StoreError> {
    let (mut admitted, mut verdicts) = (true, Vec::new());
    for meter in &charge.meters {
        let one = Charge::new(charge.key, charge.cost, vec![meter.clone()]);
        let charged = store.charge(&one).await?;
        admitted &= charged.admitted;
        verdicts.extend(charged.verdicts);
    }
    Ok(Charged::new(admitted, verdicts))
}
