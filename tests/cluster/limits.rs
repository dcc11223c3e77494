//! Limits, used up by several nodes at the same time, and what is taken ahead.
//!
//! Nodes note each admission before they go on, so that what a node was let is known that was
//! killed, up to what it had under way; and the store says what was charged. See
//! `harness/spending`.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::{Limit, Quota, Rate};

use crate::harness::cluster::Cluster;
use crate::harness::control::in_turn;
use crate::harness::node::Charging;
use crate::harness::place::Place;
use crate::harness::settings::Settings;
use crate::harness::spending::{Broken, End, Plan, Spent};

const LEASE: Duration = Duration::from_secs(5);

/// How many units a node takes ahead, where it does.
const BATCH: u32 = 10;

/// What a test is run on.
#[derive(Debug, Clone, Copy)]
enum On {
    Sqlite,
    Postgres,
    Redis,
}

/// Nodes on a store of their own; `None` where its server is not installed.
async fn nodes(on: On, test: &str, settings: Settings) -> Option<Arc<Cluster>> {
    let folder = tempfile::tempdir().unwrap();
    let (name, place) = match on {
        On::Sqlite => ("sqlite", Some(Place::Sqlite(folder.path().join("keys.db")))),
        On::Postgres => ("postgres", None),
        On::Redis => ("redis", None),
    };
    if !Settings::wants(name) {
        return None;
    }
    let place = match on {
        On::Sqlite => place,
        On::Postgres => Place::postgres(),
        On::Redis => Place::redis(test),
    };
    Some(Cluster::start(settings, place?, "node_process", folder).await)
}

/// For good, so that no midnight comes in between.
fn credits(amount: u64) -> Limit {
    Limit::new("credits", Quota::lifetime(amount))
}

fn hourly(amount: u64) -> Limit {
    Limit::new("hourly", Quota::rolling(amount, Duration::from_secs(3_600)))
}

/// Uses up the limits, and says what is wrong with what came of it.
async fn judged(cluster: &Cluster, plan: &Plan) -> (Spent, Vec<Broken>) {
    let spent = cluster.spend(plan).await;
    let standings = cluster.standings(0, &spent).await;
    let broken = spent.judge(&standings);
    println!(
        "limits: on {}, {spent}; {standings:?}",
        cluster.place.name()
    );
    (spent, broken)
}

/// Uses up the limits, and panics where something is wrong. A node that was killed is started
/// anew.
async fn keeps(cluster: &Cluster, plan: &Plan) -> Spent {
    let (spent, broken) = judged(cluster, plan).await;
    let admitted = spent.admitted.len();
    assert_eq!(broken, [], "{plan:?}: {admitted} admitted");
    if plan.dies.is_some() {
        cluster.start_node(plan.nodes - 1).await.unwrap();
    } else {
        assert_eq!(spent.unsure, 0, "{plan:?}: answers were lost");
    }
    spent
}

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

/// what one limit refuses is charged to none, also where a node is killed in mid-run: two
/// quotas, and a rate that refuses most of what comes.
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

/// What is taken ahead never makes more of a quota. It is given back by nodes that end by themselves;
/// with one that is killed, no more is lost than it may take ahead for each check under way.
async fn ahead(on: On, test: &str) {
    let settings = Settings {
        limit_batch: BATCH,
        ..Settings::calm(3, LEASE)
    };
    let Some(cluster) = nodes(on, test, settings).await else {
        return;
    };
    for tasks in [1, 4] {
        let plan = Plan {
            tasks,
            ..Plan::of(3, [credits(300), hourly(400)])
        };
        assert_eq!(keeps(&cluster, &plan).await.admitted.len(), 300);
        keeps(&cluster, &plan.killing(20)).await;
    }
    let plan = Plan {
        end: End::After(35),
        ..Plan::of(3, [credits(1_000), hourly(2_000)])
    };
    let spent = cluster.spend(&plan).await;
    for slot in cluster.regular_slots() {
        cluster.stop_node(slot).await;
    }
    cluster.start_node(0).await.unwrap();
    let standings = cluster.standings(0, &spent).await;
    println!("limits: after all nodes ended, {spent}; {standings:?}");
    assert_eq!(spent.judge(&standings), [], "after all nodes ended");
    assert!(spent.admitted.len() >= 3 * 35);
}

