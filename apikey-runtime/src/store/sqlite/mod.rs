//! Records in a file.

mod error;
mod file;
mod group_commit;
mod history;
mod limit_counters;
mod membership;
mod migrate;
mod pools;
mod records;
mod usage;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;

use self::pools::SqlitePools;
use super::{
    ChangeLog, ChangeNotifier, KeyStore, LimitStore, ListQuery, Membership, RecordPage, UsageStore,
    lease,
};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};

/// Records in an SQLite file, which the processes of one machine can share.
///
/// A change of a key is on the disk when the call returns. Limit counters and usage are not, so that
/// a request with a quota does not wait for the disk: they outlive the process however it ends, but a
/// loss of power, or a crash of the system, may undo the last charges and the last usage. The key can
/// then use that much again.
///
/// Quotas are counted in the file, exactly, for all processes that use it; rates in each process.
/// Charges that wait for each other are done in one transaction.
///
/// The tables are `api_keys`, `api_key_changes`, `api_key_meta`, `api_key_nodes`,
/// `api_key_limit_counters`, `api_key_usage`, `api_key_last_used` and `api_key_usage_batches`; the first `start` makes them,
/// and an application may keep tables of its own in the file. Triggers log every change of a key, so that one made by hand, with `sqlite3` say, takes
/// effect like any other. They also increment its `version`, and reject an attempt to take a revocation
/// back. The file is created so that only its owner can read it. Keep it on a local disk (SQLite's
/// locks do not hold on network file systems), and restore a copy of it only while no process has
/// it open: a store whose file was replaced answers no further call.
///
/// ```no_run
/// use apikey_runtime::{KeyStore, SqliteStore};
///
/// # async fn example() -> Result<(), apikey_runtime::store::StoreError> {
/// let store = SqliteStore::new("keys.db");
/// store.start().await?; // a manager does this by itself
/// # Ok(())
/// # }
/// ```
pub struct SqliteStore {
    path: PathBuf,
    lease: Option<Duration>,
    clock: Arc<dyn Clock>,
    pools: RwLock<Option<SqlitePools>>,
    /// Held while the store starts or stops, so that each of them is done once.
    turn: tokio::sync::Mutex<()>,
    /// Raised by what this process writes: managers that share the store hear of it at once.
    changed: ChangeNotifier,
}

impl SqliteStore {
    /// Describes the store in the file `path`. Nothing is opened before [`start`](KeyStore::start).
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            lease: None,
            clock: Arc::new(SystemClock::new()),
            pools: RwLock::new(None),
            turn: tokio::sync::Mutex::new(()),
            changed: ChangeNotifier::new(),
        }
    }

    /// Sets how long a record that was read may be used without being read again: 20 milliseconds to
    /// 60 seconds, otherwise `start` returns an error. It is written to the file and holds for every
    /// process. If it is shorter than before, `start` waits until no process can hold the longer one.
    ///
    /// By default, the file's own; 200 milliseconds in a new one.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Sets the clock of the limits, which decides when a day or a month is over. It should be the
    /// same for all processes that use the file.
    ///
    /// By default, a [`SystemClock`].
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn pools(&self) -> Result<SqlitePools, StoreError> {
        let pools = self.pools.read();
        pools.clone().ok_or_else(|| {
            StoreError::unavailable(
                "the file is not open; call `start` first, or let a manager do it",
            )
        })
    }

    /// Notifies the subscribers, whatever the result of the write.
    fn wrote<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        self.changed.notify();
        outcome
    }

    async fn close(&self) {
        let _turn = self.turn.lock().await;
        if let Some(pools) = self.replace_pools(None) {
            pools.close().await;
        }
    }

    fn replace_pools(&self, pools: Option<SqlitePools>) -> Option<SqlitePools> {
        let mut current = self.pools.write();
        std::mem::replace(&mut *current, pools)
    }
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn start(&self) -> Result<(), StoreError> {
        lease::check(self.lease)?;
        let _turn = self.turn.lock().await;
        if self.pools().is_err() {
            let clock = Arc::clone(&self.clock);
            let pools = SqlitePools::open(&self.path, self.lease, clock).await?;
            self.replace_pools(Some(pools));
        }
        Ok(())
    }

    async fn insert(&self, record: &KeyRecord) -> Result<(), StoreError> {
        self.wrote(records::insert(&self.pools()?.writer, record).await)
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        records::find(&self.pools()?.reader, id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        records::list(&self.pools()?.reader, query).await
    }

    async fn update(&self, id: &KeyId, patch: &KeyPatch) -> Result<(), StoreError> {
        self.wrote(records::update(&self.pools()?.writer, id, patch).await)
    }

    async fn revoke(&self, id: &KeyId, revocation: &Revocation) -> Result<bool, StoreError> {
        self.wrote(records::revoke(&self.pools()?.writer, id, revocation).await)
    }

    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
    ) -> Result<Vec<KeyId>, StoreError> {
        self.wrote(records::revoke_owner(&self.pools()?.writer, owner, revocation).await)
    }

    async fn purge(&self, before: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        self.wrote(records::purge(&self.pools()?.writer, before).await)
    }

    fn change_log(&self) -> Option<&dyn ChangeLog> {
        Some(self)
    }

    fn membership(&self) -> Option<&dyn Membership> {
        Some(self)
    }

    fn limits(&self) -> Option<&dyn LimitStore> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        Some(self)
    }

    async fn stop(&self) {
        self.close().await;
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
