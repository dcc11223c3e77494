//! A few connections, and what happens to those that fail.
//!
//! Not sqlx's pool: that one asks a connection, when it is given back, whether it is well, and keeps
//! its place until the answer. On a link that lost its other end the answer never comes, and with
//! the places gone the store would be down for minutes after the link has healed. Here a connection
//! whose call was dropped, or had no answer in time, is closed on the spot.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Error, Postgres, Row};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::{failed, insert_failed, is_lost, is_undone, leaves_the_connection_whole};
use crate::error::StoreError;
use crate::store::sql::{self, Connections, Statement, Value};

/// A connection that was idle for so long is asked whether it is well before it is used: the server
/// may have been restarted, and a write that fails then may or may not have been done.
const FRESH: Duration = Duration::from_secs(1);

/// How long it has to say so.
const PING: Duration = Duration::from_millis(500);

/// How long closing in good order may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Pauses between attempts to connect that fail: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];

/// How often a statement is tried that the server undid for another's sake.
const TRIES: u32 = 5;

/// Where connections lead, and how each is set up.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) options: PgConnectOptions,
    /// Statements that are run once on each, of which the last tells whether it leads to a standby.
    pub(super) setup: String,
}

impl Target {
    pub(super) async fn connect(&self) -> Result<PgConnection, Error> {
        let mut connection = self.options.connect().await?;
        self.set_up(&mut connection).await?;
        Ok(connection)
    }

    pub(super) async fn set_up(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let rows = sqlx::raw_sql(AssertSqlSafe(self.setup.as_str()))
            .fetch_all(connection)
            .await?;
        match rows.last() {
            Some(row) if !row.try_get::<bool, _>("standby")? => Ok(()),
            _ => Err(standby()),
        }
    }
}

/// The error of a server that is a standby: it may not know yet of what was revoked.
pub(super) fn standby() -> Error {
    Error::Io(io::Error::other(
        "the server is a standby, and those are never read; connect to the primary",
    ))
}

/// Some connections.
#[derive(Debug, Clone)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    target: Target,
    /// How long one call may take, with the wait for a connection.
    deadline: Duration,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// Where the last attempt to connect failed.
    rest: Mutex<Option<Rest>>,
}

/// Until when no attempt to connect is made.
#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    pause: Duration,
}

impl Rest {
    /// The first, or a longer one.
    fn after(last: Option<Self>) -> Self {
        let [shortest, longest] = PAUSES;
        let pause = last.map_or(shortest, |last| longest.min(last.pause * 2));
        Self {
            until: Instant::now() + pause,
            pause,
        }
    }
}

/// A connection that nobody uses.
#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    since: Instant,
}

impl Pool {
    /// A pool of up to `connections`, which are opened when they are needed.
    pub(super) fn new(target: Target, connections: u32, deadline: Duration) -> Self {
        let places = usize::try_from(connections).unwrap_or(usize::MAX);
        Self(Arc::new(Shared {
            target,
            deadline,
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            idle: Mutex::new(Vec::new()),
            rest: Mutex::new(None),
        }))
    }

    /// Closes the connections. Calls under way come to their end, and no other starts.
    pub(super) async fn close(&self) {
        self.0.places.close();
        for idle in self.0.take_idle() {
            // What is not said in time is said by the closed socket.
            let _ = timeout(GOODBYE, idle.connection.close()).await;
        }
    }

    /// Runs a query in a transaction of its own, within the deadline, and again where nothing of it
    /// holds. `only_reads` where it changes nothing.
    pub(super) async fn run(
        &self,
        only_reads: bool,
        query: impl Fn() -> Bound + Send + Sync,
    ) -> Result<Vec<PgRow>, Error> {
        let trying = async {
            for _ in 0..TRIES {
                if let Some(rows) = self.attempt(only_reads, query()).await? {
                    return Ok(rows);
                }
            }
            Err(Error::Io(io::Error::other(format!(
                "undone by the server {TRIES} times for another's sake"
            ))))
        };
        let deadline = self.0.deadline;
        timeout(deadline, trying).await.unwrap_or_else(|_| {
            let message = format!("no answer within {deadline:?}");
            Err(Error::Io(io::Error::new(io::ErrorKind::TimedOut, message)))
        })
    }

