use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limit::{Quota, QuotaPeriod, Rate};

const SECOND: i64 = 1_000_000;

/// Charges `cost` if it is allowed.
fn pass(count: &mut CounterState, rule: LimitRule, cost: u32, now: i64) -> bool {
    let allowed = count.check(rule, cost, now).allowed;
    if allowed {
        count.charge(rule, cost, now);
    }
    allowed
}

proptest! {
    /// at most burst + w / T units pass in any window w. The model keeps all that passed.
    #[test]
    fn r02_in_any_window_at_most_a_burst_and_what_the_window_allows(
        amount in 1u32..50, seconds in 1u64..100, burst in 1u32..30,
        steps in prop::collection::vec((0i64..30 * SECOND, 1u32..4), 1..120),
    ) {
        let rate = Rate::new(amount, Duration::from_secs(seconds)).with_burst(burst);
        let (mut count, mut now, mut passed) = (CounterState::default(), 1_700_000_000 * SECOND, Vec::new());
        for (pause, cost) in steps {
            now += pause;
            if pass(&mut count, rate.into(), cost, now) {
                passed.push((now, u64::from(cost)));
            }
        }
        for (index, (from, _)) in passed.iter().enumerate() {
            let mut sum = 0;
            for (to, cost) in &passed[index..] {
                sum += cost;
                let window = u64::try_from(to - from).unwrap();
                prop_assert!(sum <= u64::from(burst) + window / rate.step_micros());
            }
        }
    }

    /// In any stretch of real time, each step back of the clock allows at most one charge too many,
    /// and delays a charge by at most as long as the charge itself takes up.
    #[test]
    fn a_clock_that_is_set_back_neither_loosens_a_rate_nor_locks_out(
        amount in 1u32..50, seconds in 1u64..100, burst in 1u32..30,
        steps in prop::collection::vec(
            (0i64..30 * SECOND, prop_oneof![3 => Just(0i64), 1 => 0i64..9_000 * SECOND], 1u32..4),
            1..120,
        ),
    ) {
        let rate = Rate::new(amount, Duration::from_secs(seconds)).with_burst(burst);
        let (mut count, mut now, mut offset) = (CounterState::default(), 1_700_000_000 * SECOND, 0);
        let mut passed = Vec::new();
        for (pause, back, cost) in steps {
            (now, offset) = (now + pause, offset + back);
            let decision = count.check(rate.into(), cost, now - offset);
            if let Some(wait) = decision.retry_after {
                let longest = rate.step_micros() * u64::from(2 * cost);
                prop_assert!(wait <= Duration::from_micros(longest));
            }
            let before = count.clone();
            if pass(&mut count, rate.into(), cost, now - offset) {
                passed.push((now, u64::from(cost), offset));
            } else {
                prop_assert_eq!(&count, &before);
            }
        }
        for (index, (from, _, _)) in passed.iter().enumerate() {
            let (mut sum, mut extra, mut last) = (0, 0, None);
            for (to, cost, offset) in &passed[index..] {
                sum += cost;
                // The first charge after each step.
                if last.is_some_and(|last| last != *offset) {
                    extra += cost;
                }
                last = Some(*offset);
                let window = u64::try_from(to - from).unwrap();
                prop_assert!(sum <= u64::from(burst) + extra + window / rate.step_micros());
            }
        }
    }

    /// A denied charge is allowed after the time that the decision names, and not before.
    #[test]
    fn a_refusal_says_when_it_would_have_passed(
        amount in 1u32..50, burst in 1u32..30, cost in 1u32..30,
        used in prop::collection::vec(1u32..5, 0..40),
    ) {
        for rule in [
            LimitRule::from(Rate::new(amount, Duration::from_secs(60)).with_burst(burst)),
            LimitRule::from(Quota::rolling(u64::from(burst), Duration::from_secs(3_600))),
            LimitRule::from(Quota::per_month(u64::from(burst))),
        ] {
            let (mut count, now) = (CounterState::default(), 1_700_000_000 * SECOND);
            for (step, cost) in used.iter().enumerate() {
                pass(&mut count, rule, *cost, now + step as i64 * SECOND);
            }
            let now = now + 40 * SECOND;
            let decision = count.check(rule, cost, now);
            match decision.retry_after {
                None => prop_assert!(u64::from(cost) > rule.largest_cost()),
                Some(wait) => {
                    let then = now + i64::try_from(wait.as_micros()).unwrap();
                    prop_assert!(count.check(rule, cost, then).allowed);
                    prop_assert!(decision.allowed || !count.check(rule, cost, then - 1_000).allowed);
                }
            }
        }
    }

    /// A quota of Q allows Q units in any window, by a plain model.
    #[test]
    fn a_rolling_quota_holds_in_any_stretch_of_its_length(
        amount in 1u64..20, seconds in 60u64..600,
        steps in prop::collection::vec((0i64..200 * SECOND, 1u32..4), 1..100),
    ) {
        let quota = Quota::rolling(amount, Duration::from_secs(seconds));
        let (mut count, mut now, mut passed) = (CounterState::default(), 1_700_000_000 * SECOND, Vec::new());
        for (pause, cost) in steps {
            now += pause;
            if pass(&mut count, quota.into(), cost, now) {
                passed.push((now, u64::from(cost)));
            }
        }
        let window = i64::try_from(seconds).unwrap() * SECOND;
        for (from, _) in &passed {
            let sum: u64 = passed.iter().filter(|(at, _)| (*from..from + window).contains(at))
                .map(|(_, cost)| cost).sum();
            prop_assert!(sum <= amount, "{sum} in a window");
        }
    }

    /// The same with charges that are refunded later, which then do not count. A refund that comes
    /// too late is left out, so its charge counts.
    #[test]
    fn a_rolling_quota_holds_while_charges_are_refunded(
        amount in 1u64..20, seconds in 60u64..600,
        steps in prop::collection::vec((0i64..30 * SECOND, 1u32..4, 0usize..4), 1..100),
    ) {
        let quota = Quota::rolling(amount, Duration::from_secs(seconds));
        prop_assert_eq!(most_in_a_window(quota, &steps, LimitRule::refund_span), Ok(()));
    }

    #[test]
    fn what_is_given_back_can_be_used_again(
        used in 0u64..50, amount in 0u64..60, seconds in 60u64..600,
    ) {
        let now = 1_700_000_000 * SECOND;
        for rule in [
            LimitRule::from(Quota::lifetime(50)),
            LimitRule::from(Quota::per_day(50)),
            LimitRule::from(Quota::rolling(50, Duration::from_secs(seconds))),
        ] {
            let mut count = CounterState::default();
            for step in 0..used {
                count.charge(rule, 1, now + step as i64 * SECOND / 2);
            }
            count.refill(rule, amount);
            let left = 50 - used.saturating_sub(amount);
            prop_assert_eq!(count.check(rule, 0, now + 25 * SECOND).remaining, left);
        }
    }
}

