//! Every kind of store, on the test's own server if it needs one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apikey_runtime::clock::SystemClock;
use apikey_runtime::{KeyStore, MemoryStore, PostgresStore, RedisStore, SqliteStore};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::servers::data_folder;
use super::servers::postgres::{self, Postgres};
use super::servers::redis::{self, RedisServer};

/// An empty store, with as many nodes as a test wants.
pub struct Fleet {
    pub name: &'static str,
    lease: Duration,
    place: Place,
}

enum Place {
    /// Nodes share the value itself, because the data is in it.
    Memory(Arc<MemoryStore>),
    File(TempDir),
    /// The URL of a new database.
    Postgres(String),
    /// The prefix of its own keys.
    Redis(&'static RedisServer, String),
}

impl Fleet {
    /// Creates one of each kind, with this lease. A kind whose server is not installed is recorded as
    /// skipped; with `CI` set the test fails.
    pub async fn every(lease: Duration) -> Vec<Self> {
        // The stores keep the machine's clock, even if a node is given another.
        let memory = MemoryStore::new().with_lease(lease);
        let memory = memory.with_clock(Arc::new(SystemClock::new()));
        let mut places = vec![
            ("memory", Place::Memory(Arc::new(memory))),
            ("sqlite", Place::File(data_folder())),
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

    /// Returns a store for one more node.
    pub fn store(&self) -> Arc<dyn KeyStore> {
        match &self.place {
            Place::Memory(store) => Arc::clone(store) as Arc<dyn KeyStore>,
            Place::File(folder) => {
                let store = SqliteStore::new(folder.path().join("keys.db")).lease(self.lease);
                Arc::new(store.clock(Arc::new(SystemClock::new())))
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

/// Returns the process's server, which ends with the process.
pub fn postgres() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    postgres::shared(&SERVER)
}

/// Returns the process's server, as [`postgres()`] does.
pub fn redis() -> Option<&'static RedisServer> {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    let test = std::thread::current();
    let test = test.name().unwrap_or("a test");
    let start = || RedisServer::start(redis::DURABLE);
    redis::is_installed(test).then(|| SERVER.get_or_init(start))
}

/// Creates an empty database and returns its URL.
pub async fn database(server: &Postgres) -> String {
    let name = format!("t{}", next());
    let mut tool = PgConnection::connect(&server.url()).await.unwrap();
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create).execute(&mut tool).await.unwrap();
    server.url().replace("/postgres", &format!("/{name}"))
}
