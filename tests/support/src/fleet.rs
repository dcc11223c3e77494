//! Every kind of store, on a server of the test's own where it needs one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apikey_runtime::{KeyStore, MemoryStore, PostgresStore, RedisStore, SqliteStore};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::servers::postgres::Postgres;
use super::servers::redis::{self, RedisServer};

/// One empty store, and as many nodes on it as a test wants.
pub struct Fleet {
    pub name: &'static str,
    lease: Duration,
    place: Place,
}

enum Place {
    /// Nodes share the value itself: there is no other way.
    Memory(Arc<MemoryStore>),
    File(TempDir),
    /// A database of its own.
    Postgres(String),
    /// A namespace of its own.
    Redis(&'static RedisServer, String),
}

impl Fleet {
    /// One of each kind, with this lease. A kind whose server is not installed is left out, with a
    /// line that says so, unless `CI` is set.
    pub async fn every(lease: Duration) -> Vec<Self> {
        let mut places = vec![
            (
                "memory",
                Place::Memory(Arc::new(MemoryStore::new().with_lease(lease))),
            ),
            ("sqlite", Place::File(tempfile::tempdir().unwrap())),
        ];
        if let Some(server) = postgres() {
            places.push(("postgres", Place::Postgres(database(server).await)));
        }
        if let Some(server) = redis() {
            places.push(("redis", Place::Redis(server, format!("t{}", next()))));
        }
        let fleet = |(name, place)| Self { name, lease, place };
        places.into_iter().map(fleet).collect()
    }

    /// A store for one more node.
    pub fn store(&self) -> Arc<dyn KeyStore> {
        match &self.place {
            Place::Memory(store) => Arc::clone(store) as Arc<dyn KeyStore>,
            Place::File(folder) => {
                Arc::new(SqliteStore::new(folder.path().join("keys.db")).lease(self.lease))
            }
            Place::Postgres(url) => Arc::new(PostgresStore::new(url).lease(self.lease)),
            Place::Redis(server, namespace) => Arc::new(
                RedisStore::new(server.url())
                    .namespace(namespace)
                    .lease(self.lease),
            ),
        }
    }
}

fn next() -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// The process's own server; it ends with the process.
pub fn postgres() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    SERVER.get_or_init(Postgres::start).as_ref()
}

/// As [`postgres`].
pub fn redis() -> Option<&'static RedisServer> {
    static SERVER: OnceLock<Option<RedisServer>> = OnceLock::new();
    let test = std::thread::current();
    let test = test.name().unwrap_or("a test");
    let start = || redis::is_installed(test).then(|| RedisServer::start(redis::DURABLE));
    SERVER.get_or_init(start).as_ref()
}

/// The address of a new, empty database.
pub async fn database(server: &Postgres) -> String {
    let name = format!("t{}", next());
    let mut tool = PgConnection::connect(&server.url()).await.unwrap();
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create).execute(&mut tool).await.unwrap();
    server.url().replace("/postgres", &format!("/{name}"))
}