/// Makes charges, each of which is refunded some steps later (0: never) unless `refund_span` says
/// that it is too late. Returns an error if more than the quota counts in a stretch of its length.
fn most_in_a_window(
    quota: Quota,
    steps: &[(i64, u32, usize)],
    refund_span: fn(LimitRule, LimitDecision) -> Option<Duration>,
) -> Result<(), String> {
    struct Passed {
        at: i64,
        cost: u64,
        refund_at: usize,
        decision: LimitDecision,
    }
    let rule = LimitRule::from(quota);
    let (mut count, mut now) = (CounterState::default(), 1_700_000_000 * SECOND);
    let mut passed: Vec<Passed> = Vec::new();
    for (step, (pause, cost, refund_after)) in steps.iter().enumerate() {
        now += pause;
        passed.retain(|one| {
            let age = Duration::from_micros((now - one.at).cast_unsigned());
            let in_time = refund_span(rule, one.decision).is_none_or(|span| age < span);
            let refunded = one.refund_at == step && in_time;
            if refunded {
                count.refill(rule, one.cost);
            }
            !refunded
        });
        if count.check(rule, *cost, now).allowed {
            passed.push(Passed {
                at: now,
                cost: u64::from(*cost),
                refund_at: match refund_after {
                    0 => usize::MAX,
                    steps => step + steps,
                },
                decision: count.charge(rule, *cost, now),
            });
        }
    }
    let QuotaPeriod::Rolling(window) = quota.period() else {
        return Err(format!("`{quota}` is not a rolling quota"));
    };
    let window = window.as_micros() as i64;
    for first in &passed {
        let within = passed
            .iter()
            .filter(|one| (first.at..first.at + window).contains(&one.at));
        let sum: u64 = within.map(|one| one.cost).sum();
        if sum > quota.amount() {
            return Err(format!("{sum} of `{quota}` in a window"));
        }
    }
    Ok(())
}

