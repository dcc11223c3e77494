//! An unlimited number of keys, whose records are computed instead of stored.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::key::{KeyHasher, Sha256Hasher};
use apikey_runtime::store::{
    BulkStep, ChangeLog, ChangeSet, Changes, Cursor, KeyPatch, LastUsed, ListCursor, ListQuery,
    NodeId, OwnerState, RecordPage, Revocation, StoreError, UsageBatch, UsageQuery, UsageRow,
    UsageStore, WriteOptions,
};
use apikey_runtime::{
    ApiKeyManager, Config, KeyId, KeyRecord, KeyStore, Limit, Policy, Scopes, Timestamp,
};
use async_trait::async_trait;

use super::Outcome;

/// Longer than a bench runs: no lease ends meanwhile.
pub(crate) const LEASE: Duration = Duration::from_secs(3_600);

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Returns the id of the key with this number; spread over all ids like random ones.
pub(crate) fn id(number: usize) -> KeyId {
    let half = |seed: u64| seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let (high, low) = (half(number as u64 + 1), half(!(number as u64)));
    KeyId::from_u128(u128::from(high) << 64 | u128::from(low))
}

/// Returns the key with this id: as long as those that a manager generates, with a valid checksum.
pub(crate) fn text(id: KeyId) -> String {
    with_secret(id, &id.as_str().repeat(3)[..64])
}

/// Returns a key with this id, another secret, and a valid checksum.
pub(crate) fn with_secret(id: KeyId, secret: &str) -> String {
    let body = format!("my_api_{id}_{secret}");
    let mut sum = crc32fast::hash(body.as_bytes());
    let mut checksum = [b'0'; 6];
    for digit in checksum.iter_mut().rev() {
        *digit = BASE62[(sum % 62) as usize];
        sum /= 62;
    }
    body + &String::from_utf8_lossy(&checksum)
}

/// The owners of the keys of an [`EndlessStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    None,
    /// One owner has all keys.
    One,
    /// Each key has an owner of its own.
    Each,
}

impl Owners {
    /// Returns the owner of a key, of 17 bytes.
    fn of(self, id: KeyId) -> Option<String> {
        match self {
            Self::None => None,
            Self::One => Some("customer-12345678".to_owned()),
            // The first digit of an id is one of a few.
            Self::Each => Some(format!("customer-{}", &id.as_str()[1..9])),
        }
    }
}

/// Computes the record of any of the first `keys` numbers on request, and stores none.
#[derive(Debug)]
pub(crate) struct EndlessStore {
    known: std::collections::HashSet<KeyId>,
    /// The owners of the keys.
    pub(crate) owners: Owners,
    /// Whether records have two scopes.
    pub(crate) scopes: bool,
    /// The limits of each key.
    pub(crate) limits: Vec<Limit>,
    /// Whether the store has the usage capability.
    pub(crate) keeps_usage: bool,
    /// Number of usage batches received.
    pub(crate) batches: AtomicUsize,
    /// Number of records requested.
    pub(crate) finds: AtomicUsize,
    /// Number of records found.
    pub(crate) found: AtomicUsize,
    /// If set, each answer takes a permit.
    pub(crate) gate: Option<tokio::sync::Semaphore>,
}

impl EndlessStore {
    /// Creates a store that knows `keys` keys.
    pub(crate) fn new(keys: usize) -> Self {
        Self {
            known: (0..keys).map(id).collect(),
            owners: Owners::None,
            scopes: false,
            limits: Vec::new(),
            keeps_usage: false,
            batches: AtomicUsize::new(0),
            finds: AtomicUsize::new(0),
            found: AtomicUsize::new(0),
            gate: None,
        }
    }

    fn record(&self, id: &KeyId) -> Result<KeyRecord, StoreError> {
        let digest = Sha256Hasher::new()
            .hash(&text(*id))
            .map_err(|_| StoreError::Conflict)?;
        let mut record = KeyRecord::new(
            *id,
            "my_api",
            "MY_FIRST_KEY",
            digest,
            Timestamp::from_millis(0),
        );
        record.owner = self.owners.of(*id);
        record.owner_state = record.owner.as_ref().map(|_| OwnerState::new());
        if self.scopes {
            let scopes = Scopes::new(["orders:read", "orders:write"]);
            record.scopes = scopes.map_err(|_| StoreError::Conflict)?;
        }
        record.limits.clone_from(&self.limits);
        Ok(record)
    }
}

