//! When a cached key becomes idle.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{ClockReading, Timestamp};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyRecord, KeyState};
use crate::shared::{LastUseTimes, Shared, UnflushedUses};

/// Tells when keys become idle.
#[derive(Debug)]
pub(crate) struct IdleExpiry {
    /// How long after its last use.
    pub(crate) after: Duration,
    /// The uses by this process.
    pub(crate) own: Arc<dyn UnflushedUses>,
}

/// When a key becomes idle, as far as it was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdleEnd {
    /// Exclusive, as an expiry.
    pub(super) at: Timestamp,
    /// When all uses were read, if the key is idle by them.
    pub(super) found_idle: Option<ClockReading>,
}

impl IdleEnd {
    const NEVER: Self = Self {
        at: Timestamp::MAX,
        found_idle: None,
    };
}

impl IdleExpiry {
    /// Returns when the keys of records that were just read become idle, in their order. Reads the last uses of those that
    /// would be idle without, until a time. If that fails, the ends of these are `None`, and the error is returned too.
    pub(super) async fn ends_of(
        &self,
        records: &[&KeyRecord],
        shared: &Shared,
        until: Instant,
    ) -> (Vec<Option<IdleEnd>>, Result<(), StoreError>) {
        let now = shared.now().now;
        let end = |record: &&KeyRecord| self.end_without_use(record, now);
        let mut ends: Vec<_> = records.iter().map(end).collect();
        let asked = records.iter().zip(&ends);
        let asked = asked.filter(|(_, end)| end.is_none());
        let asked: Vec<&KeyRecord> = asked.map(|(record, _)| *record).collect();
        if asked.is_empty() {
            return (ends, Ok(()));
        }
        let read = self.ends_by_use(&asked, shared, until).await;
        let unknown = ends.iter_mut().filter(|end| end.is_none());
        let outcome = read.map(|read| {
            for (end, read) in unknown.zip(read) {
                *end = Some(read);
            }
        });
        (ends, outcome)
    }

    /// Returns when keys become idle, by their last uses.
    async fn ends_by_use(
        &self,
        records: &[&KeyRecord],
        shared: &Shared,
        until: Instant,
    ) -> Result<Vec<IdleEnd>, StoreError> {
        let ids: Vec<KeyId> = records.iter().map(|record| record.id).collect();
        let stored = shared.last_used_until(&ids, until).await?;
        let stored: LastUseTimes = stored.iter().map(|used| (used.key, used.at)).collect();
        let end = |record: &KeyRecord, uses: &LastUseTimes| {
            record.idle_at(uses.get(&record.id).copied(), self.after)
        };
        let now = shared.now().now;
        let idle = records.iter().filter(|record| end(record, &stored) <= now);
        let idle: Vec<KeyId> = idle.map(|record| record.id).collect();
        // The uses by this process take longer to find.
        let uses = match idle.is_empty() {
            true => LastUseTimes::new(),
            false => shared.last_uses(&idle, &*self.own, until).await?,
        };
        let (idle, now): (HashSet<_>, _) = (idle.into_iter().collect(), shared.now());
        let read = |record: &KeyRecord| {
            let is_idle = idle.contains(&record.id);
            let at = end(record, if is_idle { &uses } else { &stored });
            let found_idle = (is_idle && at <= now.now).then_some(now);
            IdleEnd { at, found_idle }
        };
        Ok(records.iter().map(|record| read(record)).collect())
    }

    /// Returns when a key becomes idle, if that does not depend on its last use, or if the key is denied anyway: it is read
    /// again when it is not any more.
    fn end_without_use(&self, record: &KeyRecord, now: Timestamp) -> Option<IdleEnd> {
        let at = record.idle_at(None, self.after);
        match record.state_at(now) {
            KeyState::Active if at <= now => None,
            // It is expired, whenever it was used.
            KeyState::Expired => Some(IdleEnd::NEVER),
            _ => Some(IdleEnd {
                at,
                found_idle: None,
            }),
        }
    }
}