    /// Runs a query once. `None` where that failed in a way that another try may mend.
    async fn attempt(&self, only_reads: bool, query: Bound) -> Result<Option<Vec<PgRow>>, Error> {
        let mut taken = self.take().await?;
        match query.fetch_all(&mut taken.connection).await {
            Ok(rows) => {
                taken.give_back();
                Ok(Some(rows))
            }
            Err(error) => {
                // A read has changed nothing, and only the old connection may have been lost.
                let is_stale = taken.is_used && only_reads && is_lost(&error);
                if leaves_the_connection_whole(&error) {
                    taken.give_back();
                }
                if is_stale || is_undone(&error) {
                    tracing::debug!(%error, "trying a statement again");
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    async fn take(&self) -> Result<Taken, Error> {
        let place = Arc::clone(&self.0.places).acquire_owned().await;
        let place = place.map_err(|_| Error::PoolClosed)?;
        while let Some(mut idle) = self.0.pop_idle() {
            if idle.since.elapsed() < FRESH
                || matches!(timeout(PING, idle.connection.ping()).await, Ok(Ok(())))
            {
                return Ok(self.taken(idle.connection, true, place));
            }
            // The others are older.
            self.0.take_idle();
        }
        let connection = self.connect().await?;
        Ok(self.taken(connection, false, place))
    }

    /// A new connection. A server that is starting again is not asked for one by every call that
    /// comes in: after an attempt that failed the next has to wait, and calls fail meanwhile.
    async fn connect(&self) -> Result<PgConnection, Error> {
        if self
            .0
            .lock_rest()
            .is_some_and(|rest| Instant::now() < rest.until)
        {
            return Err(Error::Io(io::Error::other(
                "the last attempt to connect has just failed; another is made in a moment",
            )));
        }
        let connection = self.0.target.connect().await;
        let mut rest = self.0.lock_rest();
        *rest = match connection {
            Ok(_) => None,
            Err(_) => Some(Rest::after(*rest)),
        };
        drop(rest);
        connection
    }

    fn taken(&self, connection: PgConnection, is_used: bool, place: OwnedSemaphorePermit) -> Taken {
        Taken {
            connection,
            is_used,
            unsaid: Unsaid(Some(Arc::clone(&self.0))),
            _place: place,
        }
    }
}

impl Connections for Pool {
    type Row = PgRow;

    async fn rows(&self, statement: &Statement) -> Result<Vec<PgRow>, Error> {
        if statement.values().iter().any(holds_nul) {
            return Err(Error::Encode(
                "PostgreSQL keeps no text with the character U+0000; leave it out".into(),
            ));
        }
        let query = || statement.values().iter().fold(statement.query(), bind);
        self.run(statement.only_reads(), query).await
    }

    fn failed(doing: &str, error: Error) -> StoreError {
        failed(doing, error)
    }

    fn insert_failed(error: Error) -> StoreError {
        insert_failed(error)
    }
}

sql::columns!(PgRow);

fn holds_nul(value: &Value) -> bool {
    matches!(value, Value::Text(Some(text)) if text.contains('\0'))
}

/// A query with its values.
pub(super) type Bound = Query<'static, Postgres, PgArguments>;

fn bind(query: Bound, value: &Value) -> Bound {
    match value {
        Value::Text(text) => query.bind(text.clone()),
        Value::Number(number) => query.bind(*number),
        Value::Truth(truth) => query.bind(*truth),
        Value::Id(id) => query.bind(String::from_utf8_lossy(id).into_owned()),
        Value::Bytes(bytes) => query.bind(bytes.clone()),
    }
}

impl Shared {
    fn pop_idle(&self) -> Option<Idle> {
        self.lock_idle().pop()
    }

    fn take_idle(&self) -> Vec<Idle> {
        std::mem::take(&mut *self.lock_idle())
    }

    fn lock_rest(&self) -> parking_lot::MutexGuard<'_, Option<Rest>> {
        self.rest.lock()
    }

    fn lock_idle(&self) -> parking_lot::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock()
    }
}

/// A connection in use.
struct Taken {
    connection: PgConnection,
    /// Whether it was not opened for this call.
    is_used: bool,
    unsaid: Unsaid,
    _place: OwnedSemaphorePermit,
}

impl Taken {
    fn give_back(self) {
        if let Some(shared) = self.unsaid.well()
            && !shared.places.is_closed()
        {
            shared.lock_idle().push(Idle {
                connection: self.connection,
                since: Instant::now(),
            });
        }
    }
}

/// Of a connection in use it is not said yet that it is well. Where that is never said (its call
/// failed, took too long, or its caller went away), it is closed without a word, and so are the
/// idle ones: what ails it may ail them.
struct Unsaid(Option<Arc<Shared>>);

impl Unsaid {
    fn well(mut self) -> Option<Arc<Shared>> {
        self.0.take()
    }
}

impl Drop for Unsaid {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.take_idle();
        }
    }
}
