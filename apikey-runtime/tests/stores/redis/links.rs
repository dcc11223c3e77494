//! slow, cut and reset connections to the server, and a server that is frozen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apikey_runtime::store::{ChangeLog, ListQuery, Membership, NodeId, StoreError, WriteOptions};
use apikey_runtime::{KeyStore, RedisStore};
use apikey_test_support::SLACK;
use apikey_test_support::proxy::{Proxy, Wire};
use tokio::time::timeout;

use super::{PATIENCE, cursor, redis_server, soon, started};
use crate::{because, id, record};

/// The store's deadline of a call.
const DEADLINE: Duration = Duration::from_secs(2);

async fn behind(proxy: &Proxy) -> RedisStore {
    let store = RedisStore::new(format!("redis://127.0.0.1:{}", proxy.port()));
    store.start().await.unwrap();
    store
}

/// Asserts that a call fails in time, with the error of an unavailable store.
async fn ensure_unavailable(store: &RedisStore) {
    let begun = Instant::now();
    let node = NodeId::from_u128(1);
    let results = tokio::join!(
        async { store.find(&id(1)).await.map(drop) },
        async { store.changes(None, None).await.map(drop) },
        async { store.members().await.map(drop) },
        async { store.leave(&node).await.map(drop) },
        async { store.insert(&record(9), &WriteOptions::new()).await },
        async {
            store
                .revoke(&id(1), &because("lost"), &WriteOptions::new())
                .await
                .map(drop)
        },
    );
    let results: [Result<(), StoreError>; 6] = results.into();
    for (number, result) in results.into_iter().enumerate() {
        assert!(
            matches!(result, Err(StoreError::Unavailable { .. })),
            "call {number}: {result:?}"
        );
    }
    let took = begun.elapsed();
    assert!(took < DEADLINE + SLACK, "took {took:?}");
}

async fn works(store: &RedisStore) -> Option<()> {
    store.find(&id(1)).await.ok()?;
    store.changes(None, None).await.ok().map(drop)
}

#[tokio::test]
async fn x03_a_half_open_way_costs_a_deadline_and_heals_in_another() {
    let server = redis_server!();
    let proxy = Proxy::to_port(server.port());
    let store = behind(&proxy).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    for _ in 0..2 {
        proxy.set(Wire::HalfOpen);
        ensure_unavailable(&store).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let begun = Instant::now();
        for _ in 0..100 {
            assert!(store.find(&id(1)).await.is_err());
        }
        let took = begun.elapsed();
        assert!(took < DEADLINE * 50, "by now it fails at once: {took:?}");
        proxy.set(Wire::Whole);
        soon(async || works(&store).await).await;
    }
}

/// The manager drops the future of a call that takes too long: this must not keep a dead
/// connection.
#[tokio::test]
async fn x03_callers_that_go_away_early_do_not_keep_a_dead_connection() {
    let server = redis_server!();
    let proxy = Proxy::to_port(server.port());
    let store = behind(&proxy).await;
    proxy.set(Wire::HalfOpen);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        let short = Duration::from_millis(20);
        assert!(!matches!(
            timeout(short, store.find(&id(1))).await,
            Ok(Ok(_))
        ));
        assert!(!matches!(
            timeout(short, store.changes(None, None)).await,
            Ok(Ok(_))
        ));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.set(Wire::Whole);
    let healed = soon(async || {
        let changes = store.changes(None, None);
        timeout(Duration::from_millis(20), changes).await.ok()?.ok()
    });
    healed.await;
}

#[tokio::test]
async fn x03_a_slow_way_is_slow_and_one_beyond_the_deadline_fails() {
    let server = redis_server!();
    let proxy = Proxy::to_port(server.port());
    let store = behind(&proxy).await;
    proxy.set(Wire::Slow(Duration::from_millis(100)));
    assert!(works(&store).await.is_some());
    let opened = proxy.opened();
    assert!(works(&store).await.is_some());
    assert_eq!(proxy.opened(), opened, "a slow connection is kept");
    proxy.set(Wire::Slow(DEADLINE + Duration::from_millis(500)));
    ensure_unavailable(&store).await;
    proxy.set(Wire::Whole);
    soon(async || works(&store).await).await;
}

#[tokio::test]
async fn x03_a_reset_costs_the_calls_under_way_only() {
    let server = redis_server!();
    let proxy = Proxy::to_port(server.port());
    let store = behind(&proxy).await;
    for _ in 0..5 {
        proxy.close_all();
        soon(async || works(&store).await).await;
    }
}

#[tokio::test]
async fn x03_a_server_that_stands_still_is_noticed_and_so_is_that_it_goes_on() {
    let server = redis_server!();
    let store = started(&server).await;
    server.freeze();
    ensure_unavailable(&store).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.resume();
    soon(async || works(&store).await).await;
}

