//! Limit counters and usage in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use async_trait::async_trait;

use super::MemoryStore;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::limit::CounterState;
use crate::store::charge::micros;
use crate::store::usage::silent_before;
use crate::store::{
    Charge, ChargeOutcome, LastUsed, LimitCounter, LimitStore, LimitSupport, MAX_NETWORKS,
    NetworkUse, NodeId, Outcome, SecretUse, UsageBatch, UsageQuery, UsageRow, UsageStore,
};

#[async_trait]
impl LimitStore for MemoryStore {
    fn support(&self) -> LimitSupport {
        LimitSupport::Quotas
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        let mut state = self.state();
        // Read under the lock, so that the time does not go back between two charges.
        let now = micros(self.clock());
        Ok(state.tally.charge(charge, now))
    }

    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        self.state().tally.refill(*key, counter, amount);
        Ok(())
    }
}

#[async_trait]
impl UsageStore for MemoryStore {
    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let records = &state.records;
        let is_there = |key: &KeyId| records.contains_key(key);
        state.tally.add(batch, self.clock().read().now, is_there);
        Ok(())
    }

    async fn read_usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        Ok(self.state().tally.usage(query))
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        let state = self.state();
        let rotations = |key: &KeyId| state.records.get(key).map_or(0, |record| record.rotations);
        Ok(state.tally.last_used(keys, rotations))
    }

    async fn read_networks(&self, keys: &[KeyId]) -> Result<Vec<NetworkUse>, StoreError> {
        Ok(self.state().tally.networks(keys))
    }

    async fn roll_up_usage(&self, day: i64) -> Result<bool, StoreError> {
        Ok(self.state().tally.roll_up(day))
    }

    async fn prune_usage(&self, hour: i64) -> Result<(), StoreError> {
        self.state().tally.forget(hour, self.clock().read().now);
        Ok(())
    }
}

const HOUR_MILLIS: i64 = 3_600_000;

/// How many hours of keys a step of the roll-up looks at.
const ROLLED_UP_AT_ONCE: usize = 500;

/// Requests and their cost, by route and outcome.
type Hour = HashMap<(String, Outcome), (u64, u64)>;

/// The limit counters and the usage of all keys.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: HashMap<KeyId, HashMap<String, CounterState>>,
    /// The requests of a key in an hour.
    pub(super) usage: BTreeMap<(KeyId, i64), Hour>,
    /// By the number of the secret: the two latest.
    pub(super) last_used: HashMap<KeyId, BTreeMap<u64, SecretUse>>,
    pub(super) networks: HashMap<KeyId, Vec<NetworkUse>>,
    /// The last of `usage` that the roll-up looked at, until it has looked at all.
    rolled_up_to: Option<(KeyId, i64)>,
    /// The number of each node's last batch, and when it came.
    batches: HashMap<NodeId, (u64, Timestamp)>,
}

impl Tally {
    /// Charges all limits, or none.
    pub(super) fn charge(&mut self, charge: &Charge, now: i64) -> ChargeOutcome {
        let names = || charge.counters.iter().map(LimitCounter::name);
        let held = self.counts.get(&charge.key);
        let count = |name| held.and_then(|held| held.get(name)).cloned();
        let mut counts: Vec<_> = names()
            .map(|name| count(name).unwrap_or_default())
            .collect();
        let charged = charge.apply(&mut counts, now);
        if charged.allowed && charge.cost > 0 {
            let held = self.counts.entry(charge.key).or_default();
            held.extend(names().map(str::to_owned).zip(counts));
        }
        charged
    }

    /// Gives back up to `amount` units.
    pub(super) fn refill(&mut self, key: KeyId, counter: &LimitCounter, amount: u64) {
        let held = self.counts.get_mut(&key);
        if let Some(count) = held.and_then(|held| held.get_mut(counter.name())) {
            count.refill(counter.rule(), amount);
        }
    }

    /// Adds a batch, unless it was added before.
    pub(super) fn add(
        &mut self,
        batch: &UsageBatch,
        now: Timestamp,
        is_there: impl Fn(&KeyId) -> bool,
    ) {
        let last = self.batches.get(&batch.node);
        if last.is_some_and(|(number, _)| batch.number <= *number) {
            return;
        }
        self.batches.insert(batch.node, (batch.number, now));
        for row in &batch.rows {
            let counted = ((row.route.clone(), row.outcome), (row.requests, row.cost));
            self.count((row.key, row.hour), [counted]);
        }
        for used in batch.last_used.iter().filter(|used| is_there(&used.key)) {
            self.put_use(*used, |held| used.at > held.at);
        }
        for used in batch.networks.iter().filter(|used| is_there(&used.key)) {
            self.put_network(*used, |held| used.at > held.at);
        }
    }

