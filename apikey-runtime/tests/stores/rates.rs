//! Rates in the stores that count in Rust: a clock that is set back, and denied charges.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::ManualClock;
use apikey_runtime::limit::LimitRule;
use apikey_runtime::store::{Charge, LimitCounter, LimitStore, WriteOptions};
use apikey_runtime::{KeyStore, MemoryStore, Quota, Rate, SqliteStore};

use crate::counts::clocked;
use crate::{Place, at, id, record};

async fn passes(store: &Arc<dyn KeyStore>, cost: u32, rule: impl Into<LimitRule>) -> bool {
    let charge = Charge::new(id(1), cost, vec![LimitCounter::new("a", rule)]);
    let limits = store.limits().unwrap();
    limits.charge(&charge).await.unwrap().allowed
}

#[tokio::test]
async fn a_clock_that_is_set_back_locks_nobody_out_and_allows_one_charge_too_many() {
    let rate = Rate::per_minute(5);
    for kind in 0..2 {
        let clock = ManualClock::at(at(1_795_348_800_000));
        let (place, clock) = (Place::new(), Arc::new(clock));
        let store = &clocked(&place, &clock).await[kind];
        // A clock does not go back beyond its start.
        clock.step_wall(24 * 3_600_000);
        assert!(passes(store, 5, rate).await);
        clock.step_wall(-12_000);
        // A step of at most what the charge takes up passes by itself.
        assert!(!passes(store, 1, rate).await);
        for _ in 0..3 {
            clock.step_wall(-3_600_000);
            assert!(!passes(store, 6, rate).await);
            for allowed in [true, false, false] {
                assert_eq!(passes(store, 1, rate).await, allowed, "{kind}");
            }
            clock.advance(Duration::from_millis(11_999));
            assert!(!passes(store, 1, rate).await);
            clock.advance(Duration::from_millis(1));
            assert!(passes(store, 1, rate).await);
        }
    }
}

/// A slow rate, whose burst takes long to be worked off.
#[tokio::test]
async fn a_slow_rate_goes_on_after_a_clock_is_set_back() {
    let rate = Rate::per_day(1_000);
    for kind in 0..2 {
        let clock = ManualClock::at(at(1_795_348_800_000));
        let (place, clock) = (Place::new(), Arc::new(clock));
        let store = &clocked(&place, &clock).await[kind];
        clock.step_wall(48 * 3_600_000);
        assert!(passes(store, 1_000, rate).await);
        for hours in [1, 12, 12] {
            clock.step_wall(-hours * 3_600_000);
            for allowed in [true, false] {
                assert_eq!(passes(store, 1, rate).await, allowed, "{kind}, {hours}");
            }
            clock.advance(Duration::from_millis(86_400));
            assert!(passes(store, 1, rate).await);
        }
    }
}

#[tokio::test]
async fn a_denied_charge_leaves_the_row_as_it_was() {
    let place = Place::new();
    let (store, mut tool) = (place.store().await, place.tool().await);
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let slow = LimitCounter::new("a", Rate::per_hour(5));
    let fast = LimitCounter::new("a", Rate::per_second(100).with_burst(5));
    let empty = LimitCounter::new("b", Quota::lifetime(1));
    for (cost, counter) in [(5, &slow), (1, &empty)] {
        let charge = Charge::new(id(1), cost, vec![counter.clone()]);
        assert!(store.charge(&charge).await.unwrap().allowed);
    }
    let rows = "SELECT group_concat(concat_ws(' ', key, name, tat, period, used, parts)) FROM api_key_limit_counters";
    let mut read = async || -> String {
        let text = sqlx::query_scalar(rows).fetch_one(&mut tool);
        text.await.unwrap()
    };
    let before = read().await;
    for (cost, counters) in [
        (1, vec![slow.clone()]),
        (6, vec![fast.clone()]),
        (1, vec![fast.clone(), empty]),
        (1, vec![slow, LimitCounter::new("new", Quota::per_day(5))]),
        (0, vec![fast]),
    ] {
        let charge = Charge::new(id(1), cost, counters);
        let charged = store.charge(&charge).await.unwrap();
        assert_eq!(charged.allowed, cost == 0, "{charge:?}");
        assert_eq!(read().await, before, "{charge:?}");
    }
}

/// The time of a store in memory is that of its clock, at any end.
#[tokio::test]
async fn a_clock_at_the_ends_of_time_counts_and_overflows_nothing() {
    for millis in [i64::MIN, -1, 0, i64::MAX] {
        let (place, clock) = (Place::new(), Arc::new(ManualClock::at(at(millis))));
        let file = SqliteStore::new(place.file()).clock(clock.clone());
        file.start().await.unwrap();
        file.insert(&record(1), &WriteOptions::new()).await.unwrap();
        let stores: [Arc<dyn KeyStore>; 2] = [
            Arc::new(file),
            Arc::new(MemoryStore::new().with_clock(clock.clone())),
        ];
        for store in &stores {
            for rule in [
                LimitRule::from(Quota::per_day(2)),
                Quota::per_month(2).into(),
                Quota::rolling(2, Duration::from_secs(1)).into(),
                Rate::per_day(2).into(),
            ] {
                for allowed in [true, true, false] {
                    assert_eq!(passes(store, 1, rule).await, allowed, "{millis}, {rule}");
                }
            }
        }
    }
}
