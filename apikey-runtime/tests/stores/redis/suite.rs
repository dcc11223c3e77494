//! S-02: the conformance suite, on one server and on a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use apikey_runtime::conformance;
use apikey_runtime::store::WriteOptions;
use apikey_runtime::{KeyStore, RedisStore};
use apikey_test_support::servers::redis::RedisServer;

use super::redis_server;
use crate::{id, record};

/// Runs all checks, each under its own key prefix.
async fn passes(server: &RedisServer) {
    let number = AtomicU64::new(0);
    let make = || async {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let store = RedisStore::new(server.url()).namespace(format!("suite {number}"));
        Arc::new(store) as Arc<dyn KeyStore>
    };
    let report = conformance::run(make).await;
    assert!(
        report.passed.iter().copied().eq(conformance::checks()),
        "{report:?}"
    );
    assert!(report.skipped.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s02_the_store_in_redis_passes_on_many_threads() {
    passes(&redis_server!()).await;
}

#[tokio::test]
async fn s02_the_store_in_redis_passes_on_one_thread() {
    passes(&redis_server!()).await;
}

#[tokio::test]
async fn s02_the_store_in_a_cluster_passes() {
    // Skips the test if Redis is not installed.
    drop(redis_server!());
    passes(&RedisServer::start_cluster(&[])).await;
}

/// The URL may name any node.
#[tokio::test]
async fn a_node_of_a_cluster_without_the_keys_names_the_one_that_has_them() {
    drop(redis_server!());
    let owner = RedisServer::start_cluster(&[]);
    let other = RedisServer::start_cluster_node(&[]);
    other.meet(&owner);
    let store = RedisStore::new(other.url());
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    assert!(store.find(&id(1)).await.unwrap().is_some());
    let names = owner.command(&["KEYS", "*"]).text();
    assert!(names.contains("{apikey}:changes"), "{names}");
    assert_eq!(other.command(&["KEYS", "*"]).text(), "");
}
