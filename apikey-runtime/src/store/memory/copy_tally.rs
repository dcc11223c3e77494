//! Limit counters and usage in memory as items of a copy. What is left of removed keys is not copied.

use std::collections::BTreeMap;

use super::usage::Tally;
use crate::key::KeyId;
use crate::limit::CounterState;
use crate::record::KeyRecord;
use crate::store::{CopiedCounter, CopyItems, CopyOutcome, NetworkUse, SecretUse, UsageRow};

type Records = BTreeMap<KeyId, KeyRecord>;

/// The position of a count: its key, hour, route and outcome.
type UsagePosition = (KeyId, i64, String, String);

impl Tally {
    pub(super) fn copy_counters(
        &self,
        records: &Records,
    ) -> impl Iterator<Item = ((KeyId, String), CopiedCounter)> {
        let keys = self
            .counts
            .iter()
            .filter(|(key, _)| records.contains_key(key));
        let counters = keys.flat_map(|(key, counters)| {
            let counter = move |(name, state): (&String, &CounterState)| {
                let copied = CopiedCounter::new(*key, name, state.clone());
                ((*key, name.clone()), copied)
            };
            counters.iter().map(counter)
        });
        counters.filter(|(_, copied)| copied.state != CounterState::default())
    }

    pub(super) fn copy_usage(
        &self,
        records: &Records,
    ) -> impl Iterator<Item = (UsagePosition, UsageRow)> {
        let hours = self.usage.iter();
        let hours = hours.filter(|((key, _), _)| records.contains_key(key));
        hours.flat_map(|((key, hour), counts)| {
            counts.iter().map(|((route, outcome), (requests, cost))| {
                let mut row = UsageRow::new(*key, route, *hour, *outcome);
                (row.requests, row.cost) = (*requests, *cost);
                ((*key, *hour, route.clone(), outcome.code().to_owned()), row)
            })
        })
    }

    pub(super) fn copy_uses(
        &self,
        records: &Records,
    ) -> impl Iterator<Item = ((KeyId, u64), SecretUse)> {
        let keys = self.last_used.iter();
        let keys = keys.filter(|(key, _)| records.contains_key(key));
        let uses = keys.flat_map(|(_, secrets)| secrets.values());
        uses.map(|used| ((used.key, used.rotations), *used))
    }

    pub(super) fn copy_networks(
        &self,
        records: &Records,
    ) -> impl Iterator<Item = ((KeyId, String), NetworkUse)> {
        let keys = self.networks.iter();
        let keys = keys.filter(|(key, _)| records.contains_key(key));
        let uses = keys.flat_map(|(_, uses)| uses);
        uses.map(|used| ((used.key, used.network.to_string()), *used))
    }

    /// Writes items of the sections that are here.
    pub(super) fn write_copy(&mut self, items: &CopyItems, outcome: &mut CopyOutcome) {
        match items {
            CopyItems::LimitCounters(counters) => {
                for copied in counters {
                    let held = self.counts.entry(copied.key).or_default();
                    let state = held.get(&copied.name).cloned();
                    let present =
                        state.map(|state| CopiedCounter::new(copied.key, &copied.name, state));
                    if outcome.count_value(present.as_ref(), &[], copied) {
                        held.insert(copied.name.clone(), copied.state.clone());
                    }
                }
            }
            CopyItems::Usage(rows) => {
                for row in rows {
                    let hour = self.usage.entry((row.key, row.hour)).or_default();
                    let place = (row.route.clone(), row.outcome);
                    let present = hour.get(&place).map(|(requests, cost)| UsageRow {
                        requests: *requests,
                        cost: *cost,
                        ..row.clone()
                    });
                    if outcome.count_value(present.as_ref(), &[], row) {
                        hour.insert(place, (row.requests, row.cost));
                    }
                }
            }
            CopyItems::SecretUses(uses) => {
                for used in uses {
                    let held = self.last_used.get(&used.key).into_iter().flatten();
                    let held: Vec<_> = held.map(|(_, held)| held).collect();
                    let present = held.iter().find(|held| held.rotations == used.rotations);
                    if outcome.count_value(present.copied(), &held, used) {
                        self.put_use(*used, |_| true);
                    }
                }
            }
            CopyItems::Networks(uses) => {
                for used in uses {
                    let held = self.networks.get(&used.key).into_iter().flatten();
                    let held: Vec<_> = held.collect();
                    let present = held.iter().find(|held| held.network == used.network);
                    if outcome.count_value(present.copied(), &held, used) {
                        self.put_network(*used, |_| true);
                    }
                }
            }
            // The other sections are not counts.
            _ => {}
        }
    }
}