#[test]
fn units_taken_ahead_by_many_processes_are_used_or_given_back_on_sqlite() {
    in_turn(ahead(On::Sqlite, ""));
}

#[test]
fn units_taken_ahead_by_many_processes_are_used_or_given_back_on_postgres() {
    in_turn(ahead(On::Postgres, ""));
}

#[test]
fn units_taken_ahead_by_many_processes_are_used_or_given_back_on_redis() {
    in_turn(ahead(
        On::Redis,
        "units_taken_ahead_by_many_processes_are_used_or_given_back_on_redis",
    ));
}

/// Three nodes on one rate, for a while.
fn at_a_rate() -> Plan {
    let rate = Rate::per_second(50).with_burst(10);
    Plan {
        end: End::In(Duration::from_millis(2_500)),
        ..Plan::of(3, [Limit::new("rate", rate)])
    }
}

///
async fn r02(on: On, test: &str) {
    if let Some(cluster) = nodes(on, test, Settings::calm(3, LEASE)).await {
        let spent = cluster.spend(&at_a_rate()).await;
        println!("limits: on {}, {spent}", cluster.place.name());
        assert_eq!(spent.judge_speed(), []);
    }
}

#[test]
fn r02_many_processes_share_a_rate_on_postgres() {
    in_turn(r02(On::Postgres, ""));
}

#[test]
fn r02_many_processes_share_a_rate_on_redis() {
    in_turn(r02(On::Redis, "r02_many_processes_share_a_rate_on_redis"));
}

/// A negative control: SQLite leaves rates to each process.
#[test]
fn a_rate_that_each_process_counts_for_itself_is_found_out() {
    in_turn(async {
        let Some(cluster) = nodes(On::Sqlite, "", Settings::calm(3, LEASE)).await else {
            return;
        };
        let alone = Plan {
            nodes: 1,
            ..at_a_rate()
        };
        assert_eq!(cluster.spend(&alone).await.judge_speed(), []);
        let broken = cluster.spend(&at_a_rate()).await.judge_speed();
        assert!(
            matches!(broken[..], [Broken::TooFast { .. }]),
            "found is only this: {broken:?}"
        );
    });
}

/// What is wrong with what came of `plan`, on a store that charges like this.
async fn careless(charging: Charging, plan: &Plan) -> Option<Vec<Broken>> {
    let settings = Settings {
        charging,
        ..Settings::calm(plan.nodes, LEASE)
    };
    let cluster = nodes(On::Sqlite, "", settings).await?;
    Some(judged(&cluster, plan).await.1)
}

/// Panics unless a store that charges like this is found out by `sign`, and a sound one is not.
fn is_found_out(charging: Charging, plan: &Plan, sign: impl Fn(&Broken) -> bool) {
    in_turn(async {
        let Some(sound) = careless(Charging::Soundly, plan).await else {
            return;
        };
        assert_eq!(sound, [], "a sound store");
        let broken = careless(charging, plan).await.unwrap();
        assert!(
            broken.iter().any(sign),
            "{charging:?} is not found out; found is only this: {broken:?}"
        );
    });
}

#[test]
fn a_quota_that_is_looked_at_and_then_charged_is_found_out() {
    for quota in [1, 100] {
        let plan = Plan::of(3, [credits(quota)]);
        is_found_out(Charging::AfterALook, &plan, |broken| {
            matches!(broken, Broken::TooMany { .. })
        });
    }
}

#[test]
fn limits_that_are_charged_one_by_one_are_found_out() {
    let plan = Plan::of(3, [credits(100), hourly(60)]);
    is_found_out(Charging::OneByOne, &plan, |broken| {
        matches!(broken, Broken::Unlike { .. })
    });
}
