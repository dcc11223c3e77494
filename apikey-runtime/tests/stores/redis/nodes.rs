//! The member list, and leases that differ.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apikey_runtime::store::{
    ChangeLog, Cursor, Membership, Node, NodeId, StoreError, WriteOptions,
};
use apikey_runtime::{KeyStore, RedisStore};

use super::{PATIENCE, ask, changed, cursor, redis_server, started};
use crate::{id, record};

fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

async fn listed(store: &RedisStore) -> Vec<Node> {
    store.members().await.unwrap().nodes
}

/// Returns the only member.
async fn only(store: &RedisStore) -> Node {
    let nodes = listed(store).await;
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    nodes[0].clone()
}

async fn is_member(store: &RedisStore, node: &NodeId) -> bool {
    let changes = store.changes(None, Some(node)).await.unwrap();
    changes.member
}

#[tokio::test]
async fn who_joins_takes_an_epoch_without_a_key_and_is_a_member() {
    let server = redis_server!();
    let store = started(&server).await;
    let before = cursor(&store).await;
    assert!(listed(&store).await.is_empty());
    assert!(!is_member(&store, &node(1)).await);
    store.join(&node(1)).await.unwrap();
    let after = cursor(&store).await;
    assert_eq!(after.epoch, before.epoch + 1);
    assert_eq!(changed(&store, &before).await, []);
    assert!(is_member(&store, &node(1)).await && !is_member(&store, &node(2)).await);
    let first = only(&store).await;
    assert_eq!((first.acknowledged, first.suspected), (0, false));
    store.join(&node(1)).await.unwrap();
    let again = only(&store).await;
    assert_eq!(
        again.heartbeat,
        first.heartbeat + 1,
        "it counts as a heartbeat"
    );
    assert_eq!(cursor(&store).await.epoch, before.epoch + 2);
    store.leave(&node(1)).await.unwrap();
    assert!(listed(&store).await.is_empty());
    assert!(!is_member(&store, &node(1)).await);
}

#[tokio::test]
async fn only_what_the_history_has_is_acknowledged() {
    let server = redis_server!();
    let store = started(&server).await;
    let early = cursor(&store).await;
    store.acknowledge(&node(1), &early).await.unwrap();
    assert!(
        listed(&store).await.is_empty(),
        "an unlisted node is not added"
    );
    store.join(&node(1)).await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let present = cursor(&store).await;
    let mut flipped = present.clone();
    flipped.tag[0] ^= 1;
    let strangers = [
        flipped,
        Cursor {
            epoch: present.epoch + 1,
            tag: present.tag.clone(),
        },
        Cursor {
            epoch: u64::MAX,
            tag: present.tag.clone(),
        },
        Cursor {
            epoch: present.epoch,
            tag: Vec::new(),
        },
    ];
    for stranger in strangers {
        let before = only(&store).await;
        store.acknowledge(&node(1), &stranger).await.unwrap();
        let after = only(&store).await;
        assert_eq!(after.acknowledged, 0, "{stranger:?}");
        assert_eq!(
            after.heartbeat,
            before.heartbeat + 1,
            "it is alive all the same"
        );
    }
    for (cursor, expected) in [
        (&early, early.epoch),
        (&present, present.epoch),
        (&early, present.epoch),
    ] {
        store.acknowledge(&node(1), cursor).await.unwrap();
        assert_eq!(only(&store).await.acknowledged, expected);
    }
}

#[tokio::test]
async fn a_node_that_moved_is_not_suspected_and_one_that_joined_anew_is_not_dismissed() {
    let server = redis_server!();
    let store = started(&server).await;
    store.join(&node(1)).await.unwrap();
    let seen = only(&store).await;
    store
        .acknowledge(&node(1), &cursor(&store).await)
        .await
        .unwrap();
    store.suspect(&seen).await.unwrap();
    assert!(
        !only(&store).await.suspected,
        "its heartbeat has changed since"
    );
    store.remove_node(&seen).await.unwrap();
    let seen = only(&store).await;
    store.remove_node(&seen).await.unwrap();
    assert_eq!(listed(&store).await.len(), 1, "it is not suspected");
    store.suspect(&seen).await.unwrap();
    let suspected = only(&store).await;
    assert!(suspected.suspected && suspected.heartbeat == seen.heartbeat);
    assert!(
        !is_member(&store, &node(1)).await,
        "it does not get a lease"
    );
    store
        .acknowledge(&node(1), &cursor(&store).await)
        .await
        .unwrap();
    assert!(
        only(&store).await.suspected,
        "it is suspected until it joins"
    );
    store.remove_node(&suspected).await.unwrap();
    assert_eq!(
        listed(&store).await.len(),
        1,
        "its heartbeat has changed since"
    );
    store.join(&node(1)).await.unwrap();
    assert!(is_member(&store, &node(1)).await);
    let seen = only(&store).await;
    store.suspect(&seen).await.unwrap();
    store.remove_node(&seen).await.unwrap();
    assert!(listed(&store).await.is_empty());
    store.suspect(&seen).await.unwrap();
    assert!(
        listed(&store).await.is_empty(),
        "a removed node is not added again"
    );
    store.join(&node(1)).await.unwrap();
    let back = only(&store).await;
    assert_ne!(
        back.heartbeat, seen.heartbeat,
        "a heartbeat that was seen is not repeated"
    );
}

