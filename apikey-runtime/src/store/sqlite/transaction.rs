//! A transaction of several statements.
//!
//! Not sqlx's. SQLite rolls a transaction back by itself if the disk is full or fails, and if memory
//! runs out (<https://www.sqlite.org/lang_transaction.html>, 3). sqlx then goes on counting it as open,
//! and each later transaction on that connection fails.

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqlitePool;
use sqlx::{Error, Sqlite, SqliteConnection};

/// A transaction that is alone from its first statement. Unless it is committed, its connection is
/// closed, which undoes it: a step failed, or the caller went away in the middle of one.
pub(super) struct WriteTransaction {
    connection: PoolConnection<Sqlite>,
    is_committed: bool,
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
            is_committed: false,
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
        self.is_committed = true;
        Ok(())
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), Error> {
        sqlx::query(statement).execute(self.connection()).await?;
        Ok(())
    }
}

impl Drop for WriteTransaction {
    fn drop(&mut self) {
        if !self.is_committed {
            self.connection.close_on_drop();
        }
    }
}
