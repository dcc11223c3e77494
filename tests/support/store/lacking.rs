//! Stores that lack something: up-to-date answers, or a history.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use apikey_runtime::{
    Changes, Charge, ChargeOutcome, Cursor, KeyId, KeyPatch, KeyRecord, KeyStore, LastUsed,
    LimitCounter, LimitSupport, ListQuery, MemoryStore, NodeId, RecordPage, Revocation, StoreError,
    Timestamp, UsageBatch, UsageQuery, UsageRow,
};
use async_trait::async_trait;

/// For negative controls: answers for ever what it first read, as a cache without the runtime's
/// rules would.
#[derive(Debug)]
pub struct StaleStore {
    inner: Arc<dyn KeyStore>,
    seen: Mutex<HashMap<KeyId, Option<KeyRecord>>>,
}

impl StaleStore {
    /// In front of `inner`.
    pub fn around(inner: Arc<dyn KeyStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            seen: Mutex::default(),
        })
    }
}

#[async_trait]
impl KeyStore for StaleStore {
    async fn start(&self) -> Result<(), StoreError> {
        self.inner.start().await
    }

    async fn insert(&self, record: &KeyRecord) -> Result<(), StoreError> {
        self.inner.insert(record).await
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        if let Some(seen) = self.seen.lock().unwrap().get(id) {
            return Ok(seen.clone());
        }
        let found = self.inner.find(id).await?;
        self.seen.lock().unwrap().insert(*id, found.clone());
        Ok(found)
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        self.inner.list(query).await
    }

    async fn update(&self, id: &KeyId, patch: &KeyPatch) -> Result<(), StoreError> {
        self.inner.update(id, patch).await
    }

    async fn revoke(&self, id: &KeyId, revocation: &Revocation) -> Result<bool, StoreError> {
        self.inner.revoke(id, revocation).await
    }

    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
    ) -> Result<Vec<KeyId>, StoreError> {
        self.inner.revoke_owner(owner, revocation).await
    }

    async fn purge(&self, before: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        self.inner.purge(before).await
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Option<Changes>, StoreError> {
        self.inner.changes(since, node).await
    }

    fn limit_support(&self) -> LimitSupport {
        self.inner.limit_support()
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        self.inner.charge(charge).await
    }

    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        self.inner.refill(key, counter, amount).await
    }

    fn supports_usage(&self) -> bool {
        self.inner.supports_usage()
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.inner.add_usage(batch).await
    }

    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        self.inner.usage(query).await
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        self.inner.last_used(keys).await
    }

    async fn prune_usage(&self, hour: i64) -> Result<(), StoreError> {
        self.inner.prune_usage(hour).await
    }
}

/// A store that keeps no history: it is asked for every request.
#[derive(Debug, Default)]
pub struct NoHistory(MemoryStore);

#[async_trait]
impl KeyStore for NoHistory {
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

    fn limit_support(&self) -> LimitSupport {
        self.0.limit_support()
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        self.0.charge(charge).await
    }

    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        self.0.refill(key, counter, amount).await
    }

    fn supports_usage(&self) -> bool {
        self.0.supports_usage()
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.0.add_usage(batch).await
    }

    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        self.0.usage(query).await
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        self.0.last_used(keys).await
    }

    async fn prune_usage(&self, hour: i64) -> Result<(), StoreError> {
        self.0.prune_usage(hour).await
    }
}
