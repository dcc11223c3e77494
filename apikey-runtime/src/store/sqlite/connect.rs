//! Opening the file and getting its tables ready.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection};

use super::error::{failed, is_busy};
use super::queue::Queue;
use crate::clock::{Clock, millis_i64};
use crate::error::StoreError;
use crate::store::lease;

/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the first connection is tried for, where other processes start on the same file.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// SQLite lets one write at a time. With one connection for writing, the waiting is done in a fair
/// queue and not in SQLite's busy handler, which polls.
const WRITERS: u32 = 1;

/// Reads go on while a write waits for the disk.
const READERS: u32 = 4;

/// What each step makes of a file in which all steps before it have run.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_keys.sql"),
    include_str!("migrations/0002_nodes.sql"),
    include_str!("migrations/0003_limits.sql"),
];

/// Connections to one file.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    pub(super) writer: SqlitePool,
    pub(super) reader: SqlitePool,
    /// Polls of the history wait behind nobody: a flood of reads of unknown keys would otherwise
    /// put them off until the lease of the known ones is over.
    pub(super) history: SqlitePool,
    /// Many who confirm changes look at the list again and again, and put no poll off.
    pub(super) roster: SqlitePool,
    /// What a node notes of itself need not outlive a loss of power, which ends the node too, so the
    /// disk is not waited for.
    pub(super) beats: SqlitePool,
    /// Counts of limits and usage: many, and each small. They outlive the process and not a loss of
    /// power, since the disk is not waited for.
    pub(super) counts: SqlitePool,
    /// Charges, which wait for the same connection.
    pub(super) queue: Queue,
    path: PathBuf,
    /// Which file stood at `path` when it was opened.
    identity: Option<Identity>,
}

impl Pools {
    /// Opens the file, which is made where there is none, and gets its tables ready.
    pub(super) async fn open(
        path: &Path,
        lease: Option<Duration>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let path = checked_path(path)?;
        create_private(&path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let writing = options
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on the disk when it returns: a revocation that was told outlives a loss
            // of power.
            .synchronous(SqliteSynchronous::Full);
        // The file stays in WAL mode, so only who writes asks for it.
        let reading = options.clone().pragma("query_only", "ON");
        let beating = options.synchronous(SqliteSynchronous::Normal);
        let counts = pool(1, beating.clone());
        let pools = Self {
            writer: pool(WRITERS, writing),
            reader: pool(READERS, reading.clone()),
            history: pool(1, reading.clone()),
            roster: pool(1, reading),
            beats: pool(1, beating),
            queue: Queue::new(counts.clone(), clock),
            counts,
            identity: identity(&path),
            path,
        };
        match pools.prepare(lease).await {
            Ok(()) => Ok(pools),
            Err(error) => {
                pools.close().await;
                Err(error)
            }
        }
    }

    async fn prepare(&self, lease: Option<Duration>) -> Result<(), StoreError> {
        let mut connection = first_connection(&self.writer).await?;
        migrate(&mut connection, lease).await?;
        drop(connection);
        self.settle_lease().await
    }

    /// Where the lease was lowered, waits until none of the old length can be held any more, and
    /// says so.
    async fn settle_lease(&self) -> Result<(), StoreError> {
        let settling_failed = |error| failed("settling the lease", error);
        let lowered: Option<(i64, i64)> = sqlx::query_as(
            "SELECT longest_lease_ms, lease_version FROM api_key_meta WHERE longest_lease_ms > lease_ms",
        )
        .fetch_optional(&self.reader)
        .await
        .map_err(settling_failed)?;
        let Some((longest, version)) = lowered else {
            return Ok(());
        };
        let longest = Duration::from_millis(longest.unsigned_abs());
        tokio::time::sleep(lease::outlasts(longest)).await;
        sqlx::query("UPDATE api_key_meta SET longest_lease_ms = lease_ms WHERE lease_version = ?")
            .bind(version)
            .execute(&self.writer)
            .await
            .map_err(settling_failed)?;
        Ok(())
    }

    /// Whether another file, or none, stands where this one was opened. What is open would then
    /// answer from a file that nobody else sees, and know of no revocation.
    pub(super) fn is_replaced(&self) -> bool {
        identity(&self.path) != self.identity
    }

    /// Closes all connections. The writer's is the last, so that SQLite writes the log back into
    /// the file and removes it, unless another process has the file open.
    pub(super) async fn close(&self) {
        self.counts.close().await;
        self.beats.close().await;
        self.roster.close().await;
        self.history.close().await;
        self.reader.close().await;
        self.writer.close().await;
    }
}

fn pool(connections: u32, options: SqliteConnectOptions) -> SqlitePool {
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        .max_lifetime(None)
        .idle_timeout(None)
        // A connection to a file does not go stale; one whose thread has died is sorted out when it
        // is given back.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// An absolute path: it starts with no `file:`, which SQLite would read as a URI, and stays right
/// where the process changes its directory.
fn checked_path(path: &Path) -> Result<PathBuf, StoreError> {
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return Err(StoreError::InvalidArgument(
            "a store in SQLite needs a file; for one in memory take `MemoryStore`".to_owned(),
        ));
    }
    std::path::absolute(path).map_err(|error| file_failed(path, error))
}

/// Makes the file with no rights for anyone but its owner. SQLite gives the files beside it the
/// same rights.
fn create_private(path: &Path) -> Result<(), StoreError> {
    /// POSIX drops all of a process's locks on a file when it closes *any* descriptor of that file.
    /// So this closes one only where the file is new, and before another store of this process can
    /// have opened it.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();

    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file_failed(path, error)),
        _ => Ok(()),
    }
}

