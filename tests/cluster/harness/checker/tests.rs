//! Hand-written histories. Times are in milliseconds; the lease is 200 ms, so the bound is 205.2
//! ms.

use std::time::Duration;

use super::*;

const MILLI: Nanos = 1_000_000;
const KEY: Key = 7;
/// Makes the changes.
const HERE: Process = 1;
/// Only checks.
const THERE: Process = 2;

fn change(to: Turn, start: Nanos, returned: Nanos) -> Change {
    Change {
        key: KEY,
        to,
        process: Some(HERE),
        start: start * MILLI,
        returned: Some(returned * MILLI),
        confirmed: false,
        grace: 0,
    }
}

fn created() -> Change {
    change(Turn::Live, 0, 10)
}

fn revoked() -> Change {
    change(Turn::Dead, 1000, 1010)
}

fn confirmed() -> Change {
    Change {
        confirmed: true,
        ..revoked()
    }
}

fn failed(change: Change) -> Change {
    Change {
        returned: None,
        ..change
    }
}

fn check(process: Process, start: Nanos, outcome: Outcome) -> Check {
    Check {
        key: KEY,
        process,
        start: start * MILLI,
        end: (start + 1) * MILLI,
        outcome,
    }
}

const YES: Outcome = Outcome::Accepted;
const NO: Outcome = Outcome::Denied(2);

/// Returns the violations, except for those about too few checks.
fn broken(changes: &[Change], checks: &[Check]) -> Vec<Rule> {
    broken_since(changes, checks, None)
}

fn broken_since(changes: &[Change], checks: &[Check], reset: Option<Nanos>) -> Vec<Rule> {
    let history = History {
        checks: checks.to_vec(),
        changes: changes.to_vec(),
        reset: reset.map(|reset| reset * MILLI),
        throughout: vec![],
        warm: vec![],
    };
    let report = Checker::new(Duration::from_millis(200)).check(&history);
    let rules = report.violations.iter().map(|violation| violation.rule);
    rules.filter(|rule| *rule != Rule::NothingChecked).collect()
}

#[test]
fn after_a_confirmed_revocation_no_process_accepts() {
    let changes = [created(), confirmed()];
    for process in [HERE, THERE] {
        assert_eq!(broken(&changes, &[check(process, 500, YES)]), []);
        assert_eq!(broken(&changes, &[check(process, 1005, YES)]), []);
        assert_eq!(broken(&changes, &[check(process, 1011, NO)]), []);
        let late = [check(process, 1011, YES)];
        assert_eq!(broken(&changes, &late), [Rule::Confirmed]);
    }
}

#[test]
fn a_check_is_judged_by_its_start() {
    let begun_before = Check {
        end: 5000 * MILLI,
        ..check(THERE, 1009, YES)
    };
    assert_eq!(broken(&[created(), confirmed()], &[begun_before]), []);
}

#[test]
fn after_a_plain_revocation_its_own_process_accepts_no_more() {
    let changes = [created(), revoked()];
    assert_eq!(broken(&changes, &[check(HERE, 1010, YES)]), []);
    let late = [check(HERE, 1011, YES)];
    assert_eq!(broken(&changes, &late), [Rule::SameProcess]);
}

#[test]
fn after_a_plain_revocation_others_accept_for_the_bound_and_no_longer() {
    let changes = [created(), revoked()];
    assert_eq!(broken(&changes, &[check(THERE, 1010 + 205, YES)]), []);
    let late = [check(THERE, 1010 + 206, YES)];
    assert_eq!(broken(&changes, &late), [Rule::Bound]);
    assert_eq!(bound(Duration::from_millis(200)), 205_200_000);
    assert_eq!(bound(Duration::from_secs(2)), 2_007_000_000);
}

#[test]
fn a_revocation_by_hand_is_a_plain_one_by_nobody() {
    let by_hand = Change {
        process: None,
        ..revoked()
    };
    for process in [HERE, THERE] {
        assert_eq!(
            broken(&[created(), by_hand], &[check(process, 1200, YES)]),
            []
        );
        let late = [check(process, 1300, YES)];
        assert_eq!(broken(&[created(), by_hand], &late), [Rule::Bound]);
    }
}

#[test]
fn a_revocation_that_failed_may_have_taken_effect_or_not() {
    for change in [revoked(), confirmed()] {
        let changes = [created(), failed(change)];
        for outcome in [YES, NO] {
            assert_eq!(broken(&changes, &[check(HERE, 3000, outcome)]), []);
        }
        // A denial before the change started is a violation.
        let early = [check(HERE, 998, NO)];
        assert_eq!(broken(&changes, &early), [Rule::LiveKeyRefused]);
    }
}

#[test]
fn a_second_revocation_that_succeeds_counts() {
    let again = Change {
        start: 2000 * MILLI,
        returned: Some(2010 * MILLI),
        ..confirmed()
    };
    let changes = [created(), failed(revoked()), again];
    assert_eq!(broken(&changes, &[check(THERE, 1900, YES)]), []);
    let late = [check(THERE, 2011, YES)];
    assert_eq!(broken(&changes, &late), [Rule::Confirmed]);
}

