//! The specifics of Redis.

mod as_it_is;
mod audit;
mod audit_crash;
mod bulk;
mod copying;
mod counts;
mod crash;
mod exact;
mod fake;
mod history;
mod links;
mod live_keys;
mod nodes;
mod notices;
mod owner_lists;
mod owners;
mod owners_marked;
mod owners_upgraded;
mod ranges;
mod rates;
mod records;
mod roll_up;
mod settings;
mod shared_secrets;
mod suite;
mod upgraded;
mod usage;

use std::time::{Duration, Instant};

use apikey_runtime::store::{ChangeLog, ChangeSet, Changes, Cursor};
use apikey_runtime::{KeyId, KeyStore, RedisStore};

use apikey_test_support::PATIENCE;
use apikey_test_support::servers::redis::RedisServer;

use crate::keys_in;

/// Starts a server for the calling test, which returns if Redis is not installed.
macro_rules! redis_server {
    ($($settings:expr)?) => {{
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        if !apikey_test_support::servers::redis::is_installed(&test) {
            return;
        }
        apikey_test_support::servers::redis::RedisServer::start(redis_server!(@ $($settings)?))
    }};
    (@ $settings:expr) => { $settings };
    (@) => { &[] };
}
use redis_server;

async fn started(server: &RedisServer) -> RedisStore {
    let store = RedisStore::new(server.url());
    store.start().await.unwrap();
    store
}

async fn ask(store: &RedisStore, since: Option<&Cursor>) -> Changes {
    store.changes(since, None).await.unwrap()
}

async fn cursor(store: &RedisStore) -> Cursor {
    ask(store, None).await.cursor
}

async fn changed(store: &RedisStore, since: &Cursor) -> Vec<KeyId> {
    keys_in(ask(store, Some(since)).await.set)
}

async fn is_unknown(store: &RedisStore, since: &Cursor) -> bool {
    ask(store, Some(since)).await.set == ChangeSet::Resync
}

/// Retries until `done` returns a value; returns how long that took.
async fn soon<T>(mut done: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    let begun = Instant::now();
    loop {
        if let Some(value) = done().await {
            return (value, begun.elapsed());
        }
        assert!(begun.elapsed() < PATIENCE, "this did not happen in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
