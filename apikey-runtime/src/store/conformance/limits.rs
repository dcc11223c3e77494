//! Checks of `charge` and `refill`.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::bulk::purge;
use super::charges::{alike, charge, counting, day, ensure_left, look, model_time, passes, rules};
use super::records::{add, all};
use super::samples::{ODD_TEXTS, because, id, plain};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::clock::Timestamp;
use crate::limit::{CounterState, LimitRule, Quota};
use crate::store::{Charge, KeyStore, LimitCounter, WriteOptions};

/// Makes `count` concurrent charges. Returns how many were allowed.
async fn race(
    store: &Arc<dyn KeyStore>,
    charge: &Charge,
    count: usize,
) -> Result<usize, Violation> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (store, charge) = (Arc::clone(store), charge.clone());
        tasks.spawn(async move {
            let limits = store.limits();
            let limits =
                limits.or_violation("`limits` must return the same answer at all times")?;
            let charged = limits.charge(&charge).await;
            Ok(charged.or_violation("`charge` fails in a race")?.allowed)
        });
    }
    let allowed = all(tasks).await?;
    Ok(allowed.into_iter().filter(|allowed| *allowed).count())
}

/// a quota of Q allows exactly Q units.
pub(super) async fn racing_charges_pass_up_to_the_limit(store: Arc<dyn KeyStore>) -> CheckResult {
    let limits = counting!(store);
    add(&*store, &plain(1)).await?;
    for (number, rule) in (0..).zip(rules(limits, 50)) {
        let counter = LimitCounter::new(&format!("raced {number}"), rule);
        let one = Charge::new(id(1), 1, vec![counter.clone()]);
        let allowed = race(&store, &one, 200).await?;
        ensure!(
            allowed == 50,
            "of 200 racing charges to `{rule}`, 50 must be allowed; got {allowed}"
        );
        ensure_left(limits, id(1), &counter, 0, "after 50 allowed charges").await?;
    }
    Ok(CheckVerdict::Passed)
}

