//! When a lease holds and when it ends. In a file of its own, because loom tests compile `lease.rs`
//! too.

use std::time::Duration;

use super::lease::Lease;
use crate::clock::{Clock, ManualClock};

const LENGTH: Duration = Duration::from_millis(200);

fn leased() -> (ManualClock, Lease) {
    let clock = ManualClock::starting_now();
    let lease = Lease::default();
    assert!(
        !lease.holds(clock.read()),
        "no lease before the first grant"
    );
    lease.grant([clock.read(); 2], LENGTH);
    (clock, lease)
}

#[test]
fn a_lease_ends_at_its_length_of_uptime() {
    let (clock, lease) = leased();
    clock.advance(LENGTH - Duration::from_nanos(1));
    assert!(lease.holds(clock.read()));
    clock.advance(Duration::from_nanos(1));
    assert!(!lease.holds(clock.read()));
}

#[test]
fn a_late_answer_lengthens_nothing() {
    let clock = ManualClock::starting_now();
    let sent = clock.read();
    clock.advance(LENGTH * 2);
    let lease = Lease::default();
    lease.grant([sent; 2], LENGTH);
    assert!(!lease.holds(clock.read()));
}

/// A thread paused between its two clock readings must not look like a step of the wall clock.
#[test]
fn a_pause_within_a_reading_ends_no_lease() {
    let clock = ManualClock::starting_now();
    let exact = clock.read();
    clock.step_wall(40);
    let paused = clock.read();
    clock.step_wall(-40);
    let lease = Lease::default();
    lease.grant([paused, exact], LENGTH);
    assert!(lease.holds(clock.read()), "the grant was paused");
    clock.step_wall(40);
    assert!(lease.holds(clock.read()), "the check was paused");
}

/// E-07.
#[test]
fn e07_a_wall_clock_that_jumps_ends_the_lease_and_the_next_grant_starts_another() {
    for jump in [3_600_000, -3_600_000, 201, -6] {
        let (clock, lease) = leased();
        clock.step_wall(jump);
        assert!(!lease.holds(clock.read()), "{jump}");
        lease.grant([clock.read(); 2], LENGTH);
        assert!(lease.holds(clock.read()), "{jump}");
    }
    let (clock, lease) = leased();
    clock.step_wall(3);
    assert!(lease.holds(clock.read()), "a small adjustment");
}

/// Uptime may stop together with the machine; the wall clock is corrected when the machine resumes.
#[test]
fn what_only_the_wall_clock_counted_has_passed_too() {
    let (clock, lease) = leased();
    clock.step_wall(150);
    clock.advance(Duration::from_millis(49));
    assert!(lease.holds(clock.read()));
    clock.advance(Duration::from_millis(1));
    assert!(!lease.holds(clock.read()), "200 ms have passed");
}
