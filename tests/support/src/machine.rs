//! A server that a test stops, kills and starts again, and the store that is on it.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::{KeyStore, PostgresStore, RedisStore};

use super::servers::postgres::{Frozen, Postgres};
use super::servers::redis::{self, RedisServer};

/// A server of a test's own.
pub enum Machine {
    Postgres(Box<Postgres>),
    Redis(RedisServer),
}

/// While this lives, the server does nothing.
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
    /// One of each kind that is installed.
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

    /// A store for one more node.
    pub fn store(&self, lease: Duration) -> Arc<dyn KeyStore> {
        match self {
            Self::Postgres(server) => Arc::new(PostgresStore::new(server.url()).lease(lease)),
            Self::Redis(server) => Arc::new(RedisStore::new(server.url()).lease(lease)),
        }
    }

    /// Stops it in mid-air, until what is returned is dropped.
    pub fn freeze(&self) -> Standstill<'_> {
        match self {
            Self::Postgres(server) => Standstill::Postgres(server.freeze()),
            Self::Redis(server) => {
                server.freeze();
                Standstill::Redis(server)
            }
        }
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        match self {
            Self::Postgres(server) => server.kill(),
            Self::Redis(server) => server.kill(),
        }
    }

    /// Starts it again after a [`kill`](Self::kill), on what it has kept.
    pub fn restart(&mut self) {
        match self {
            Self::Postgres(server) => server.run(),
            Self::Redis(server) => server.restart(),
        }
    }
}