/// Device and inode.
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;

    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Elsewhere a file that is open cannot be replaced.
#[cfg(not(unix))]
fn identity(_path: &Path) -> Option<Identity> {
    None
}

/// The first connection puts a new file into WAL mode. For that SQLite needs the file for itself
/// and, unlike elsewhere, does not wait; so this does.
async fn first_connection(pool: &SqlitePool) -> Result<PoolConnection<Sqlite>, StoreError> {
    let began = Instant::now();
    loop {
        match pool.acquire().await {
            Err(error) if is_busy(&error) && began.elapsed() < START_TIMEOUT => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => return other.map_err(|error| failed("opening the file", error)),
        }
    }
}

/// Brings the tables up to date in one transaction that is alone from its first statement: of
/// several processes that start at once, one does it and the others find it done.
async fn migrate(
    connection: &mut SqliteConnection,
    lease: Option<Duration>,
) -> Result<(), StoreError> {
    let migrating_failed = |error| failed("bringing the tables up to date", error);
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(migrating_failed)?;
    let done = schema_version(&mut transaction)
        .await
        .map_err(migrating_failed)?;
    let missing = usize::try_from(done)
        .ok()
        .and_then(|done| MIGRATIONS.get(done..));
    let Some(missing) = missing else {
        return Err(StoreError::InvalidArgument(format!(
            "the file has tables of version {done}, and this release knows {}; take a newer release",
            MIGRATIONS.len()
        )));
    };
    for step in missing {
        sqlx::raw_sql(*step)
            .execute(&mut *transaction)
            .await
            .map_err(migrating_failed)?;
    }
    settle(&mut transaction, lease)
        .await
        .map_err(migrating_failed)?;
    transaction.commit().await.map_err(migrating_failed)
}

async fn schema_version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    const EXISTS: &str =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'api_key_meta'";
    let tables: i64 = sqlx::query_scalar(EXISTS)
        .fetch_one(&mut *connection)
        .await?;
    if tables == 0 {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT schema_version FROM api_key_meta")
        .fetch_one(connection)
        .await
}

/// Writes down what now holds, and gives the history a place to stand on where someone emptied the
/// log.
async fn settle(
    connection: &mut SqliteConnection,
    lease: Option<Duration>,
) -> Result<(), sqlx::Error> {
    let version = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let lease = lease.map(millis_i64);
    sqlx::query("UPDATE api_key_meta SET schema_version = ?, lease_ms = coalesce(?, lease_ms)")
        .bind(version)
        .bind(lease)
        .execute(&mut *connection)
        .await?;
    const STAND: &str = "INSERT INTO api_key_changes (key_id) \
         SELECT '' WHERE NOT EXISTS (SELECT 1 FROM api_key_changes)";
    sqlx::query(STAND).execute(connection).await?;
    Ok(())
}

fn file_failed(path: &Path, error: io::Error) -> StoreError {
    let reason = format!("opening `{}`: {error}", path.display());
    StoreError::Unavailable {
        reason,
        source: Some(Box::new(error)),
    }
}
