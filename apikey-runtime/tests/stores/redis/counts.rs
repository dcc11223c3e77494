//! Usage of limits: the script against the rules in Rust, and the effects of a server's faults.

use std::slice::from_ref;
use std::time::Duration;

use apikey_runtime::limit::{CounterState, LimitRule, QuotaPeriod};
use apikey_runtime::store::{
    Charge, ChargeOutcome, LimitCounter, LimitStore, StoreError, WriteOptions,
};
use apikey_runtime::{KeyStore, Quota, Rate};
use apikey_test_support::servers::redis::{RedisServer, Reply};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{redis_server, started};
use crate::{InSteps, at, because, id, record};

/// The scripts as the store assembles them.
const CHARGE: &str = concat!(
    include_str!("../../../src/store/redis/scripts/limit_counter.lua"),
    include_str!("../../../src/store/redis/scripts/charge.lua")
);
const REFILL: &str = concat!(
    include_str!("../../../src/store/redis/scripts/limit_counter.lua"),
    include_str!("../../../src/store/redis/scripts/refill.lua")
);

pub(super) const SECOND: i64 = 1_000_000;

const DAY: i64 = 86_400 * SECOND;

/// Returns the name of the hash with the counts of the key with this number.
pub(super) fn name(number: u128) -> String {
    format!("{{apikey}}:limit_counters:{}", id(number))
}

pub(super) fn charge(cost: u32, counters: &[LimitCounter]) -> Charge {
    Charge::new(id(1), cost, counters.to_vec())
}

/// Returns a rule as arguments of the script.
fn described(rule: LimitRule, cost: u32) -> [String; 3] {
    let (kind, a, b) = match rule {
        LimitRule::Rate(rate) => {
            let span = |units: u32| rate.step_micros() * u64::from(units);
            let cost = cost.min(rate.burst() + 1);
            ("rate", span(rate.burst()), span(cost))
        }
        LimitRule::Quota(quota) => match quota.period() {
            QuotaPeriod::Day => ("day", quota.amount(), 0),
            QuotaPeriod::Month => ("month", quota.amount(), 0),
            QuotaPeriod::Lifetime => ("lifetime", quota.amount(), 0),
            rolling => ("rolling", quota.amount(), rolling.part_millis().unwrap()),
        },
        _ => unreachable!("there are no others"),
    };
    [kind.to_owned(), a.to_string(), b.to_string()]
}

fn eval(server: &RedisServer, script: &str, arguments: &[String]) -> Vec<String> {
    let name = name(1);
    let mut words = vec!["EVAL", script, "1", &name];
    words.extend(arguments.iter().map(String::as_str));
    let reply = server.command(&words);
    let texts = reply.list().iter().map(Reply::text);
    // A count with everything refunded equals a missing one.
    let texts = texts.map(|text| if text == "0:0" { String::new() } else { text });
    texts.collect()
}

/// Charges by the script, at `now`.
pub(super) fn charge_at(server: &RedisServer, charge: &Charge, now: i64) -> Vec<String> {
    let mut arguments = vec![now.to_string(), charge.cost.to_string()];
    for counter in &charge.counters {
        arguments.push(counter.name().to_owned());
        arguments.extend(described(counter.rule(), charge.cost));
    }
    eval(server, CHARGE, &arguments)
}

fn refill(server: &RedisServer, counter: &LimitCounter, amount: u64) {
    let [kind, ..] = described(counter.rule(), 0);
    let arguments = [counter.name().to_owned(), kind, amount.to_string()];
    assert_eq!(eval(server, REFILL, &arguments), ["done"]);
}

