//! Code that tests, benches and examples share: servers, a TCP proxy, stores that stop or fail, an
//! HTTP client, forged keys.

pub mod dice;
pub mod fleet;
pub mod forge;
pub mod hasher;
pub mod http;
pub mod locations;
pub mod log;
pub mod machine;
pub mod programs;
pub mod proxy;
pub mod recorder;
pub mod servers;
pub mod skip;
pub mod store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::{ApiKeyManager, Config, KeyStore, MemoryStore, Timestamp};

/// The longest time that a test waits for something that has to happen, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Extra time for a busy machine, in a test that something does not hang: a fault would last for
/// minutes, or for ever.
pub const SLACK: Duration = Duration::from_secs(20);

/// Starts a manager with the defaults on an empty `MemoryStore`.
pub async fn manager() -> ApiKeyManager {
    manager_on(Arc::new(MemoryStore::new())).await
}

/// Starts a manager with the defaults on `store`.
pub async fn manager_on(store: Arc<dyn KeyStore>) -> ApiKeyManager {
    ApiKeyManager::builder()
        .shared_store(store)
        .start()
        .await
        .unwrap()
}

/// Starts a manager with this clock.
pub async fn manager_at(store: Arc<dyn KeyStore>, clock: Arc<dyn Clock>) -> ApiKeyManager {
    ApiKeyManager::builder()
        .shared_store(store)
        .clock(clock)
        .start()
        .await
        .unwrap()
}

/// Waits until the manager's clock reads a later time, and returns it: a purge before then removes all keys that have
/// ended.
pub async fn later(manager: &ApiKeyManager) -> Timestamp {
    let now = manager.now();
    while manager.now() <= now {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    manager.now()
}

/// Returns settings under which a manager waits for a store that stops at a gate.
pub fn patient() -> Config {
    Config::builder()
        .store_timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

/// Starts a manager that waits for a store that stops at a gate.
pub async fn patient_manager(store: Arc<dyn KeyStore>) -> ApiKeyManager {
    ApiKeyManager::builder()
        .config(patient())
        .shared_store(store)
        .start()
        .await
        .unwrap()
}

/// Starts a patient manager whose clock stands still: while its store answers, its lease does not end, and what it read does
/// not age. So the number of its reads does not depend on the machine.
pub async fn timeless_manager(store: Arc<dyn KeyStore>) -> ApiKeyManager {
    ApiKeyManager::builder()
        .config(patient())
        .shared_store(store)
        .clock(Arc::new(ManualClock::starting_now()))
        .start()
        .await
        .unwrap()
}

/// Waits for the next day unless this one, which ends at midnight in UTC, lasts five minutes more.
pub async fn not_at_midnight() {
    const DAY: u64 = 86_400;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let left = DAY - now % DAY;
    if left < 300 {
        tokio::time::sleep(Duration::from_secs(left + 1)).await;
    }
}

/// Returns the result of `work`; panics if it takes too long.
pub async fn soon<T>(work: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work.into_future())
        .await
        .expect("this did not happen in time")
}

/// Repeats `done` until it returns `true` or `limit` has passed; returns how long it took.
pub async fn within<F: AsyncFnMut() -> bool>(limit: Duration, mut done: F) -> Option<Duration> {
    let started = Instant::now();
    loop {
        if done().await {
            return Some(started.elapsed());
        }
        if started.elapsed() > limit {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