/// The control: refunds until all units are available again, as for calendar periods.
#[test]
fn a_refund_after_the_charged_part_of_a_window_is_found_out() {
    let quota = Quota::rolling(100, Duration::from_secs(60));
    // 31 units are refunded two seconds later, after 69 of the next part, and charged again at
    // once and when the first part has left the window.
    let halves = [(0, 31, 2), (3, 69, 0), (1, 31, 0), (118, 31, 0)];
    let steps = halves.map(|(pause, cost, refund)| (pause * SECOND / 2, cost, refund));
    let late = |_: LimitRule, decision: LimitDecision| decision.reset_after;
    let found = most_in_a_window(quota, &steps, late);
    assert_eq!(found, Err("131 of `100/rolling 60s` in a window".into()));
    assert_eq!(
        most_in_a_window(quota, &steps, LimitRule::refund_span),
        Ok(())
    );
}

/// Units that left the window absorb none of a refill.
#[test]
fn a_rolling_quota_is_refilled_from_what_still_counts() {
    let rule = LimitRule::from(Quota::rolling(10, Duration::from_secs(3_600)));
    let (mut count, minute) = (CounterState::default(), 60 * SECOND);
    assert!(pass(&mut count, rule, 5, 0));
    assert!(pass(&mut count, rule, 5, 50 * minute));
    count.refill(rule, 5);
    assert_eq!(count.check(rule, 0, 70 * minute).remaining, 10);
}

///
#[test]
fn r04_there_is_no_edge_at_which_twice_as_much_passes() {
    let rule = LimitRule::from(Rate::per_minute(10));
    let mut count = CounterState::default();
    let edge = 60 * SECOND * 1_000;
    let passed =
        |count: &mut CounterState, at| (0..20).filter(|_| pass(count, rule, 1, at)).count();
    assert_eq!(passed(&mut count, edge - SECOND), 10);
    assert_eq!(passed(&mut count, edge + SECOND), 0);
}

/// A month's end.
#[test]
fn a_quota_of_the_calendar_starts_anew_at_midnight_utc() {
    // 2026-11-30T23:59:59Z.
    let last = (20_787 * 86_400 + 86_399) * SECOND;
    for quota in [Quota::per_month(3), Quota::per_day(3)] {
        let rule = LimitRule::from(quota);
        let mut count = CounterState::default();
        assert_eq!(
            (0..5).filter(|_| pass(&mut count, rule, 1, last)).count(),
            3
        );
        let refused = count.check(rule, 1, last);
        assert_eq!((refused.allowed, refused.remaining), (false, 0));
        assert_eq!(
            (refused.retry_after, refused.reset_after),
            (Some(Duration::from_secs(1)), Some(Duration::from_secs(1)))
        );
        assert!(pass(&mut count, rule, 1, last + SECOND));
        // If the clock is set back, the period that it left is still used up or gone: it never gets
        // a new quota.
        assert_eq!(
            (0..5).filter(|_| pass(&mut count, rule, 1, last)).count(),
            2
        );
    }
}

#[test]
fn a_clock_that_is_set_back_allows_one_charge_too_many() {
    let rule = LimitRule::from(Rate::per_minute(10));
    let mut count = CounterState::default();
    let now = 1_700_000_000 * SECOND;
    assert!(pass(&mut count, rule, 10, now + 3_600 * SECOND));
    assert!(!pass(&mut count, rule, 11, now));
    assert!(pass(&mut count, rule, 1, now));
    let denied = count.check(rule, 1, now);
    assert!(!denied.allowed);
    assert_eq!(denied.retry_after, Some(Duration::from_secs(6)));
    // A step of at most what the charge takes up passes by itself.
    let back = count.check(rule, 1, now - 6 * SECOND);
    assert_eq!(
        (back.allowed, back.retry_after),
        (false, Some(Duration::from_secs(12)))
    );
    let larger = count.check(rule, 2, now - 7 * SECOND);
    assert_eq!(
        (larger.allowed, larger.retry_after),
        (false, Some(Duration::from_secs(19)))
    );
    assert!(count.check(rule, 1, now - 6 * SECOND - 1).allowed);
    assert!(count.check(rule, 0, now - 6 * SECOND).allowed);
    assert!(!count.check(rule, 11, now - 6 * SECOND).allowed);
}

