//! What was taken and is to be written, put together into batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::gather::{Cell, Tally};
use crate::config::NetworkPrecision;
use crate::key::KeyId;
use crate::store::{LastUsed, NodeId, Outcome, UsageBatch, UsageRow};

/// The most rows of a batch.
pub(super) const MOST_ROWS: usize = 10_000;

/// Counts that are to be written, and in no batch yet.
#[derive(Debug)]
pub(super) struct Waiting {
    node: NodeId,
    keep: Duration,
    /// The batches that were made.
    made: u64,
    /// By key, route and hour.
    tallies: HashMap<(KeyId, Arc<str>, i64), Tally, RandomState>,
}

impl Waiting {
    pub(super) fn new(node: NodeId, keep: Duration) -> Self {
        Self {
            node,
            keep,
            made: 0,
            tallies: HashMap::default(),
        }
    }

    /// Adds what was taken; returns how many cells became one with others.
    pub(super) fn add(&mut self, taken: Vec<Cell>) -> usize {
        let mut merged = 0;
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

    /// The next batch; `None` where nothing waits that can be written. And how many cells are done
    /// with. Before the hour `settled` nothing is counted any more.
    pub(super) fn next(
        &mut self,
        network: Option<NetworkPrecision>,
        settled: i64,
    ) -> (Option<UsageBatch>, usize) {
        let mut batch = UsageBatch::new(self.node, self.made + 1, self.keep);
        let mut last = HashMap::<KeyId, LastUsed, RandomState>::default();
        let before = self.tallies.len();
        self.tallies.retain(|(id, route, hour), tally| {
            if batch.rows.len() + tally.rows() > MOST_ROWS {
                return true;
            }
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
            !tally.is_settled() && *hour >= settled
        });
        let done = before - self.tallies.len();
        if batch.rows.is_empty() {
            return (None, done);
        }
        self.made += 1;
        batch.last_used = last.into_values().collect();
        sort(&mut batch);
        (Some(batch), done)
    }
}

/// Stores that lock what they write do so in one order then, whichever nodes write.
fn sort(batch: &mut UsageBatch) {
    batch.last_used.sort_unstable_by_key(|used| used.key);
    batch.rows.sort_unstable_by(|one, other| {
        let place = |row: &UsageRow| (row.key, row.hour, row.outcome.code());
        (place(one), &one.route).cmp(&(place(other), &other.route))
    });
}

impl Tally {
    fn rows(&self) -> usize {
        usize::from(self.allowed > 0 || self.cost > 0) + self.refused.len()
    }

    /// What can be written of it; what is less than nothing stays, for what comes to be set against
    /// it.
    fn take_rows(&mut self, id: KeyId, route: &str, hour: i64) -> impl Iterator<Item = UsageRow> {
        let requests = u64::try_from(self.allowed).unwrap_or(0);
        let cost = u64::try_from(self.cost).unwrap_or(0);
        (self.allowed, self.cost) = (self.allowed.min(0), self.cost.min(0));
        let allowed = (requests > 0 || cost > 0).then_some((Outcome::Allowed, requests, cost));
        let refused = std::mem::take(&mut self.refused).into_iter();
        let refused = refused.map(|(reason, count)| (Outcome::Refused(reason), count, 0));
        let row = move |(outcome, requests, cost)| UsageRow {
            requests,
            cost,
            ..UsageRow::new(id, route, hour, outcome)
        };
        allowed.into_iter().chain(refused).map(row)
    }

    fn is_settled(&self) -> bool {
        self.allowed == 0 && self.cost == 0
    }
}
