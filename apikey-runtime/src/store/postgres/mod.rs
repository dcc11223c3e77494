//! Records in PostgreSQL.

mod audit;
mod bulk;
mod connect;
mod copy;
mod error;
mod expiry_notices;
mod history;
mod limit_counters;
mod list;
mod membership;
mod migrate;
mod origin;
mod owner_list;
mod owners;
mod pool;
mod push;
mod records;
mod shared_secrets;
mod url;
mod usage;

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use sqlx::postgres::PgConnectOptions;

use self::connect::ConnectionTarget;
use self::migrate::{LeaseRow, ReadySchema};
use self::pool::ConnectionPool;
use self::push::PushListener;
use super::key_store::STOPPED;
use super::schema::{Opening, UpgradeFlag};
use super::trim_schedule::TrimSchedule;
use super::{
    AuditStore, BatchReads, BulkStep, ChangeLog, ChangeNotifier, ExpiryNotices, FindResult,
    KeyStore, LimitStore, ListCursor, ListQuery, Membership, OwnerStore, RecordPage,
    SharedSecretStore, StoreCopy, UsageStore, WriteOptions, lease,
};
use crate::audit::ChangeOrigin;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};

#[doc = include_str!("docs.md")]
pub struct PostgresStore {
    /// The options in the URL, or what is wrong with it.
    options: Result<PgConnectOptions, String>,
    lease: Option<Duration>,
    opening: Opening,
    max_connections: u32,
    timeout: Duration,
    signal: ChangeNotifier,
    upgrade: UpgradeFlag,
    /// The connections, or why there are none, and what to do.
    running: RwLock<Result<Arc<PostgresPools>, &'static str>>,
    /// Held while the store starts or stops, so that each of them is done once.
    turn: tokio::sync::Mutex<()>,
}

/// The connections of a started store.
#[derive(Debug)]
struct PostgresPools {
    keys: ConnectionPool,
    /// Charges of one key wait for one another; reads and revocations of others do not wait for them.
    limit_counters: ConnectionPool,
    /// Polls of the history have a connection of their own: a flood of reads of unknown keys would
    /// otherwise delay them until the lease of the known ones is over.
    polls: ConnectionPool,
    /// Joins, acknowledgements and suspicions.
    membership: ConnectionPool,
    /// Reads of the list of nodes. A call that waits for a confirmation repeats them, and does not
    /// delay polls or acknowledgements.
    member_list: ConnectionPool,
    trim_schedule: TrimSchedule,
    /// Where this node trims the log next.
    trimmed: AtomicI64,
    /// The key from which this node looks next for last uses of keys that are gone.
    orphans_searched: Mutex<String>,
    _push: PushListener,
}

/// The least deadline of what a node writes about itself. No request waits for it, and a write that is given up and
/// repeated on a slow disk would never succeed.
const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns an id at random: nodes that are started again look at other rows than before.
fn any_id() -> String {
    let bits = RandomState::new().build_hasher().finish();
    KeyId::from_u128(u128::from(bits) << 64).to_string()
}

const NOT_STARTED: &str = "the store is not started; call `start` first, or let a manager do it";

