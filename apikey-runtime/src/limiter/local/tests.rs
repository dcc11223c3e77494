use proptest::prelude::*;

use super::super::applied::LimitSource;
use super::super::plan::Plan;
use super::*;
use crate::limit::{Limit, Quota};
use crate::store::{Charge, LimitCounter};

const SECOND: i64 = 1_000_000;

fn at(uptime: i64) -> LimiterTime {
    LimiterTime::new(uptime as u64 * 1_000, 1_700_000_000 * SECOND + uptime)
}

fn limit(name: &'static str, rate: Rate, cost: u32) -> AppliedLimit {
    AppliedLimit::of_route(LimitSource::Route(name), rate, cost, None, &[]).unwrap()
}

proptest! {
    /// Also if another limit denies, and if a key's own rate is changed.
    #[test]
    fn a_rate_is_counted_as_a_store_would_by_itself_and_beside_others(
        amount in 1u32..6, steps in prop::collection::vec((0i64..30, 0u32..5, 0usize..6), 1..60),
    ) {
        let (key, mut now) = (KeyId::from_u128(1), 1_000 * SECOND);
        let usual = Rate::per_minute(amount).with_burst(3);
        let rates = [Rate::per_second(100).with_burst(3), Rate::per_hour(amount)];
        let other = Rate::per_minute(amount + 2).with_burst(2);
        let (alone, beside) = (LocalLimiter::new(), LocalLimiter::new());
        let (mut counts, mut both_counts) = (<[CounterState; 1]>::default(), <[CounterState; 2]>::default());
        for (seconds, cost, changed) in steps {
            now += seconds * SECOND;
            let rate = rates.get(changed).copied().unwrap_or(usual);
            let counters = vec![LimitCounter::new("a", rate), LimitCounter::new("b", other)];
            let plan = Plan::of(&[Limit::new("a", rate)]).unwrap();
            let own = AppliedLimit::of_plan(&plan.0[0], LimitSource::Key(0), cost, None);
            let charge = Charge::new(key, cost, counters[..1].to_vec());
            let model = charge.apply(&mut counts, now);
            let mut limits = [own.clone()];
            prop_assert_eq!(alone.charge(key, &mut limits, at(now)), model.allowed);
            prop_assert_eq!(limits[0].decision, Some(model.decisions[0]));
            let model = Charge::new(key, cost, counters).apply(&mut both_counts, now);
            let mut limits = [own, limit("b", other, cost)];
            prop_assert_eq!(beside.charge(key, &mut limits, at(now)), model.allowed);
            prop_assert_eq!(limits.map(|limit| limit.decision.unwrap()).to_vec(), model.decisions);
        }
    }
}

#[test]
fn where_one_limit_refuses_none_is_charged() {
    let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
    let mut limits = [
        limit("wide", Rate::per_minute(10), 1),
        limit("narrow", Rate::per_minute(2), 1),
    ];
    let passed = (0..9).filter(|_| local.charge(key, &mut limits, at(0)));
    assert_eq!(passed.count(), 2);
    assert_eq!(limits[0].decision.unwrap().remaining, 8);
    assert!(local.charge(KeyId::from_u128(2), &mut limits, at(0)));
}

#[test]
fn what_is_given_back_can_be_used_again() {
    let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
    let mut limits = [limit("a", Rate::per_minute(5), 5)];
    assert!(local.charge(key, &mut limits, at(0)));
    assert!(!local.charge(key, &mut limits, at(0)));
    local.refund(key, &limits, at(0));
    assert!(local.charge(key, &mut limits, at(0)));
}

/// A key's own rate is changed, so the charge caps what the former rate had not worked off yet.
/// Another limit, which the store counts, then denies.
#[test]
fn a_charge_that_is_undone_restores_what_it_capped() {
    let (slow, fast) = (Rate::per_hour(5), Rate::per_second(100).with_burst(5));
    let own = |rate, cost| {
        let plan = Plan::of(&[Limit::new("a", rate)]).unwrap();
        [AppliedLimit::of_plan(
            &plan.0[0],
            LimitSource::Key(0),
            cost,
            None,
        )]
    };
    let (start, later) = (at(1_000 * SECOND), at(1_000 * SECOND + 7));
    type Undo = fn(&LocalLimiter, KeyId, &mut [AppliedLimit], LimiterTime);
    let refund: Undo = |local, key, limits, now| local.refund(key, limits, now);
    for undone in [LocalLimiter::undo as Undo, refund] {
        let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
        assert!(local.charge(key, &mut own(slow, 5), start));
        let mut charged = own(fast, 1);
        assert!(local.charge(key, &mut charged, start));
        undone(&local, key, &mut charged, later);
        let mut read = own(slow, 0);
        local.charge(key, &mut read, later);
        let reset = read[0].decision.unwrap().reset_after;
        let passed = Duration::from_micros(7);
        assert_eq!(reset, Some(Duration::from_secs(3_600) - passed));
        // What another request charged meanwhile stays counted.
        let much_later = at(1_000 * SECOND + 10_007);
        let mut charged = own(fast, 1);
        assert!(local.charge(key, &mut charged, later));
        assert!(local.charge(key, &mut own(fast, 1), much_later));
        undone(&local, key, &mut charged, much_later);
        let mut read = own(fast, 0);
        local.charge(key, &mut read, much_later);
        assert_eq!(read[0].decision.unwrap().remaining, 1);
    }
}

