//! Concurrent charges: exact, and not lost.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::store::{Charge, LimitCounter, LimitStore, LimitSupport, WriteOptions};
use apikey_runtime::{KeyStore, PostgresStore, Quota, Rate};
use apikey_test_support::servers::postgres::Postgres;
use apikey_test_support::{PATIENCE, SLACK, within};
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Place, connection, cursor, number, place, run, until_waiting};
use crate::{id, record};

const NODES: u32 = 10;
const EACH: u32 = 100;

fn one(counters: Vec<LimitCounter>) -> Charge {
    Charge::new(id(1), 1, counters)
}

fn quota(amount: u64) -> Charge {
    one(vec![LimitCounter::new("q", Quota::lifetime(amount))])
}

/// Returns how many of many concurrent calls were allowed: `admit` gets the number of its turn.
async fn allowed<F: Future<Output = bool> + Send>(
    allowed: impl Fn(u32) -> F + Clone + Send + Sync + 'static,
) -> u64 {
    let mut nodes = JoinSet::new();
    for _ in 0..NODES {
        let allowed = allowed.clone();
        nodes.spawn(async move {
            let mut passed = 0;
            for turn in 0..EACH {
                passed += u64::from(allowed(turn).await);
            }
            passed
        });
    }
    nodes.join_all().await.into_iter().sum()
}

async fn admitted_by(store: &Arc<PostgresStore>, charge: Charge) -> u64 {
    let (store, charge) = (Arc::clone(store), Arc::new(charge));
    allowed(move |_| {
        let (store, charge) = (Arc::clone(&store), Arc::clone(&charge));
        async move { store.charge(&charge).await.unwrap().allowed }
    })
    .await
}

async fn many(place: &Place<'_>, setting: &str) -> Arc<PostgresStore> {
    let url = format!("{}{setting}", place.url());
    let store = PostgresStore::new(url).max_connections(NODES);
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    Arc::new(store)
}

/// R-01.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r01_a_quota_is_exact_under_any_default_isolation() {
    for setting in ["", "%20-cdefault_transaction_isolation%3Dserializable"] {
        let place = place!();
        let store = many(&place, setting).await;
        assert_eq!(store.support(), LimitSupport::All);
        for amount in [100, 1] {
            let name = format!("of {amount}");
            let charge = one(vec![
                LimitCounter::new(&name, Quota::rolling(amount, Duration::from_secs(86_400))),
                LimitCounter::new(&name, Rate::per_second(1_000_000)),
                LimitCounter::new(&name, Quota::per_month(1_000_000)),
            ]);
            assert_eq!(admitted_by(&store, charge.clone()).await, amount);
            let stands = store.charge(&charge).await.unwrap();
            let remaining: Vec<_> = stands.decisions.iter().map(|one| one.remaining).collect();
            assert_eq!((remaining[0], remaining[2]), (0, 1_000_000 - amount));
        }
    }
}

/// R-01, negative control: reading, deciding and then writing allows too many.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r01_a_count_that_is_read_and_then_written_is_found_out() {
    let place = place!();
    let store = many(&place, "").await;
    store.charge(&quota(1)).await.unwrap();
    let mut tool = place.tool().await;
    run(&mut tool, "UPDATE api_key_limit_counters SET used = 0")
        .await
        .unwrap();
    let all_have_read = Arc::new(Barrier::new(NODES as usize));
    let url = Arc::new(place.url());
    let passed = allowed(move |turn| {
        let (url, all_have_read) = (Arc::clone(&url), Arc::clone(&all_have_read));
        async move {
            let mut tool = connection(&url).await;
            let used = number(&mut tool, "SELECT used FROM api_key_limit_counters").await;
            if turn == 0 {
                all_have_read.wait().await;
            }
            if used < 1 {
                let write = format!("UPDATE api_key_limit_counters SET used = {used} + 1");
                run(&mut tool, &write).await.unwrap();
            }
            used < 1
        }
    })
    .await;
    assert_eq!(passed, u64::from(NODES));
}

/// R-07; and a flood of denials does not wait: a denial does not lock or write anything.
#[tokio::test]
async fn r07_what_is_refused_or_only_looked_at_waits_for_no_lock() {
    let place = place!();
    let store = Arc::new(place.started().await);
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let counters = || {
        vec![
            LimitCounter::new("b", Quota::per_day(1)),
            LimitCounter::new("a", Rate::per_hour(100)),
        ]
    };
    assert!(store.charge(&one(counters())).await.unwrap().allowed);
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "BEGIN; SELECT * FROM api_key_limit_counters FOR UPDATE",
    )
    .await
    .unwrap();
    for _ in 0..100 {
        let refused = store.charge(&one(counters())).await.unwrap();
        let allowed: Vec<_> = refused.decisions.iter().map(|one| one.allowed).collect();
        assert_eq!((refused.allowed, allowed), (false, vec![false, true]));
        assert_eq!(refused.decisions[1].remaining, 99);
    }
    let look = Charge::new(id(1), 0, counters());
    let looked = store.charge(&look).await.unwrap();
    assert!(looked.allowed && looked.decisions[0].remaining == 0);
    // A charge that may be allowed has to wait.
    let rate = one(vec![LimitCounter::new("a", Rate::per_hour(100))]);
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.charge(&rate).await }
    });
    until_waiting(&place, &mut tool, 1).await;
    run(&mut tool, "COMMIT").await.unwrap();
    let waited = waiting.await.unwrap().unwrap();
    assert_eq!((waited.allowed, waited.decisions[0].remaining), (true, 98));
    // Without limit counters there is nothing to ask.
    assert!(store.charge(&one(Vec::new())).await.unwrap().allowed);
}

