//! Stored counters: what changes them, and what cannot be one.

use std::slice::from_ref;
use std::time::Duration;

use apikey_runtime::limit::LimitRule;
use apikey_runtime::store::{Charge, LimitCounter, LimitStore, StoreError, WriteOptions};
use apikey_runtime::{KeyStore, Quota, Rate};
use sqlx::PgConnection;

use super::model::{SECOND, START, asked};
use super::{number, place, run};
use crate::{id, record};

const HOUR: i64 = 3_600 * SECOND;

fn charge(cost: u32, rule: impl Into<LimitRule>) -> Charge {
    Charge::new(id(1), cost, vec![LimitCounter::new("a", rule)])
}

/// Returns all rows with the versions that the server has of them.
async fn rows(tool: &mut PgConnection) -> Vec<String> {
    let rows = "SELECT format('%s %s %s', ctid, xmin, counter) FROM api_key_limit_counters AS counter ORDER BY name";
    sqlx::query_scalar(rows).fetch_all(tool).await.unwrap()
}

#[tokio::test]
async fn a_clock_that_is_set_back_locks_nobody_out_and_allows_one_charge_too_many() {
    let place = place!();
    place
        .started()
        .await
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = place.tool().await;
    let one = charge(1, Rate::per_minute(5));
    assert!(
        asked(&mut tool, &charge(5, Rate::per_minute(5)), START)
            .await
            .0
    );
    assert!(!asked(&mut tool, &one, START).await.0);
    // A step of at most what the charge takes up passes by itself.
    let before = rows(&mut tool).await;
    assert!(!asked(&mut tool, &one, START - 12 * SECOND).await.0);
    assert_eq!(rows(&mut tool).await, before);
    let mut now = START;
    for _ in 0..3 {
        now -= HOUR;
        // A charge above the burst is denied, and leaves the next one as it was.
        assert!(
            !asked(&mut tool, &charge(6, Rate::per_minute(5)), now)
                .await
                .0
        );
        for allowed in [true, false, false] {
            assert_eq!(asked(&mut tool, &one, now).await.0, allowed);
        }
        assert!(!asked(&mut tool, &one, now + 12 * SECOND - 1).await.0);
        assert!(asked(&mut tool, &one, now + 12 * SECOND).await.0);
    }
}

/// A slow rate, whose burst takes long to be worked off.
#[tokio::test]
async fn a_slow_rate_goes_on_after_a_clock_is_set_back() {
    let place = place!();
    place
        .started()
        .await
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = place.tool().await;
    let (rate, step) = (Rate::per_day(1_000), 86_400_000);
    let one = charge(1, rate);
    assert!(asked(&mut tool, &charge(1_000, rate), START).await.0);
    let mut now = START;
    for hours in [1, 12, 12] {
        now -= hours * HOUR;
        for allowed in [true, false] {
            assert_eq!(asked(&mut tool, &one, now).await.0, allowed, "{hours}");
        }
        now += step;
        assert!(asked(&mut tool, &one, now).await.0);
    }
}

#[tokio::test]
async fn a_denied_charge_leaves_each_row_as_it_was() {
    let place = place!();
    let store = place.started().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let slow = LimitCounter::new("a", Rate::per_hour(5));
    let fast = LimitCounter::new("a", Rate::per_second(100).with_burst(5));
    let empty = LimitCounter::new("b", Quota::lifetime(1));
    let rolling = LimitCounter::new("c", Quota::rolling(9, Duration::from_secs(60)));
    for (cost, counter) in [(5, &slow), (1, &empty), (3, &rolling)] {
        let charge = Charge::new(id(1), cost, vec![counter.clone()]);
        assert!(store.charge(&charge).await.unwrap().allowed);
    }
    let mut tool = place.tool().await;
    let before = rows(&mut tool).await;
    for (cost, counters) in [
        (1, vec![slow.clone()]),
        (6, vec![fast.clone()]),
        (1, vec![fast.clone(), empty.clone()]),
        (1, vec![rolling, fast.clone(), empty]),
        (1, vec![slow, LimitCounter::new("new", Quota::per_day(5))]),
        (0, vec![fast]),
    ] {
        let charge = Charge::new(id(1), cost, counters);
        let charged = store.charge(&charge).await.unwrap();
        assert_eq!(charged.allowed, cost == 0, "{charge:?}");
        assert_eq!(rows(&mut tool).await, before, "{charge:?}");
    }
}

/// Runs the statement of the documentation.
#[tokio::test]
async fn old_counts_of_rates_can_be_removed_by_the_statement_of_the_docs() {
    let place = place!();
    let store = place.started().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = place.tool().await;
    let used = [
        LimitCounter::new(":route:5/hour:my_api::list", Rate::per_hour(5)),
        LimitCounter::new("minute", Rate::per_hour(5)),
        LimitCounter::new("rate", Quota::lifetime(5)),
        LimitCounter::new("hour", Quota::rolling(5, Duration::from_secs(3_600))),
    ];
    let old = LimitCounter::new(":route:9/hour:my_api::list", Rate::per_hour(9));
    for cost in [5, 1] {
        let counters = [&used[..], from_ref(&old)].concat();
        let charge = Charge::new(id(1), cost, counters);
        assert_eq!(store.charge(&charge).await.unwrap().allowed, cost == 5);
    }
    let older =
        "UPDATE api_key_limit_counters SET tat = tat - 172800000000 WHERE name LIKE '%9/hour%'";
    run(&mut tool, older).await.unwrap();
    let docs = include_str!("../../../docs/limits.md");
    let remove = docs.lines().find(|line| line.starts_with("DELETE"));
    run(&mut tool, remove.unwrap()).await.unwrap();
    assert_eq!(rows(&mut tool).await.len(), used.len());
    for counter in used {
        let charge = Charge::new(id(1), 1, vec![counter]);
        assert!(!store.charge(&charge).await.unwrap().allowed, "{charge:?}");
    }
    let charge = Charge::new(id(1), 9, vec![old]);
    assert!(store.charge(&charge).await.unwrap().allowed);
}

