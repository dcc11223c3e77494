//! Stores that several nodes share, on servers of the bench's own.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::store::WriteOptions;
use apikey_runtime::{KeyId, KeyStore, PostgresStore, RedisStore, SqliteStore};
use apikey_test_support::servers::postgres::Postgres;
use apikey_test_support::servers::redis::{DURABLE, RedisServer, is_installed};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};
use tempfile::TempDir;

use crate::support::{Outcome, keys};

/// The location of one store.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    /// The lease of a new store.
    pub(crate) lease: Duration,
    /// The time in milliseconds within which 99 of 100 revocations should reach another node.
    pub(crate) target: Option<f64>,
    kept: Kept,
}

enum Kept {
    File(TempDir),
    Postgres(Postgres),
    Redis(RedisServer),
}

impl Place {
    /// Creates a store of each kind whose name is `wanted`. A kind whose server is not installed is
    /// skipped, with a line that says so.
    pub(crate) fn every(wanted: impl Fn(&str) -> bool) -> Outcome<Vec<Self>> {
        let mut places = Vec::new();
        if wanted("SQLite") {
            places.push(Self {
                name: "SQLite",
                lease: Duration::from_millis(200),
                target: None,
                kept: Kept::File(tempfile::tempdir()?),
            });
        }
        if wanted("PostgreSQL")
            && let Some(server) = Postgres::start()
        {
            places.push(Self {
                name: "PostgreSQL",
                lease: Duration::from_secs(2),
                target: Some(5.0),
                kept: Kept::Postgres(server),
            });
        }
        if wanted("Redis") && is_installed("nodes") {
            places.push(Self {
                name: "Redis",
                lease: Duration::from_secs(2),
                target: Some(2.0),
                kept: Kept::Redis(RedisServer::start(DURABLE)),
            });
        }
        Ok(places)
    }

    /// Starts a Redis without persistence, to measure only the connection and the work; returns
    /// `None` if it is not installed.
    pub(crate) fn redis_in_memory() -> Option<Self> {
        is_installed("limits").then(|| Self {
            name: "Redis, in memory only",
            lease: Duration::from_secs(2),
            target: None,
            kept: Kept::Redis(RedisServer::start(&[("save", "")])),
        })
    }

    /// Returns the port of the server, if the store has one.
    pub(crate) fn port(&self) -> Option<u16> {
        match &self.kept {
            Kept::File(_) => None,
            Kept::Postgres(server) => Some(server.port()),
            Kept::Redis(server) => Some(server.port()),
        }
    }

    /// Returns the store, reached through another port.
    pub(crate) fn store_at(&self, port: u16) -> Arc<dyn KeyStore> {
        match &self.kept {
            Kept::File(_) => self.store(),
            Kept::Postgres(server) => Arc::new(PostgresStore::new(server.url_at(port))),
            Kept::Redis(_) => Arc::new(RedisStore::new(format!("redis://127.0.0.1:{port}"))),
        }
    }

    /// Returns the store as a further node sees it: with connections of its own.
    pub(crate) fn store(&self) -> Arc<dyn KeyStore> {
        match &self.kept {
            Kept::File(folder) => Arc::new(SqliteStore::new(folder.path().join("keys.db"))),
            Kept::Postgres(server) => Arc::new(PostgresStore::new(server.url())),
            Kept::Redis(server) => Arc::new(RedisStore::new(server.url())),
        }
    }

    /// Sets the lease of the stores here: an answer that takes longer is not used, and a busy machine takes longer than
    /// the lease of a new store.
    pub(crate) async fn set_lease(&self, lease: Duration) -> Outcome {
        let store: Arc<dyn KeyStore> = match &self.kept {
            Kept::File(folder) => {
                Arc::new(SqliteStore::new(folder.path().join("keys.db")).lease(lease))
            }
            Kept::Postgres(server) => Arc::new(PostgresStore::new(server.url()).lease(lease)),
            Kept::Redis(server) => Arc::new(RedisStore::new(server.url()).lease(lease)),
        };
        store.start().await?;
        store.stop().await;
        Ok(())
    }

    /// Opens a connection of the database's client.
    pub(crate) async fn client(&self) -> Outcome<Client> {
        Ok(match &self.kept {
            Kept::File(folder) => {
                let file = folder.path().join("keys.db");
                Client::Sqlite(SqliteConnection::connect(&file.to_string_lossy()).await?)
            }
            Kept::Postgres(server) => Client::Postgres(PgConnection::connect(&server.url()).await?),
            Kept::Redis(server) => {
                let client = redis::Client::open(server.url())?;
                Client::Redis(client.get_multiplexed_async_connection().await?)
            }
        })
    }

