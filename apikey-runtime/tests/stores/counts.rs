//! Limits counted in a file: between stores, at the ends of days and months, after a crash.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::ManualClock;
use apikey_runtime::limit::LimitRule;
use apikey_runtime::store::{
    Charge, LimitCounter, LimitStore, StoreError, UsageStore, WriteOptions,
};
use apikey_runtime::usage::{NetworkUse, SecretUse, UsageBatch};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, MemoryStore, Quota, SqliteStore};
use tokio::task::JoinSet;

use crate::{InSteps, Place, at, because, id, number, record, run};

const DAY: Duration = Duration::from_secs(86_400);

/// 2024-02-29T23:59:59.999Z.
const LEAP_DAYS_END: i64 = 1_709_251_199_999;

fn counter(rule: impl Into<LimitRule>) -> LimitCounter {
    LimitCounter::new("a limit", rule)
}

fn one(counter: &LimitCounter) -> Charge {
    Charge::new(id(1), 1, vec![counter.clone()])
}

async fn passes(store: &dyn KeyStore, counter: &LimitCounter) -> bool {
    store
        .limits()
        .unwrap()
        .charge(&one(counter))
        .await
        .unwrap()
        .allowed
}

async fn left(store: &dyn KeyStore, counter: &LimitCounter) -> u64 {
    let look = Charge::new(id(1), 0, vec![counter.clone()]);
    store
        .limits()
        .unwrap()
        .charge(&look)
        .await
        .unwrap()
        .decisions[0]
        .remaining
}

/// Creates both kinds of store that count in Rust, at the time of `clock`, with one key.
pub(crate) async fn clocked(place: &Place, clock: &Arc<ManualClock>) -> [Arc<dyn KeyStore>; 2] {
    let file = SqliteStore::new(place.file()).clock(clock.clone());
    file.start().await.unwrap();
    let stores: [Arc<dyn KeyStore>; 2] = [
        Arc::new(file),
        Arc::new(MemoryStore::new().with_clock(clock.clone())),
    ];
    for store in &stores {
        store
            .insert(&record(1), &WriteOptions::new())
            .await
            .unwrap();
    }
    stores
}

///
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r01_two_stores_on_one_file_share_a_quota_exactly() {
    for rule in [Quota::lifetime(70), Quota::rolling(70, DAY)] {
        let place = Place::new();
        let stores = [Arc::new(place.store().await), Arc::new(place.store().await)];
        stores[0]
            .insert(&record(1), &WriteOptions::new())
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        for number in 0..300 {
            let store = Arc::clone(&stores[number % 2]);
            tasks.spawn(async move { passes(&*store, &counter(rule)).await });
        }
        let passed = tasks.join_all().await.into_iter().filter(|passed| *passed);
        assert_eq!(passed.count(), 70, "{rule}");
        for store in stores {
            assert_eq!(left(&*store, &counter(rule)).await, 0);
        }
    }
}

#[tokio::test]
async fn a_month_and_a_day_end_at_midnight_utc_and_not_before() {
    let days = |days: u32| Some(DAY * days);
    for kind in 0..2 {
        let (place, clock) = (Place::new(), Arc::new(ManualClock::at(at(LEAP_DAYS_END))));
        let store = &clocked(&place, &clock).await[kind];
        let (month, day) = (counter(Quota::per_month(2)), counter(Quota::per_day(2)));
        for counter in [&month, &day] {
            assert!(passes(&**store, counter).await && passes(&**store, counter).await);
            let refused = store.limits().unwrap().charge(&one(counter)).await.unwrap();
            assert!(!refused.allowed);
            assert_eq!(
                refused.decisions[0].retry_after,
                Some(Duration::from_millis(1))
            );
        }
        clock.advance(Duration::from_millis(1));
        for (counter, retry) in [(&month, days(31)), (&day, days(1))] {
            assert_eq!(left(&**store, counter).await, 2);
            assert!(passes(&**store, counter).await && passes(&**store, counter).await);
            let refused = store.limits().unwrap().charge(&one(counter)).await.unwrap();
            assert_eq!(refused.decisions[0].retry_after, retry);
        }
        clock.advance(30 * DAY);
        assert!(!passes(&**store, &month).await && passes(&**store, &day).await);
        clock.advance(DAY);
        assert!(passes(&**store, &month).await);
    }
}

