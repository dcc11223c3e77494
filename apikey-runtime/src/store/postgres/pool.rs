//! A pool of connections, and what happens to those that fail.
//!
//! Not sqlx's pool: that one asks a connection, when it is given back, whether it is well, and keeps
//! its permit until the answer. On a link that lost its other end the answer never comes, and without
//! permits the store would be down for minutes after the link has healed. Here a connection whose call
//! was dropped, or had no answer in time, is closed at once.

use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::time::{Duration, Instant};

use deadpool::managed::{
    BuildError, Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleResult,
};
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, Error, Postgres};
use tokio::time::timeout;

use super::connect::ConnectionTarget;
use super::error::{described, is_lost, is_undone, leaves_the_connection_whole};

/// A connection that was idle for so long is pinged before it is used: the server may have been
/// restarted, and a write that fails then may or may not have been done.
const FRESH: Duration = Duration::from_secs(1);

/// How long a ping may take.
const PING: Duration = Duration::from_millis(500);

/// How long closing a connection in good order may take.
const CLOSE: Duration = Duration::from_secs(1);

/// Pauses between attempts to connect that fail: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];

/// How often a statement is tried that the server undid in favor of another.
const TRIES: u32 = 5;

/// Connections to one server, of which up to a number are open.
#[derive(Debug, Clone)]
pub(super) struct ConnectionPool {
    connections: Pool<ConnectionManager>,
    /// How long one call may take, including the wait for a connection.
    deadline: Duration,
}

/// Opens connections.
#[derive(Debug)]
struct ConnectionManager {
    target: ConnectionTarget,
    /// `Some` after an attempt that failed.
    backoff: Mutex<Option<ConnectBackoff>>,
}

/// A connection of the pool.
#[derive(Debug)]
struct ManagedConnection {
    connection: PgConnection,
    /// `None` before its first call.
    idle_since: Option<Instant>,
}

impl Manager for ConnectionManager {
    type Type = ManagedConnection;
    type Error = Error;

    /// Opens a connection. A server that is starting again is not asked for one by every call that
    /// comes in: after an attempt that failed the next has to wait, and calls fail meanwhile.
    async fn create(&self) -> Result<ManagedConnection, Error> {
        let is_early = |backoff: &&ConnectBackoff| Instant::now() < backoff.until;
        if let Some(backoff) = self.lock_backoff().as_ref().filter(is_early) {
            return Err(Error::Io(io::Error::other(format!(
                "the last attempt to connect has just failed, another is made in a moment: {}",
                backoff.cause
            ))));
        }
        let connection = self.target.connect().await;
        let mut backoff = self.lock_backoff();
        *backoff = match &connection {
            Ok(_) => None,
            Err(error) => Some(ConnectBackoff::after(backoff.take(), error)),
        };
        drop(backoff);
        Ok(ManagedConnection {
            connection: connection?,
            idle_since: None,
        })
    }

    /// Does nothing: [`ConnectionPool::take`] pings, so that it can close the other idle connections.
    async fn recycle(&self, _: &mut ManagedConnection, _: &Metrics) -> RecycleResult<Error> {
        Ok(())
    }
}

impl ConnectionManager {
    fn lock_backoff(&self) -> MutexGuard<'_, Option<ConnectBackoff>> {
        self.backoff.lock()
    }
}

/// Until when no attempt to connect is made, the pause that led to it, and why the last one failed.
#[derive(Debug)]
struct ConnectBackoff {
    until: Instant,
    pause: Duration,
    cause: String,
}

impl ConnectBackoff {
    /// Returns the first pause, or a longer one than the last.
    fn after(last: Option<Self>, error: &Error) -> Self {
        let [shortest, longest] = PAUSES;
        let pause = last.map_or(shortest, |last| longest.min(last.pause * 2));
        Self {
            until: Instant::now() + pause,
            pause,
            cause: described(error),
        }
    }
}

impl ConnectionPool {
    /// A pool of up to `connections`, which are opened when they are needed.
    pub(super) fn new(target: ConnectionTarget, connections: u32) -> Result<Self, BuildError> {
        let deadline = target.deadline;
        let size = usize::try_from(connections).unwrap_or(usize::MAX);
        let manager = ConnectionManager {
            target,
            backoff: Mutex::new(None),
        };
        let pool = Pool::builder(manager)
            .max_size(size)
            .queue_mode(QueueMode::Lifo);
        Ok(Self {
            connections: pool.build()?,
            deadline,
        })
    }

    /// Closes the connections. Calls under way come to their end, and no other starts.
    pub(super) async fn close(&self) {
        let idle = self.connections.retain(|_, _| false).removed;
        self.connections.close();
        for connection in idle {
            // If this takes too long, the closed socket ends the session.
            let _ = timeout(CLOSE, connection.connection.close()).await;
        }
    }

    /// Runs a query that changes nothing: as [`write`](Self::write), and again if its connection was
    /// lost while it was idle.
    pub(super) async fn read(
        &self,
        query: impl Fn() -> PgQuery + Send + Sync,
    ) -> Result<Vec<PgRow>, Error> {
        self.run(true, query).await
    }

