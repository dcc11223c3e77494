//! What the checks of `charge` and `refill` share.

use std::time::Duration;

use super::samples::id;
use super::{CheckVerdict, OrViolation, Violation, ensure};
use crate::key::KeyId;
use crate::limit::{self, LimitRule, Quota, Rate};
use crate::store::{Charge, ChargeOutcome, KeyStore, LimitCounter, LimitSupport};

pub(super) const NOT_COUNTED: CheckVerdict =
    CheckVerdict::Skipped("the store counts no limits: `counting` answers `Nothing`");

/// No check takes as long.
const CHECK_MICROS: u64 = 20_000_000;

/// Ends the check where the store counts nothing. No day, and so no month, ends while it runs.
macro_rules! counting {
    ($store:expr) => {
        if $store.limit_support() == $crate::store::LimitSupport::Nothing {
            return Ok($crate::store::conformance::charges::NOT_COUNTED);
        }
        $crate::store::conformance::charges::await_a_new_day(&*$store).await?;
    };
}

pub(super) use counting;

pub(super) async fn await_a_new_day(store: &dyn KeyStore) -> Result<(), Violation> {
    let stands = look(store, id(u128::MAX), &day("midnight", 1)).await?;
    let left = stands.reset.unwrap_or(u64::MAX);
    if left < CHECK_MICROS {
        // The runtime of whoever runs the suite may have no timer.
        let wait = Duration::from_micros(left + 1_000);
        let waited = tokio::task::spawn_blocking(move || std::thread::sleep(wait)).await;
        ensure!(waited.is_ok(), "nobody waits for midnight");
    }
    Ok(())
}

/// One rule of every kind that the store counts, each of which admits `amount` and then, for days,
/// nothing.
pub(super) fn rules(store: &dyn KeyStore, amount: u32) -> Vec<LimitRule> {
    let long = Duration::from_secs(300 * 24 * 3_600);
    let many = u64::from(amount);
    let mut rules = vec![
        LimitRule::from(Quota::lifetime(many)),
        Quota::per_day(many).into(),
        Quota::per_month(many).into(),
        Quota::rolling(many, Duration::from_secs(600)).into(),
    ];
    if store.limit_support() == LimitSupport::All {
        rules.push(Rate::new(amount, long).into());
        rules.push(Rate::new(1, long).with_burst(amount).into());
    }
    rules
}

pub(super) fn day(name: &str, amount: u64) -> LimitCounter {
    LimitCounter::new(name, Quota::per_day(amount))
}

pub(super) async fn charge(
    store: &dyn KeyStore,
    key: KeyId,
    cost: u32,
    counters: &[&LimitCounter],
) -> Result<ChargeOutcome, Violation> {
    let counters: Vec<_> = counters.iter().map(|&counter| counter.clone()).collect();
    let count = counters.len();
    let charged = store.charge(&Charge::new(key, cost, counters)).await;
    let charged = charged.or_violation("`charge` fails")?;
    ensure!(
        charged.decisions.len() == count,
        "a charge of {count} limits is answered with {} verdicts",
        charged.decisions.len()
    );
    let all = charged.decisions.iter().all(|decision| decision.allowed);
    ensure!(
        charged.allowed == all,
        "a charge is admitted where all limits admit it; {charged:?}"
    );
    Ok(charged)
}

/// Whether a charge of `cost` passed.
pub(super) async fn passes(
    store: &dyn KeyStore,
    key: KeyId,
    cost: u32,
    counter: &LimitCounter,
) -> Result<bool, Violation> {
    Ok(charge(store, key, cost, &[counter]).await?.allowed)
}

/// How the limit stands.
pub(super) async fn look(
    store: &dyn KeyStore,
    key: KeyId,
    counter: &LimitCounter,
) -> Result<limit::LimitDecision, Violation> {
    let charged = charge(store, key, 0, &[counter]).await?;
    charged
        .decisions
        .first()
        .copied()
        .or_violation("no verdict")
}

pub(super) async fn ensure_left(
    store: &dyn KeyStore,
    key: KeyId,
    counter: &LimitCounter,
    expected: u64,
    rule: &str,
) -> Result<(), Violation> {
    let left = look(store, key, counter).await?.remaining;
    ensure!(
        left == expected,
        "{rule}: of `{}` ({}) {left} are left and not {expected}",
        counter.name(),
        counter.rule()
    );
    Ok(())
}
