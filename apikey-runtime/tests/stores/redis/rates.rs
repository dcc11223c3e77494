//! Stored counters: a clock that is set back, and denied charges.

use std::slice::from_ref;
use std::time::Duration;

use apikey_runtime::limit::CounterState;
use apikey_runtime::store::{LimitCounter, LimitStore, StoreError};
use apikey_runtime::{Quota, Rate};
use apikey_test_support::servers::redis::{RedisServer, Reply};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::counts::{SECOND, charge, charge_at, name};
use super::{redis_server, started};

const HOUR: i64 = 3_600 * SECOND;

/// 2026-11-22T12:00:00Z.
const NOON: i64 = 1_795_348_800 * SECOND;

fn admits(server: &RedisServer, cost: u32, rate: Rate, now: i64) -> bool {
    let counter = LimitCounter::new("a", rate);
    charge_at(server, &charge(cost, &[counter]), now)[0] == "admitted"
}

fn fields(server: &RedisServer) -> Vec<String> {
    let reply = server.command(&["HGETALL", &name(1)]);
    reply.list().iter().map(Reply::text).collect()
}

#[test]
fn a_clock_that_is_set_back_locks_nobody_out_and_allows_one_charge_too_many() {
    let server = redis_server!();
    let rate = Rate::per_minute(5);
    assert!(admits(&server, 5, rate, NOON));
    // A step of at most what the charge takes up passes by itself.
    let before = fields(&server);
    assert!(!admits(&server, 1, rate, NOON - 12 * SECOND));
    assert_eq!(fields(&server), before);
    let mut now = NOON;
    for _ in 0..3 {
        now -= HOUR;
        assert!(!admits(&server, 6, rate, now));
        for allowed in [true, false, false] {
            assert_eq!(admits(&server, 1, rate, now), allowed);
        }
        assert!(!admits(&server, 1, rate, now + 12 * SECOND - 1));
        assert!(admits(&server, 1, rate, now + 12 * SECOND));
    }
}

/// A slow rate, whose burst takes long to be worked off.
#[test]
fn a_slow_rate_goes_on_after_a_clock_is_set_back() {
    let server = redis_server!();
    let (rate, step) = (Rate::per_day(1_000), 86_400_000);
    assert!(admits(&server, 1_000, rate, NOON));
    let mut now = NOON;
    for hours in [1, 12, 12] {
        now -= hours * HOUR;
        for allowed in [true, false] {
            assert_eq!(admits(&server, 1, rate, now), allowed, "{hours}");
        }
        now += step;
        assert!(admits(&server, 1, rate, now));
    }
}

#[tokio::test]
async fn a_denied_charge_leaves_each_field_as_it_was() {
    let server = redis_server!();
    let store = started(&server).await;
    let slow = LimitCounter::new("a", Rate::per_hour(5));
    let fast = LimitCounter::new("a", Rate::per_second(100).with_burst(5));
    let empty = LimitCounter::new("b", Quota::lifetime(1));
    let rolling = LimitCounter::new("c", Quota::rolling(9, Duration::from_secs(60)));
    for (cost, counter) in [(5, &slow), (1, &empty), (3, &rolling)] {
        let charged = store.charge(&charge(cost, from_ref(counter))).await;
        assert!(charged.unwrap().allowed);
    }
    let before = fields(&server);
    for (cost, counters) in [
        (1, vec![slow.clone()]),
        (6, vec![fast.clone()]),
        (1, vec![fast.clone(), empty.clone()]),
        (1, vec![rolling, fast.clone(), empty]),
        (1, vec![slow, LimitCounter::new("new", Quota::per_day(5))]),
        (0, vec![fast]),
    ] {
        let charge = charge(cost, &counters);
        let charged = store.charge(&charge).await.unwrap();
        assert_eq!(charged.allowed, cost == 0, "{charge:?}");
        assert_eq!(fields(&server), before, "{charge:?}");
    }
}

/// A key's own rate that changes, under a clock that is set, compared with `Charge::apply`.
#[test]
fn the_script_carries_a_changed_rate_on_as_the_rules_in_rust_do() {
    let server = redis_server!();
    let rates = [
        Rate::per_second(20).with_burst(8),
        Rate::per_minute(4),
        Rate::per_minute(4).with_burst(6),
        Rate::per_hour(3),
        Rate::new(1, Duration::from_secs(366 * 86_400)).with_burst(90),
    ];
    let pauses = prop_oneof![
        4 => 0..2 * SECOND,
        3 => 0..300 * SECOND,
        3 => -9_000 * SECOND..0,
    ];
    let steps = prop::collection::vec((pauses, 0..rates.len(), 0u32..9), 1..60);
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&steps, |steps| {
        server.command(&["DEL", &name(1)]);
        let (mut counts, mut now) = ([CounterState::default()], NOON);
        for (pause, rate, cost) in steps {
            now += pause;
            let counter = LimitCounter::new("a", rates[rate]);
            let charge = charge(cost, &[counter]);
            let answer = charge_at(&server, &charge, now);
            let charged = charge.apply(&mut counts, now);
            let word = ["denied", "admitted"][usize::from(charged.allowed)];
            let tat = match counts[0].tat {
                0 => String::new(),
                tat => tat.to_string(),
            };
            prop_assert_eq!(answer, [word.to_owned(), now.to_string(), tat]);
        }
        Ok(())
    });
    result.unwrap();
}

/// The script decides by one number of a rolling quota, and the answer is read from the others.
#[tokio::test]
async fn s08_parts_that_do_not_add_up_are_corrupt() {
    let server = redis_server!();
    let store = started(&server).await;
    let rolling = LimitCounter::new("all", Quota::rolling(5, Duration::from_secs(60)));
    for broken in [
        "0:2000000000:2000000000=100,",
        "5:2000000000:2000000000=4,",
        "3:2000000000:2000000001=2,2000000001=1,",
        "99999999999999999999:2000000000:2000000000=5,",
    ] {
        for cost in [0, 1] {
            server.command(&["HSET", &name(1), rolling.name(), broken]);
            let charged = store.charge(&charge(cost, from_ref(&rolling))).await;
            assert!(
                matches!(charged, Err(StoreError::Corrupt { .. })),
                "{broken}: {charged:?}"
            );
        }
    }
}