#[test]
fn a_live_key_is_refused_by_nobody() {
    let changes = [created(), revoked()];
    let early = [check(THERE, 11, NO)];
    assert_eq!(broken(&changes, &early), [Rule::LiveKeyRefused]);
    assert_eq!(
        broken(&changes, &[check(THERE, 500, NO)]),
        [Rule::LiveKeyRefused]
    );
    // The key is not issued yet; the store is down; the revocation is in progress.
    assert_eq!(broken(&changes, &[check(THERE, 5, NO)]), []);
    let down = [check(THERE, 500, Outcome::Unavailable)];
    assert_eq!(broken(&changes, &down), []);
    assert_eq!(broken(&changes, &[check(THERE, 1000, NO)]), []);
}

#[test]
fn a_key_that_is_switched_on_again_is_live() {
    let changes = [
        created(),
        revoked(),
        change(Turn::Live, 2000, 2010),
        change(Turn::Dead, 3000, 3010),
    ];
    assert_eq!(broken(&changes, &[check(THERE, 1999, YES)]), []);
    assert_eq!(broken(&changes, &[check(THERE, 1500, YES)]), [Rule::Bound]);
    assert_eq!(broken(&changes, &[check(THERE, 2500, YES)]), []);
    assert_eq!(
        broken(&changes, &[check(THERE, 2500, NO)]),
        [Rule::LiveKeyRefused]
    );
    assert_eq!(broken(&changes, &[check(THERE, 3500, NO)]), []);
    assert_eq!(
        broken(&changes, &[check(HERE, 3011, YES)]),
        [Rule::SameProcess]
    );
}

#[test]
fn a_switch_whose_outcome_is_not_known_may_work_late() {
    let on = change(Turn::Live, 2000, 2010);
    let maybe_off = [created(), failed(revoked()), on];
    assert_eq!(broken(&maybe_off, &[check(THERE, 2500, NO)]), []);
    let maybe_on = [created(), revoked(), failed(on)];
    for outcome in [YES, NO] {
        assert_eq!(broken(&maybe_on, &[check(THERE, 2500, outcome)]), []);
    }
}

#[test]
fn a_rotated_key_lives_for_its_grace_and_no_longer() {
    let rotated = Change {
        grace: 500 * MILLI,
        ..revoked()
    };
    let changes = [created(), rotated];
    for process in [HERE, THERE] {
        assert_eq!(broken(&changes, &[check(process, 1514, YES)]), []);
        let late = [check(process, 1516, YES)];
        assert_eq!(broken(&changes, &late).len(), 1);
        let early = [check(process, 1493, NO)];
        assert_eq!(broken(&changes, &early), [Rule::LiveKeyRefused]);
        assert_eq!(broken(&changes, &[check(process, 1496, NO)]), []);
    }
    // The grace period is shorter than the bound, and a node does not know about it yet.
    let brief = Change {
        grace: 50 * MILLI,
        ..revoked()
    };
    assert_eq!(broken(&[created(), brief], &[check(THERE, 1200, YES)]), []);
}

#[test]
fn what_a_restored_store_has_forgotten_is_judged_no_more() {
    let changes = [created(), confirmed()];
    let reset = Some(2000);
    for outcome in [YES, NO] {
        let after = [check(THERE, 2001, outcome)];
        assert_eq!(broken_since(&changes, &after, reset), []);
    }
    let before = [check(THERE, 1500, YES)];
    assert_eq!(broken_since(&changes, &before, reset), [Rule::Confirmed]);
    let again = Change {
        start: 2500 * MILLI,
        returned: Some(2510 * MILLI),
        ..confirmed()
    };
    let changes = [created(), confirmed(), again];
    let late = [check(THERE, 2511, YES)];
    assert_eq!(broken_since(&changes, &late, reset), [Rule::Confirmed]);
}

#[test]
fn a_run_that_checked_nothing_fails() {
    let run = |checks: &[Check], throughout: &[Process]| {
        let history = History {
            checks: checks.to_vec(),
            changes: vec![created(), revoked()],
            reset: None,
            throughout: throughout.to_vec(),
            warm: vec![KEY],
        };
        let report = Checker::new(Duration::from_millis(200)).check(&history);
        let rules = report.violations.iter().map(|violation| violation.rule);
        rules.collect::<Vec<_>>()
    };
    let both = [check(HERE, 500, YES), check(HERE, 1500, NO)];
    assert_eq!(run(&both, &[HERE]), []);
    assert_eq!(run(&[], &[]), [Rule::NothingChecked]);
    assert_eq!(run(&both[..1], &[HERE]), [Rule::NeverRefused(HERE, KEY)]);
    assert_eq!(run(&both[1..], &[HERE]), [Rule::NeverAccepted(HERE, KEY)]);
    assert_eq!(run(&both, &[HERE, THERE]).len(), 2);
}

#[test]
fn the_latest_accept_after_a_plain_revocation_is_told() {
    let history = History {
        checks: vec![check(THERE, 1050, YES), check(HERE, 1005, YES)],
        changes: vec![created(), revoked()],
        ..History::default()
    };
    let report = Checker::new(Duration::from_millis(200)).check(&history);
    assert_eq!(report.latest_after_plain, 40 * MILLI);
    assert_eq!(report.accepted, 2);
}

#[test]
fn a_check_survives_its_bytes() {
    for outcome in [YES, NO, Outcome::Unavailable, Outcome::refused("no such")] {
        let check = check(THERE, 12, outcome);
        assert_eq!(Check::from_bytes(THERE, &check.to_bytes()), check);
    }
}
