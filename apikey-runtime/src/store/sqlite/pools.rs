//! The connections to one file.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions, Error, Sqlite};

use super::error::{failed, is_busy};
use super::file::{
    CloseAction, DatabaseFiles, FileChange, checked_path, create_private, refuse_stray_log, require,
};
use super::group_commit::GroupCommit;
use super::migrate::{UPGRADE_TIMEOUT, check_version, is_older, migrate};
use crate::clock::Clock;
use crate::error::{ErrorChain, StoreError};
use crate::store::lease;
use crate::store::schema::{Opening, UpgradeFlag};
use crate::store::trim_schedule::TrimSchedule;

/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the first connection is tried for, while other processes start on the same file.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// SQLite lets one write at a time. With one connection for writing, the waiting is done in a fair
/// queue and not in SQLite's busy handler, which polls.
const WRITERS: u32 = 1;

/// Reads go on while a write waits for the disk.
const READERS: u32 = 4;

/// Connections to one file.
#[derive(Debug)]
pub(super) struct SqlitePools {
    pub(super) writer: SqlitePool,
    pub(super) reader: SqlitePool,
    /// Polls of the history have a connection of their own: a flood of reads of unknown keys would
    /// otherwise delay them until the lease of the known ones is over.
    pub(super) history: SqlitePool,
    /// Reads of the list of nodes. A call that waits for a confirmation repeats them, and does not
    /// delay polls.
    pub(super) member_list: SqlitePool,
    /// What a node writes of itself does not wait for the disk: a loss of power ends the node too.
    pub(super) membership: SqlitePool,
    /// Limit counters and usage: many small writes. They outlive the process but not a loss of power,
    /// since they do not wait for the disk.
    pub(super) limit_counters: SqlitePool,
    /// Charges, which share that connection.
    pub(super) group_commit: GroupCommit,
    pub(super) trim_schedule: TrimSchedule,
    /// The files as they were opened.
    pub(super) files: DatabaseFiles,
}

