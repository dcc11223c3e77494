//! When a cached key becomes idle.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{ClockReading, Timestamp};
use crate::error::StoreError;
use crate::record::{KeyRecord, KeyState};
use crate::shared::{Shared, UnflushedUses};

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
    /// Returns when the key of a record that was just read becomes idle. Reads its last use only if it
    /// would be idle without.
    ///
    /// # Errors
    ///
    /// Returns any error of the store.
    pub(super) async fn end_of(
        &self,
        record: &KeyRecord,
        shared: &Shared,
    ) -> Result<IdleEnd, StoreError> {
        let end = |last_used, found_idle| IdleEnd {
            at: record.idle_at(last_used, self.after),
            found_idle,
        };
        let now = shared.now().now;
        let without_use = end(None, None);
        match record.state_at(now) {
            KeyState::Active if without_use.at <= now => {}
            // It is expired, whenever it was used.
            KeyState::Expired => return Ok(IdleEnd::NEVER),
            // A key that is denied anyway is read again when it is not any more.
            _ => return Ok(without_use),
        }
        let stored = shared.last_used(&[record.id]).await?;
        let stored = end(stored.first().map(|used| used.at), None);
        if shared.now().now < stored.at {
            return Ok(stored);
        }
        // The uses by this process take longer to find.
        let uses = shared.last_uses(&[record.id], &*self.own).await?;
        let last_used = uses.get(&record.id).copied();
        let (end, now) = (end(last_used, None), shared.now());
        Ok(IdleEnd {
            found_idle: (end.at <= now.now).then_some(now),
            ..end
        })
    }
}
