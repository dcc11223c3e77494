//! Counts requests in memory, per thread and within a bound.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::labels::{Labels, WriteLabel};
use super::recent::{LastSeen, LastUses};
use crate::clock::Timestamp;
use crate::denied::DenyReason;
use crate::key::KeyId;
use crate::util::thread_slot;

/// Threads that count without contention; further threads share shards.
const SHARDS: usize = 64;

/// The maximum number of cells held, taken or not. A further network of a cell counts as one too.
const MAX_CELLS: usize = 100_000;

/// From this number on, new cells do not distinguish routes, and cells do not get further networks.
const FOLDED_FROM: usize = 75_000;

/// From this number on, the cells are written at once.
const FULL_FROM: usize = 25_000;

pub(crate) const HOUR_MILLIS: i64 = 3_600_000;

/// Returns the hour of a time, in hours since 1970.
#[inline]
pub(crate) fn hour_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(HOUR_MILLIS)
}

/// A request of a key.
pub(crate) struct UsageEvent<'u> {
    pub(crate) id: &'u KeyId,
    pub(crate) at: Timestamp,
    /// Why the request was denied; `None` if it was allowed.
    pub(crate) denied: Option<DenyReason>,
    pub(crate) cost: u32,
    /// The number of rotations that created the secret of the request.
    pub(crate) rotations: u64,
    /// The client's network, if it is to be kept.
    pub(crate) network: Option<IpNet>,
}

/// Where an allowed request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsageEntry {
    hour: i64,
    route: u64,
    pub(crate) cost: u32,
}

/// Counts of requests that are not taken yet.
#[derive(Debug)]
pub(crate) struct UsageTally {
    shards: Box<[TallyShard]>,
    labels: Labels,
    /// Number of cells in the shards, plus cells taken and not yet released, with their further
    /// networks.
    held: AtomicUsize,
    /// Number of requests not counted, because the tally was full.
    lost: AtomicU64,
    full: Notify,
}

/// Two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct TallyShard(Mutex<ShardCells>);

#[derive(Debug, Default)]
struct ShardCells {
    index: HashMap<CellKey, usize, RandomState>,
    list: Vec<TallyCell>,
    /// The cell of the previous request.
    latest: usize,
}

/// The counts of a key on a route in an hour.
#[derive(Debug)]
pub(crate) struct TallyCell {
    key: CellKey,
    pub(crate) route: Arc<str>,
    pub(crate) tally: RouteCounts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CellKey {
    id: KeyId,
    hour: i64,
    /// The hash of the label.
    route: u64,
}

/// Counts of requests. They are negative if a request was undone after its count was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RouteCounts {
    pub(crate) allowed: i64,
    pub(crate) cost: i64,
    /// A list, because few keys are denied, and for few reasons.
    pub(crate) denied: Vec<(DenyReason, u64)>,
    /// The last allowed requests.
    pub(super) last: LastUses,
}

