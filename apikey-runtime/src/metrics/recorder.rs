//! Metrics through the `metrics` facade.
//!
//! Requests count in cells of their threads, and one task publishes the sums to the recorder: a
//! counter of a recorder is one cache line, which all threads would write on every request. The
//! task publishes increments, so that the managers of one process add up.

mod names;

use parking_lot::Mutex;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::{CacheFigures, PollOutcome, StoreCall};
use crate::denied::DenyReason;
use crate::error::StoreError;
use crate::util::striped::StripedU64;

/// How often counts are published to the recorder.
pub(crate) const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// Of the checks that the cache decides, one in this many is timed: two readings of the clock take
/// half as long as such a check.
const SAMPLED: u64 = 256;

const REASONS: usize = DenyReason::ALL.len();

/// The indices of the cells: one for each reason, and these.
const ALLOWED: usize = REASONS;
const ANONYMOUS: usize = REASONS + 1;
const CHECKS: usize = REASONS + 2;

/// The metrics of a manager. Its handles are looked up once, when it is created.
#[derive(Debug)]
pub(crate) struct Metrics {
    tally: StripedU64<{ REASONS + 3 }>,
    decisions: [Counter; REASONS + 2],
    from_cache: Histogram,
    by_store: Histogram,
    polls: [Counter; 3],
    calls: [[Counter; 2]; names::CALLS.len()],
    usage_rows: Counter,
    usage_held: Gauge,
    usage_lost: Counter,
    unreadable: Counter,
    hits: Counter,
    misses: Counter,
    entries: Gauge,
    lease: Gauge,
    published: Mutex<PublishedTotals>,
}

/// The totals that the recorder has received.
#[derive(Debug, Default)]
struct PublishedTotals {
    decisions: [u64; REASONS + 2],
    hits: u64,
    misses: u64,
}

/// When a check began, if it is timed.
#[derive(Clone, Copy)]
pub(crate) struct CheckTimer(Option<Instant>);

impl Metrics {
    /// Uses the recorder that is installed now.
    pub(crate) fn new() -> Self {
        names::describe();
        Self {
            tally: StripedU64::default(),
            decisions: std::array::from_fn(decision),
            from_cache: histogram!(names::CHECK, "path" => "cache"),
            by_store: histogram!(names::CHECK, "path" => "store"),
            polls: [
                PollOutcome::Answered,
                PollOutcome::NotMember,
                PollOutcome::Failed,
            ]
            .map(|result| counter!(names::POLLS, "result" => names::poll(result))),
            calls: names::CALLS.map(|call| {
                ["answered", "failed"].map(|result| {
                    counter!(names::CALLS_MADE, "call" => names::call(call), "result" => result)
                })
            }),
            usage_rows: counter!(names::USAGE_ROWS),
            usage_held: gauge!(names::USAGE_HELD),
            usage_lost: counter!(names::USAGE_LOST),
            unreadable: counter!(names::UNREADABLE),
            hits: counter!(names::HITS),
            misses: counter!(names::MISSES),
            entries: gauge!(names::ENTRIES),
            lease: gauge!(names::LEASE),
            published: Mutex::default(),
        }
    }

    /// Begins a check that the cache may decide.
    #[inline]
    pub(crate) fn begin_check(&self) -> CheckTimer {
        let timed = self.tally.count(CHECKS).is_multiple_of(SAMPLED);
        CheckTimer(timed.then(Instant::now))
    }

    /// Records a check that the cache decided.
    #[inline]
    pub(crate) fn decided_from_cache(&self, timer: CheckTimer) {
        record(&self.from_cache, timer);
    }

    /// Begins a check that is deferred to the store.
    pub(crate) fn begin_deferred(&self) -> CheckTimer {
        CheckTimer(Some(Instant::now()))
    }

    /// Records a check that was decided with the store.
    pub(crate) fn decided_by_store(&self, timer: CheckTimer) {
        record(&self.by_store, timer);
    }

    /// Counts an allowed key.
    #[inline]
    pub(crate) fn allowed(&self) {
        self.tally.count(ALLOWED);
    }

    /// Counts an allowed request without a key.
    pub(crate) fn anonymous(&self) {
        self.tally.count(ANONYMOUS);
    }

