//! Negative controls: a schedule passes with all protections, and fails with one disabled.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::checker::{Checker, Report};
use super::cluster::Cluster;
use super::history::History;
use super::place::Place;
use super::run::judge;
use super::settings::Settings;

/// The result of a schedule.
pub type Outcome = (Report, History);

/// Runs `work` while no other cluster runs in this process: two at a time would disturb each other.
pub fn in_turn<T>(work: impl Future<Output = T>) -> T {
    static TURN: Mutex<()> = Mutex::new(());

    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // A node is killed when the thread that started it ends, and a thread that has blocked once
        // would end after 10 idle seconds.
        .thread_keep_alive(Duration::from_secs(1 << 30))
        .build();
    runtime.unwrap().block_on(work)
}

/// Runs a schedule.
pub async fn outcome(
    place: Place,
    settings: Settings,
    schedule: impl AsyncFnOnce(&Cluster) -> History,
) -> Outcome {
    let checker = Checker::new(settings.lease);
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(settings, place, "node_process", folder).await;
    let history = schedule(&cluster).await;
    (checker.check(&history), history)
}

/// Panics unless `sound` keeps all rules and `faulty` allowed a revoked key.
pub fn is_found_out(sound: &Outcome, faulty: &Outcome, what: &str) {
    judge(&sound.0, &sound.1, &Vec::new(), "with all protections");
    let violations = &faulty.0.violations;
    assert!(
        violations
            .iter()
            .any(|violation| violation.rule.is_late_accept()),
        "{what} is not detected; the only violations are:\n{}",
        faulty.0.violations_in_words()
    );
}
