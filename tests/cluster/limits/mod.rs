//! Limits that several nodes use up at the same time, prefetched units, and
//! usage.
//!
//! Nodes log each admission before they go on, so the admissions of a killed node are known, except
//! for its checks in progress; and the store knows what was charged. See `harness/spending`.

mod ahead;
mod controls;
mod exact;
mod rates;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::{Limit, Quota};

use crate::harness::cluster::Cluster;
use crate::harness::place::Place;
use crate::harness::settings::Settings;
use crate::harness::spending::judge::Broken;
use crate::harness::spending::{Plan, Spent};

pub const LEASE: Duration = Duration::from_secs(5);

/// The store of a test.
#[derive(Debug, Clone, Copy)]
pub enum On {
    Sqlite,
    Postgres,
    Redis,
}

/// Starts nodes on a new store; returns `None` if its server is not installed.
pub async fn nodes(on: On, test: &str, settings: Settings) -> Option<Arc<Cluster>> {
    let name = match on {
        On::Sqlite => "sqlite",
        On::Postgres => "postgres",
        On::Redis => "redis",
    };
    if !Settings::wants(name) {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = match on {
        On::Sqlite => Some(Place::Sqlite(folder.path().join("keys.db"))),
        On::Postgres => Place::postgres(),
        On::Redis => Place::redis(test),
    };
    Some(Cluster::start(settings, place?, "node_process", folder).await)
}

/// Creates a lifetime quota, so that midnight does not matter.
fn credits(amount: u64) -> Limit {
    Limit::new("credits", Quota::lifetime(amount))
}

fn hourly(amount: u64) -> Limit {
    Limit::new("hourly", Quota::rolling(amount, Duration::from_secs(3_600)))
}

/// Uses up the limits, and returns the violations.
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

/// Uses up the limits, and panics on a violation. Restarts a killed node.
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
