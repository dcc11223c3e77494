//! Stores that lack something: current answers, a change log, or all but records.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use apikey_runtime::store::{
    ChangeListener, Changes, Cursor, KeyPatch, ListQuery, MemberList, NodeId, RecordPage,
    Revocation, StoreError,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, MemoryStore, Timestamp};
use async_trait::async_trait;

use super::{Forward, Forwarding};

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

    async fn join(&self, _node: &NodeId) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn members(&self) -> Result<Option<MemberList>, StoreError> {
        Ok(None)
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

    async fn changes(
        &self,
        _since: Option<&Cursor>,
        _node: Option<&NodeId>,
    ) -> Result<Option<Changes>, StoreError> {
        Ok(None)
    }

    async fn join(&self, _node: &NodeId) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn members(&self) -> Result<Option<MemberList>, StoreError> {
        Ok(None)
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        None
    }
}

/// The least that a store must have: records.
#[derive(Debug, Default)]
pub struct RecordsOnly(MemoryStore);

#[async_trait]
impl KeyStore for RecordsOnly {
    async fn insert(&self, record: &KeyRecord) -> Result<(), StoreError> {
        self.0.insert(record).await
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.0.find(id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        self.0.list(query).await
    }

    async fn update(&self, id: &KeyId, patch: &KeyPatch) -> Result<(), StoreError> {
        self.0.update(id, patch).await
    }

    async fn revoke(&self, id: &KeyId, revocation: &Revocation) -> Result<bool, StoreError> {
        self.0.revoke(id, revocation).await
    }

    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
    ) -> Result<Vec<KeyId>, StoreError> {
        self.0.revoke_owner(owner, revocation).await
    }

    async fn purge(&self, before: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        self.0.purge(before).await
    }
}