/// However joins, acknowledgements and suspicions overlap, a node is removed only while it is
/// suspected, and is a member after its last join.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_nodes_that_race_each_is_a_member_after_it_joined() {
    let server = redis_server!();
    let store = Arc::new(started(&server).await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for _ in 0..30 {
                store.join(&node(number)).await.unwrap();
                let cursor = cursor(&store).await;
                store.acknowledge(&node(number), &cursor).await.unwrap();
                for seen in listed(&store).await {
                    store.suspect(&seen).await.unwrap();
                    store.remove_node(&seen).await.unwrap();
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for number in 1..=8 {
        store.join(&node(number)).await.unwrap();
        assert!(is_member(&store, &node(number)).await);
    }
    assert_eq!(listed(&store).await.len(), 8);
}

#[tokio::test]
async fn a_lease_is_written_to_the_store_and_holds_for_all() {
    let server = redis_server!();
    let store = started(&server).await;
    assert_eq!(
        ask(&store, None).await.lease,
        Duration::from_secs(2),
        "by default"
    );
    for bad in [0, 19, 60_001] {
        let other = RedisStore::new(server.url()).lease(Duration::from_millis(bad));
        let error = other.start().await.unwrap_err();
        assert!(matches!(error, StoreError::InvalidArgument(_)), "{error:?}");
    }
    let longer = RedisStore::new(server.url()).lease(Duration::from_secs(60));
    longer.start().await.unwrap();
    let lease = ask(&store, None).await.lease;
    let longest = store.members().await.unwrap().longest_lease;
    assert_eq!(
        (lease, longest),
        (Duration::from_secs(60), Duration::from_secs(60))
    );
}

#[tokio::test]
async fn a_shorter_lease_counts_at_once_and_the_longer_one_until_it_is_over() {
    let server = redis_server!();
    // Not over before this test has seen it, on a busy machine too.
    let long = Duration::from_secs(4);
    let first = RedisStore::new(server.url()).lease(long);
    first.start().await.unwrap();
    let url = server.url();
    let lowering = tokio::spawn(async move {
        let begun = Instant::now();
        let second = RedisStore::new(url).lease(Duration::from_millis(50));
        second.start().await.unwrap();
        begun.elapsed()
    });
    let leases = async || {
        let lease = ask(&first, None).await.lease.as_millis();
        (
            lease,
            first.members().await.unwrap().longest_lease.as_millis(),
        )
    };
    let begun = Instant::now();
    while leases().await.0 != 50 {
        assert!(begun.elapsed() < PATIENCE);
    }
    assert_eq!(
        leases().await,
        (50, 4_000),
        "a node may still hold the longer one"
    );
    let took = lowering.await.unwrap();
    assert!(took >= long, "its start waited for {took:?} only");
    assert_eq!(leases().await, (50, 50));
}

/// A node raises the lease while another waits for the old one to end.
#[tokio::test]
async fn a_lease_that_changes_meanwhile_is_not_settled() {
    let server = redis_server!();
    let first = RedisStore::new(server.url()).lease(Duration::from_secs(4));
    first.start().await.unwrap();
    let lowering = {
        let url = server.url();
        tokio::spawn(async move {
            let second = RedisStore::new(url).lease(Duration::from_millis(50));
            second.start().await.unwrap();
        })
    };
    let begun = Instant::now();
    while ask(&first, None).await.lease.as_millis() != 50 {
        assert!(begun.elapsed() < PATIENCE);
    }
    // Up and down again and again: each time the lowering node finds the value that it saw, except
    // for the count.
    while !lowering.is_finished() {
        server
            .command(&["HINCRBY", "{apikey}:meta", "lease_version", "1"])
            .text();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    lowering.await.unwrap();
    let longest = first.members().await.unwrap().longest_lease;
    assert_eq!(longest.as_millis(), 4_000);
    // The next start ends the wait, although it does not change the lease.
    started(&server).await;
    let longest = first.members().await.unwrap().longest_lease;
    assert_eq!(longest.as_millis(), 50);
    assert!(first.find(&id(1)).await.unwrap().is_none());
}