#[tokio::test]
async fn a_rolling_window_gives_back_what_has_left_it() {
    for kind in 0..2 {
        let (place, clock) = (Place::new(), Arc::new(ManualClock::at(at(LEAP_DAYS_END))));
        let store = &clocked(&place, &clock).await[kind];
        let hour = counter(Quota::rolling(2, Duration::from_secs(3_600)));
        assert!(passes(&**store, &hour).await);
        clock.advance(Duration::from_secs(1_800));
        assert!(passes(&**store, &hour).await && !passes(&**store, &hour).await);
        // At most a sixtieth later than the hour.
        clock.advance(Duration::from_secs(1_800 + 60));
        assert!(passes(&**store, &hour).await && !passes(&**store, &hour).await);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_grants_nothing() {
    for kind in 0..2 {
        let (place, clock) = (Place::new(), Arc::new(ManualClock::at(at(LEAP_DAYS_END))));
        let store = &clocked(&place, &clock).await[kind];
        let rules = [
            Quota::per_month(2),
            Quota::per_day(2),
            Quota::rolling(2, DAY),
        ];
        // Set forward by mistake, and then corrected.
        clock.step_wall(40 * 86_400_000);
        for rule in rules {
            assert!(passes(&**store, &counter(rule)).await);
        }
        clock.step_wall(-40 * 86_400_000);
        for rule in rules {
            assert_eq!(left(&**store, &counter(rule)).await, 1, "{rule}");
            assert!(passes(&**store, &counter(rule)).await, "{rule}");
            assert!(!passes(&**store, &counter(rule)).await, "{rule}");
        }
    }
}

#[tokio::test]
async fn what_is_counted_of_a_key_goes_with_it() {
    const ROWS: &str = "SELECT (SELECT count(*) FROM api_key_limit_counters) + (SELECT count(*) FROM api_key_secret_uses) \
         + (SELECT count(*) FROM api_key_networks)";
    let place = Place::new();
    let (store, mut tool) = (place.store().await, place.tool().await);
    let use_all = async || {
        for number in [1, 2] {
            let counters = vec![counter(Quota::per_day(5)), counter(Quota::lifetime(5))];
            store
                .charge(&Charge::new(id(number), 1, counters))
                .await
                .unwrap();
        }
    };
    use_all().await;
    assert_eq!(
        number(&mut tool, ROWS).await,
        0,
        "the key does not exist yet"
    );
    for number in [1, 2] {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
    }
    use_all().await;
    let mut batch = UsageBatch::new(
        apikey_runtime::store::NodeId::from_u128(1),
        1,
        Duration::from_secs(60),
    );
    batch.last_used = [1, 2, 3]
        .map(|key| SecretUse::new(id(key), 0, at(5), None))
        .to_vec();
    let network = "192.0.2.0/24".parse().unwrap();
    batch.networks = [1, 2, 3]
        .map(|key| NetworkUse::new(id(key), network, at(5)))
        .to_vec();
    store.add_usage(&batch).await.unwrap();
    assert_eq!(number(&mut tool, ROWS).await, 8);
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    store.purge_all(at(i64::MAX)).await.unwrap();
    assert_eq!(number(&mut tool, ROWS).await, 4);
    run(&mut tool, "DELETE FROM api_keys").await.unwrap();
    assert_eq!(number(&mut tool, ROWS).await, 0);
    use_all().await;
    assert_eq!(
        number(&mut tool, ROWS).await,
        0,
        "they would never be removed"
    );
}

/// A reader does not wait for writers.
#[tokio::test]
async fn a_look_at_limits_writes_nothing() {
    let place = Place::new();
    let (store, mut tool) = (place.store().await, place.tool().await);
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let daily = counter(Quota::per_day(5));
    assert!(passes(&store, &daily).await);
    run(&mut tool, "BEGIN IMMEDIATE").await.unwrap();
    assert_eq!(left(&store, &daily).await, 4);
    run(&mut tool, "ROLLBACK").await.unwrap();
}

/// A caller that gives up does not affect the others, and neither does the end of its runtime.
#[test]
fn who_gives_up_on_a_charge_leaves_the_others_theirs() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let place = Place::new();
    let daily = counter(Quota::per_day(9));
    let (first, second) = (runtime(), runtime());
    let (store, mut tool) = first.block_on(async {
        let (store, mut tool) = (Arc::new(place.store().await), place.tool().await);
        store
            .insert(&record(1), &WriteOptions::new())
            .await
            .unwrap();
        run(&mut tool, "BEGIN IMMEDIATE").await.unwrap();
        let early = Duration::from_millis(20);
        tokio::time::timeout(early, passes(&*store, &daily))
            .await
            .unwrap_err();
        let waiting = tokio::spawn({
            let (store, daily) = (Arc::clone(&store), daily.clone());
            async move { passes(&*store, &daily).await }
        });
        tokio::task::yield_now().await;
        run(&mut tool, "ROLLBACK").await.unwrap();
        assert!(waiting.await.unwrap());
        assert!(matches!(left(&*store, &daily).await, 7 | 8));
        run(&mut tool, "BEGIN IMMEDIATE").await.unwrap();
        tokio::time::timeout(early, passes(&*store, &daily))
            .await
            .unwrap_err();
        (store, tool)
    });
    drop(first);
    second.block_on(async {
        run(&mut tool, "ROLLBACK").await.unwrap();
        assert!(passes(&*store, &daily).await);
    });
}

/// It must not be read as a counter without usage.
#[tokio::test]
async fn a_count_that_cannot_be_read_admits_nothing_and_costs_no_other() {
    let place = Place::new();
    let (store, mut tool) = (Arc::new(place.store().await), place.tool().await);
    for number in [1, 2] {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
        let charge = Charge::new(id(number), 1, vec![counter(Quota::per_day(5))]);
        store.charge(&charge).await.unwrap();
    }
    for statement in [
        "UPDATE api_key_limit_counters SET used = -1",
        "UPDATE api_key_limit_counters SET used = 1.5",
        "UPDATE api_key_limit_counters SET parts = '[]'",
        "UPDATE api_key_limit_counters SET parts = 'planted'",
    ] {
        let refused = run(&mut tool, statement).await;
        assert!(refused.is_err(), "{statement}");
    }
    run(&mut tool, "PRAGMA ignore_check_constraints = ON")
        .await
        .unwrap();
    for statement in [
        "UPDATE api_key_limit_counters SET parts = '{\"planted\": 1}' WHERE key LIKE '%1'",
        "UPDATE api_key_limit_counters SET parts = '{}', used = -7 WHERE key LIKE '%1'",
        "UPDATE api_key_limit_counters SET used = 1, period = -1 WHERE key LIKE '%1'",
        "UPDATE api_key_limit_counters SET period = 9223372036854775807 WHERE key LIKE '%1'",
        "UPDATE api_key_limit_counters SET period = 1, tat = -1 WHERE key LIKE '%1'",
        "UPDATE api_key_limit_counters SET tat = 9223372036854775807 WHERE key LIKE '%1'",
        "UPDATE api_key_limit_counters SET tat = 0, parts = '{\"9223372036854775807\": 1}' WHERE key LIKE '%1'",
        "UPDATE api_key_limit_counters SET parts = '{\"1\": -1}' WHERE key LIKE '%1'",
        "UPDATE api_key_limit_counters SET parts = '{\"1\": 1.5}' WHERE key LIKE '%1'",
    ] {
        run(&mut tool, statement).await.unwrap();
        let charge = |number| Charge::new(id(number), 1, vec![counter(Quota::per_day(100))]);
        let (broken, whole) = (charge(1), charge(2));
        // They arrive together, and so share a transaction.
        let (broken, whole) = tokio::join!(store.charge(&broken), store.charge(&whole));
        match broken {
            Err(StoreError::Corrupt { id: named, reason }) => {
                assert_eq!(named, id(1).to_string());
                assert!(!reason.contains("planted"), "{reason}");
                assert!(reason.contains("delete its row"), "{reason}");
            }
            other => panic!("{statement}: {other:?}"),
        }
        assert!(whole.unwrap().allowed);
    }
}

/// Keys of a file that an earlier release created.
#[tokio::test]
async fn a_file_without_limits_gets_them_and_keeps_its_keys() {
    let place = Place::new();
    let mut tool = crate::file::sqlite_new(&place).await;
    run(
        &mut tool,
        include_str!("../../src/store/sqlite/migrations/0100_initial.sql"),
    )
    .await
    .unwrap();
    run(
        &mut tool,
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000001', 'my_api', 'a label', 'sha256$00', '', '{}', 1000, 1, 1)",
    )
    .await
    .unwrap();
    let store = place.store().await;
    assert_eq!(store.find(&id(1)).await.unwrap(), Some(record(1)));
    assert!(passes(&store, &counter(Quota::per_day(1))).await);
    run(
        &mut tool,
        "UPDATE api_keys SET limits = '[{\"name\":\"daily\",\"quota\":\"1000/day\"},{\"name\":\"m\",\"rate\":\"10/minute\"}]'",
    )
    .await
    .unwrap();
    let found: KeyRecord = store.find(&id(1)).await.unwrap().unwrap();
    let limits = found
        .limits
        .iter()
        .map(|limit| format!("{} {}", limit.name(), limit.rule()));
    assert_eq!(
        limits.collect::<Vec<_>>(),
        ["daily 1000/day", "m 10/minute"]
    );
}

/// Names the file to the child process; without it the child's test does nothing.
const FILE: &str = "APIKEY_TEST_COUNTS_FILE";

/// The child process; not a test by itself.
#[tokio::test]
async fn child_that_charges_until_it_is_killed() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let store = SqliteStore::new(file);
    store.start().await.unwrap();
    let credits = counter(Quota::lifetime(1_000_000));
    while passes(&store, &credits).await {
        writeln!(std::io::stdout(), "\ncharged {}", KeyId::from_u128(1)).unwrap();
    }
}

/// S-03.
#[tokio::test]
async fn s03_a_killed_process_has_counted_what_it_admitted() {
    let place = Place::new();
    place
        .store()
        .await
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let credits = counter(Quota::lifetime(1_000_000));
    let mut used = 0;
    for round in 1..=5 {
        let told = killed_after(&place, 20 * round);
        let now = 1_000_000 - left(&place.store().await, &credits).await;
        // One charge may have been counted without an answer.
        assert!(
            (told..=told + 1).contains(&(now - used)),
            "{told} told, {used} to {now}"
        );
        used = now;
    }
}

/// Kills the child after it reported this many charges; returns the final number of reported
/// charges.
fn killed_after(place: &Place, charges: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "counts::child_that_charges_until_it_is_killed",
            "--nocapture",
        ])
        .env(FILE, place.file())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        told += u64::from(line.is_ok_and(|line| line.starts_with("charged ")));
        if told == charges {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    told
}
