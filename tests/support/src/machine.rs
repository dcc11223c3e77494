//! A server that a test stops, kills and restarts, and the store on it.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::{KeyStore, PostgresStore, RedisStore};

use super::servers::postgres::{Frozen, Postgres};
use super::servers::redis::{self, RedisServer};

/// The server of a test.
pub enum Machine {
    Postgres(Box<Postgres>),
    Redis(RedisServer),
}

/// The server is frozen while this lives.
pub enum Standstill<'m> {
    Postgres(#[allow(dead_code, reason = "its end is what it does")] Frozen),
    Redis(&'m RedisServer),
}

impl Drop for Standstill<'_> {
    fn drop(&mut self) {
        if let Self::Redis(server) = self {
            server.resume();
        }
    }
}

impl Machine {
    /// Starts one of each installed kind.
    pub fn every(test: &str) -> Vec<Self> {
        let postgres = Postgres::start().map(|server| Self::Postgres(Box::new(server)));
        let redis =
            redis::is_installed(test).then(|| Self::Redis(RedisServer::start(redis::DURABLE)));
        postgres.into_iter().chain(redis).collect()
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
        }
    }

    /// Returns a store for one more node.
    pub fn store(&self, lease: Duration) -> Arc<dyn KeyStore> {
        match self {
            Self::Postgres(server) => Arc::new(PostgresStore::new(server.url()).lease(lease)),
            Self::Redis(server) => Arc::new(RedisStore::new(server.url()).lease(lease)),
        }
    }

    /// Freezes the server until the returned value is dropped.
    pub fn freeze(&self) -> Standstill<'_> {
        match self {
            Self::Postgres(server) => Standstill::Postgres(server.freeze()),
            Self::Redis(server) => {
                server.freeze();
                Standstill::Redis(server)
            }
        }
    }

    /// Kills the server, as a crash does.
    pub fn kill(&mut self) {
        match self {
            Self::Postgres(server) => server.kill(),
            Self::Redis(server) => server.kill(),
        }
    }

    /// Restarts it after [`kill`](Self::kill), on the data that it has kept.
    pub fn restart(&mut self) {
        match self {
            Self::Postgres(server) => server.run(),
            Self::Redis(server) => server.restart(),
        }
    }
}