    /// Adds counts to those of a key in an hour.
    fn count(
        &mut self,
        place: (KeyId, i64),
        counts: impl IntoIterator<Item = ((String, Outcome), (u64, u64))>,
    ) {
        let hour = self.usage.entry(place).or_default();
        for (of, (more, more_cost)) in counts {
            let (requests, cost) = hour.entry(of).or_default();
            *requests = requests.saturating_add(more);
            *cost = cost.saturating_add(more_cost);
        }
    }

    /// Adds some hours of days before `day` to the first hour of their day. Returns whether more are left.
    pub(super) fn roll_up(&mut self, day: i64) -> bool {
        let after = self
            .rolled_up_to
            .take()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.usage.range((after, Bound::Unbounded));
        let places: Vec<_> = next
            .map(|(place, _)| *place)
            .take(ROLLED_UP_AT_ONCE)
            .collect();
        for place in &places {
            let (key, hour) = *place;
            let of_day = hour.rem_euclid(24);
            if hour.div_euclid(24) < day && of_day > 0 {
                let counts = self.usage.remove(place).unwrap_or_default();
                self.count((key, hour.saturating_sub(of_day)), counts);
            }
        }
        self.rolled_up_to = places.last().copied();
        self.rolled_up_to
            .take_if(|_| places.len() < ROLLED_UP_AT_ONCE);
        self.rolled_up_to.is_some()
    }

    /// Keeps a use of a secret, in place of the present one if `replaces`. Of a key's secrets, the two latest are kept.
    pub(super) fn put_use(&mut self, used: SecretUse, replaces: impl Fn(&SecretUse) -> bool) {
        let secrets = self.last_used.entry(used.key).or_default();
        let held = secrets.entry(used.rotations).or_insert(used);
        if replaces(held) {
            *held = used;
        }
        while secrets.len() > 2 {
            secrets.pop_first();
        }
    }

    /// Keeps a use from a network, in place of the present one if `replaces`. The latest ones of a key are kept.
    pub(super) fn put_network(&mut self, used: NetworkUse, replaces: impl Fn(&NetworkUse) -> bool) {
        let held = self.networks.entry(used.key).or_default();
        match held.iter_mut().find(|known| known.network == used.network) {
            Some(known) if replaces(known) => *known = used,
            Some(_) => {}
            None => held.push(used),
        }
        held.sort_by_key(|known| Reverse(known.at));
        held.truncate(MAX_NETWORKS);
    }

    /// Returns the counts that `query` selects.
    pub(super) fn usage(&self, query: &UsageQuery) -> Vec<UsageRow> {
        let mut keys = query.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        let hours = keys.into_iter().flat_map(|key| {
            // A range whose start is after its end would panic.
            self.usage
                .range((key, query.from)..(key, query.to.max(query.from)))
        });
        let rows = hours.flat_map(|((key, hour), counts)| {
            counts.iter().map(|((route, outcome), (requests, cost))| {
                let mut row = UsageRow::new(*key, route, *hour, *outcome);
                (row.requests, row.cost) = (*requests, *cost);
                row
            })
        });
        rows.collect()
    }

    /// Returns the last use of each of `keys`. `rotations` returns the number of a key's rotations.
    pub(super) fn last_used(
        &self,
        keys: &[KeyId],
        rotations: impl Fn(&KeyId) -> u64,
    ) -> Vec<LastUsed> {
        let found = keys.iter().filter_map(|key| {
            let secrets = self.last_used.get(key)?.values().copied();
            LastUsed::of_secrets(*key, rotations(key), secrets)
        });
        found.collect()
    }

    /// Returns the networks of `keys`.
    pub(super) fn networks(&self, keys: &[KeyId]) -> Vec<NetworkUse> {
        let keys: BTreeSet<_> = keys.iter().collect();
        let found = keys.into_iter().filter_map(|key| self.networks.get(key));
        found.flatten().copied().collect()
    }

    /// Removes the counts before `hour`, and the batch numbers of nodes silent since before it.
    pub(super) fn forget(&mut self, hour: i64, now: Timestamp) {
        self.usage.retain(|(_, kept), _| *kept >= hour);
        self.networks.retain(|_, held| {
            held.retain(|used| used.at.as_millis().div_euclid(HOUR_MILLIS) >= hour);
            !held.is_empty()
        });
        let silent = silent_before(hour, now);
        self.batches.retain(|_, (_, at)| *at >= silent);
    }

    /// Removes the counts of a purged key; its usage stays until its retention ends.
    pub(super) fn remove(&mut self, key: &KeyId) {
        self.counts.remove(key);
        self.last_used.remove(key);
        self.networks.remove(key);
    }
}