impl UsageTally {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| TallyShard::default()).collect(),
            labels: Labels::new(),
            held: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            full: Notify::new(),
        }
    }

    /// Counts one request. Returns `None` if the tally is full.
    ///
    /// Takes only this thread's own lock, and allocates only for the first request of its key,
    /// route and hour since the last [`take`](Self::take), and for further secrets and networks.
    pub(crate) fn record(
        &self,
        used: &UsageEvent<'_>,
        write_label: &impl WriteLabel,
    ) -> Option<UsageEntry> {
        let key = CellKey {
            id: *used.id,
            hour: hour_of(used.at),
            route: self.labels.hash(write_label),
        };
        let entry = |route| UsageEntry {
            hour: key.hour,
            route,
            cost: used.cost,
        };
        let mut cells = self.own_shard();
        if let Some(tally) = cells.find(&key) {
            if !tally.add(used) {
                self.add_another(tally, used);
            }
            return Some(entry(key.route));
        }
        let (route, label) = self.label_of(key.route, write_label);
        let key = CellKey { route, ..key };
        let count = |tally: &mut RouteCounts| {
            if !tally.add(used) {
                self.add_another(tally, used);
            }
        };
        if self.open(&mut cells, key, label, count) {
            return Some(entry(route));
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Notes the last use of a request that was not like the one before it.
    #[cold]
    fn add_another(&self, tally: &mut RouteCounts, used: &UsageEvent<'_>) {
        let before = tally.last.extra();
        tally.last.see(used.seen(), self.held() < FOLDED_FROM);
        self.hold(tally.last.extra() - before);
    }

    /// Returns the label of a new cell, and the hash under which it counts.
    #[cold]
    fn label_of(&self, hash: u64, write_label: &impl WriteLabel) -> (u64, Arc<str>) {
        if self.held() < FOLDED_FROM {
            self.labels.of(hash, write_label)
        } else {
            self.labels.rest()
        }
    }

    /// Corrects the counts at `entry`.
    pub(crate) fn adjust(&self, id: &KeyId, entry: UsageEntry, requests: i64, cost: i64) {
        let key = CellKey {
            id: *id,
            hour: entry.hour,
            route: entry.route,
        };
        let add = |tally: &mut RouteCounts| {
            tally.allowed += requests;
            tally.cost += cost;
        };
        let mut cells = self.own_shard();
        if let Some(tally) = cells.find(&key) {
            return add(tally);
        }
        // The label was built then and is not written again. Even in a full tally the correction
        // belongs to the route that was counted, not to the one that others are folded into.
        let nothing = |_: &mut dyn FnMut(&str)| {};
        let (_, label) = self.labels.of(entry.route, &nothing);
        if !self.open(&mut cells, key, label, add) {
            tracing::debug!(key_id = %id, "a usage count is not corrected: the tally is full");
        }
    }

    /// Counts in a cell that may not exist yet. Returns `false` if the tally is full.
    #[cold]
    fn open(
        &self,
        cells: &mut ShardCells,
        key: CellKey,
        label: Arc<str>,
        count: impl FnOnce(&mut RouteCounts),
    ) -> bool {
        if let Some(tally) = cells.find(&key) {
            count(tally);
            return true;
        }
        if self.held() >= MAX_CELLS {
            return false;
        }
        // Other threads may add a cell at the same moment, at most one per shard.
        self.hold(1);
        count(cells.insert(key, label));
        true
    }

    fn hold(&self, more: usize) {
        let before = self.held.fetch_add(more, Ordering::Relaxed);
        if (before..before + more).contains(&(FULL_FROM - 1)) {
            self.full.notify_one();
        }
    }

    /// Takes all cells. They are held until they are released.
    pub(crate) fn take(&self) -> Vec<TallyCell> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            taken.extend(std::mem::take(&mut *lock(shard)).list);
        }
        taken
    }

    /// Calls `visit` with each cell that is not taken, under the lock of its shard.
    pub(super) fn visit(&self, mut visit: impl FnMut(&TallyCell)) {
        for shard in &self.shards {
            lock(shard).list.iter().for_each(&mut visit);
        }
    }

    /// Releases `cells` cells that were taken.
    pub(crate) fn release(&self, cells: usize) {
        self.held.fetch_sub(cells, Ordering::Relaxed);
    }

    /// Returns the number of cells held.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Returns the number of requests not counted since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until the tally should be written before the interval ends.
    pub(crate) async fn is_full(&self) {
        self.full.notified().await;
    }

    #[inline]
    fn own_shard(&self) -> MutexGuard<'_, ShardCells> {
        let place = thread_slot::current().unwrap_or(0);
        lock(&self.shards[place % SHARDS])
    }
}

#[inline]
fn lock(shard: &TallyShard) -> MutexGuard<'_, ShardCells> {
    // A panic can come between two counts of one cell; then one of them is missing.
    shard.0.lock()
}

impl ShardCells {
    #[inline]
    fn find(&mut self, key: &CellKey) -> Option<&mut RouteCounts> {
        let latest = self.list.get(self.latest);
        if latest.is_none_or(|cell| cell.key != *key) {
            self.latest = *self.index.get(key)?;
        }
        self.list.get_mut(self.latest).map(|cell| &mut cell.tally)
    }

    fn insert(&mut self, key: CellKey, route: Arc<str>) -> &mut RouteCounts {
        let at = self.list.len();
        self.index.insert(key, at);
        self.latest = at;
        let tally = RouteCounts::default();
        self.list.push(TallyCell { key, route, tally });
        &mut self.list[at].tally
    }
}

impl TallyCell {
    pub(crate) fn id(&self) -> KeyId {
        self.key.id
    }

    pub(crate) fn hour(&self) -> i64 {
        self.key.hour
    }

    /// Returns the last use, unless all uses were undone.
    pub(super) fn last_use(&self) -> Option<Timestamp> {
        self.tally.last.latest().filter(|_| self.tally.allowed > 0)
    }
}

impl Hash for CellKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
        // Hours are consecutive, and hashes of labels look random.
        state.write_u64(self.route.wrapping_add(self.hour.cast_unsigned()));
    }
}

impl UsageEvent<'_> {
    #[inline]
    fn seen(&self) -> LastSeen {
        LastSeen {
            rotations: self.rotations,
            at: self.at,
            network: self.network,
        }
    }
}

impl RouteCounts {
    /// Counts a request. Returns `false` if its last use is to be noted: its secret or its network
    /// is not the one before it.
    #[inline]
    fn add(&mut self, used: &UsageEvent<'_>) -> bool {
        match used.denied {
            None => {
                self.allowed += 1;
                self.cost += i64::from(used.cost);
                self.last.repeat(&used.seen())
            }
            Some(reason) => {
                self.refuse(reason, 1);
                true
            }
        }
    }

    /// Adds the counts of another cell.
    pub(crate) fn merge(&mut self, other: Self) {
        self.allowed += other.allowed;
        self.cost += other.cost;
        for (reason, count) in other.denied {
            self.refuse(reason, count);
        }
        self.last.merge(other.last);
    }

    /// Returns the number of cells that this counts as.
    pub(super) fn cells(&self) -> usize {
        1 + self.last.extra()
    }

    fn refuse(&mut self, reason: DenyReason, count: u64) {
        match self.denied.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, so_far)) => *so_far += count,
            None => self.denied.push((reason, count)),
        }
    }
}

#[cfg(test)]
mod tests;
