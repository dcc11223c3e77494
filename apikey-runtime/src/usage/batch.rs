//! Assembles counts taken from the tally into batches for the store.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::tally::{RouteCounts, TallyCell};
use crate::config::NetworkPrecision;
use crate::key::KeyId;
use crate::store::{LastUsed, NodeId, Outcome, UsageBatch, UsageRow};

/// The maximum number of rows in a batch. Redis adds a batch in one script, which holds up its server for some 5
/// microseconds a row.
pub(super) const MAX_ROWS: usize = 1_000;

/// Counts to be written that are not in a batch yet.
#[derive(Debug)]
pub(super) struct PendingBatches {
    node: NodeId,
    keep: Duration,
    /// Number of batches made so far.
    made: u64,
    /// Counts by key, route and hour, which the next batches take from the front.
    tallies: Tallies,
    /// Counts that a batch took from, and that are not finished: they wait for the next `add`.
    unfinished: Vec<(TallyPlace, RouteCounts)>,
}

/// Sorted, and freed as it is taken from.
type Tallies = BTreeMap<TallyPlace, RouteCounts>;

/// A key, a route and an hour.
type TallyPlace = (KeyId, Arc<str>, i64);

impl PendingBatches {
    pub(super) fn new(node: NodeId, keep: Duration) -> Self {
        Self {
            node,
            keep,
            made: 0,
            tallies: Tallies::new(),
            unfinished: Vec::new(),
        }
    }

    /// Adds cells taken from the tally. Returns how many of them were merged into existing ones.
    pub(super) fn add(&mut self, taken: Vec<TallyCell>) -> usize {
        let mut merged = 0;
        self.tallies.extend(mem::take(&mut self.unfinished));
        for cell in taken {
            let key = (cell.id(), Arc::clone(&cell.route), cell.hour());
            self.tallies
                .entry(key)
                .and_modify(|tally| {
                    tally.merge(&cell.tally);
                    merged += 1;
                })
                .or_insert(cell.tally);
        }
        merged
    }

    /// Returns the next batch, or `None` if nothing pending can be written, and the number of cells
    /// that are finished. `settled` is the hour before which nothing is counted any more.
    ///
    /// Between two calls of `add`, all calls together visit each cell once, and one more per batch.
    pub(super) fn next(
        &mut self,
        network: Option<NetworkPrecision>,
        settled: i64,
    ) -> (Option<UsageBatch>, usize) {
        let mut batch = UsageBatch::new(self.node, self.made + 1, self.keep);
        let mut last = HashMap::<KeyId, LastUsed, RandomState>::default();
        let mut done = 0;
        while let Some(entry) = self.tallies.first_entry() {
            if batch.rows.len() + entry.get().rows() > MAX_ROWS {
                break;
            }
            let (place, mut tally) = entry.remove_entry();
            let (id, route, hour) = &place;
            if let Some((at, address)) = tally.last.take().filter(|_| tally.allowed > 0) {
                let network = network.zip(address);
                let network = network.map(|(precision, address)| precision.network(address));
                let used = LastUsed::new(*id, at, network);
                let known = last.entry(*id).or_insert(used);
                if known.at < at {
                    *known = used;
                }
            }
            batch.rows.extend(tally.take_rows(*id, route, *hour));
            if tally.is_settled() || *hour < settled {
                done += 1;
            } else {
                self.unfinished.push((place, tally));
            }
        }
        if batch.rows.is_empty() {
            return (None, done);
        }
        self.made += 1;
        batch.last_used = last.into_values().collect();
        sort(&mut batch);
        (Some(batch), done)
    }
}

/// Sorts the batch, so that all nodes lock rows in one order in stores that lock what they write.
fn sort(batch: &mut UsageBatch) {
    batch.last_used.sort_unstable_by_key(|used| used.key);
    batch.rows.sort_unstable_by(|one, other| {
        let place = |row: &UsageRow| (row.key, row.hour, row.outcome.code());
        (place(one), &one.route).cmp(&(place(other), &other.route))
    });
}

