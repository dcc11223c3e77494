//! Records in a file.

mod audit;
mod copy;
mod error;
mod expiry_notices;
mod file;
mod group_commit;
mod history;
mod limit_counters;
mod list;
mod live_keys;
mod membership;
mod migrate;
mod owner_list;
mod owners;
mod pools;
mod records;
mod shared_secrets;
mod transaction;
mod usage;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;

use self::file::{CloseAction, FileChange};
use self::pools::SqlitePools;
use super::key_store::STOPPED;
use super::schema::{Opening, UpgradeFlag};
use super::{
    AuditStore, BatchReads, BulkStep, ChangeLog, ChangeNotifier, ExpiryNotices, FindResult,
    KeyStore, LimitStore, ListCursor, ListQuery, Membership, OwnerStore, RecordPage,
    SharedSecretStore, StoreCopy, UsageStore, WriteOptions, lease,
};
use crate::audit::ChangeOrigin;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};

#[doc = include_str!("docs.md")]
pub struct SqliteStore {
    path: PathBuf,
    opening: Opening,
    lease: Option<Duration>,
    /// Unset until it is given, offered or needed.
    clock: OnceLock<Arc<dyn Clock>>,
    state: RwLock<FileState>,
    upgrade: UpgradeFlag,
    /// Held while the store starts or stops, so that each of them is done once.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Raised by what this process writes: managers that share the store hear of it at once.
    changed: ChangeNotifier,
}

/// Whether the file is open.
enum FileState {
    Open(Arc<SqlitePools>),
    Closed {
        /// Why, and what to do: the answer to each call.
        reason: String,
        /// Whether `start` may open it again.
        can_start: bool,
    },
}

const NOT_STARTED: &str = "the file is not open; call `start` first, or let a manager do it";

impl SqliteStore {
    /// Describes the store in the file `path`. Nothing is opened before [`start`](KeyStore::start).
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            opening: Opening::default(),
            lease: None,
            clock: OnceLock::new(),
            state: RwLock::new(FileState::Closed {
                reason: NOT_STARTED.to_owned(),
                can_start: true,
            }),
            upgrade: UpgradeFlag::default(),
            turn: Arc::default(),
            changed: ChangeNotifier::new(),
        }
    }

    /// Sets whether `start` returns an error if the file does not exist, or does not have the tables of
    /// this store. A typo in the path is then found, in place of a new store without keys.
    ///
    /// By default, `false`: the file and the tables are created.
    ///
    /// ```
    /// # use apikey_runtime::{KeyStore, SqliteStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// let store = SqliteStore::new("no-such-folder/kyes.db").must_exist(true);
    /// assert!(store.start().await.is_err());
    /// # });
    /// ```
    #[must_use]
    pub fn must_exist(mut self, must_exist: bool) -> Self {
        self.opening.must_exist = must_exist;
        self
    }

    /// Sets whether `start` brings the tables of an older release up to date. If not, it returns
    /// [`StoreError::Schema`] for such a file, which is left as it is.
    ///
    /// By default, `true`. A tool that is used beside servers sets `false`, and [`must_exist`](Self::must_exist): `start`
    /// then changes neither tables nor records.
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.opening.migrate = migrate;
        self
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
    /// By default, the clock that the manager's builder was given, or a [`SystemClock`].
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = OnceLock::from(clock);
        self
    }

    fn limit_clock(&self) -> &Arc<dyn Clock> {
        self.clock.get_or_init(|| Arc::new(SystemClock::new()))
    }

    fn now(&self) -> Timestamp {
        self.limit_clock().read().now
    }

    /// Returns the connections, if the files are still those that other processes use.
    async fn pools(&self) -> Result<Arc<SqlitePools>, StoreError> {
        let pools = self.open_pools()?;
        match pools.files.change() {
            Some(change) => Err(self.stop_because(change).await),
            None => Ok(pools),
        }
    }

    fn open_pools(&self) -> Result<Arc<SqlitePools>, StoreError> {
        match &*self.state.read() {
            FileState::Open(pools) => Ok(Arc::clone(pools)),
            FileState::Closed { reason, .. } => Err(StoreError::unavailable(reason)),
        }
    }

    /// Opens connections that only read, to the tables of this or an older release.
    async fn look(&self) -> Result<SqlitePools, StoreError> {
        let clock = Arc::clone(self.limit_clock());
        SqlitePools::open(&self.path, Opening::LOOK, None, clock, &self.upgrade).await
    }

    /// Notifies the subscribers, whatever the result of the write.
    async fn wrote<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        self.changed.notify();
        self.kept(outcome).await
    }

    /// Returns the result of a write, which is acknowledged if it is in the file that other processes
    /// use.
    async fn kept<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        let written = outcome?;
        self.pools().await?;
        Ok(written)
    }

    /// Stops after something happened to the files, and returns the answer to this call and all later
    /// ones.
    async fn stop_because(&self, change: FileChange) -> StoreError {
        let FileChange { reason, action } = change;
        let error = StoreError::unavailable(&reason);
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if let Some(pools) = self.close(&reason, action == CloseAction::Close) {
            tracing::error!(reason, "the key store stopped");
            // A task of its own, which comes to its end if this call is given up: no other call does this again.
            let released = tokio::spawn(async move {
                pools.release(action).await;
                drop(turn);
            });
            if let Err(failure) = released.await {
                tracing::error!(%failure, "the key store was not released");
            }
        }
        error
    }

    /// If the file is open, lets each further call answer with `reason`, and returns the connections.
    fn close(&self, reason: &str, can_start: bool) -> Option<Arc<SqlitePools>> {
        let mut state = self.state.write();
        let FileState::Open(pools) = &*state else {
            return None;
        };
        let pools = Arc::clone(pools);
        *state = FileState::Closed {
            reason: reason.to_owned(),
            can_start,
        };
        Some(pools)
    }
}