/// R-02, if a request is denied long after it was charged: another request has used the time
/// that has passed.
#[test]
fn what_was_worked_off_meanwhile_is_not_given_back() {
    let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
    let rate = Rate::new(1, Duration::from_secs(1));
    let (mut first, mut second) = ([limit("a", rate, 1)], [limit("a", rate, 1)]);
    assert!(local.charge(key, &mut first, at(0)));
    assert!(local.charge(key, &mut second, at(SECOND)));
    local.refund(key, &first, at(SECOND));
    assert!(!local.charge(key, &mut [limit("a", rate, 1)], at(SECOND)));
    // Half of the unit was not worked off.
    local.refund(key, &second, at(SECOND * 3 / 2));
    assert!(local.charge(key, &mut [limit("a", rate, 1)], at(SECOND * 3 / 2)));
}

/// Clocks read nanoseconds, and rates count microseconds: nothing of an idle rate stays used.
#[test]
fn a_refund_within_a_microsecond_leaves_an_idle_rate_idle() {
    let rate = Rate::new(1, Duration::from_secs(10));
    let at = |nanos| LimiterTime::new(nanos, 0);
    for (charged, refunded) in [(200, 350_500), (900, 1_100), (999, 1_000)] {
        let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
        let (charged, refunded) = (1_000_000_000 + charged, 1_000_000_000 + refunded);
        let mut limits = [limit("a", rate, 1)];
        assert!(local.charge(key, &mut limits, at(charged)));
        local.refund(key, &limits, at(refunded));
        let mut again = [limit("a", rate, 1)];
        assert!(local.charge(key, &mut again, at(refunded)), "{charged}");
    }
}

/// Threads read the clock, and then take turns in any order.
#[test]
fn a_late_turn_with_an_early_time_does_not_cut_a_rate() {
    let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
    let rate = Rate::per_second(1).with_burst(3);
    let charge = |seconds| local.charge(key, &mut [limit("a", rate, 1)], at(seconds * SECOND));
    assert_eq!(
        [charge(100), charge(100), charge(100), charge(100)],
        [true, true, true, false]
    );
    // The rate has nothing left at 100 s, whatever time the others have read before it.
    let late = [99, 96, 90, 1].map(charge);
    assert_eq!(late, [false; 4]);
    // Negative control: a second later, it has one unit.
    assert_eq!([charge(101), charge(101), charge(50)], [true, false, false]);
}

#[test]
fn a_quota_is_counted_here_from_nothing_on() {
    let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
    let mut limits = [limit("a", Rate::per_minute(5), 1)];
    limits[0].rule = Quota::per_day(3).into();
    let passed = (0..9).filter(|_| local.charge(key, &mut limits, at(0)));
    assert_eq!(passed.count(), 3);
}

/// A refund takes units of the newest part. The control is a refund before the next part begins.
#[test]
fn a_rolling_quota_is_refunded_within_the_part_that_was_charged() {
    for (refunded_at, passes) in [(SECOND / 2, true), (SECOND * 3 / 2, false)] {
        let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
        let mut limits = [limit("a", Rate::per_minute(5), 1)];
        limits[0].rule = Quota::rolling(2, Duration::from_secs(60)).into();
        let mut others = limits.clone();
        assert!(local.charge(key, &mut limits, at(0)));
        limits[0].at_nanos = 0;
        assert!(local.charge(key, &mut others, at(refunded_at)));
        local.refund(key, &limits, at(refunded_at));
        assert_eq!(local.charge(key, &mut others, at(refunded_at)), passes);
    }
}

#[test]
fn a_full_shard_is_not_swept_for_each_request() {
    let (local, key) = (LocalLimiter::new(), KeyId::from_u128(1));
    let quota = |hash| {
        let mut one = limit("a", Rate::per_minute(5), 1);
        (one.rule, one.hash) = (Quota::per_day(3).into(), hash);
        [one]
    };
    let mut first = quota(0);
    assert!(local.charge(key, &mut first, at(0)));
    for hash in 1..QUOTAS_PER_SHARD as u64 {
        assert!(local.charge(key, &mut quota(hash), at(0)));
    }
    let more = u64::MAX;
    assert!(!local.charge(key, &mut quota(more), at(0)));
    local.refund(key, &first, at(0));
    assert!(!local.charge(key, &mut quota(more), at(SECOND - 1)));
    assert!(
        local.charge(key, &mut quota(1), at(SECOND - 1)),
        "it counts what is there"
    );
    assert!(local.charge(key, &mut quota(more), at(SECOND)));
}

#[test]
fn keys_that_are_no_longer_ahead_leave_the_memory() {
    let local = LocalLimiter::new();
    let rate = Rate::new(1, Duration::from_secs(1));
    for second in 0..200 {
        for key in 0..100 {
            let key = KeyId::from_u128(second * 100 + key);
            let now = at(second as i64 * SECOND);
            assert!(local.charge(key, &mut [limit("a", rate, 1)], now));
        }
    }
    assert!(local.len() <= SHARDS * 64, "{}", local.len());
}