impl PostgresStore {
    /// Describes the store at `url`, as in `postgres://user:password@host:5432/database`. Nothing is
    /// connected before [`start`](KeyStore::start), which also returns the error if the URL cannot be
    /// used.
    ///
    /// What the URL leaves out is taken from the variables that `psql` uses (`PGUSER`, `PGPASSWORD`
    /// and so on). A schema is chosen by `?options=-csearch_path%3Dname`. `?sslmode=verify-full`
    /// asks for TLS, which the feature `tls` adds; without `sslmode`, the connection is not encrypted
    /// if the server or this build has no TLS.
    #[must_use]
    pub fn new(url: impl AsRef<str>) -> Self {
        Self {
            options: url::parse(url.as_ref()),
            lease: None,
            opening: Opening::default(),
            max_connections: 8,
            timeout: Duration::from_secs(5),
            signal: ChangeNotifier::new(),
            upgrade: UpgradeFlag::default(),
            running: RwLock::new(Err(NOT_STARTED)),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Sets how long a record that was read may be used without being read again: 20 milliseconds to
    /// 60 seconds, otherwise `start` returns an error. It is written to the database and holds for
    /// every node. If it is shorter than before, `start` waits until no node can hold the longer one.
    ///
    /// By default, the database's own; 2 seconds in a new one.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Sets whether `start` returns an error if the database does not have the tables of this store, or does not exist. A
    /// wrong database is then found, in place of a new store without keys.
    ///
    /// By default, `false`: the tables are created.
    #[must_use]
    pub fn must_exist(mut self, must_exist: bool) -> Self {
        self.opening.must_exist = must_exist;
        self
    }

    /// Sets whether `start` brings the tables of an older release up to date. If not, it returns
    /// [`StoreError::Schema`] for such tables, which are left as they are.
    ///
    /// By default, `true`. A tool that is used beside servers sets `false`, and [`must_exist`](Self::must_exist): `start`
    /// then changes neither tables nor records.
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.opening.migrate = migrate;
        self
    }

    /// Sets how many connections are opened at most for reading and changing keys, and as many for
    /// charging limits: 1 to 1000, otherwise `start` returns an error. Four more are always opened.
    ///
    /// By default, 8.
    #[must_use]
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// Sets the deadline of a call: 10 milliseconds to 60 seconds, otherwise `start` returns an error.
    /// A manager's own [`store_timeout`](crate::Config::store_timeout) ends a call too, so this matters
    /// if it is the shorter, and to the server, which continues an abandoned call for that long at
    /// most. What a node writes about itself has at least 30 seconds: no request waits for it.
    ///
    /// By default, 5 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns the options to connect with, if every setting is valid.
    fn checked(&self) -> Result<&PgConnectOptions, StoreError> {
        lease::check(self.lease)?;
        if !(1..=1_000).contains(&self.max_connections) {
            return Err(StoreError::InvalidArgument(
                "`max_connections` is out of its bounds; write 1 to 1000".to_owned(),
            ));
        }
        let timeouts = Duration::from_millis(10)..=Duration::from_secs(60);
        if !timeouts.contains(&self.timeout) {
            return Err(StoreError::InvalidArgument(
                "the timeout is out of its bounds; write 10 ms to 60 s".to_owned(),
            ));
        }
        self.options
            .as_ref()
            .map_err(|reason| StoreError::InvalidArgument(reason.clone()))
    }

    fn running(&self) -> Result<Arc<PostgresPools>, StoreError> {
        let running = self.running.read();
        running.clone().map_err(StoreError::unavailable)
    }
}

#[async_trait]
impl KeyStore for PostgresStore {
    async fn start(&self) -> Result<(), StoreError> {
        let options = self.checked()?;
        let _turn = self.turn.lock().await;
        if self.running().is_ok() {
            return Ok(());
        }
        let ReadySchema {
            target,
            channel,
            lease,
        } = migrate::prepare(
            options,
            self.opening,
            self.lease,
            self.timeout,
            &self.upgrade,
        )
        .await?;
        let pool_of = |target: ConnectionTarget, connections| {
            let pool = ConnectionPool::new(target, connections);
            pool.map_err(|error| StoreError::Unavailable {
                reason: "creating a pool of connections failed".to_owned(),
                source: Some(Box::new(error)),
            })
        };
        let pool = |connections| pool_of(target.clone(), connections);
        let polls = pool(1)?;
        outlast(&polls, lease).await?;
        let pools = PostgresPools {
            keys: pool(self.max_connections)?,
            limit_counters: pool(self.max_connections)?,
            polls,
            membership: pool_of(target.with_deadline(MEMBERSHIP_TIMEOUT), 1)?,
            member_list: pool(1)?,
            trim_schedule: TrimSchedule::default(),
            trimmed: AtomicI64::new(0),
            orphans_searched: Mutex::new(any_id()),
            _push: PushListener::open(target.clone(), channel, self.signal.clone()),
        };
        *self.running.write() = Ok(Arc::new(pools));
        Ok(())
    }

    async fn insert(&self, record: &KeyRecord, options: &WriteOptions) -> Result<(), StoreError> {
        records::insert(&self.running()?.keys, record, options).await
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        records::find(&self.running()?.keys, id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        list::list(&self.running()?.keys, query).await
    }

    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        records::update(&self.running()?.keys, id, patch, options).await
    }

    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        records::revoke(&self.running()?.keys, id, revocation, options).await
    }

    async fn purge(
        &self,
        before: Timestamp,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        bulk::purge(&self.running()?.keys, before, after, origin).await
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
        if let Ok(running) = self.running() {
            *self.running.write() = Err(STOPPED);
            running.keys.close().await;
            running.limit_counters.close().await;
            running.membership.close().await;
            running.member_list.close().await;
            running.polls.close().await;
        }
    }
}

#[async_trait]
impl BatchReads for PostgresStore {
    async fn find_many(&self, ids: &[KeyId]) -> Result<Vec<FindResult>, StoreError> {
        records::find_many(&self.running()?.keys, ids).await
    }
}

/// If a node may still hold a longer lease than the present one, waits until it has run out, and
/// writes that down, unless the lease was set again meanwhile.
async fn outlast(pool: &ConnectionPool, lease: LeaseRow) -> Result<(), StoreError> {
    const OUTLASTED: &str = "UPDATE api_key_meta SET longest_lease_ms = lease_ms \
         WHERE lease_ms = $1 AND longest_lease_ms = $2 AND lease_version = $3";
    if lease.longest <= lease.length {
        return Ok(());
    }
    let longest = Duration::from_millis(lease.longest.unsigned_abs());
    tokio::time::sleep(lease::outlasts(longest)).await;
    let outlasted = || {
        sqlx::query(OUTLASTED)
            .bind(lease.length)
            .bind(lease.longest)
            .bind(lease.version)
    };
    let written = pool.write(outlasted).await;
    written
        .map(drop)
        .map_err(|error| error::failed("lowering the lease", error))
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.options.as_ref().ok();
        f.debug_struct("PostgresStore")
            .field("host", &options.map(PgConnectOptions::get_host))
            .field("port", &options.map(PgConnectOptions::get_port))
            .field("database", &options.map(PgConnectOptions::get_database))
            .field("lease", &self.lease)
            .field("opening", &self.opening)
            .field("max_connections", &self.max_connections)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