/// Runs a write in a task of its own: it comes to its end if the caller goes away, for example at a
/// deadline while another process has the file locked.
async fn to_its_end<T: Send + 'static>(
    write: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let stopped = |_| StoreError::unavailable("it stopped while a write was under way");
    tokio::spawn(write).await.map_err(stopped)?
}

#[async_trait]
impl KeyStore for SqliteStore {
    fn offer_clock(&self, clock: &Arc<dyn Clock>) {
        // If it is set already, the store keeps its own.
        let _ = self.clock.set(Arc::clone(clock));
    }

    async fn start(&self) -> Result<(), StoreError> {
        lease::check(self.lease)?;
        let _turn = self.turn.lock().await;
        match &*self.state.read() {
            FileState::Open(_) => return Ok(()),
            FileState::Closed { reason, can_start } if !can_start => {
                return Err(StoreError::unavailable(reason));
            }
            FileState::Closed { .. } => {}
        }
        let clock = Arc::clone(self.limit_clock());
        let pools =
            SqlitePools::open(&self.path, self.opening, self.lease, clock, &self.upgrade).await?;
        *self.state.write() = FileState::Open(Arc::new(pools));
        Ok(())
    }

    async fn insert(&self, record: &KeyRecord, options: &WriteOptions) -> Result<(), StoreError> {
        let pools = self.pools().await?;
        let (record, options) = (record.clone(), options.clone());
        let clock = Arc::clone(self.limit_clock());
        let insert =
            async move { records::insert(&pools.writer, &record, &options, &*clock).await };
        self.wrote(to_its_end(insert).await).await
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        records::find(&self.pools().await?.reader, id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        list::list(&self.pools().await?.reader, query).await
    }

    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        let pools = self.pools().await?;
        let (id, patch, options) = (*id, patch.clone(), options.clone());
        let clock = Arc::clone(self.limit_clock());
        let update =
            async move { records::update(&pools.writer, &id, &patch, &options, &*clock).await };
        self.wrote(to_its_end(update).await).await
    }

    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        let pools = self.pools().await?;
        let (id, revocation, options) = (*id, revocation.clone(), options.clone());
        let clock = Arc::clone(self.limit_clock());
        let revoke = async move {
            records::revoke(&pools.writer, &id, &revocation, &options, &*clock).await
        };
        self.wrote(to_its_end(revoke).await).await
    }

    async fn purge(
        &self,
        before: Timestamp,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        let pools = self.pools().await?;
        let purged = records::purge(&pools, before, after, origin, &**self.limit_clock()).await;
        self.wrote(purged).await
    }

    fn is_upgrading(&self) -> bool {
        self.upgrade.is_raised()
    }

    fn batch_reads(&self) -> Option<&dyn BatchReads> {
        Some(self)
    }

    fn change_log(&self) -> Option<&dyn ChangeLog> {
        Some(self)
    }

    fn membership(&self) -> Option<&dyn Membership> {
        Some(self)
    }

    fn owners(&self) -> Option<&dyn OwnerStore> {
        Some(self)
    }

    fn audit(&self) -> Option<&dyn AuditStore> {
        Some(self)
    }

    fn expiry_notices(&self) -> Option<&dyn ExpiryNotices> {
        Some(self)
    }

    fn limits(&self) -> Option<&dyn LimitStore> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        Some(self)
    }

    fn shared_secrets(&self) -> Option<&dyn SharedSecretStore> {
        Some(self)
    }

    fn copying(&self) -> Option<&dyn StoreCopy> {
        Some(self)
    }

    async fn stop(&self) {
        let _turn = self.turn.lock().await;
        if let Some(pools) = self.close(STOPPED, true) {
            pools.close().await;
        }
    }
}

#[async_trait]
impl BatchReads for SqliteStore {
    async fn find_many(&self, ids: &[KeyId]) -> Result<Vec<FindResult>, StoreError> {
        records::find_many(&self.pools().await?.reader, ids).await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .field("opening", &self.opening)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
