//! Negative controls of the test `cluster`: with a protection taken out, a schedule that needs it
//! ends with a revoked key getting through, and the checker says so; with the protection in place,
//! the same schedule passes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

extern crate apikey_runtime_faulty as apikey_runtime;

#[path = "../cluster/harness/mod.rs"]
mod harness;

use std::time::Duration;

use harness::cluster::Cluster;
use harness::control::{self, in_turn, outcome};
use harness::history::History;
use harness::place::Place;
use harness::schedules;

/// Not a test by itself: a node, where the environment says so.
#[test]
fn node_process() {
    harness::node::run_if_asked();
}

fn is_found_out(
    schedule: impl AsyncFnOnce(&Cluster) -> History + Copy,
    lease: u64,
    fault: &'static str,
) {
    let lease = Duration::from_millis(lease);
    let on_a_file = async |fault| {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Sqlite(folder.path().join("keys.db"));
        outcome(place, lease, fault, schedule).await
    };
    let (sound, faulty) = in_turn(async { (on_a_file(None).await, on_a_file(Some(fault)).await) });
    control::is_found_out(&sound, &faulty, fault);
}

#[test]
fn memory_that_is_believed_without_a_lease_is_found_out() {
    is_found_out(schedules::cut_off, 200, "no-lease");
}

/// The late answer comes within the lease, so that it is believed.
#[test]
fn a_read_that_is_kept_though_a_change_came_after_it_is_found_out() {
    is_found_out(schedules::late_answer, 3000, "no-generation");
}

#[test]
fn a_read_that_is_joined_after_an_eviction_is_found_out() {
    is_found_out(schedules::joined, 200, "join-after-eviction");
}
