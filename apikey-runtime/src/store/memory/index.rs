//! The order of records in lists, and how many keys of an owner are live.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::record::KeyRecord;
use crate::store::{ListCursor, ListRange, SortValue, fold_label};

/// Finds records by range. It is changed with each record.
#[derive(Debug, Default)]
pub(super) struct RecordIndex {
    created: BTreeSet<(Timestamp, KeyId)>,
    owners: BTreeSet<(String, Timestamp, KeyId)>,
    labels: BTreeSet<(String, KeyId)>,
    expiries: BTreeSet<(Timestamp, KeyId)>,
    /// The keys that are not revoked in their own record, by owner, the owner's revocations and expiry.
    live: BTreeSet<(String, u64, Timestamp, KeyId)>,
}

/// Returns the place of a record among the live keys of its owner.
fn live_place(record: &KeyRecord) -> Option<(String, u64, Timestamp, KeyId)> {
    let end = record.expires.unwrap_or(Timestamp::MAX);
    let owner = record.owner.clone()?;
    Some((owner, record.owner_revocations, end, record.id))
}

impl RecordIndex {
    pub(super) fn add(&mut self, record: &KeyRecord) {
        let (created, id) = (record.created, record.id);
        self.created.insert((created, id));
        if let Some(owner) = &record.owner {
            self.owners.insert((owner.clone(), created, id));
        }
        self.labels.insert((fold_label(&record.label), id));
        if let Some(end) = record.expires {
            self.expiries.insert((end, id));
        }
        if record.revoked.is_none() {
            self.live.extend(live_place(record));
        }
    }

    pub(super) fn remove(&mut self, record: &KeyRecord) {
        let (created, id) = (record.created, record.id);
        self.created.remove(&(created, id));
        if let Some(owner) = &record.owner {
            self.owners.remove(&(owner.clone(), created, id));
        }
        self.labels.remove(&(fold_label(&record.label), id));
        if let Some(end) = record.expires {
            self.expiries.remove(&(end, id));
        }
        if let Some(place) = live_place(record) {
            self.live.remove(&place);
        }
    }

    /// Returns the ids of `range` after `after`, in its order. Those of [`ListRange::Id`] are found
    /// in the records themselves.
    pub(super) fn ids(
        &self,
        range: &ListRange,
        after: Option<&ListCursor>,
    ) -> Box<dyn Iterator<Item = KeyId> + '_> {
        let time = match after.map(|after| (&after.sort, after.id)) {
            Some((SortValue::Time(time), id)) => Some((*time, id)),
            _ => None,
        };
        match range {
            ListRange::All => {
                let end = time.map_or(Bound::Unbounded, Bound::Excluded);
                let ids = self.created.range((Bound::Unbounded, end));
                Box::new(ids.rev().map(|(_, id)| *id))
            }
            ListRange::Owner(owner) => {
                let first = (owner.clone(), Timestamp::MIN, KeyId::from_u128(0));
                let end = match time {
                    Some((time, id)) => Bound::Excluded((owner.clone(), time, id)),
                    None => {
                        let last = KeyId::from_u128(u128::MAX);
                        Bound::Included((owner.clone(), Timestamp::MAX, last))
                    }
                };
                let ids = self.owners.range((Bound::Included(first), end));
                Box::new(ids.rev().map(|(_, _, id)| *id))
            }
            ListRange::Label(beginning) => {
                let start = match after.map(|after| (&after.sort, after.id)) {
                    Some((SortValue::Label(label), id)) if label >= beginning => {
                        Bound::Excluded((label.clone(), id))
                    }
                    _ => Bound::Included((beginning.clone(), KeyId::from_u128(0))),
                };
                let beginning = beginning.clone();
                let ids = self.labels.range((start, Bound::Unbounded));
                Box::new(
                    ids.take_while(move |(label, _)| label.starts_with(&beginning))
                        .map(|(_, id)| *id),
                )
            }
            ListRange::Expires { from, to } => {
                let start = match time {
                    Some(position) if position.0 >= *from => Bound::Excluded(position),
                    _ => Bound::Included((*from, KeyId::from_u128(0))),
                };
                let to = *to;
                let ids = self.expiries.range((start, Bound::Unbounded));
                Box::new(ids.take_while(move |(end, _)| *end < to).map(|(_, id)| *id))
            }
            ListRange::Id(_) => Box::new(std::iter::empty()),
        }
    }

    /// Returns the keys of `owner` that are neither revoked nor expired, the first to expire first, if its
    /// keys were revoked `revocations` times.
    pub(super) fn live(
        &self,
        owner: &str,
        revocations: u64,
        now: Timestamp,
    ) -> impl Iterator<Item = KeyId> + '_ {
        let place = |end, id| (owner.to_owned(), revocations, end, KeyId::from_u128(id));
        let start = Bound::Excluded(place(now, u128::MAX));
        let end = Bound::Included(place(Timestamp::MAX, u128::MAX));
        // At the latest of all times, each key with an end has expired.
        let ids = (now < Timestamp::MAX).then(|| self.live.range((start, end)));
        ids.into_iter().flatten().map(|(.., id)| *id)
    }
}
