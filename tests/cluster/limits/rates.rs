//! Rates that processes share, and the negative control.

use std::time::Duration;

use apikey_runtime::{Limit, Rate};

use super::{LEASE, On, nodes};
use crate::harness::cluster::Cluster;
use crate::harness::control::in_turn;
use crate::harness::settings::Settings;
use crate::harness::spending::judge::Broken;
use crate::harness::spending::{End, Plan};

/// Lets nodes use up one rate for a while, and returns the violations. A busy machine may be too slow to prove
/// anything: the run is then repeated, for longer.
async fn broken(cluster: &Cluster, nodes: usize) -> Vec<Broken> {
    const LASTS: Duration = Duration::from_millis(2_500);
    let rate = Rate::per_second(50).with_burst(10);
    let mut broken = Vec::new();
    for longer in [1, 2, 4] {
        let plan = Plan {
            end: End::In(LASTS * longer),
            ..Plan::of(nodes, [Limit::new("rate", rate)])
        };
        let spent = cluster.spend(&plan).await;
        println!("limits: on {}, {spent}", cluster.place.name());
        broken = spent.judge_speed();
        if !matches!(broken[..], [Broken::TooSlow { .. }]) {
            break;
        }
    }
    broken
}

///
async fn r02(on: On, test: &str) {
    if let Some(cluster) = nodes(on, test, Settings::calm(3, LEASE)).await {
        assert_eq!(broken(&cluster, 3).await, []);
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

/// Negative control: SQLite leaves rates to each process.
#[test]
fn a_rate_that_each_process_counts_for_itself_is_found_out() {
    in_turn(async {
        let Some(cluster) = nodes(On::Sqlite, "", Settings::calm(3, LEASE)).await else {
            return;
        };
        assert_eq!(broken(&cluster, 1).await, []);
        let broken = broken(&cluster, 3).await;
        assert!(
            matches!(broken[..], [Broken::TooFast { .. }]),
            "the only violations are: {broken:?}"
        );
    });
}