const TOO_LARGE: &str =
    "parts = '{2000000000,2000000001}', parts_used = '{9223372036854775807,9223372036854775807}'";

/// Numbers that only a tool can write. They must neither read as unused, nor panic, nor disturb
/// other keys.
#[tokio::test]
async fn s08_a_broken_counter_denies_its_key_and_says_how_to_remove_it() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    for number in [1, 2] {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
    }
    let drop = "ALTER TABLE api_key_limit_counters DROP CONSTRAINT api_key_limit_counters_used_check, \
         ALTER parts DROP NOT NULL, ALTER used DROP NOT NULL, ALTER tat DROP NOT NULL";
    run(&mut tool, drop).await.unwrap();
    let all = [
        LimitCounter::new("rate", Rate::per_minute(5)),
        LimitCounter::new("daily", Quota::per_day(9)),
        LimitCounter::new("rolling", Quota::rolling(9, Duration::from_secs(60))),
    ];
    for broken in [
        "tat = -1",
        "tat = 9223372036854775807",
        "tat = (-9223372036854775807)::bigint - 1",
        "tat = NULL",
        "used = -1",
        "used = (-9223372036854775807)::bigint - 1",
        "used = NULL",
        "period = -1",
        "period = 9223372036854775807",
        "period = 3000000",
        "parts = NULL",
        "parts = '{1,2}'",
        "parts_used = '{1,2}'",
        "parts = '{1,2}', parts_used = '{1}'",
        "parts = '{NULL}', parts_used = '{1}'",
        "parts = '{1}', parts_used = '{NULL}'",
        "parts = '{1}', parts_used = '{-1}'",
        "parts = '{9223372036854775807}', parts_used = '{1}'",
        "parts = '{{1,2}}', parts_used = '{{1,2}}'",
        "parts = '[0:1]={1,2}', parts_used = '[0:1]={1,2}'",
        "parts = '{2000000000,2000000000}', parts_used = '{1,2}'",
        TOO_LARGE,
    ] {
        // Only a rolling quota adds them up.
        let skipped = if broken == TOO_LARGE { 2 } else { 0 };
        for counter in &all[skipped..] {
            for key in [1, 2] {
                let one = Charge::new(id(key), 1, vec![counter.clone()]);
                store.charge(&one).await.unwrap();
            }
            let set = format!(
                "UPDATE api_key_limit_counters SET {broken} WHERE key = '{}'",
                id(1)
            );
            run(&mut tool, &set).await.unwrap();
            let mut results = Vec::new();
            for cost in [1, 0, u32::MAX] {
                let one = Charge::new(id(1), cost, vec![counter.clone()]);
                results.push(store.charge(&one).await.map(|_| ()));
            }
            if matches!(counter.rule(), LimitRule::Quota(_)) {
                results.push(store.refill(&id(1), counter, 3).await);
            }
            for result in results {
                match result {
                    Err(StoreError::Corrupt { id: named, reason }) => {
                        assert_eq!(named, id(1).to_string());
                        assert!(reason.contains("delete its row"), "{reason}");
                    }
                    other => panic!("{broken}, {}: {other:?}", counter.name()),
                }
            }
            let other = Charge::new(id(2), 0, vec![counter.clone()]);
            assert!(store.charge(&other).await.unwrap().allowed);
            run(&mut tool, "DELETE FROM api_key_limit_counters")
                .await
                .unwrap();
        }
    }
    for counter in &all {
        let one = Charge::new(id(1), 5, vec![counter.clone()]);
        assert!(store.charge(&one).await.unwrap().allowed);
    }
    // The largest right numbers do not overflow.
    let most = "UPDATE api_key_limit_counters SET used = 9223372036854775807, period = 2932896, \
         tat = 257905900427369496, parts = '{253402300799999}', parts_used = '{9223372036854775807}'";
    run(&mut tool, most).await.unwrap();
    for counter in &all {
        for cost in [0, 1, u32::MAX] {
            let one = Charge::new(id(1), cost, from_ref(counter).to_vec());
            store.charge(&one).await.unwrap();
        }
    }
}

/// A database of the first release: its counters of keys' own limits are counted on.
#[tokio::test]
async fn counters_of_an_earlier_schema_are_counted_on() {
    let place = place!();
    let mut tool = place.tool().await;
    let first = concat!(
        include_str!("../../../src/store/postgres/migrations/0100_initial.sql"),
        "; INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000001', 'p', 'l', 'd', '', '{}', 0, TRUE, 1); \
         INSERT INTO api_key_limit_counters (key, name, used) \
         VALUES ('0000000000000000000001', 'credits/lifetime', 4)"
    );
    run(&mut tool, first).await.unwrap();
    let store = place.started().await;
    let version = "SELECT schema_version::bigint FROM api_key_meta";
    assert!(number(&mut tool, version).await >= 101);
    let credits = LimitCounter::new("credits", Quota::lifetime(5));
    let one = Charge::new(id(1), 1, vec![credits.clone()]);
    for allowed in [true, false] {
        assert_eq!(store.charge(&one).await.unwrap().allowed, allowed);
    }
    store.refill(&id(1), &credits, 1).await.unwrap();
    assert!(store.charge(&one).await.unwrap().allowed);
}