/// A write that is given up and repeated on a slow disk would never succeed.
#[tokio::test]
async fn what_a_node_writes_about_itself_waits_longer_than_other_calls() {
    let server = redis_server!();
    let store = started(&server).await;
    let (node, other) = (NodeId::from_u128(1), NodeId::from_u128(2));
    store.join(&node).await.unwrap();
    let newest = cursor(&store).await;
    server.freeze();
    let calls = async {
        tokio::join!(
            store.acknowledge(&node, &newest),
            store.join(&node),
            store.leave(&other)
        )
    };
    let resume = async {
        tokio::time::sleep(DEADLINE + Duration::from_millis(500)).await;
        server.resume();
    };
    let ((acknowledged, joined, left), ()) = tokio::join!(calls, resume);
    acknowledged.unwrap();
    joined.unwrap();
    assert!(
        matches!(left, Err(StoreError::Unavailable { .. })),
        "{left:?}"
    );
}

#[tokio::test]
async fn x01_a_server_that_is_gone_fails_at_once_and_is_found_again() {
    let mut server = redis_server!();
    let store = started(&server).await;
    server.kill();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    for _ in 0..100 {
        assert!(matches!(
            store.find(&id(1)).await,
            Err(StoreError::Unavailable {
                source: Some(_),
                ..
            })
        ));
    }
    let took = begun.elapsed();
    assert!(took < DEADLINE * 50, "it fails at once: {took:?}");
    server.restart();
    soon(async || works(&store).await).await;
}

#[tokio::test]
async fn a_store_that_is_not_started_or_was_stopped_says_so() {
    let server = redis_server!();
    let store = RedisStore::new(server.url());
    assert!(matches!(
        store.find(&id(1)).await,
        Err(StoreError::Unavailable { .. })
    ));
    store.start().await.unwrap();
    store.start().await.unwrap();
    assert!(store.find(&id(1)).await.unwrap().is_none());
    store.stop().await;
    store.stop().await;
    let error = store.find(&id(1)).await.unwrap_err();
    assert!(error.to_string().contains("start"), "{error}");
    let (_, took) = soon(async || {
        let clients = server.command(&["CLIENT", "LIST"]).text();
        (clients.lines().count() == 1).then_some(())
    })
    .await;
    assert!(took < PATIENCE, "it closes its connections");
    store.start().await.unwrap();
    assert!(store.find(&id(1)).await.unwrap().is_none());
}

/// Polls have their own connection, so earlier reads on another one do not delay them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_reads_does_not_put_polls_off() {
    let server = redis_server!();
    let store = Arc::new(started(&server).await);
    for number in 1..=300 {
        let mut large = record(number);
        large.label = "x".repeat(2_000);
        store.insert(&large, &WriteOptions::new()).await.unwrap();
    }
    let mut flood = tokio::task::JoinSet::new();
    let (tasks, reads) = (6, 10);
    for _ in 0..tasks {
        let store = Arc::clone(&store);
        flood.spawn(async move {
            for _ in 0..reads {
                let _ = store.list(&ListQuery::first(1_000)).await;
            }
        });
    }
    let (mut polls, mut late) = (0, 0);
    while !flood.is_empty() {
        // Within its deadline, which is shorter than a lease.
        match store.changes(None, None).await {
            Ok(_) => {}
            Err(StoreError::Unavailable { .. }) => late += 1,
            Err(error) => panic!("{error:?}"),
        }
        polls += 1;
        while flood.try_join_next().is_some() {}
    }
    // A busy machine may delay one.
    assert!(late <= 1 + polls / 10, "{late} of {polls}");
    // Behind reads, each poll waits for one at least. Otherwise there are some 20 polls to a read.
    assert!(polls > 2 * tasks * reads, "{polls}");
}

#[tokio::test]
async fn a_push_comes_with_each_change_and_with_a_new_subscription() {
    let server = redis_server!();
    let proxy = Proxy::to_port(server.port());
    let listening = RedisStore::new(format!("redis://127.0.0.1:{}", proxy.port()));
    let mut listener = listening.subscribe().unwrap();
    listening.start().await.unwrap();
    let writing = started(&server).await;
    let mut heard = async |what: &str| {
        let begun = Instant::now();
        let heard = timeout(PATIENCE, listener.notified()).await;
        assert!(heard.is_ok(), "the notification of {what} does not arrive");
        begun.elapsed()
    };
    heard("the first subscription").await;
    writing
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    heard("an insert").await;
    writing.join(&NodeId::from_u128(1)).await.unwrap();
    heard("a node").await;
    writing
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    heard("a revocation").await;
    proxy.close_all();
    let took = heard("a subscription after a reset").await;
    assert!(took < SLACK, "{took:?}");
    // Half-open: silence is the only sign.
    proxy.set(Wire::HalfOpen);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    proxy.set(Wire::Whole);
    let took = heard("a subscription after a cut").await;
    assert!(took < SLACK, "{took:?}");
    writing
        .insert(&record(2), &WriteOptions::new())
        .await
        .unwrap();
    heard("an insert on it").await;
    assert_eq!(cursor(&listening).await, cursor(&writing).await);
}
