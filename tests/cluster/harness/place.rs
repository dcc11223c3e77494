//! The store that a cluster shares.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use apikey_test_support::servers::postgres::Postgres;
use apikey_test_support::servers::redis::{self, DURABLE, RedisServer};

/// A store that runs.
pub enum Place {
    /// A file; nodes of one machine.
    Sqlite(PathBuf),
    Postgres(Postgres),
    Redis(Mutex<RedisServer>),
}

impl Place {
    /// A server of its own; `None` where PostgreSQL is not installed.
    pub fn postgres() -> Option<Self> {
        Postgres::start().map(Self::Postgres)
    }

    /// A server of its own, which keeps what it acknowledges; `None` where Redis is not installed.
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

    /// Where it listens; `None` for a file.
    pub fn address(&self) -> Option<SocketAddr> {
        let port = match self {
            Self::Sqlite(_) => return None,
            Self::Postgres(server) => server.port(),
            Self::Redis(server) => server.lock().unwrap().port(),
        };
        Some((Ipv4Addr::LOCALHOST, port).into())
    }

    /// How a node finds it, by way of `proxy` where it listens.
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

    /// Stops the server in the middle of whatever it does, and lets it go on after a while.
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

    /// Ends the server without a warning, and starts it anew on the same data after a while.
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