/// Counts are not changes, and are deleted with their key: a charge does not add one after the
/// removal.
#[tokio::test]
async fn a_key_takes_its_counts_with_it_and_counting_takes_no_epoch() {
    let place = place!();
    let store = Arc::new(place.started().await);
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let since = cursor(&*store).await;
    store.charge(&quota(5)).await.unwrap();
    store
        .refill(&id(1), &quota(5).counters[0], u64::MAX)
        .await
        .unwrap();
    assert_eq!(cursor(&*store).await, since);
    let mut tool = place.tool().await;
    run(&mut tool, "BEGIN; DELETE FROM api_keys").await.unwrap();
    let late = tokio::spawn({
        let store = Arc::clone(&store);
        let charge = one(vec![LimitCounter::new("another", Quota::lifetime(5))]);
        async move { store.charge(&charge).await }
    });
    until_waiting(&place, &mut tool, 1).await;
    run(&mut tool, "COMMIT").await.unwrap();
    late.await.unwrap().unwrap();
    let count = "SELECT count(*) FROM api_key_limit_counters";
    assert_eq!(number(&mut tool, count).await, 0);
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    store.charge(&quota(5)).await.unwrap();
    assert_eq!(number(&mut tool, count).await, 1);
    run(&mut tool, "TRUNCATE api_keys").await.unwrap();
    assert_eq!(number(&mut tool, count).await, 0);
}

/// Only the tables' owner charges; a role that may remove keys removes their counts.
#[tokio::test]
async fn who_may_only_remove_keys_cannot_charge_and_leaves_no_counts() {
    let place = place!();
    let store = place.started().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    store.charge(&quota(5)).await.unwrap();
    let mut tool = place.tool().await;
    let role = format!("remover_{}", place.schema.replace(' ', "_").to_lowercase());
    let grant = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA \"{0}\" TO {role}; \
         GRANT SELECT, DELETE ON \"{0}\".api_keys TO {role}; SET ROLE {role}",
        place.schema
    );
    run(&mut tool, &grant).await.unwrap();
    for refused in [
        "SELECT api_key_charge('', '{}', '{}', '{}', '{}', '{}', NULL)",
        "SELECT api_key_refill('', '', 1)",
        "SELECT api_key_add_usage('', 1, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        "DELETE FROM api_key_limit_counters",
    ] {
        let error = run(&mut tool, refused).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{refused}: {error}");
    }
    run(&mut tool, "DELETE FROM api_keys").await.unwrap();
    run(&mut tool, "RESET ROLE").await.unwrap();
    let count = "SELECT count(*) FROM api_key_limit_counters";
    assert_eq!(number(&mut tool, count).await, 0);
}

/// S-03: the server is killed during charges, and all acknowledged charges are kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s03_a_charge_of_a_quota_outlives_the_crash_of_the_server() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let store = Arc::new(PostgresStore::new(server.url()));
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let mut told = 0;
    for round in 0..3 {
        let mut callers = JoinSet::new();
        let begun = Arc::new(Notify::new());
        for _ in 0..4 {
            let (store, begun) = (Arc::clone(&store), Arc::clone(&begun));
            callers.spawn(async move {
                let mut told = 0;
                while store.charge(&quota(1_000_000)).await.is_ok() {
                    told += 1;
                    begun.notify_one();
                }
                told
            });
        }
        timeout(PATIENCE, begun.notified()).await.unwrap();
        sleep(Duration::from_millis(100 + 50 * round)).await;
        server.kill();
        let now: i64 = callers.join_all().await.into_iter().sum();
        assert!(now > 0);
        told += now;
        server.run();
        let mut tool = connection(&server.url()).await;
        let used = number(&mut tool, "SELECT used FROM api_key_limit_counters").await;
        // Each time, four charges may have been counted and their answers lost.
        let lost = used - told;
        assert!(
            (0..=4 * (i64::try_from(round).unwrap() + 1)).contains(&lost),
            "{used}, {told}"
        );
        told = used;
    }
}

/// A server with commits that wait for a missing standby: the commits that wait for the disk also
/// wait for the standby.
#[tokio::test]
async fn a_quota_waits_for_the_disk_and_a_rate_does_not() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let store = PostgresStore::new(server.url());
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let rate = one(vec![LimitCounter::new("r", Rate::per_day(1_000))]);
    store.charge(&rate).await.unwrap();
    store.charge(&quota(9)).await.unwrap();
    let mut tool = connection(&server.url()).await;
    for sql in [
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        "SELECT pg_reload_conf()",
    ] {
        run(&mut tool, sql).await.unwrap();
    }
    let waits = async |charge| {
        let charged = timeout(Duration::from_secs(1), store.charge(charge)).await;
        charged.is_err()
    };
    // Commits wait once the checkpointer has read the names.
    let large = one(vec![LimitCounter::new("large", Quota::lifetime(1_000_000))]);
    let all_wait = within(PATIENCE, async || waits(&large).await);
    assert!(all_wait.await.is_some());
    for _ in 0..20 {
        let charged = timeout(SLACK, store.charge(&rate)).await;
        assert!(charged.unwrap().unwrap().allowed);
    }
    // The setting applies to one transaction: on the same connection the next one waits.
    assert!(waits(&quota(9)).await);
    // A denial does not wait, whatever the limit.
    let refused = store.charge(&quota(1)).await.unwrap();
    assert!(!refused.allowed);
}
