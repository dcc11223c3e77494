//! Last uses that the store may not have yet: those of cells that are counting, and of cells that are
//! being written.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::Usage;
use super::tally::TallyCell;
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::shared::{LastUseTimes, UnflushedUses};

/// The last uses of the cells that were taken from the tally, and are not all written. If a batch is dropped, its uses
/// are forgotten with the next turn: the keys may become idle sooner.
#[derive(Debug, Default)]
pub(super) struct TakenUses(Mutex<HashMap<KeyId, Timestamp, RandomState>>);

impl TakenUses {
    /// Keeps these uses, and forgets all others.
    pub(super) fn keep(&self, uses: impl Iterator<Item = (KeyId, Timestamp)>) {
        let mut kept = HashMap::<KeyId, Timestamp, RandomState>::default();
        for (id, at) in uses {
            let last = kept.entry(id).or_insert(at);
            *last = (*last).max(at);
        }
        // Those before are freed after the lock is released.
        let _before = std::mem::replace(&mut *self.0.lock(), kept);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Usage {
    /// Takes the cells of the tally to write them.
    pub(super) fn take_cells(&self) -> Vec<TallyCell> {
        let Some(TakenUses(taken)) = &self.taken_uses else {
            return self.usage_tally.take();
        };
        // Locked before the tally is taken: a reader finds each use in one of both.
        let mut taken = taken.lock();
        let cells = self.usage_tally.take();
        for cell in &cells {
            if let Some(at) = cell.last_use() {
                let last = taken.entry(cell.id()).or_insert(at);
                *last = (*last).max(at);
            }
        }
        cells
    }

    /// Keeps these uses of cells that were taken. Only a writer may call it, of which there is one at a time.
    pub(super) fn keep_taken(&self, uses: impl Iterator<Item = (KeyId, Timestamp)>) {
        if let Some(taken) = &self.taken_uses {
            taken.keep(uses);
        }
    }

    /// Forgets the uses of cells that were taken, since all are written.
    pub(super) fn forget_taken(&self) {
        if let Some(TakenUses(taken)) = &self.taken_uses {
            // Freed after the lock is released.
            let _written = std::mem::take(&mut *taken.lock());
        }
    }
}

impl UnflushedUses for Usage {
    /// Visits all cells of the tally, of which there are 100,000 at most. Call it only if the store's
    /// answer does not suffice.
    fn unflushed_uses(&self, keys: &[KeyId]) -> LastUseTimes {
        let mut uses = LastUseTimes::new();
        let Some(TakenUses(taken)) = &self.taken_uses else {
            return uses;
        };
        let mut see = |id: KeyId, at: Timestamp| {
            let last = uses.entry(id).or_insert(at);
            *last = (*last).max(at);
        };
        let wanted: std::collections::HashSet<_, RandomState> = keys.iter().collect();
        let taken = taken.lock();
        for id in keys {
            if let Some(at) = taken.get(id) {
                see(*id, *at);
            }
        }
        self.usage_tally.visit(|cell| {
            if wanted.contains(&cell.id())
                && let Some(at) = cell.last_use()
            {
                see(cell.id(), at);
            }
        });
        drop(taken);
        uses
    }
}
