//! The store that a cluster shares.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use apikey_test_support::servers::postgres::Postgres;
use apikey_test_support::servers::redis::{self, DURABLE, RedisServer};

/// A running store.
pub enum Place {
    /// A file, for nodes of one machine.
    Sqlite(PathBuf),
    Postgres(Postgres),
    Redis(Mutex<RedisServer>),
}

impl Place {
    /// Starts a server; returns `None` if PostgreSQL is not installed.
    pub fn postgres() -> Option<Self> {
        Postgres::start().map(Self::Postgres)
    }

    /// Starts a durable server; returns `None` if Redis is not installed.
    pub fn redis(test: &str) -> Option<Self> {
        redis::is_installed(test).then(|| Self::Redis(Mutex::new(RedisServer::start(DURABLE))))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
        }
    }

    /// Returns the server's address; `None` for a file.
    pub fn address(&self) -> Option<SocketAddr> {
        let port = match self {
            Self::Sqlite(_) => return None,
            Self::Postgres(server) => server.port(),
            Self::Redis(server) => server.lock().unwrap().port(),
        };
        Some((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Returns the URL for a node, through `proxy` if the store has an address.
    pub fn url(&self, proxy: Option<SocketAddr>) -> String {
        let port = |own| proxy.map_or(own, |proxy| proxy.port());
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(server) => server.url_at(port(server.port())),
            Self::Redis(server) => {
                format!("redis://127.0.0.1:{}", port(server.lock().unwrap().port()))
            }
        }
    }

    /// Stops the server's processes, and resumes them after a while.
    pub async fn freeze(&self, lasts: Duration) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(server) => {
                let _frozen = block_in_place(|| server.freeze());
                sleep(lasts).await;
            }
            Self::Redis(server) => {
                server.lock().unwrap().freeze();
                sleep(lasts).await;
                server.lock().unwrap().resume();
            }
        }
    }

    /// Kills the server, and restarts it on the same data after a while.
    pub async fn kill(&self, lasts: Duration) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(server) => {
                block_in_place(|| server.kill());
                sleep(lasts).await;
                block_in_place(|| server.run());
            }
            Self::Redis(server) => {
                block_in_place(|| server.lock().unwrap().kill());
                sleep(lasts).await;
                block_in_place(|| server.lock().unwrap().restart());
            }
        }
    }
}
