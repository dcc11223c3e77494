//! Prefetched units of limits.

use apikey_runtime::{Limit, Quota};

use super::{LEASE, On, credits, keeps, nodes};
use crate::harness::control::in_turn;
use crate::harness::settings::Settings;
use crate::harness::spending::{End, Plan};

/// How many units a node prefetches.
const BATCH: u32 = 10;

/// Creates a second quota that is prefetched, as a rolling one is not.
fn bonus(amount: u64) -> Limit {
    Limit::new("bonus", Quota::lifetime(amount))
}

/// Prefetching never enlarges a quota. Nodes that stop gracefully refund the units; a killed node
/// loses at most what it may prefetch for each check in progress.
async fn ahead(on: On, test: &str) {
    let settings = Settings {
        limit_prefetch: BATCH,
        ..Settings::calm(3, LEASE)
    };
    let Some(cluster) = nodes(on, test, settings).await else {
        return;
    };
    for tasks in [1, 4] {
        let plan = Plan {
            tasks,
            ..Plan::of(3, [credits(300), bonus(400)])
        };
        assert_eq!(keeps(&cluster, &plan).await.admitted.len(), 300);
        keeps(&cluster, &plan.killing(20)).await;
    }
    let plan = Plan {
        end: End::After(35),
        ..Plan::of(3, [credits(1_000), bonus(2_000)])
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