/// Returns a count as the script stores it.
fn packed(rule: LimitRule, count: &CounterState) -> String {
    if *count == CounterState::default() {
        return String::new();
    }
    let parts = count.parts.iter();
    match rule {
        LimitRule::Rate(_) => count.tat.to_string(),
        LimitRule::Quota(quota) if quota.period().part_millis().is_some() => {
            let sum: u64 = count.parts.values().sum();
            let oldest = count.parts.keys().next().copied().unwrap_or_default();
            let parts = parts.rev().map(|(part, used)| format!("{part}={used},"));
            format!("{sum}:{oldest}:{}", parts.collect::<String>())
        }
        _ => format!("{}:{}", count.period, count.used),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Charge(u32),
    Refill(usize, u64),
}

fn rules() -> impl Strategy<Value = LimitRule> {
    let rate = (1u32..40, 1u64..400_000, 1u32..40).prop_map(|(amount, window, burst)| {
        LimitRule::from(Rate::new(amount, Duration::from_millis(window)).with_burst(burst))
    });
    let slow = (1u32..4, 1u64..366).prop_map(|(amount, days)| {
        LimitRule::from(Rate::new(amount, Duration::from_secs(days * 86_400)).with_burst(90))
    });
    let rolling = (1u64..60, 1_000u64..400_000_000).prop_map(|(amount, window)| {
        LimitRule::from(Quota::rolling(amount, Duration::from_millis(window)))
    });
    let calendar = (1u64..60, 0..3).prop_map(|(amount, kind)| {
        LimitRule::from(match kind {
            0 => Quota::per_day(amount),
            1 => Quota::per_month(amount),
            _ => Quota::lifetime(amount),
        })
    });
    let large = Just(LimitRule::from(Quota::lifetime(999_999_999_999_999)));
    prop_oneof![4 => rate, 1 => slow, 4 => rolling, 4 => calendar, 1 => large]
}

/// Generates pauses: 0, short ones, whole months; and a clock that is set back.
fn pauses() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0..2 * SECOND,
        3 => 0..2_000 * SECOND,
        2 => -4_000 * SECOND..0,
        1 => -40 * DAY..40 * DAY,
    ]
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let step = prop_oneof![
        12 => (0u32..6).prop_map(Step::Charge),
        1 => prop_oneof![0u32..100, Just(u32::MAX)].prop_map(Step::Charge),
        1 => (0usize..3, prop_oneof![0u64..40, Just(1 << 53)])
            .prop_map(|(which, amount)| Step::Refill(which, amount)),
    ];
    prop::collection::vec((pauses(), step), 1..60)
}

/// Does the same in Rust and by the script, and compares all results.
fn compare(server: &RedisServer, rules: &[LimitRule], start: i64, steps: &[(i64, Step)]) {
    server.command(&["DEL", &name(1)]);
    let counters: Vec<_> = (0..)
        .zip(rules)
        .map(|(number, rule)| LimitCounter::new(&format!("limit {number}"), *rule))
        .collect();
    let mut counts = vec![CounterState::default(); counters.len()];
    let mut now = start;
    for (pause, step) in steps {
        now = (now + pause).max(0);
        match step {
            Step::Charge(cost) => {
                let charge = charge(*cost, &counters);
                let answer = charge_at(server, &charge, now);
                let charged = charge.apply(&mut counts, now);
                let word = ["denied", "admitted"][usize::from(charged.allowed)];
                let mut expected = vec![word.to_owned(), now.to_string()];
                expected.extend(
                    rules
                        .iter()
                        .zip(&counts)
                        .map(|(rule, count)| packed(*rule, count)),
                );
                assert_eq!(answer, expected, "{counters:?} {step:?}");
            }
            Step::Refill(which, amount) => {
                let which = which % counters.len();
                refill(server, &counters[which], *amount);
                counts[which].refill(counters[which].rule(), *amount);
            }
        }
    }
}

#[test]
fn the_script_counts_as_the_rules_in_rust_do() {
    let server = redis_server!();
    let mut runner = TestRunner::new(Config {
        cases: 600,
        failure_persistence: None,
        ..Config::default()
    });
    // From 1970 to 2100, over leap days and month ends.
    let cases = (
        prop::collection::vec(rules(), 1..4),
        0..4_102_444_800 * SECOND,
        steps(),
    );
    let result = runner.run(&cases, |(rules, start, steps)| {
        compare(&server, &rules, start, &steps);
        Ok(())
    });
    result.unwrap();
}

