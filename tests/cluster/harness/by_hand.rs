//! Acts as an operator: manual SQL, in a transaction that stays open.

use std::future::Future;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tokio::time::{sleep, timeout};

use super::change::Issued;
use super::clock::now;
use super::cluster::Cluster;
use super::history::{Change, Key, Turn};
use super::owners::Owned;
use super::place::Place;

/// The longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(5);

/// An operator's direct connection to the store.
pub enum Tool {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Tool {
    /// Returns `None` if the store does not take SQL or cannot be reached.
    pub async fn on(place: &Place) -> Option<Self> {
        match place {
            Place::Sqlite(_) => {
                let connecting = SqliteConnection::connect(&place.url(None)).await;
                connecting.ok().map(Self::Sqlite)
            }
            Place::Postgres(_) => {
                let url = place.url(None);
                let connecting = timeout(PATIENCE, PgConnection::connect(&url)).await;
                connecting.ok()?.ok().map(Self::Postgres)
            }
            Place::Redis(_) => None,
        }
    }

    /// Runs statements. Returns `None` if the store does not finish in time.
    pub async fn run(&mut self, sql: &str) -> Option<()> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(tool) => done(sql.execute(tool)).await,
            Self::Postgres(tool) => done(sql.execute(tool)).await,
        }
    }
}

async fn done<T>(running: impl Future<Output = Result<T, sqlx::Error>>) -> Option<()> {
    timeout(PATIENCE, running).await.ok()?.ok().map(drop)
}

impl Cluster {
    /// Revokes a key by an `UPDATE`, in a transaction that stays open for a while. Returns `None`
    /// if the outcome is unknown.
    pub async fn revoke_by_hand(&self, key: &Issued, open: Duration) -> Option<()> {
        let revocation = self.begin_by_hand(key).await?;
        sleep(open).await;
        revocation.commit(self).await
    }

    /// Does the same, but the caller commits.
    pub async fn begin_by_hand(&self, key: &Issued) -> Option<OpenRevocation> {
        let update = format!(
            "UPDATE api_keys SET revoked_at = created_at WHERE id = '{}'",
            key.id
        );
        self.begin_revocation(&update, std::slice::from_ref(key))
            .await
    }

    /// Revokes all keys of an owner by an `UPDATE` of its row, in a transaction that stays open for a
    /// while. Returns `None` if the outcome is unknown.
    pub async fn revoke_owner_by_hand(&self, owned: &Owned, open: Duration) -> Option<()> {
        let update = format!(
            "UPDATE api_key_owners SET revocations = revocations + 1 WHERE owner = '{}'",
            owned.owner
        );
        let revocation = self.begin_revocation(&update, &owned.keys).await?;
        sleep(open).await;
        let committed = revocation.commit(self).await;
        if committed.is_none() {
            owned.note_unsure();
        }
        committed
    }

    async fn begin_revocation(&self, update: &str, keys: &[Issued]) -> Option<OpenRevocation> {
        let mut tool = Tool::on(&self.place).await?;
        tool.run(&format!("BEGIN; {update}")).await?;
        let texts = keys.iter().flat_map(|key| &key.texts);
        Some(OpenRevocation {
            tool,
            keys: texts.map(|(key, _)| *key).collect(),
        })
    }

    /// Makes the store reject writes for a while, as a full disk does, and still answer reads.
    pub async fn fill_store(&self, lasts: Duration) {
        if let Place::Redis(server) = &self.place {
            // Once a limit is reached, writes are rejected.
            let limit = |bytes| {
                let server = server.lock().unwrap();
                server
                    .command(&["CONFIG", "SET", "maxmemory", bytes])
                    .text()
            };
            limit("1");
            sleep(lasts).await;
            limit("0");
            return;
        }
        let Some(mut tool) = Tool::on(&self.place).await else {
            return;
        };
        // Leaves the operator's own session writable.
        tool.run("SET default_transaction_read_only = off").await;
        for (mode, lasts) in [("on", lasts), ("off", Duration::ZERO)] {
            let set = format!("ALTER SYSTEM SET default_transaction_read_only = {mode}");
            let told = tool.run(&set).await.is_some();
            let told = told && tool.run("SELECT pg_reload_conf()").await.is_some();
            assert!(told, "the server cannot be filled");
            sleep(lasts).await;
        }
    }

    /// Holds the write lock of a file for a while.
    pub async fn lock_store(&self, lasts: Duration) {
        let Some(mut tool) = Tool::on(&self.place).await else {
            return;
        };
        // If a node holds the lock for too long, it keeps it.
        if tool.run("BEGIN IMMEDIATE").await.is_some() {
            sleep(lasts).await;
        }
    }
}

/// A manual revocation that is not committed yet.
pub struct OpenRevocation {
    tool: Tool,
    keys: Vec<Key>,
}

impl OpenRevocation {
    /// Returns `None` if the outcome is unknown.
    pub async fn commit(mut self, cluster: &Cluster) -> Option<()> {
        let start = now();
        let committed = self.tool.run("COMMIT").await;
        let returned = committed.map(|()| now());
        for key in self.keys {
            cluster.note(Change {
                key,
                to: Turn::Dead,
                process: None,
                start,
                returned,
                confirmed: false,
                grace: 0,
            });
        }
        committed
    }
}
