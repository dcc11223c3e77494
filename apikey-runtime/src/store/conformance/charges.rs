//! Helpers for the checks of `charge` and `refill`.

use std::time::{Duration, SystemTime};

use super::samples::id;
use super::{CheckVerdict, OrViolation, Violation, ensure};
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::limit::{self, LimitRule, Quota, Rate};
use crate::store::{Charge, ChargeOutcome, LimitCounter, LimitStore, LimitSupport};

pub(super) const NOT_COUNTED: CheckVerdict =
    CheckVerdict::Skipped("the store does not count limits: `limits` returns `None`");

/// The time within which a check finishes.
const MAX_CHECK_TIME: Duration = Duration::from_secs(20);

/// The allowed distance between the store's clock and ours.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Returns the limit counters, or skips the check if the store does not have them. Waits until no
/// day, and so no month, can end during the check.
macro_rules! counting {
    ($store:expr) => {
        match $store.limits() {
            Some(limits) => {
                $crate::store::conformance::charges::await_a_new_day(limits).await?;
                limits
            }
            None => return Ok($crate::store::conformance::charges::NOT_COUNTED),
        }
    };
}

pub(super) use counting;

pub(super) async fn await_a_new_day(limits: &dyn LimitStore) -> Result<(), Violation> {
    let stands = look(limits, id(u128::MAX), &day("midnight", 1)).await?;
    let left = stands.reset_after.unwrap_or(Duration::MAX);
    if left < MAX_CHECK_TIME {
        // The caller's runtime may not have a timer.
        let wait = left + Duration::from_millis(1);
        let waited = tokio::task::spawn_blocking(move || std::thread::sleep(wait)).await;
        ensure!(waited.is_ok(), "the wait for the next day failed");
    }
    Ok(())
}

/// Returns a rule of every kind that the store counts. Each allows `amount` units and then nothing
/// for minutes or longer.
pub(super) fn rules(limits: &dyn LimitStore, amount: u32) -> Vec<LimitRule> {
    let long = Duration::from_secs(300 * 24 * 3_600);
    let many = u64::from(amount);
    let mut rules = vec![
        LimitRule::from(Quota::lifetime(many)),
        Quota::per_day(many).into(),
        Quota::per_month(many).into(),
        Quota::rolling(many, Duration::from_secs(600)).into(),
    ];
    if limits.support() == LimitSupport::All {
        rules.push(Rate::new(amount, long).into());
        rules.push(Rate::new(1, long).with_burst(amount).into());
    }
    rules
}

pub(super) fn day(name: &str, amount: u64) -> LimitCounter {
    LimitCounter::new(name, Quota::per_day(amount))
}

pub(super) async fn charge(
    limits: &dyn LimitStore,
    key: KeyId,
    cost: u32,
    counters: &[&LimitCounter],
) -> Result<ChargeOutcome, Violation> {
    let counters: Vec<_> = counters.iter().map(|&counter| counter.clone()).collect();
    let count = counters.len();
    let charged = limits.charge(&Charge::new(key, cost, counters)).await;
    let charged = charged.or_violation("`charge` fails")?;
    ensure!(
        charged.decisions.len() == count,
        "a charge of {count} limits must return as many decisions; got {}",
        charged.decisions.len()
    );
    let all = charged.decisions.iter().all(|decision| decision.allowed);
    ensure!(
        charged.allowed == all,
        "a charge must be allowed if and only if all limits allow it; got {charged:?}"
    );
    Ok(charged)
}

/// Returns whether a charge of `cost` was allowed.
pub(super) async fn passes(
    limits: &dyn LimitStore,
    key: KeyId,
    cost: u32,
    counter: &LimitCounter,
) -> Result<bool, Violation> {
    Ok(charge(limits, key, cost, &[counter]).await?.allowed)
}

/// Returns the state of the limit, without counting.
pub(super) async fn look(
    limits: &dyn LimitStore,
    key: KeyId,
    counter: &LimitCounter,
) -> Result<limit::LimitDecision, Violation> {
    let charged = charge(limits, key, 0, &[counter]).await?;
    charged
        .decisions
        .first()
        .copied()
        .or_violation("a charge must return a decision")
}

pub(super) async fn ensure_left(
    limits: &dyn LimitStore,
    key: KeyId,
    counter: &LimitCounter,
    expected: u64,
    rule: &str,
) -> Result<(), Violation> {
    let left = look(limits, key, counter).await?.remaining;
    ensure!(
        left == expected,
        "{rule}: `{}` ({}) must have {expected} units left; got {left}",
        counter.name(),
        counter.rule()
    );
    Ok(())
}

/// Returns the time for [`Charge::apply`], if the store's clock is right.
pub(super) fn model_time() -> i64 {
    let now = Timestamp::from(SystemTime::now());
    now.as_millis().saturating_mul(1_000)
}

/// Compares two outcomes. Times need only be close, because they come from two clocks.
pub(super) fn alike(said: &ChargeOutcome, expected: &ChargeOutcome) -> bool {
    let near = |one: Option<Duration>, other: Option<Duration>| match (one, other) {
        (Some(one), Some(other)) => one.abs_diff(other) < CLOCK_SKEW,
        (one, other) => one == other,
    };
    let both = said.decisions.iter().zip(&expected.decisions);
    said.allowed == expected.allowed
        && both.fold(true, |alike, (said, expected)| {
            alike
                && (said.allowed, said.remaining) == (expected.allowed, expected.remaining)
                && near(said.reset_after, expected.reset_after)
                && near(said.retry_after, expected.retry_after)
        })
}