/// Month ends and leap days, one by one.
#[test]
fn the_script_knows_the_months_of_the_calendar() {
    let server = redis_server!();
    let month = [LimitRule::from(Quota::per_month(2))];
    for year in [1970, 1999, 2000, 2026, 2027, 2028, 2100, 2400] {
        let first =
            (year - 1970) * 365 + (year - 1969) / 4 - (year - 1901) / 100 + (year - 1601) / 400;
        let steps: Vec<_> = (0..370 * 2).map(|_| (DAY / 2, Step::Charge(1))).collect();
        compare(&server, &month, first * DAY, &steps);
    }
}

/// A minute is counted in fractions of a second.
#[test]
fn the_script_knows_when_a_part_leaves_the_window() {
    let server = redis_server!();
    for (amount, pause) in [(40, 1), (1_000, 1), (7, 5), (2, 60), (2, 61), (3, 30)] {
        let minute = [LimitRule::from(Quota::rolling(
            amount,
            Duration::from_secs(60),
        ))];
        let steps = vec![(pause * SECOND, Step::Charge(1)); 150];
        compare(&server, &minute, 1_700_000_000 * SECOND, &steps);
    }
}

/// The decisions follow from the same counts.
#[tokio::test]
async fn the_store_answers_as_the_rules_in_rust_do() {
    let server = redis_server!();
    let store = started(&server).await;
    let counters = [
        LimitCounter::new("slow", Rate::new(5, Duration::from_secs(366 * 86_400))),
        LimitCounter::new("once", Quota::lifetime(4)),
        LimitCounter::new("rolling", Quota::rolling(9, Duration::from_secs(86_400))),
    ];
    let mut counts = vec![CounterState::default(); 3];
    for cost in [0, 1, 2, 9, 1, 1, 0] {
        let charge = charge(cost, &counters);
        let charged = store.charge(&charge).await.unwrap();
        // The server's clock is read between these two.
        let now = i64::try_from(
            std::time::SystemTime::UNIX_EPOCH
                .elapsed()
                .unwrap()
                .as_micros(),
        );
        let expected = charge.apply(&mut counts, now.unwrap());
        assert_eq!(charged.allowed, expected.allowed, "{cost}");
        for (decision, expected) in charged.decisions.iter().zip(&expected.decisions) {
            assert_eq!(
                (decision.allowed, decision.remaining),
                (expected.allowed, expected.remaining),
                "{cost}"
            );
            let is_near = |a: Option<Duration>, b: Option<Duration>| match (a, b) {
                (Some(a), Some(b)) => a.abs_diff(b) < Duration::from_secs(2_000),
                (a, b) => a == b,
            };
            assert!(
                is_near(decision.reset_after, expected.reset_after),
                "{decision:?}"
            );
            assert!(
                is_near(decision.retry_after, expected.retry_after),
                "{decision:?}"
            );
        }
    }
    let none = store.charge(&charge(5, &[])).await.unwrap();
    assert_eq!(none, ChargeOutcome::new(true, Vec::new()));
    store.refill(&id(1), &counters[1], 3).await.unwrap();
    let asked = store.charge(&charge(0, &counters)).await.unwrap();
    assert_eq!(asked.decisions[1].remaining, 3);
}

/// I-02.
#[tokio::test]
async fn i02_odd_names_of_limits_are_names_only() {
    let server = redis_server!();
    let store = started(&server).await;
    let odd = [
        "*",
        "{}",
        "' .. redis.call('FLUSHALL') .. '",
        "a:b=c,",
        "",
        "%",
        "\u{10ffff}",
    ];
    let counters: Vec<_> = odd
        .iter()
        .map(|name| LimitCounter::new(name, Quota::lifetime(2)))
        .collect();
    for expected in [true, true, false] {
        let charged = store.charge(&charge(1, &counters)).await.unwrap();
        assert_eq!(charged.allowed, expected);
    }
    for counter in &counters {
        store.refill(&id(1), counter, 1).await.unwrap();
        let alone = store.charge(&charge(1, from_ref(counter))).await;
        assert!(alone.unwrap().allowed, "{counter:?}");
    }
    let long = LimitCounter::new(&"ü".repeat(400), Quota::lifetime(1));
    let most: Vec<_> = (0..Charge::MAX_COUNTERS)
        .map(|number| LimitCounter::new(&format!("{number}{}", long.name()), Quota::lifetime(1)))
        .collect();
    assert!(store.charge(&charge(1, &most)).await.unwrap().allowed);
    assert!(!store.charge(&charge(1, &most)).await.unwrap().allowed);
}

