//! Records in PostgreSQL.

mod connect;
mod counts;
mod error;
mod history;
mod listen;
mod nodes;
mod pool;
mod usage;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use sqlx::postgres::PgConnectOptions;

use self::connect::{LeaseRow, Ready};
use self::listen::Ear;
use self::pool::Pool;
use super::sql::{self, COLUMNS, Connections, Statement};
use super::{
    ChangeListener, ChangeNotifier, Changes, Charge, ChargeOutcome, Cursor, KeyStore, LastUsed,
    LimitCounter, LimitSupport, ListQuery, MemberList, Node, NodeId, RecordPage, UsageBatch,
    UsageQuery, UsageRow, lease,
};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};

#[doc = include_str!("docs.md")]
pub struct PostgresStore {
    /// The options in the URL, or what is wrong with it.
    options: Result<PgConnectOptions, String>,
    lease: Option<Duration>,
    max_connections: u32,
    timeout: Duration,
    signal: ChangeNotifier,
    running: RwLock<Option<Arc<Running>>>,
    /// Held while the store starts or stops, so that each of them is done once.
    turn: tokio::sync::Mutex<()>,
}

/// What a started store has.
#[derive(Debug)]
struct Running {
    keys: Pool,
    /// Charges of one key wait for one another; reads and revocations of others not for them.
    counts: Pool,
    /// Polls of the history wait behind nobody: a flood of reads of unknown keys would otherwise
    /// put them off until the lease of the known ones is over.
    polls: Pool,
    /// Nor do they, or acknowledgements, wait for those who confirm a revocation and look at the
    /// list of nodes again and again.
    nodes: Pool,
    roster: Pool,
    _ear: Ear,
}

impl PostgresStore {
    /// Describes the store at `url`, as in `postgres://user:password@host:5432/database`. Nothing is
    /// connected to before [`start`](KeyStore::start), which is also where a URL that does not fit
    /// is an error.
    ///
    /// What the URL leaves out is taken from the variables that `psql` uses (`PGUSER`, `PGPASSWORD`
    /// and so on). A schema is chosen by `?options=-csearch_path%3Dname`. `?sslmode=verify-full`
    /// asks for TLS, which the feature `tls` adds; with no `sslmode`, the connection is in clear
    /// where there is no TLS.
    #[must_use]
    pub fn new(url: impl AsRef<str>) -> Self {
        Self {
            options: connect::parse(url.as_ref()),
            lease: None,
            max_connections: 8,
            timeout: Duration::from_secs(5),
            signal: ChangeNotifier::new(),
            running: RwLock::new(None),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Lets a record that was read be used for `lease` without being read again: 20 milliseconds to
    /// 60 seconds, or `start` is an error. It is written to the database and holds for all nodes. A
    /// shorter one than was written there before makes `start` wait until the longer is over.
    ///
    /// By default, what the database says; 2 seconds where it is new.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Opens at most this many connections for reading and changing keys, and as many for charging
    /// limits: 1 to 1000, or `start` is an error. There are four more, whatever this is.
    ///
    /// By default, 8.
    #[must_use]
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// Ends a call that has no answer after so long: 10 milliseconds to 60 seconds, or `start` is an
    /// error. A manager's own [`store_timeout`](crate::Config::store_timeout) ends it too, so this
    /// matters where it is the shorter, and to the server, which goes on with an abandoned call for
    /// that long at most.
    ///
    /// By default, 5 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The options to connect with, where all that was set can work.
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

    fn running(&self) -> Result<Arc<Running>, StoreError> {
        let running = self.running.read();
        running.clone().ok_or_else(|| {
            StoreError::unavailable(
                "the store is not started; call `start` first, or let a manager do it",
            )
        })
    }

    fn replace_running(&self, running: Option<Arc<Running>>) -> Option<Arc<Running>> {
        let mut current = self.running.write();
        std::mem::replace(&mut *current, running)
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
        let Ready {
            target,
            channel,
            lease,
        } = connect::prepare(options, self.lease, self.timeout).await?;
        let pool = |connections| Pool::new(target.clone(), connections, self.timeout);
        let polls = pool(1);
        outlast(&polls, lease).await?;
        self.replace_running(Some(Arc::new(Running {
            keys: pool(self.max_connections),
            counts: pool(self.max_connections),
            polls,
            nodes: pool(1),
            roster: pool(1),
            _ear: Ear::open(target.clone(), channel, self.signal.clone()),
        })));
        Ok(())
    }

    async fn insert(&self, record: &KeyRecord) -> Result<(), StoreError> {
        sql::insert(&self.running()?.keys, record).await
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        find(&self.running()?.keys, id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        sql::list(&self.running()?.keys, query).await
    }

    async fn update(&self, id: &KeyId, patch: &KeyPatch) -> Result<(), StoreError> {
        sql::update(&self.running()?.keys, id, patch).await
    }

    async fn revoke(&self, id: &KeyId, revocation: &Revocation) -> Result<bool, StoreError> {
        sql::revoke(&self.running()?.keys, id, revocation).await
    }

    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
    ) -> Result<Vec<KeyId>, StoreError> {
        sql::revoke_owner(&self.running()?.keys, owner, revocation).await
    }

    async fn purge(&self, before: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        sql::purge(&self.running()?.keys, before).await
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Option<Changes>, StoreError> {
        let running = self.running()?;
        history::changes(&running.polls, since, node)
            .await
            .map(Some)
    }

    async fn join(&self, node: &NodeId) -> Result<bool, StoreError> {
        nodes::join(&self.running()?.nodes, node).await?;
        Ok(true)
    }

    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
        nodes::acknowledge(&self.running()?.nodes, node, cursor).await
    }

    async fn members(&self) -> Result<Option<MemberList>, StoreError> {
        nodes::nodes(&self.running()?.roster).await.map(Some)
    }

    async fn suspect(&self, seen: &Node) -> Result<(), StoreError> {
        nodes::suspect(&self.running()?.nodes, seen).await
    }

    async fn remove_node(&self, seen: &Node) -> Result<(), StoreError> {
        nodes::remove_node(&self.running()?.nodes, seen).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        nodes::leave(&self.running()?.nodes, node).await
    }

    fn limit_support(&self) -> LimitSupport {
        LimitSupport::All
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        counts::charge(&self.running()?.counts, charge).await
    }

    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        counts::refill(&self.running()?.counts, key, counter, amount).await
    }

    fn supports_usage(&self) -> bool {
        true
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        usage::add(&self.running()?.keys, batch).await
    }

    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        usage::usage(&self.running()?.keys, query).await
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        usage::last_used(&self.running()?.keys, keys).await
    }

