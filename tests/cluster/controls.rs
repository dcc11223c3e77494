//! Negative controls: with a protection disabled, a schedule that needs it ends with a revoked key
//! allowed, and the checker reports it. With the protection in place, the same schedule passes.

use std::time::Duration;

use crate::harness::cluster::Cluster;
use crate::harness::control::{self, in_turn, outcome};
use crate::harness::faulty;
use crate::harness::history::History;
use crate::harness::place::Place;
use crate::harness::schedules;
use crate::harness::settings::Settings;

/// The lease, in milliseconds, of which a late answer takes two thirds: on a busy machine, a revocation takes
/// less than these, and the rest is enough for the answer to be trusted.
const LATE_LEASE: u64 = 5_000;

fn is_found_out(
    schedule: impl AsyncFnOnce(&Cluster) -> History + Copy,
    lease: u64,
    fault: &'static str,
) {
    let program = faulty::program();
    let on_a_file = async |fault| {
        let settings = Settings {
            program: program.to_owned(),
            fault,
            ..Settings::calm(2, Duration::from_millis(lease))
        };
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Sqlite(folder.path().join("keys.db"));
        outcome(place, settings, schedule).await
    };
    let (sound, faulty) = in_turn(async { (on_a_file(None).await, on_a_file(Some(fault)).await) });
    control::is_found_out(&sound, &faulty, fault);
}

#[test]
fn memory_that_is_believed_without_a_lease_is_found_out() {
    is_found_out(schedules::cut_off, 200, "no-lease");
}

/// The late answer arrives within the lease, so the node trusts it.
#[test]
fn a_read_that_is_kept_though_a_change_came_after_it_is_found_out() {
    is_found_out(schedules::late_answer, LATE_LEASE, "no-generation");
}

#[test]
fn an_owner_whose_change_does_not_reach_its_keys_in_memory_is_found_out() {
    is_found_out(schedules::owner_in_memory, 200, "no-owner-marks");
}

/// As above, for an owner of whom nothing is in memory.
#[test]
fn a_read_that_is_kept_though_its_owner_was_changed_after_it_is_found_out() {
    is_found_out(
        schedules::late_answer_of_an_owner,
        LATE_LEASE,
        "no-owner-generations",
    );
}

#[test]
fn a_read_that_is_joined_after_an_eviction_is_found_out() {
    is_found_out(schedules::joined, 200, "join-after-eviction");
}
