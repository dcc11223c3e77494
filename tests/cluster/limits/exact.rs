//! Quotas: exactly as much as they have, from any number of processes.

use std::time::Duration;

use apikey_runtime::{Limit, Rate};

use super::{LEASE, On, credits, hourly, keeps, nodes};
use crate::harness::clock::{nanos, now};
use crate::harness::control::in_turn;
use crate::harness::settings::Settings;
use crate::harness::spending::{End, Plan};

/// The longest wait for a store.
const PATIENCE: Duration = Duration::from_secs(120);

/// a quota of 100 and of 1, from 1, 3 and 9 processes, one of which is killed in mid-run.
async fn r01(on: On, test: &str) {
    let Some(cluster) = nodes(on, test, Settings::calm(10, LEASE)).await else {
        return;
    };
    for (processes, dies) in [(1, None), (3, Some(10)), (9, Some(3))] {
        let plan = Plan::of(processes, [credits(100)]);
        assert_eq!(keeps(&cluster, &plan).await.admitted.len(), 100);
        if let Some(dies) = dies {
            keeps(&cluster, &plan.killing(dies)).await;
        }
        let one = keeps(&cluster, &Plan::of(processes, [credits(1)])).await;
        assert_eq!(one.admitted.len(), 1);
    }
    for limit in [credits(1), hourly(1)].into_iter().cycle().take(10) {
        let one = keeps(&cluster, &Plan::of(10, [limit])).await;
        assert_eq!(one.admitted.len(), 1);
    }
}

#[test]
fn r01_a_quota_is_exact_from_many_processes_on_sqlite() {
    in_turn(r01(On::Sqlite, ""));
}

#[test]
fn r01_a_quota_is_exact_from_many_processes_on_postgres() {
    in_turn(r01(On::Postgres, ""));
}

#[test]
fn r01_a_quota_is_exact_from_many_processes_on_redis() {
    in_turn(r01(
        On::Redis,
        "r01_a_quota_is_exact_from_many_processes_on_redis",
    ));
}

/// if one limit denies, none is charged, even if a node is killed in mid-run: two quotas, and
/// a rate that denies most checks.
async fn r07(on: On, test: &str) {
    let Some(cluster) = nodes(on, test, Settings::calm(4, LEASE)).await else {
        return;
    };
    let rate = Limit::new("rate", Rate::per_second(200).with_burst(5));
    let plan = Plan::of(4, [credits(60), hourly(100), rate]);
    assert_eq!(keeps(&cluster, &plan).await.admitted.len(), 60);
    let plan = Plan::of(4, [hourly(100), credits(60)]);
    assert_eq!(keeps(&cluster, &plan).await.admitted.len(), 60);
    keeps(&cluster, &plan.killing(5)).await;
}

#[test]
fn r07_limits_are_charged_all_or_none_by_many_processes_on_sqlite() {
    in_turn(r07(On::Sqlite, ""));
}

#[test]
fn r07_limits_are_charged_all_or_none_by_many_processes_on_postgres() {
    in_turn(r07(On::Postgres, ""));
}

#[test]
fn r07_limits_are_charged_all_or_none_by_many_processes_on_redis() {
    in_turn(r07(
        On::Redis,
        "r07_limits_are_charged_all_or_none_by_many_processes_on_redis",
    ));
}

/// A store that is killed and restarted remembers all charges: its count has every allowed check,
/// and beyond these only checks without an answer.
async fn store_killed(on: On, test: &str) {
    let settings = Settings {
        store_timeout: Duration::from_secs(1),
        ..Settings::calm(3, LEASE)
    };
    let Some(cluster) = nodes(on, test, settings).await else {
        return;
    };
    let plan = Plan {
        end: End::Told,
        ..Plan::of(3, [credits(1_000_000), hourly(2_000_000)])
    };
    let killing = async {
        let admits_since = async |time| {
            let members = cluster.members();
            members.iter().all(|node| node.has_admitted_since(time))
        };
        wait_until(async || admits_since(0).await).await;
        let killed = now();
        cluster.place.kill(Duration::from_millis(200)).await;
        let runs = now();
        for node in cluster.members() {
            wait_until(async || node.ask("issue []").await.is_ok()).await;
        }
        wait_until(async || admits_since(runs).await).await;
        for node in cluster.members() {
            node.ask("enough").await.unwrap();
        }
        (killed, runs)
    };
    let (spent, (killed, runs)) = tokio::join!(cluster.spend(&plan), killing);
    let standings = cluster.standings(0, &spent).await;
    println!("limits: the store is killed, {spent}; {standings:?}");
    assert_eq!(spent.judge(&standings), [], "the store is killed");
    assert!(spent.unsure > 0, "the kill went unnoticed");
    let admitted = || spent.admitted.iter();
    assert!(admitted().any(|check| check.end < killed));
    assert!(admitted().any(|check| check.start > runs));
}

/// Panics if it does not become true in time.
async fn wait_until(is_true: impl AsyncFn() -> bool) {
    let begun = now();
    while !is_true().await {
        assert!(now() - begun < nanos(PATIENCE), "not in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn charges_outlive_a_postgres_that_is_killed_in_mid_run() {
    in_turn(store_killed(On::Postgres, ""));
}

#[test]
fn charges_outlive_a_redis_that_is_killed_in_mid_run() {
    in_turn(store_killed(
        On::Redis,
        "charges_outlive_a_redis_that_is_killed_in_mid_run",
    ));
}