#[async_trait]
impl KeyStore for EndlessStore {
    async fn insert(&self, _record: &KeyRecord, _options: &WriteOptions) -> Result<(), StoreError> {
        Err(StoreError::Conflict)
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.finds.fetch_add(1, Ordering::Relaxed);
        if let Some(gate) = &self.gate {
            // The semaphore is never closed.
            gate.acquire()
                .await
                .map_err(|_| StoreError::NotFound)?
                .forget();
        }
        if !self.known.contains(id) {
            return Ok(None);
        }
        self.found.fetch_add(1, Ordering::Relaxed);
        self.record(id).map(Some)
    }

    async fn list(&self, _query: &ListQuery) -> Result<RecordPage, StoreError> {
        Ok(RecordPage::default())
    }

    async fn update(
        &self,
        _id: &KeyId,
        _patch: &KeyPatch,
        _options: &WriteOptions,
    ) -> Result<(), StoreError> {
        Err(StoreError::NotFound)
    }

    async fn revoke(
        &self,
        _id: &KeyId,
        _revocation: &Revocation,
        _options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        Err(StoreError::NotFound)
    }

    async fn revoke_owner(
        &self,
        _owner: &str,
        _revocation: &Revocation,
        _after: Option<&ListCursor>,
        _origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        Ok(BulkStep::default())
    }

    async fn purge(
        &self,
        _before: Timestamp,
        _after: Option<&ListCursor>,
        _origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        Ok(BulkStep::default())
    }

    fn change_log(&self) -> Option<&dyn ChangeLog> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        self.keeps_usage.then_some(self)
    }
}

#[async_trait]
impl ChangeLog for EndlessStore {
    async fn changes(
        &self,
        _since: Option<&Cursor>,
        _node: Option<&NodeId>,
    ) -> Result<Changes, StoreError> {
        let cursor = Cursor {
            epoch: 0,
            tag: Vec::new(),
        };
        Ok(Changes::new(ChangeSet::of_keys([]), cursor, LEASE))
    }
}

#[async_trait]
impl UsageStore for EndlessStore {
    async fn add_usage(&self, _batch: &UsageBatch) -> Result<(), StoreError> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn read_usage(&self, _query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn last_used(&self, _keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        Ok(Vec::new())
    }

    async fn prune_usage(&self, _hour: i64) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Starts a manager on this store, with a cache for all of its keys.
pub(crate) async fn manager(store: &Arc<EndlessStore>) -> Outcome<ApiKeyManager> {
    manager_with_room(store, store.known.len() + 1_000).await
}

/// Starts a manager on this store, with a cache for `room` keys.
pub(crate) async fn manager_with_room(
    store: &Arc<EndlessStore>,
    room: usize,
) -> Outcome<ApiKeyManager> {
    // Failed attempts are counted, and no client is blocked.
    let config = Config::builder().failed_attempts("1000000/second");
    let config = config.cache_capacity(room).build()?;
    let shared: Arc<dyn KeyStore> = Arc::clone(store) as _;
    Ok(ApiKeyManager::builder()
        .config(config)
        .shared_store(shared)
        .start()
        .await?)
}

/// Brings the keys with these numbers into the manager's cache.
pub(crate) async fn warm(manager: &ApiKeyManager, keys: std::ops::Range<usize>) -> Outcome {
    warm_for(manager, keys, &Policy::new()).await
}

/// Checks the keys with these numbers, as a route with this policy would.
pub(crate) async fn warm_for(
    manager: &ApiKeyManager,
    keys: std::ops::Range<usize>,
    policy: &Policy,
) -> Outcome {
    let numbers: Vec<usize> = keys.collect();
    for some in numbers.chunks(1_000) {
        let checks = some.iter().map(|number| {
            let (manager, key, policy) = (manager.clone(), text(id(*number)), *policy);
            async move { manager.verify_for(&key, &policy).await.map(drop) }
        });
        together(checks).await?;
    }
    Ok(())
}

/// Runs all futures concurrently.
pub(crate) async fn together<F, E>(all: impl Iterator<Item = F>) -> Outcome
where
    F: Future<Output = Result<(), E>> + 'static,
    E: std::error::Error + 'static,
{
    let mut set = tokio::task::JoinSet::new();
    for future in all {
        set.spawn_local(future);
    }
    while let Some(ended) = set.join_next().await {
        ended??;
    }
    Ok(())
}
