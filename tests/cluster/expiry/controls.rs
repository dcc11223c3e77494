//! Negative controls: with a protection disabled, an event is lost, or told twice although no node died.

use super::*;
use crate::harness::control::in_turn;
use crate::harness::faulty;

/// Runs a schedule on a file, and returns what is broken.
async fn broken(
    nodes: usize,
    fault: Option<&'static str>,
    schedule: &impl AsyncFn(&Tellers),
) -> Option<Vec<Broken>> {
    let settings = Settings {
        program: faulty::program().to_owned(),
        fault,
        ..Settings::calm(nodes, LEASE)
    };
    let tellers = Tellers::start(On::Sqlite, "", settings).await?;
    schedule(&tellers).await;
    let broken = tellers.judge();
    tellers.end().await;
    Some(broken)
}

fn is_found_out(
    nodes: usize,
    fault: &'static str,
    schedule: impl AsyncFn(&Tellers),
    sign: impl Fn(&Broken) -> bool,
) {
    in_turn(async {
        // Built before the schedules, which wait for most of their time and run side by side.
        faulty::program();
        let (sound, faulty) = tokio::join!(
            broken(nodes, None, &schedule),
            broken(nodes, Some(fault), &schedule)
        );
        let (Some(sound), Some(faulty)) = (sound, faulty) else {
            return;
        };
        assert_eq!(sound, [], "with all protections");
        assert!(
            faulty.iter().any(sign),
            "{fault} is not detected; the only violations are: {faulty:?}"
        );
    });
}

fn is_twice(broken: &Broken) -> bool {
    matches!(broken, Broken::Twice(..))
}

#[test]
fn notices_that_are_noted_before_they_are_told_are_found_out() {
    is_found_out(
        1,
        "note-before-sending",
        async |tellers: &Tellers| tellers.killed_at("finish answered").await,
        |broken| matches!(broken, Broken::Lost(_)),
    );
}

#[test]
fn claims_that_do_not_keep_other_nodes_away_are_found_out() {
    is_found_out(
        3,
        "shared-claims",
        async |tellers: &Tellers| tellers.at_once().await,
        is_twice,
    );
}

#[test]
fn a_node_that_tells_after_it_was_removed_is_found_out() {
    is_found_out(
        1,
        "send-after-removal",
        async |tellers: &Tellers| tellers.frozen_after_a_claim().await,
        is_twice,
    );
}
