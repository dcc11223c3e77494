//! Starts that create nothing and change nothing.

use apikey_runtime::store::{FoundSchema, WriteOptions};
use apikey_runtime::{KeyStore, RedisStore};
use apikey_test_support::servers::redis::RedisServer;

use super::{redis_server, started};
use crate::as_it_is::found;
use crate::{id, record};

const META: &str = "{apikey}:meta";

fn as_it_is(server: &RedisServer) -> RedisStore {
    RedisStore::new(server.url())
        .must_exist(true)
        .migrate(false)
}

/// What does not exist may be created, even if nothing may be brought up to date.
#[tokio::test]
async fn a_new_store_is_no_older_one() {
    let server = redis_server!();
    for _ in 0..2 {
        let store = RedisStore::new(server.url()).migrate(false);
        store.start().await.unwrap();
        as_it_is(&server).start().await.unwrap();
    }
}

/// A history that starts again has what this release wrote.
#[tokio::test]
async fn a_store_that_has_lost_its_history_is_no_older_one() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    server.command(&["DEL", META]);
    assert_eq!(found(&as_it_is(&server)).await, FoundSchema::Missing);
    store
        .insert(&record(2), &WriteOptions::new())
        .await
        .unwrap();
    let as_it_is = as_it_is(&server);
    as_it_is.start().await.unwrap();
    assert!(as_it_is.find(&id(1)).await.unwrap().is_some());
}

/// The upgrade ends after it has written the version, and before its first step.
#[tokio::test]
async fn an_upgrade_that_has_only_begun_is_not_taken_for_done() {
    let server = redis_server!();
    started(&server).await.stop().await;
    server.command(&["HSET", META, "schema", "104"]);
    server.command(&["HDEL", META, "notices", "owners"]);
    server.command(&["ACL", "SETUSER", "default", "-zrange"]);
    RedisStore::new(server.url()).start().await.unwrap_err();
    assert_eq!(server.command(&["HGET", META, "schema"]).text(), "105");
    server.command(&["ACL", "SETUSER", "default", "+zrange"]);
    assert_eq!(found(&as_it_is(&server)).await, FoundSchema::Older(104));
    started(&server).await.stop().await;
    as_it_is(&server).start().await.unwrap();
}

#[tokio::test]
async fn each_reason_is_told_from_the_others() {
    let server = redis_server!();
    let as_it_is = || as_it_is(&server);
    assert_eq!(found(&as_it_is()).await, FoundSchema::Missing);
    assert_eq!(server.command(&["DBSIZE"]).text(), "0", "nothing was made");

    started(&server).await.stop().await;
    let before = server.command(&["HGETALL", META]).text();
    as_it_is().start().await.unwrap();
    assert_eq!(server.command(&["HGETALL", META]).text(), before);
    for (version, expected) in [
        ("104", FoundSchema::Older(104)),
        ("106", FoundSchema::Newer(106)),
        ("99", FoundSchema::Foreign),
    ] {
        server.command(&["HSET", META, "schema", version]);
        assert_eq!(found(&as_it_is()).await, expected);
        let now = server.command(&["HGET", META, "schema"]).text();
        assert_eq!(now, version, "left as it is");
    }
    // A start that was killed before all records were brought up to date.
    server.command(&["HSET", META, "schema", "105", "notices", "i0"]);
    assert!(matches!(found(&as_it_is()).await, FoundSchema::Older(_)));
    server.command(&["DEL", META]);
    server.command(&["SET", META, "mine"]);
    assert_eq!(found(&as_it_is()).await, FoundSchema::Foreign);
}