    /// Adds copies of the record of `model` under the ids with these numbers. Where the database has
    /// a faster way than the store, it is taken.
    pub(crate) async fn copy(&self, model: KeyId, numbers: Range<usize>) -> Outcome {
        const AT_ONCE: usize = 10_000;
        let mut client = self.client().await?;
        let columns = client.columns().await?;
        let store = self.store();
        store.start().await?;
        let record = store.find(&model).await?.ok_or("the model is missing")?;
        for start in numbers.clone().step_by(AT_ONCE) {
            let ids = (start..numbers.end.min(start + AT_ONCE)).map(keys::id);
            match &mut client {
                Client::Sqlite(connection) => {
                    let ids: Vec<_> = ids.map(|id| id.to_string()).collect();
                    sqlx::query(AssertSqlSafe(copying(&columns, "json_each($2) AS asked")))
                        .bind(model.to_string())
                        .bind(serde_json::to_string(&ids)?)
                        .execute(connection)
                        .await?;
                }
                Client::Postgres(connection) => {
                    let ids: Vec<_> = ids.map(|id| id.to_string()).collect();
                    sqlx::query(AssertSqlSafe(copying(
                        &columns,
                        "unnest($2) AS asked(value)",
                    )))
                    .bind(model.to_string())
                    .bind(ids)
                    .execute(connection)
                    .await?;
                }
                Client::Redis(_) => {
                    let mut inserts = tokio::task::JoinSet::new();
                    for id in ids {
                        let (store, mut record) = (Arc::clone(&store), record.clone());
                        record.id = id;
                        inserts.spawn(
                            async move { store.insert(&record, &WriteOptions::new()).await },
                        );
                        if inserts.len() >= 256
                            && let Some(ended) = inserts.join_next().await
                        {
                            ended??;
                        }
                    }
                    while let Some(ended) = inserts.join_next().await {
                        ended??;
                    }
                }
            }
        }
        store.stop().await;
        Ok(())
    }
}

/// Returns the statement that copies record `$1` to the ids that `asked` reads from `$2`.
fn copying(columns: &[String], asked: &str) -> String {
    let list = columns.join(", ");
    let values = columns.iter().map(|column| match column.as_str() {
        "id" => "asked.value".to_owned(),
        column => format!("model.{column}"),
    });
    let values = values.collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO api_keys ({list}) SELECT {values} FROM {asked}, api_keys AS model \
         WHERE model.id = $1"
    )
}

/// A bare connection.
pub(crate) enum Client {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    Redis(MultiplexedConnection),
}

impl Client {
    /// Returns the columns of a key's row; none if a key is not a row.
    async fn columns(&mut self) -> Outcome<Vec<String>> {
        Ok(match self {
            Self::Sqlite(connection) => {
                let names = "SELECT name FROM pragma_table_info('api_keys')";
                sqlx::query_scalar(names).fetch_all(connection).await?
            }
            Self::Postgres(connection) => {
                let names = "SELECT attname::text FROM pg_attribute \
                    WHERE attrelid = 'api_keys'::regclass AND attnum > 0 AND NOT attisdropped";
                sqlx::query_scalar(names).fetch_all(connection).await?
            }
            Self::Redis(_) => Vec::new(),
        })
    }

    /// Reads the whole record of a key, which must exist.
    pub(crate) async fn read(&mut self, id: KeyId) -> Outcome {
        const SELECT: &str = "SELECT * FROM api_keys WHERE id = $1";
        let fields = match self {
            Self::Sqlite(connection) => {
                let query = sqlx::query(SELECT).bind(id.to_string());
                query.fetch_one(connection).await?.len()
            }
            Self::Postgres(connection) => {
                let query = sqlx::query(SELECT).bind(id.to_string());
                query.fetch_one(connection).await?.len()
            }
            Self::Redis(connection) => {
                let name = format!("{{apikey}}:key:{id}");
                let hash: HashMap<String, Vec<u8>> = connection.hgetall(name).await?;
                hash.len()
            }
        };
        assert!(fields > 0, "the record is missing");
        Ok(())
    }

    /// Reads one number: the cheapest query of a request.
    pub(crate) async fn look(&mut self) -> Outcome {
        const SELECT: &str = "SELECT number FROM bench WHERE id = 1";
        let number: i64 = match self {
            Self::Sqlite(connection) => sqlx::query(SELECT)
                .fetch_one(connection)
                .await?
                .try_get(0)?,
            Self::Postgres(connection) => sqlx::query(SELECT)
                .fetch_one(connection)
                .await?
                .try_get(0)?,
            Self::Redis(connection) => connection.get("bench").await?,
        };
        assert!(number >= 0, "never written");
        Ok(())
    }

    /// Creates the number that [`write`](Self::write) changes.
    pub(crate) async fn prepare(&mut self) -> Outcome {
        const CREATE: &str =
            "CREATE TABLE IF NOT EXISTS bench (id BIGINT PRIMARY KEY, number BIGINT)";
        const INSERT: &str = "INSERT INTO bench VALUES (1, 0) ON CONFLICT DO NOTHING";
        match self {
            Self::Sqlite(connection) => {
                sqlx::query(CREATE).execute(&mut *connection).await?;
                sqlx::query(INSERT).execute(connection).await?;
            }
            Self::Postgres(connection) => {
                sqlx::query(CREATE).execute(&mut *connection).await?;
                sqlx::query(INSERT).execute(connection).await?;
            }
            Self::Redis(connection) => connection.set("bench", 0).await?,
        }
        Ok(())
    }

    /// Changes a number, which is on disk when this returns.
    pub(crate) async fn write(&mut self) -> Outcome {
        const UPDATE: &str = "UPDATE bench SET number = number + 1 WHERE id = 1";
        match self {
            Self::Sqlite(connection) => {
                sqlx::query(UPDATE).execute(connection).await?;
            }
            Self::Postgres(connection) => {
                sqlx::query(UPDATE).execute(connection).await?;
            }
            Self::Redis(connection) => connection.incr("bench", 1).await?,
        }
        Ok(())
    }
}
