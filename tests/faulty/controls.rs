//! Negative controls of the test `cluster`: with a protection taken out, a schedule that needs it
//! ends with a revoked key getting through, and the checker says so; with the protection in place,
//! the same schedule passes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

extern crate apikey_runtime_faulty as apikey_runtime;

#[path = "../cluster/harness/mod.rs"]
mod harness;

use std::sync::Mutex;
use std::time::Duration;

use harness::checker::{Checker, Report};
use harness::cluster::Cluster;
use harness::history::History;
use harness::place::Place;
use harness::run::judge;
use harness::schedules;
use harness::settings::Settings;

/// Clusters take turns: two at a time would be each other's fault.
static TURN: Mutex<()> = Mutex::new(());

/// Not a test by itself: a node, where the environment says so.
#[test]
fn node_process() {
    harness::node::run_if_asked();
}

/// What the checker finds in a schedule, with the protection of this name taken out.
fn outcome(
    schedule: impl AsyncFnOnce(&Cluster) -> History,
    lease: Duration,
    fault: Option<&'static str>,
) -> (Report, History) {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let settings = Settings {
        seed: 0,
        revocations: 1,
        nodes: 2,
        lease,
        store_timeout: Duration::from_secs(10),
        fault,
        round: None,
        schedule: None,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Sqlite(folder.path().join("keys.db"));
        let checker = Checker::new(settings.lease);
        let cluster = Cluster::start(settings, place, "node_process", folder).await;
        let history = schedule(&cluster).await;
        (checker.check(&history), history)
    })
}

fn is_found_out(
    schedule: impl AsyncFnOnce(&Cluster) -> History + Copy,
    lease: u64,
    fault: &'static str,
) {
    let lease = Duration::from_millis(lease);
    let (sound, history) = outcome(schedule, lease, None);
    judge(&sound, &history, &Vec::new(), "with all protections");

    let (faulty, _) = outcome(schedule, lease, Some(fault));
    let late = |rule: harness::checker::Rule| rule.is_late_accept();
    assert!(
        faulty
            .violations
            .iter()
            .any(|violation| late(violation.rule)),
        "`{fault}` is not found out: {}",
        faulty.violations_in_words()
    );
}

#[test]
fn memory_that_is_believed_without_a_lease_is_found_out() {
    is_found_out(schedules::cut_off, 200, "no-lease");
}

#[test]
fn a_read_that_is_kept_though_a_change_came_after_it_is_found_out() {
    is_found_out(schedules::late_answer, 3000, "no-generation");
}

#[test]
fn a_read_that_is_joined_after_an_eviction_is_found_out() {
    is_found_out(schedules::joined, 200, "join-after-eviction");
}