///
pub(super) async fn if_one_limit_denies_no_limit_is_charged(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let limits = counting!(store);
    add(&*store, &plain(1)).await?;
    let tight = LimitCounter::new("tight", Quota::lifetime(25));
    let wide = day("wide", 40);
    let both = Charge::new(id(1), 1, vec![wide.clone(), tight.clone()]);
    let allowed = race(&store, &both, 100).await?;
    ensure!(
        allowed == 25,
        "of 100 racing charges to limits of 40 and 25, 25 must be allowed; got {allowed}"
    );
    let rule = "a charge that one limit denies must not count against any";
    ensure_left(limits, id(1), &wide, 15, rule).await?;
    let refused = charge(limits, id(1), 2, &[&wide, &tight]).await?;
    let allowed: Vec<_> = refused.decisions.iter().map(|one| one.allowed).collect();
    ensure!(
        allowed == [true, false],
        "each limit must state whether it allows the charge; got {refused:?}"
    );
    ensure_left(limits, id(1), &wide, 15, rule).await?;

    let most: Vec<_> = (0..Charge::MAX_COUNTERS)
        .map(|number| day(&format!("m{number}"), 3))
        .collect();
    let most: Vec<_> = most.iter().collect();
    let allowed = charge(limits, id(1), 2, &most).await?.allowed;
    ensure!(allowed, "a charge of {} limits must be allowed", most.len());
    for counter in most {
        ensure_left(limits, id(1), counter, 1, "all limits must be charged").await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_charge_counts_its_cost(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let limits = counting!(store);
    add(store, &plain(1)).await?;
    for (number, rule) in (0..).zip(rules(limits, 20)) {
        let counter = LimitCounter::new(&format!("weighed {number}"), rule);
        for (cost, allowed, left) in [
            (7, true, 13),
            (7, true, 6),
            (7, false, 6),
            (21, false, 6),
            (u32::MAX, false, 6),
            (6, true, 0),
            (1, false, 0),
        ] {
            let said = charge(limits, id(1), cost, &[&counter]).await?;
            ensure!(
                said.allowed == allowed,
                "a charge of {cost} to `{rule}` must return `allowed: {allowed}`; got {said:?}"
            );
            let never = said
                .decisions
                .iter()
                .all(|decision| decision.retry_after.is_none());
            ensure!(
                cost <= 20 || never,
                "`{rule}` never allows {cost} units, so it must not name a time to retry; {said:?}"
            );
            ensure_left(
                limits,
                id(1),
                &counter,
                left,
                "a charge must count its cost",
            )
            .await?;
        }
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_charge_of_zero_counts_nothing(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let limits = counting!(store);
    add(store, &plain(1)).await?;
    for (number, rule) in (0..).zip(rules(limits, 3)) {
        let counter = LimitCounter::new(&format!("seen {number}"), rule);
        let all = "a charge of 0 must count nothing";
        for left in [3, 2, 1, 0] {
            for _ in 0..3 {
                ensure_left(limits, id(1), &counter, left, all).await?;
            }
            let passed = passes(limits, id(1), 1, &counter).await?;
            ensure!(passed == (left > 0), "`{rule}` with {left} left");
        }
        let empty = look(limits, id(1), &counter).await?;
        ensure!(
            empty.allowed,
            "a charge of 0 must be allowed; got {empty:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

/// Each kind of limit, compared with [`CounterState`].
pub(super) async fn a_store_counts_as_counter_state_does(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let limits = counting!(store);
    add(store, &plain(1)).await?;
    for (number, rule) in (0..).zip(rules(limits, 12)) {
        let counter = LimitCounter::new(&format!("modelled {number}"), rule);
        let mut model = [CounterState::default()];
        for cost in [0, 1, 5, 4, 3, 2, 0, 1, 13] {
            let one = Charge::new(id(1), cost, vec![counter.clone()]);
            let said = charge(limits, id(1), cost, &[&counter]).await?;
            let expected = one.apply(&mut model, model_time());
            ensure!(
                alike(&said, &expected),
                "a charge of {cost} to `{rule}` must return {expected:?}; got {said:?}"
            );
        }
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_refill_gives_back_no_more_than_was_used(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let limits = counting!(store);
    add(store, &plain(1)).await?;
    let quotas = rules(limits, 10).into_iter();
    for (number, rule) in (0..).zip(quotas.filter(|rule| matches!(rule, LimitRule::Quota(_)))) {
        let counter = LimitCounter::new(&format!("refilled {number}"), rule);
        let refill = async |amount| {
            let done = limits.refill(&id(1), &counter, amount).await;
            done.or_violation("`refill` fails")
        };
        refill(5).await?;
        ensure_left(limits, id(1), &counter, 10, "a refill of an unused limit").await?;
        ensure!(
            passes(limits, id(1), 10, &counter).await?,
            "10 of 10 must pass"
        );
        refill(4).await?;
        ensure_left(limits, id(1), &counter, 4, "a refill of 4").await?;
        ensure!(
            passes(limits, id(1), 1, &counter).await?,
            "1 of 4 must pass"
        );
        for amount in [7, 1, u64::MAX] {
            refill(amount).await?;
        }
        ensure_left(
            limits,
            id(1),
            &counter,
            10,
            "a refill of more than was used",
        )
        .await?;
        let passed = passes(limits, id(1), 11, &counter).await?;
        ensure!(!passed, "a refill must not raise `{rule}`");
    }
    Ok(CheckVerdict::Passed)
}

/// A key's limit can change while the key is in use.
pub(super) async fn a_changed_limit_keeps_its_count(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let limits = counting!(store);
    add(store, &plain(1)).await?;
    ensure!(
        passes(limits, id(1), 8, &day("changed", 10)).await?,
        "8 of 10 must pass"
    );
    for (amount, left) in [(10, 2), (20, 12), (8, 0), (5, 0), (9, 1)] {
        let counter = day("changed", amount);
        ensure_left(
            limits,
            id(1),
            &counter,
            left,
            "8 were used before the change",
        )
        .await?;
    }
    let lowered = passes(limits, id(1), 1, &day("changed", 5)).await?;
    ensure!(!lowered, "a limit below its used units must not allow any");
    Ok(CheckVerdict::Passed)
}

/// I-01: names are data.
pub(super) async fn counts_are_separate_by_key_name_and_kind(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let limits = counting!(store);
    for number in [1, 2, 62] {
        add(store, &plain(number)).await?;
    }
    let alike = [
        "a", "A", " a", "a ", "a/b", "a/", "{a}", "a*", "1:a", "\u{e9}", "e\u{301}",
    ];
    // They differ after the maximum length only.
    let long =
        ["", "a", "b"].map(|end| format!("{}{end}", "\u{fc}".repeat(LimitCounter::MAX_NAME_LEN)));
    let plain_text = |text: &&str| !text.contains(char::is_control);
    let odd = ODD_TEXTS.into_iter().filter(plain_text);
    let mut names: Vec<_> = odd
        .chain(alike)
        .chain(long.iter().map(String::as_str))
        .collect();
    names.sort_unstable();
    names.dedup();
    for key in [id(1), id(2)] {
        for name in &names {
            for rule in rules(limits, 2) {
                let counter = LimitCounter::new(name, rule);
                // Both kinds of rate are one kind.
                if matches!(rule, LimitRule::Rate(rate) if rate.amount() == 1) {
                    continue;
                }
                ensure_left(limits, key, &counter, 2, "an unused limit").await?;
                ensure!(passes(limits, key, 2, &counter).await?, "2 of 2 must pass");
                ensure_left(limits, key, &counter, 0, "after 2 of 2").await?;
            }
        }
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn counts_of_a_removed_key_do_not_affect_other_keys(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let limits = counting!(store);
    let counter = LimitCounter::new("kept", Quota::lifetime(5));
    for number in [1, 2] {
        add(store, &plain(number)).await?;
        ensure!(
            passes(limits, id(number), 3, &counter).await?,
            "3 of 5 must pass"
        );
    }
    let revoked = store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await;
    revoked.or_violation("`revoke` fails")?;
    let purged = purge(store, Timestamp::MAX).await?;
    ensure!(purged == [id(1)], "`purge` must remove a revoked key");
    ensure_left(
        limits,
        id(2),
        &counter,
        2,
        "after the removal of another key",
    )
    .await?;
    add(store, &plain(3)).await?;
    ensure_left(limits, id(3), &counter, 5, "a new key").await?;
    // The count of the removed key may still exist.
    look(limits, id(1), &counter).await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn counts_survive_a_restart(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let limits = counting!(store);
    add(store, &plain(1)).await?;
    for (number, rule) in (0..).zip(rules(limits, 9)) {
        let counter = LimitCounter::new(&format!("kept {number}"), rule);
        ensure!(
            passes(limits, id(1), 4, &counter).await?,
            "4 of 9 must pass"
        );
    }
    store.stop().await;
    if store.start().await.is_err() {
        return Ok(CheckVerdict::Skipped(
            "the store cannot start again after it stopped",
        ));
    }
    for (number, rule) in (0..).zip(rules(limits, 9)) {
        let counter = LimitCounter::new(&format!("kept {number}"), rule);
        ensure_left(
            limits,
            id(1),
            &counter,
            5,
            "after a restart with 4 of 9 used",
        )
        .await?;
        ensure!(
            passes(limits, id(1), 5, &counter).await?,
            "5 of 5 must pass"
        );
        let more = passes(limits, id(1), 1, &counter).await?;
        ensure!(!more, "a restart must not give units back");
    }
    Ok(CheckVerdict::Passed)
}
