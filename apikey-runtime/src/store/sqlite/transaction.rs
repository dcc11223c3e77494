//! A transaction of several statements, and one that changes keys or owners.
//!
//! Not sqlx's. SQLite rolls a transaction back by itself if the disk is full or fails, and if memory
//! runs out (<https://www.sqlite.org/lang_transaction.html>, 3). sqlx then goes on counting it as open,
//! and each later transaction on that connection fails.

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqlitePool;
use sqlx::{Error, Sqlite, SqliteConnection};

use super::error::failed;
use crate::audit::ChangeOrigin;
use crate::clock::{Clock, Timestamp};
use crate::error::StoreError;

/// A transaction that is alone from its first statement. Unless it is committed or rolled back, its
/// connection is closed, which undoes it: a step failed, or the caller went away in the middle of one.
pub(super) struct WriteTransaction {
    connection: PoolConnection<Sqlite>,
    is_done: bool,
}

impl WriteTransaction {
    /// Begins a transaction, which waits for another writer.
    pub(super) async fn begin(pool: &SqlitePool) -> Result<Self, Error> {
        Self::begin_on(pool.acquire().await?).await
    }

    /// Begins a transaction on this connection.
    pub(super) async fn begin_on(connection: PoolConnection<Sqlite>) -> Result<Self, Error> {
        let mut transaction = Self {
            connection,
            is_done: false,
        };
        transaction.run("BEGIN IMMEDIATE").await?;
        Ok(transaction)
    }

    /// Returns the connection, for the statements of this transaction.
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Commits, and gives the connection back to its pool.
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        self.run("COMMIT").await?;
        self.is_done = true;
        Ok(())
    }

    /// Undoes what was done, and gives the connection back to its pool. If that fails, SQLite may have
    /// done it by itself, and the connection is closed.
    async fn roll_back(mut self) {
        self.is_done = self.run("ROLLBACK").await.is_ok();
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), Error> {
        sqlx::query(statement).execute(self.connection()).await?;
        Ok(())
    }
}

impl Drop for WriteTransaction {
    fn drop(&mut self) {
        if !self.is_done {
            self.connection.close_on_drop();
        }
    }
}

/// A transaction that changes keys or owners. While it is open, the triggers find in it where the changes
/// come from.
pub(super) struct ChangeTransaction {
    transaction: WriteTransaction,
    /// When the changes are made.
    now: Timestamp,
    /// What failed if one of its own statements did.
    doing: &'static str,
}

impl ChangeTransaction {
    /// Begins a transaction for `doing`, whose changes come from `origin`. The clock is read when it is
    /// alone: a write that waited would otherwise count by an earlier time than the one before it.
    pub(super) async fn begin(
        pool: &SqlitePool,
        doing: &'static str,
        origin: &ChangeOrigin,
        clock: &dyn Clock,
    ) -> Result<Self, StoreError> {
        // One that was left by hand is replaced.
        const ORIGIN: &str = "INSERT OR REPLACE INTO api_key_origin \
            (only_row, actor, channel, address, request_id, reason, at, is_library, sets_enabled_at) \
            VALUES (1, ?, ?, ?, ?, ?, ?, 1, 1)";
        let begun = async {
            let mut transaction = WriteTransaction::begin(pool).await?;
            let now = clock.read().now;
            sqlx::query(ORIGIN)
                .bind(&origin.actor)
                .bind(origin.channel.code())
                .bind(origin.address.map(|address| address.to_string()))
                .bind(&origin.request_id)
                .bind(&origin.reason)
                .bind(now.as_millis())
                .execute(transaction.connection())
                .await?;
            Ok((transaction, now))
        };
        let (transaction, now) = begun.await.map_err(|error: Error| failed(doing, error))?;
        Ok(Self {
            transaction,
            now,
            doing,
        })
    }

    /// Returns when the changes are made.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the connection, for the statements of this transaction.
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        self.transaction.connection()
    }

    /// Commits if `done` is a value, and rolls back otherwise. No other transaction sees the origin.
    pub(super) async fn end<T>(mut self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        let value = match done {
            Ok(value) => value,
            Err(error) => {
                self.transaction.roll_back().await;
                return Err(error);
            }
        };
        let doing = self.doing;
        let ended = async {
            self.transaction.run("DELETE FROM api_key_origin").await?;
            self.transaction.commit().await
        };
        ended.await.map_err(|error: Error| failed(doing, error))?;
        Ok(value)
    }
}
