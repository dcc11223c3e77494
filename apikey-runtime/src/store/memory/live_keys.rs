//! How many keys of an owner are live.

use super::State;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::KeyRecord;
use crate::store::WriteOptions;

impl State {
    /// Returns the number of live keys of `owner` other than `except`, counted up to `max`.
    pub(super) fn live_keys(
        &self,
        owner: &str,
        except: Option<&KeyId>,
        now: Timestamp,
        max: u32,
    ) -> u32 {
        let state = self.owners.state(owner).unwrap_or_default();
        let live = self.index.live(owner, state.revocations, now);
        let others = live.filter(|id| Some(id) != except);
        others.take(max as usize).map(|_| 1).sum()
    }

    /// Rejects a write that makes a key live for an owner that has as many as it may have.
    pub(super) fn check_live_keys(
        &self,
        before: Option<&KeyRecord>,
        after: &KeyRecord,
        now: Timestamp,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        let bound = options.live_keys_bound(before, after, now);
        match after.owner.as_deref().zip(bound) {
            Some((owner, max)) if self.live_keys(owner, Some(&after.id), now, max) >= max => {
                Err(StoreError::TooManyKeys { max })
            }
            _ => Ok(()),
        }
    }
}
