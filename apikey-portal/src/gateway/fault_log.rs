//! The log's bound for faults that each caller of the endpoints can cause.

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// The time for which a fault is not logged again.
const PAUSE: Duration = Duration::from_secs(60);

/// The faults that were logged, and when. Each worker has its own.
#[derive(Default)]
pub(super) struct FaultLog(RefCell<Vec<(&'static str, Instant)>>);

impl FaultLog {
    /// Returns whether to log this kind of fault: once a minute.
    pub(super) fn is_due(&self, fault: &'static str) -> bool {
        self.is_due_at(fault, Instant::now())
    }

    fn is_due_at(&self, fault: &'static str, now: Instant) -> bool {
        let mut logged = self.0.borrow_mut();
        // The kinds are those that the source has.
        match logged.iter_mut().find(|(known, _)| *known == fault) {
            Some((_, last)) if now.saturating_duration_since(*last) < PAUSE => return false,
            Some((_, last)) => *last = now,
            None => logged.push((fault, now)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_logged_once_a_minute() {
        let log = FaultLog::default();
        let start = Instant::now();
        for (fault, seconds, expected) in [
            ("a", 0, true),
            ("a", 0, false),
            ("b", 0, true),
            ("a", 59, false),
            ("a", 60, true),
            ("b", 61, true),
            ("a", 119, false),
            ("a", 120, true),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(log.is_due_at(fault, now), expected, "{fault} {seconds}");
        }
    }
}
