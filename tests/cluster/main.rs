//! Revocation in a cluster under faults, and limits that many processes use up.
//!
//! Each run starts a store and several node processes, each with its own proxy in front of the
//! store. All nodes check all keys all the time and log every check, while keys are revoked,
//! rotated and disabled, nodes are frozen, killed and started, connections are cut and slowed
//! down, and the store is frozen and killed. The log is then compared with the promises; see
//! `harness/checker`. In the tests of limits, in `limits`, nodes use up the limits of a key; in
//! `owner_cap`, they give an owner as many live keys as permitted. In `expiry`, they tell which keys
//! expire soon, and die. The negative controls, in `controls` and `expiry/controls`, run nodes with
//! protections disabled.
//!
//! ```text
//! cargo test --all-features --test cluster                     # some 300 revocations of each store
//! # Long: may take hours for each store, on two cores.
//! CLUSTER_REVOCATIONS=100000 cargo test --release --test cluster -- --nocapture long_run
//! CLUSTER_SEED=7 CLUSTER_ROUND=12 CLUSTER_STORE=sqlite cargo test --test cluster -- --nocapture long_run
//! # The long form of `expiry`: all steps at which a node may die, and twice the keys.
//! CLUSTER_EXPIRY_ROUNDS=2 cargo test --all-features --test cluster -- --nocapture expiry
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `CLUSTER_REVOCATIONS` | how many have to succeed on each store |
//! | `CLUSTER_STORE` | the only store to run: `sqlite`, `postgres` or `redis` |
//! | `CLUSTER_NODES` | how many nodes; 3 by default; one more joins and leaves |
//! | `CLUSTER_LEASE_MS` | the lease of the store; 200 by default |
//! | `CLUSTER_SEED`, `CLUSTER_ROUND` | the seed of random choices, and one of its rounds; a failure prints both |
//! | `CLUSTER_EXPIRY_ROUNDS` | how many rounds the tests in `expiry` take; 1 by default, with half of the steps at which a node may die; 2 or more take all of them |
//! | `CLUSTER_SCHEDULE` | only faults with this in their names, such as `node` or `wire-cut`; or `none` |
#![cfg(unix)]

mod controls;
mod expiry;
mod harness;
mod limits;
mod owner_cap;

use std::time::Duration;

use harness::cluster::Cluster;
use harness::control::{in_turn, is_found_out, outcome};
use harness::place::Place;
use harness::run::judge;
use harness::schedules::{number_by_a_sequence, out_of_order, put_back};
use harness::settings::Settings;

/// The number of revocations of a run in the normal suite.
const SHORT: usize = 300;

/// Not a test: runs a node if the environment says so.
#[test]
fn node_process() {
    harness::node::run_if_asked();
}

async fn long_run(store: &str, place: impl FnOnce(&tempfile::TempDir) -> Option<Place>) {
    if !Settings::wants(store) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(place) = place(&folder) else { return };
    let settings = Settings::from_environment(SHORT);
    let cluster = Cluster::start(settings, place, "node_process", folder).await;
    harness::run::run(&cluster).await;
}

#[test]
fn long_run_on_postgres() {
    in_turn(long_run("postgres", |_| Place::postgres()));
}

#[test]
fn long_run_on_redis() {
    in_turn(long_run("redis", |_| Place::redis("long_run_on_redis")));
}

#[test]
fn long_run_on_sqlite() {
    in_turn(long_run("sqlite", |folder| {
        Some(Place::Sqlite(folder.path().join("keys.db")))
    }));
}

/// Returns settings for two nodes with a short lease.
fn two_nodes() -> Settings {
    Settings::calm(2, Duration::from_millis(200))
}

async fn is_put_back(place: Option<Place>) {
    if let Some(place) = place {
        let (report, history) = outcome(place, two_nodes(), put_back).await;
        judge(&report, &history, &Vec::new(), "put back");
    }
}

#[test]
fn a_postgres_put_back_to_an_earlier_state_keeps_what_it_promises_from_then_on() {
    in_turn(async { is_put_back(Place::postgres()).await });
}

#[test]
fn a_redis_put_back_to_an_earlier_state_keeps_what_it_promises_from_then_on() {
    in_turn(async { is_put_back(Place::redis("a_redis_put_back")).await });
}

/// V-19 and its negative control: epochs out of commit order.
#[test]
fn v19_epochs_from_a_sequence_are_found_out() {
    in_turn(async {
        let Some(place) = Place::postgres() else {
            return;
        };
        let sound = outcome(place, two_nodes(), out_of_order).await;
        let Some(place) = Place::postgres() else {
            return;
        };
        let spoilt = async |cluster: &Cluster| {
            number_by_a_sequence(cluster).await;
            out_of_order(cluster).await
        };
        let faulty = outcome(place, two_nodes(), spoilt).await;
        is_found_out(&sound, &faulty, "a sequence for the epochs");
    });
}