/// S-08: counts that only a tool can leave. They must not read as unused.
#[tokio::test]
async fn s08_a_count_that_cannot_be_read_refuses_that_key_only() {
    let server = redis_server!();
    let store = started(&server).await;
    let daily = LimitCounter::new("daily", Quota::per_day(5));
    let rolling = LimitCounter::new("all", Quota::rolling(5, Duration::from_secs(60)));
    let rate = LimitCounter::new("fast", Rate::per_minute(5));
    let other = Charge::new(id(2), 1, vec![daily.clone()]);
    for (counter, broken) in [
        (&daily, "planted"),
        (&daily, "2:planted"),
        (&daily, "2:-3"),
        (&daily, "2:99999999999999999999"),
        (&daily, "2932897:1"),
        (&daily, "99999999999999999999:1"),
        (&daily, " 2:1"),
        (&daily, ":1"),
        (&rolling, "planted"),
        (&rolling, "4=5,"),
        (&rolling, "5:4:planted=5,"),
        (&rolling, "5:4:"),
        (&rolling, "5:4:4=5"),
        (&rolling, "5:-4:-4=5,"),
        (&rolling, "5:99999999999999999999:99999999999999999999=5,"),
        (&rolling, "5:2000000000:2000000000=99999999999999999999,"),
        (&rolling, "5:2000000000:2000000001=2,planted=3,"),
        (&rate, "planted"),
        (&rate, "99999999999999999999"),
        (&rate, "-1"),
        (&rate, "0x10"),
        (&rate, "1e3"),
        (&rate, "1.5"),
        (&rate, " 5"),
        (&rate, "nan"),
        (&rate, ""),
    ] {
        server.command(&["HSET", &name(1), counter.name(), broken]);
        let charged = store.charge(&charge(1, from_ref(counter))).await;
        // A rate is refilled fully, whatever its value.
        let refilled = match counter == &rate {
            true => None,
            false => Some(store.refill(&id(1), counter, 1).await),
        };
        for result in [Some(charged.map(drop)), refilled].into_iter().flatten() {
            match result {
                Err(StoreError::Corrupt { id: named, reason }) => {
                    assert_eq!(named, id(1).to_string());
                    assert!(!reason.contains("planted"), "{reason}");
                }
                other => panic!("{broken}: {other:?}"),
            }
        }
        if counter != &rate {
            let kept = server.command(&["HGET", &name(1), counter.name()]).text();
            assert_eq!(kept, broken, "it is not overwritten");
        }
    }
    store.refill(&id(1), &rate, 1).await.unwrap();
    assert!(store.charge(&charge(1, &[rate])).await.unwrap().allowed);
    server.command(&["DEL", &name(1)]);
    server.command(&["SET", &name(1), "planted"]);
    let error = store.charge(&charge(1, &[daily])).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(store.charge(&other).await.unwrap().allowed);
}

/// A purge deletes everything of a key except for its usage, which expires by itself.
#[tokio::test]
async fn what_was_used_goes_with_the_record() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in [1, 2] {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
        let counters = vec![LimitCounter::new("daily", Quota::per_day(5))];
        let charge = Charge::new(id(number), 1, counters);
        store.charge(&charge).await.unwrap();
    }
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(store.purge_all(at(i64::MAX)).await.unwrap(), [id(1)]);
    let names = server.command(&["KEYS", "*:limit_counters:*"]).text();
    assert_eq!(names, name(2));
}
