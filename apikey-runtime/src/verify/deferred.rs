//! Starts checks that wait for the store.

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Starts a check, for which the manager's shutdown waits. Returns `None` once the manager shuts
/// down.
pub(super) fn begin(tracker: &TaskTracker) -> Option<TaskTrackerToken> {
    // Counted before the tracker is read: either the shutdown waits for this check, or this check
    // sees the shutdown.
    let token = tracker.token();
    (!tracker.is_closed()).then_some(token)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn the_end_waits_for_what_is_under_way_and_what_follows_from_it() {
        let tracker = TaskTracker::new();
        let begun = begin(&tracker).unwrap();
        tracker.close();
        let mut context = Context::from_waker(Waker::noop());
        let mut end = pin!(tracker.wait());
        let mut is_over = || end.as_mut().poll(&mut context).is_ready();
        assert!(!is_over());
        assert!(begin(&tracker).is_none());
        let follows = tracker.token();
        drop(begun);
        assert!(!is_over());
        drop(follows);
        assert!(is_over());
    }

    #[test]
    fn the_end_of_nothing_is_at_once() {
        let tracker = TaskTracker::new();
        drop(begin(&tracker));
        tracker.close();
        let end = pin!(tracker.wait());
        let mut context = Context::from_waker(Waker::noop());
        assert!(end.poll(&mut context).is_ready());
    }
}