    async fn prune_usage(&self, hour: i64) -> Result<(), StoreError> {
        usage::forget(&self.running()?.keys, hour).await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        Some(self.signal.subscribe())
    }

    async fn stop(&self) {
        let _turn = self.turn.lock().await;
        if let Some(running) = self.replace_running(None) {
            running.keys.close().await;
            running.counts.close().await;
            running.nodes.close().await;
            running.roster.close().await;
            running.polls.close().await;
        }
    }
}

/// Reads a record from the primary, or not at all.
async fn find(pool: &Pool, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
    const FIND: [&str; 3] = [
        "SELECT ",
        COLUMNS,
        ", pg_is_in_recovery() AS standby FROM (SELECT) AS one LEFT JOIN api_keys ON id = $1",
    ];
    let reading_failed = |error| error::failed("reading a record", error);
    let statement = Statement::joined(&FIND).bind(id.as_str());
    let rows = pool.rows(&statement).await.map_err(reading_failed)?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    history::primary(row).map_err(reading_failed)?;
    // Without a record, all its columns are NULL.
    match sql::Columns::id_bytes(row) {
        [] => Ok(None),
        _ => Ok(Some(sql::record(row)?)),
    }
}

/// Where a longer lease than the present one may still be held, waits until it no longer can be,
/// and writes that down; unless the lease was set anew meanwhile.
async fn outlast(pool: &Pool, lease: LeaseRow) -> Result<(), StoreError> {
    const OUTLASTED: &str = "UPDATE api_key_meta SET longest_lease_ms = lease_ms \
         WHERE lease_ms = $1 AND longest_lease_ms = $2 AND lease_version = $3";
    if lease.longest <= lease.length {
        return Ok(());
    }
    let longest = Duration::from_millis(lease.longest.unsigned_abs());
    tokio::time::sleep(lease::outlasts(longest)).await;
    let statement = Statement::new(OUTLASTED)
        .bind(lease.length)
        .bind(lease.longest)
        .bind(lease.version);
    let written = pool.rows(&statement).await;
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
            .field("max_connections", &self.max_connections)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