    pub(crate) fn denied(&self, reason: DenyReason) {
        self.tally.count(number(reason));
    }

    pub(crate) fn polled(&self, result: PollOutcome) {
        self.polls[result as usize].increment(1);
    }

    /// Counts `rows` usage counts that the store accepted.
    pub(crate) fn usage_written(&self, rows: usize) {
        self.usage_rows.increment(rows as u64);
    }

    /// Sets how much usage is in memory, and adds requests that could not be counted.
    pub(crate) fn set_usage_held(&self, held: usize, lost: u64) {
        self.usage_held.set(held as f64);
        self.usage_lost.increment(lost);
    }

    /// Counts a record that was read and cannot be used.
    pub(crate) fn unreadable_record(&self) {
        self.unreadable.increment(1);
    }

    /// Counts a store call; `None` means that the store did not answer in time. A missing record,
    /// or one that changed since it was read, is an answer.
    pub(crate) fn called<T>(&self, call: StoreCall, answer: Option<&Result<T, StoreError>>) {
        let answered = matches!(
            answer,
            Some(Ok(_) | Err(StoreError::NotFound | StoreError::Conflict))
        );
        self.calls[call as usize][usize::from(!answered)].increment(1);
    }

    /// Publishes what is new since the last call, and the cache's state.
    pub(crate) fn publish(&self, cache: &CacheFigures) {
        self.entries.set(cache.entries as f64);
        let lease = cache.lease_remaining.unwrap_or_default();
        self.lease.set(lease.as_secs_f64());
        let mut published = self.published.lock();
        publish(&self.hits, &mut published.hits, cache.hits);
        publish(&self.misses, &mut published.misses, cache.misses);
        drop(published);
        self.publish_decisions();
    }

    fn publish_decisions(&self) {
        let mut published = self.published.lock();
        let all = self.decisions.iter().zip(&mut published.decisions);
        for (which, (counter, total)) in all.enumerate() {
            publish(counter, total, self.tally.sum(which));
        }
    }
}

/// Publishes the decisions of the manager's last moment.
impl Drop for Metrics {
    fn drop(&mut self) {
        self.publish_decisions();
    }
}

/// Counts a denial without a manager. The handle is looked up each time, since such a route does
/// not serve requests.
pub(crate) fn denied_without_manager(reason: DenyReason) {
    decision(number(reason)).increment(1);
}

/// Returns the counter of a cell.
fn decision(which: usize) -> Counter {
    let (result, reason) = match (which, DenyReason::ALL.get(which)) {
        (_, Some(reason)) => ("denied", reason.code()),
        (ANONYMOUS, None) => ("anonymous", ""),
        (_, None) => ("allowed", ""),
    };
    counter!(names::DECISIONS, "result" => result, "reason" => reason)
}

/// Returns the index of a reason's cell.
fn number(reason: DenyReason) -> usize {
    // The table lists the reasons in this order, which a test checks.
    reason as usize
}

fn publish(counter: &Counter, published: &mut u64, now: u64) {
    counter.increment(now.saturating_sub(*published));
    *published = now.max(*published);
}

fn record(histogram: &Histogram, timer: CheckTimer) {
    if let Some(timer) = timer.0 {
        histogram.record(timer.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_the_number_of_its_place_in_the_list() {
        for (place, reason) in DenyReason::ALL.into_iter().enumerate() {
            assert_eq!(number(reason), place, "{reason:?}");
        }
    }

    #[test]
    fn every_call_and_poll_has_the_number_of_its_place() {
        for (place, call) in names::CALLS.into_iter().enumerate() {
            assert_eq!(call as usize, place, "{call:?}");
        }
        let polls = [PollOutcome::Answered, PollOutcome::NotMember];
        assert_eq!(polls.map(|result| result as usize), [0, 1]);
        assert_eq!(PollOutcome::Failed as usize, 2);
    }

    #[test]
    fn the_first_check_of_a_thread_is_timed_and_then_one_in_so_many() {
        let meter = Metrics::new();
        let timed = (0..SAMPLED * 3).filter(|_| meter.begin_check().0.is_some());
        assert_eq!(timed.count(), 3);
    }
}