/// A slow rate, whose burst takes long to be worked off.
#[test]
fn a_clock_that_is_set_back_does_not_lock_out_for_as_long_as_the_step() {
    let (rule, step) = (LimitRule::from(Rate::per_day(1_000)), 86_400_000);
    for back in [step + 1, 3_600 * SECOND, 12 * 3_600 * SECOND] {
        let (mut count, mut now) = (CounterState::default(), 1_700_000_000 * SECOND);
        assert!(pass(&mut count, rule, 1_000, now));
        for _ in 0..3 {
            now -= back;
            assert!(pass(&mut count, rule, 1, now), "{back}");
            let denied = count.check(rule, 1, now);
            assert_eq!(denied.retry_after, Some(Duration::from_micros(86_400_000)));
            assert!(!pass(&mut count, rule, 1, now + step - 1));
        }
        now += step;
        assert!(pass(&mut count, rule, 1, now));
    }
}

/// No number overflows, and a number that a charge cannot have written is found out.
#[test]
fn numbers_at_the_bounds_neither_overflow_nor_pass_for_right_ones() {
    let ends = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    let rules = [
        LimitRule::from(Rate::new(1, Duration::from_secs(366 * 86_400)).with_burst(90)),
        LimitRule::from(Rate::per_second(100)),
        LimitRule::from(Quota::per_day(3)),
        LimitRule::from(Quota::per_month(3)),
        LimitRule::from(Quota::lifetime(3)),
        LimitRule::from(Quota::rolling(3, Duration::from_secs(1))),
    ];
    for (tat, now) in ends.iter().flat_map(|tat| ends.map(|now| (*tat, now))) {
        for used in [0, 1, u64::MAX] {
            let parts = [(tat, used), (now, used)].into();
            let state = CounterState {
                tat,
                period: tat,
                used,
                parts,
            };
            assert!(!state.is_in_range() || (0..=1).contains(&tat), "{state:?}");
            for (rule, cost) in rules.iter().flat_map(|rule| [(rule, 1), (rule, u32::MAX)]) {
                let mut state = state.clone();
                let _ = state.check(*rule, cost, now);
                state.charge(*rule, cost, now);
                state.refill(*rule, u64::MAX);
            }
        }
    }
}

#[test]
fn a_limit_that_is_changed_counts_on() {
    let mut count = CounterState::default();
    let now = 1_700_000_000 * SECOND;
    assert!(pass(
        &mut count,
        LimitRule::from(Quota::lifetime(5)),
        5,
        now
    ));
    assert!(!pass(
        &mut count,
        LimitRule::from(Quota::lifetime(5)),
        1,
        now
    ));
    assert_eq!(
        count
            .check(LimitRule::from(Quota::lifetime(8)), 1, now)
            .remaining,
        3
    );
    assert_eq!(
        count
            .check(LimitRule::from(Quota::lifetime(3)), 1, now)
            .remaining,
        0
    );
    assert!(pass(
        &mut count,
        LimitRule::from(Rate::per_minute(1)),
        1,
        now
    ));
}

/// The arrival time carries on, capped at the new burst.
#[test]
fn a_rate_that_is_changed_carries_on() {
    let now = 1_700_000_000 * SECOND;
    let slow = LimitRule::from(Rate::per_minute(5));
    let fast = LimitRule::from(Rate::per_second(100).with_burst(5));
    let mut count = CounterState::default();
    assert!(pass(&mut count, slow, 5, now));
    // Raised: one charge, and then as the new rate allows.
    assert!(!pass(&mut count, fast, 6, now));
    assert_eq!(count.tat, now + 60 * SECOND);
    assert!(pass(&mut count, fast, 1, now));
    assert!(!pass(&mut count, fast, 1, now));
    assert!(pass(&mut count, fast, 1, now + 10_000));
    // Lowered: the burst of the lower rate, less what is not worked off yet.
    let now = now + 10_000;
    assert!(!pass(&mut count, slow, 5, now));
    assert!(pass(&mut count, slow, 4, now));
    assert!(!pass(&mut count, slow, 1, now));
}
