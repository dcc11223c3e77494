//! Rates that processes share, and the negative control.

use std::time::Duration;

use apikey_runtime::{Limit, Rate};

use super::{LEASE, On, nodes};
use crate::harness::control::in_turn;
use crate::harness::settings::Settings;
use crate::harness::spending::judge::Broken;
use crate::harness::spending::{End, Plan};

/// Returns a plan of three nodes on one rate, for a while.
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

/// Negative control: SQLite leaves rates to each process.
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
            "the only violations are: {broken:?}"
        );
    });
}
