//! Starts that create nothing and change nothing.

use apikey_runtime::store::FoundSchema;
use apikey_runtime::{KeyStore, RedisStore};

use super::{redis_server, started};
use crate::as_it_is::found;

#[tokio::test]
async fn each_reason_is_told_from_the_others() {
    let server = redis_server!();
    const META: &str = "{apikey}:meta";
    let as_it_is = || {
        RedisStore::new(server.url())
            .must_exist(true)
            .migrate(false)
    };
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