impl RouteCounts {
    fn rows(&self) -> usize {
        #[cfg(test)]
        tests::VISITS.set(tests::VISITS.get() + 1);
        usize::from(self.allowed > 0 || self.cost > 0) + self.denied.len()
    }

    /// Takes the counts that can be written. A negative count stays until later counts offset it.
    fn take_rows(&mut self, id: KeyId, route: &str, hour: i64) -> impl Iterator<Item = UsageRow> {
        let requests = u64::try_from(self.allowed).unwrap_or(0);
        let cost = u64::try_from(self.cost).unwrap_or(0);
        (self.allowed, self.cost) = (self.allowed.min(0), self.cost.min(0));
        let allowed = (requests > 0 || cost > 0).then_some((Outcome::Allowed, requests, cost));
        let denied = mem::take(&mut self.denied).into_iter();
        let denied = denied.map(|(reason, count)| (Outcome::Denied(reason), count, 0));
        let row = move |(outcome, requests, cost)| UsageRow {
            requests,
            cost,
            ..UsageRow::new(id, route, hour, outcome)
        };
        allowed.into_iter().chain(denied).map(row)
    }

    fn is_settled(&self) -> bool {
        self.allowed == 0 && self.cost == 0
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::clock::Timestamp;
    use crate::denied::DenyReason;
    use crate::usage::tally::{UsageEvent, UsageTally};

    const NOW: i64 = 5;

    thread_local! {
        /// How many cells batches looked at.
        pub(super) static VISITS: Cell<usize> = const { Cell::new(0) };
    }

    fn pending() -> PendingBatches {
        PendingBatches::new(NodeId::from_u128(9), Duration::from_secs(60))
    }

    fn record(
        usage_tally: &UsageTally,
        id: u128,
        route: &str,
        millis: i64,
        denied: Option<DenyReason>,
    ) {
        let used = UsageEvent {
            id: &KeyId::from_u128(id),
            at: Timestamp::from_millis(millis),
            denied,
            cost: 2,
            address: "192.0.2.77".parse().ok(),
        };
        usage_tally.record(&used, &|write: &mut dyn FnMut(&str)| write(route));
    }

    fn next(pending: &mut PendingBatches) -> (Option<UsageBatch>, usize) {
        pending.next(Some(NetworkPrecision::default()), NOW)
    }

    #[test]
    fn batches_are_numbered_bounded_sorted_and_hold_each_count_once() {
        let (usage_tally, mut pending) = (UsageTally::new(), pending());
        for id in 0..15_000 {
            record(&usage_tally, id, "/a", 0, None);
            record(&usage_tally, id, "/a", 0, Some(DenyReason::Expired));
        }
        assert_eq!(pending.add(usage_tally.take()), 0);
        let (mut rows, mut done, mut numbers) = (Vec::new(), 0, Vec::new());
        while let (Some(batch), cells) = next(&mut pending) {
            assert!(batch.rows.len() <= MAX_ROWS && batch.rows.len() == cells * 2);
            let place = |row: &UsageRow| (row.key, row.outcome.code());
            assert!(batch.rows.is_sorted_by_key(place));
            assert!(batch.last_used.is_sorted_by_key(|used| used.key));
            assert_eq!((batch.last_used.len(), batch.keep.as_secs()), (cells, 60));
            done += cells;
            numbers.push(batch.number);
            rows.extend(batch.rows);
        }
        let expected: Vec<_> = (1..=30).collect();
        assert_eq!((done, rows.len(), numbers), (15_000, 30_000, expected));
        rows.dedup_by_key(|row| (row.key, row.outcome));
        assert_eq!(rows.len(), 30_000);
        assert!(rows.iter().all(|row| row.requests == 1));
        // A batch takes a number; a call that finds nothing does not.
        record(&usage_tally, 1, "/a", 0, None);
        pending.add(usage_tally.take());
        assert_eq!(next(&mut pending).0.unwrap().number, 31);
    }

    /// Cells that are not finished are not visited again for each batch either.
    #[test]
    fn the_batches_of_a_turn_visit_each_cell_once() {
        let (usage_tally, mut pending) = (UsageTally::new(), pending());
        let hour = NOW * crate::usage::tally::HOUR_MILLIS;
        let below_zero = 2_000;
        for id in 0..20_000 {
            record(&usage_tally, id, "/a", hour, None);
        }
        pending.add(usage_tally.take());
        while next(&mut pending).0.is_some() {}
        for id in 0..below_zero {
            let key = KeyId::from_u128(id);
            let used = UsageEvent {
                id: &key,
                at: Timestamp::from_millis(hour),
                denied: None,
                cost: 2,
                address: None,
            };
            let write = |write: &mut dyn FnMut(&str)| write("/a");
            let entry = usage_tally.record(&used, &write).unwrap();
            usage_tally.adjust(&key, entry, -2, -4);
        }
        for id in below_zero..20_000 {
            record(&usage_tally, id, "/a", hour, None);
        }
        for (turn, rows) in [(1, 18_000), (2, 0)] {
            pending.add(usage_tally.take());
            VISITS.set(0);
            let (mut batches, mut written, mut done) = (0, 0, 0);
            loop {
                let (batch, cells) = next(&mut pending);
                done += cells;
                let Some(batch) = batch else { break };
                batches += 1;
                written += batch.rows.len();
            }
            assert_eq!((written, done), (rows, rows), "{turn}");
            let cells = if turn == 1 { 20_000 } else { 2_000 };
            assert!(VISITS.get() <= cells + batches, "{turn}: {}", VISITS.get());
        }
    }

    #[test]
    fn what_was_taken_at_several_times_becomes_one_row() {
        let (usage_tally, mut pending) = (UsageTally::new(), pending());
        let mut merged = 0;
        for millis in [7, 9, 8] {
            record(&usage_tally, 1, "/a", millis, None);
            record(&usage_tally, 1, "/b", millis, None);
            merged += pending.add(usage_tally.take());
        }
        let (batch, cells) = next(&mut pending);
        let batch = batch.unwrap();
        assert_eq!((merged, cells, batch.rows.len()), (4, 2, 2));
        let counts = batch.rows.iter().map(|row| (row.requests, row.cost));
        assert_eq!(counts.collect::<Vec<_>>(), [(3, 6), (3, 6)]);
        let used = batch.last_used[0];
        let network = used.network.unwrap().to_string();
        assert_eq!((batch.last_used.len(), used.at.as_millis()), (1, 9));
        assert_eq!(network, "192.0.2.0/24");
    }

    #[test]
    fn less_than_nothing_waits_for_what_it_is_set_against_while_that_can_come() {
        let (usage_tally, mut pending) = (UsageTally::new(), pending());
        let hour = NOW * crate::usage::tally::HOUR_MILLIS;
        let id = KeyId::from_u128(1);
        for at in [hour, hour - 1] {
            let used = UsageEvent {
                id: &id,
                at: Timestamp::from_millis(at),
                denied: None,
                cost: 2,
                address: None,
            };
            let write = |write: &mut dyn FnMut(&str)| write("/a");
            let entry = usage_tally.record(&used, &write).unwrap();
            pending.add(usage_tally.take());
            assert!(next(&mut pending).0.is_some());
            usage_tally.adjust(&id, entry, -1, -2);
        }
        pending.add(usage_tally.take());
        assert_eq!(
            next(&mut pending),
            (None, 1),
            "the count of the hour that is over"
        );
        for _ in 0..3 {
            record(&usage_tally, 1, "/a", hour, None);
        }
        pending.add(usage_tally.take());
        let batch = next(&mut pending).0.unwrap();
        assert_eq!((batch.rows[0].requests, batch.rows[0].cost), (2, 4));
        assert_eq!(next(&mut pending), (None, 0));
    }
}