    /// Runs a query in a transaction of its own, within the deadline, and again if the server undid
    /// it. Reads the answer to its end: the commit comes after the last row, and its failure must be
    /// seen.
    pub(super) async fn write(
        &self,
        query: impl Fn() -> PgQuery + Send + Sync,
    ) -> Result<Vec<PgRow>, Error> {
        self.run(false, query).await
    }

    async fn run(
        &self,
        only_reads: bool,
        query: impl Fn() -> PgQuery + Send + Sync,
    ) -> Result<Vec<PgRow>, Error> {
        // Why the last attempt failed.
        let mut cause = None;
        let trying = async {
            for _ in 0..TRIES {
                if let Some(rows) = self.attempt(only_reads, query(), &mut cause).await? {
                    return Ok(Some(rows));
                }
            }
            Ok(None)
        };
        let (kind, message) = match timeout(self.deadline, trying).await {
            Ok(Ok(Some(rows))) => return Ok(rows),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(None)) => (
                io::ErrorKind::Other,
                format!("undone by the server {TRIES} times in favor of another statement"),
            ),
            Err(_) => (io::ErrorKind::TimedOut, self.too_late()),
        };
        let cause = cause.map_or_else(String::new, |cause| format!(": {}", described(&cause)));
        Err(Error::Io(io::Error::new(kind, message + &cause)))
    }

    /// Begins a transaction of several statements, which is undone unless it is committed.
    pub(super) async fn begin(&self) -> Result<PoolTransaction, Error> {
        let mut transaction = PoolTransaction(self.take().await?);
        let connection = transaction.connection()?;
        sqlx::query("BEGIN").execute(connection).await?;
        Ok(transaction)
    }

    /// Waits for an answer as long as one call may take.
    pub(super) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let answer = timeout(self.deadline, answer).await;
        let too_late = |_| {
            Err(Error::Io(io::Error::new(
                io::ErrorKind::TimedOut,
                self.too_late(),
            )))
        };
        answer.unwrap_or_else(too_late)
    }

    fn too_late(&self) -> String {
        format!("no answer within {:?}", self.deadline)
    }

    /// Runs a query once. Returns `None` after a failure that another attempt may not meet, and puts
    /// it into `cause`.
    async fn attempt(
        &self,
        only_reads: bool,
        query: PgQuery,
        cause: &mut Option<Error>,
    ) -> Result<Option<Vec<PgRow>>, Error> {
        let mut taken = self.take().await?;
        let Some(managed) = &mut taken.0 else {
            return Err(Error::PoolClosed);
        };
        let is_used = managed.idle_since.is_some();
        match query.fetch_all(&mut managed.connection).await {
            Ok(rows) => {
                taken.give_back();
                Ok(Some(rows))
            }
            Err(error) => {
                // A read has changed nothing, and only the old connection may have been lost.
                let is_stale = is_used && only_reads && is_lost(&error);
                if leaves_the_connection_whole(&error) {
                    taken.give_back();
                }
                if is_stale || is_undone(&error) {
                    tracing::debug!(error = described(&error), "trying a statement again");
                    *cause = Some(error);
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    /// Takes a connection. If one that was idle for long does not answer a ping, closes all idle ones
    /// and opens another.
    async fn take(&self) -> Result<PooledConnection, Error> {
        loop {
            let managed = self.connections.get().await.map_err(|error| match error {
                PoolError::Backend(error) => error,
                _ => Error::PoolClosed,
            })?;
            let is_fresh = managed
                .idle_since
                .is_none_or(|since| since.elapsed() < FRESH);
            let mut taken = PooledConnection(Some(managed));
            if is_fresh || taken.is_alive().await {
                return Ok(taken);
            }
        }
    }
}

/// A query with its values.
pub(super) type PgQuery = Query<'static, Postgres, PgArguments>;

/// A connection in use. Unless it is given back (its call failed, took too long, or its caller went
/// away), its socket is closed, and so are those of the idle ones, which may have the same fault.
struct PooledConnection(Option<Object<ConnectionManager>>);

impl PooledConnection {
    async fn is_alive(&mut self) -> bool {
        match &mut self.0 {
            Some(managed) => matches!(timeout(PING, managed.connection.ping()).await, Ok(Ok(()))),
            None => false,
        }
    }

    fn give_back(mut self) {
        if let Some(mut managed) = self.0.take() {
            managed.idle_since = Some(Instant::now());
        }
    }
}

/// A transaction of several statements. Unless it is committed, its connection is closed, which undoes it.
pub(super) struct PoolTransaction(PooledConnection);

impl PoolTransaction {
    /// Returns the connection, for the statements of this transaction.
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        let managed = self.0.0.as_mut().ok_or(Error::PoolClosed)?;
        Ok(&mut managed.connection)
    }

    /// Commits, and gives the connection back to its pool.
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        sqlx::query("COMMIT").execute(self.connection()?).await?;
        self.0.give_back();
        Ok(())
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            let pool = Object::pool(&connection);
            drop(Object::take(connection));
            if let Some(pool) = pool {
                pool.retain(|_, _| false);
            }
        }
    }
}
