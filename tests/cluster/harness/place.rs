//! The store that a cluster shares.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};

/// A store that runs.
pub enum Place {
    /// A file; nodes of one machine.
    Sqlite(PathBuf),
}

impl Place {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
        }
    }

    /// Where it listens; `None` for a file.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Sqlite(_) => None,
        }
    }

    /// How a node finds it, by way of `proxy` where it listens.
    pub fn url(&self, _proxy: Option<SocketAddr>) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
        }
    }

    /// Stops the server in the middle of whatever it does, until it is told to go on.
    pub fn freeze(&self) {}

    pub fn thaw(&self) {}

    /// Ends the server without a warning.
    pub fn kill(&self) {}

    /// Starts it anew on the same data.
    pub async fn restart(&self) {}

    /// Holds the lock of a file for writing, for a while.
    pub async fn lock(&self, lasts: Duration) {
        let Self::Sqlite(path) = self;
        let mut tool = SqliteConnection::connect(&format!("sqlite:{}", path.display()))
            .await
            .unwrap();
        // Where a node holds it for too long, it stays with that node.
        if sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut tool)
            .await
            .is_ok()
        {
            tokio::time::sleep(lasts).await;
            sqlx::query("ROLLBACK").execute(&mut tool).await.unwrap();
        }
        tool.close().await.unwrap();
    }
}