impl SqlitePools {
    /// Opens the file, which is created if it does not exist, and brings its tables up to date, as far as `opening` allows
    /// it.
    pub(super) async fn open(
        path: &Path,
        opening: Opening,
        lease: Option<Duration>,
        clock: Arc<dyn Clock>,
        upgrade: &UpgradeFlag,
    ) -> Result<Self, StoreError> {
        let path = checked_path(path)?;
        if opening.must_exist {
            require(&path)?;
        }
        refuse_stray_log(&path)?;
        if !opening.must_exist {
            create_private(&path)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let writing = options
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on the disk when it returns: an acknowledged revocation outlives a loss of
            // power.
            .synchronous(SqliteSynchronous::Full);
        // The file stays in WAL mode, so only the writer asks for it.
        let reading = options.clone().pragma("query_only", "ON");
        let relaxed = options.synchronous(SqliteSynchronous::Normal);
        let limit_counters = pool(1, relaxed.clone());
        let pools = Self {
            writer: pool(WRITERS, writing),
            reader: pool(READERS, reading.clone()),
            history: pool(1, reading.clone()),
            member_list: pool(1, reading),
            membership: pool(1, relaxed),
            group_commit: GroupCommit::new(limit_counters.clone(), clock),
            limit_counters,
            trim_schedule: TrimSchedule::default(),
            files: DatabaseFiles::of(&path),
        };
        let prepared = async {
            // Before the first connection for writing, which changes the mode of a file.
            if opening != Opening::default() {
                check_version(&pools.reader, opening, &path).await?;
            }
            pools.prepare(&path, opening, lease, upgrade).await
        };
        match prepared.await {
            Ok(files) => Ok(Self { files, ..pools }),
            Err(error) => {
                pools.close().await;
                Err(error)
            }
        }
    }

    /// Brings the tables up to date, and returns the files that are open then.
    async fn prepare(
        &self,
        path: &Path,
        opening: Opening,
        lease: Option<Duration>,
        upgrade: &UpgradeFlag,
    ) -> Result<DatabaseFiles, StoreError> {
        let opening_failed = |error| failed(&format!("opening `{}`", path.display()), error);
        let first = first_connection(&self.writer).await;
        let first = first.map_err(opening_failed)?;
        // Otherwise the tables are there and current, and another process may write to them for long.
        if !opening.is_as_it_is() || lease.is_some() {
            self.migrate_in_turn(first, opening, lease, upgrade).await?;
        }
        // This connection is never closed before the others. SQLite removes the log when the last one
        // is, and another log would then take its place while the store is open.
        sqlx::query("SELECT 1 FROM api_key_meta")
            .execute(&self.history)
            .await
            .map_err(opening_failed)?;
        let files = DatabaseFiles::of(path);
        if let Some(FileChange { reason, .. }) = files.change() {
            return Err(StoreError::unavailable(reason));
        }
        if !files.is_complete_since(&self.files) {
            return Err(StoreError::unavailable(format!(
                "`{}`, or a file that SQLite keeps beside it, was moved or replaced while it was being \
                 opened; see that it is the right file, and start again",
                path.display()
            )));
        }
        if !opening.reads_older {
            self.lower_longest_lease().await?;
        }
        Ok(files)
    }

    /// Brings the tables up to date. While another process has the file locked and the tables are older, that process is
    /// taken to bring them up to date, and waited for.
    async fn migrate_in_turn(
        &self,
        first: PoolConnection<Sqlite>,
        opening: Opening,
        lease: Option<Duration>,
        upgrade: &UpgradeFlag,
    ) -> Result<(), StoreError> {
        const TOLD_EACH: u32 = 12;
        let (began, mut connection, mut waiting) = (Instant::now(), first, None);
        let mut tries = 0;
        loop {
            let error = match migrate(connection, opening, lease, upgrade).await {
                Err(error) if error.is_timeout() && began.elapsed() < UPGRADE_TIMEOUT => error,
                outcome => return outcome,
            };
            if is_older(&self.reader).await? {
                // Each try waits for some seconds.
                if tries % TOLD_EACH == 0 {
                    tracing::warn!(
                        "another process has the key store's file locked, and its tables are older: if it brings them up to \
                         date, that will end; waiting for up to an hour"
                    );
                }
                tries += 1;
                waiting.get_or_insert_with(|| upgrade.raise());
            } else if waiting.take().is_none() {
                return Err(error);
            }
            let next = first_connection(&self.writer).await;
            connection = next.map_err(|error| failed("opening the file again", error))?;
        }
    }

    /// If the lease was lowered, waits until no lease of the old length can be held any more, and
    /// writes that down.
    async fn lower_longest_lease(&self) -> Result<(), StoreError> {
        let lowering_failed = |error| failed("lowering the longest lease", error);
        let lowered: Option<(i64, i64)> = sqlx::query_as(
            "SELECT longest_lease_ms, lease_version FROM api_key_meta WHERE longest_lease_ms > lease_ms",
        )
        .fetch_optional(&self.reader)
        .await
        .map_err(lowering_failed)?;
        let Some((longest, version)) = lowered else {
            return Ok(());
        };
        let longest = Duration::from_millis(longest.unsigned_abs());
        tokio::time::sleep(lease::outlasts(longest)).await;
        sqlx::query("UPDATE api_key_meta SET longest_lease_ms = lease_ms WHERE lease_version = ?")
            .bind(version)
            .execute(&self.writer)
            .await
            .map_err(lowering_failed)?;
        Ok(())
    }

    /// Does with the connections what is to be done after something happened to the files.
    pub(super) async fn release(self: Arc<Self>, action: CloseAction) {
        if action == CloseAction::Close {
            return self.close().await;
        }
        // Never dropped: the end of the process closes files, and not connections.
        std::mem::forget(Arc::clone(&self));
        if action == CloseAction::SaveAndLeave
            && let Err(failure) = self.save_log().await
        {
            tracing::error!(
                failure,
                "the log of the key store could not be written into its file"
            );
        }
    }

    /// Writes the log into the file, if no other process has begun another log by now: both would then
    /// write into the file. Returns what failed.
    async fn save_log(&self) -> Result<(), String> {
        let failed = |error| ErrorChain(&error).to_string();
        let mut writer = self.writer.acquire().await.map_err(failed)?;
        let now = self.files.change().map(|change| change.action);
        if now != Some(CloseAction::SaveAndLeave) {
            return Err("another process has begun a new log".to_owned());
        }
        let save = sqlx::query_scalar("PRAGMA wal_checkpoint(FULL)");
        match save.fetch_one(&mut *writer).await.map_err(failed)? {
            0_i64 => Ok(()),
            _ => Err("another process uses it".to_owned()),
        }
    }

    /// Closes all connections. The writer's is closed last, so that SQLite writes the log back into
    /// the file and removes it, unless another process has the file open.
    pub(super) async fn close(&self) {
        self.limit_counters.close().await;
        self.membership.close().await;
        self.member_list.close().await;
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

/// The first connection puts a new file into WAL mode. For that SQLite needs the file for itself
/// and, unlike elsewhere, does not wait; so this does.
async fn first_connection(pool: &SqlitePool) -> Result<PoolConnection<Sqlite>, Error> {
    let began = Instant::now();
    loop {
        match pool.acquire().await {
            Err(error) if is_busy(&error) && began.elapsed() < START_TIMEOUT => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => return other,
        }
    }
}
