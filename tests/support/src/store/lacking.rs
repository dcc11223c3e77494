//! Stores that lack something: current answers, a change log, or all but records.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use apikey_runtime::store::{ChangeListener, StoreError};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, MemoryStore};

use super::{Capability, Forward, Forwarding};

/// For negative controls: repeats its first answers, as a cache without the runtime's rules would.
/// It does not have membership or a push.
pub type StaleStore = Forwarding<Stale>;

#[derive(Debug)]
pub struct Stale {
    inner: Arc<dyn KeyStore>,
    seen: Mutex<HashMap<KeyId, Option<KeyRecord>>>,
}

impl StaleStore {
    /// Creates a stale store in front of `inner`.
    pub fn around(inner: Arc<dyn KeyStore>) -> Arc<Self> {
        Arc::new(Self(Stale {
            inner,
            seen: Mutex::default(),
        }))
    }
}

impl Forward for Stale {
    fn inner(&self) -> &dyn KeyStore {
        &*self.inner
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        if let Some(seen) = self.seen.lock().unwrap().get(id) {
            return Ok(seen.clone());
        }
        let found = self.inner.find(id).await?;
        self.seen.lock().unwrap().insert(*id, found.clone());
        Ok(found)
    }

    fn has(&self, capability: Capability) -> bool {
        !matches!(capability, Capability::Membership | Capability::BatchReads)
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        None
    }
}

/// A store without a change log, which is asked for every request.
pub type NoHistory = Forwarding<WithoutHistory>;

#[derive(Debug, Default)]
pub struct WithoutHistory(MemoryStore);

impl Forward for WithoutHistory {
    fn inner(&self) -> &dyn KeyStore {
        &self.0
    }

    fn has(&self, capability: Capability) -> bool {
        !matches!(capability, Capability::ChangeLog | Capability::Membership)
    }
}

/// A store that does not keep owners: all keys of an owner are revoked in steps.
pub type WithoutOwners = Forwarding<Unowned>;

#[derive(Debug, Default)]
pub struct Unowned(Arc<MemoryStore>);

impl WithoutOwners {
    /// Creates one in front of `inner`.
    pub fn around(inner: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self(Unowned(inner)))
    }
}

impl Forward for Unowned {
    fn inner(&self) -> &dyn KeyStore {
        &*self.0
    }

    fn has(&self, capability: Capability) -> bool {
        capability != Capability::Owners
    }
}

/// The least that a store must have: records.
pub type RecordsOnly = Forwarding<Records>;

#[derive(Debug, Default)]
pub struct Records(MemoryStore);

impl Forward for Records {
    fn inner(&self) -> &dyn KeyStore {
        &self.0
    }

    fn has(&self, _capability: Capability) -> bool {
        false
    }
}
