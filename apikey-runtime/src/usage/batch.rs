//! Assembles counts taken from the tally into batches for the store.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::recent::LastUses;
use super::tally::{RouteCounts, TallyCell};
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::store::{NodeId, Outcome, UsageBatch, UsageRow};

/// The maximum number of rows in a batch. Redis adds a batch in one script, which holds up its server for some 5
/// microseconds a row.
pub(super) const MAX_ROWS: usize = 1_000;

/// The maximum number of networks in a batch: two for each row. Only if many keys have many networks does a flush take
/// more batches for them.
const MAX_NETWORK_ROWS: usize = 2 * MAX_ROWS;

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
            match self
                .tallies
                .entry((cell.id(), Arc::clone(&cell.route), cell.hour()))
            {
                Entry::Vacant(place) => {
                    place.insert(cell.tally);
                }
                Entry::Occupied(mut known) => {
                    let both = known.get().cells() + cell.tally.cells();
                    known.get_mut().merge(cell.tally);
                    merged += both.saturating_sub(known.get().cells());
                }
            }
        }
        merged
    }

    /// Returns the last uses of keys that no batch has yet. One key may come several times.
    pub(super) fn last_uses(&self) -> impl Iterator<Item = (KeyId, Timestamp)> {
        let unfinished = self.unfinished.iter().map(|(place, tally)| (place, tally));
        let counted = self.tallies.iter().chain(unfinished);
        let counted = counted.filter(|(_, tally)| tally.allowed > 0);
        counted.filter_map(|((id, _, _), tally)| Some((*id, tally.last.latest()?)))
    }

    /// Returns the next batch, or `None` if nothing pending can be written, and the number of cells
    /// that are finished. `settled` is the hour before which nothing is counted any more.
    ///
    /// Between two calls of `add`, all calls together visit each cell once, and one more per batch.
    pub(super) fn next(&mut self, settled: i64) -> (Option<UsageBatch>, usize) {
        let mut batch = UsageBatch::new(self.node, self.made + 1, self.keep);
        let mut last = HashMap::<KeyId, LastUses, RandomState>::default();
        let (mut done, mut networks) = (0, 0);
        while let Some(entry) = self.tallies.first_entry() {
            let cells = entry.get().cells();
            if batch.rows.len() + entry.get().rows() > MAX_ROWS
                || networks + cells > MAX_NETWORK_ROWS
            {
                break;
            }
            let (place, mut tally) = entry.remove_entry();
            let (id, route, hour) = &place;
            let uses = mem::take(&mut tally.last);
            done += cells - 1;
            if tally.allowed > 0 && !uses.is_empty() {
                networks += cells;
                last.entry(*id).or_default().merge(uses);
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
        for (id, uses) in last {
            let (secrets, networks) = uses.into_rows(id);
            batch.last_used.extend(secrets);
            batch.networks.extend(networks);
        }
        sort(&mut batch);
        (Some(batch), done)
    }
}

/// Sorts the batch, so that all nodes lock rows in one order in stores that lock what they write.
fn sort(batch: &mut UsageBatch) {
    batch
        .last_used
        .sort_unstable_by_key(|used| (used.key, used.rotations));
    batch
        .networks
        .sort_unstable_by_key(|used| (used.key, used.network));
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
mod tests;
