//! The member list, and the lease that members share.

use std::time::{Duration, Instant};

use apikey_runtime::store::{
    ChangeLog, Cursor, MemberList, Membership, Node, NodeId, WriteOptions,
};
use apikey_runtime::{KeyStore, PostgresStore};

use super::{changed, cursor, number, place, run};
use crate::{because, id, record};

fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

async fn roster(store: &PostgresStore) -> MemberList {
    store.members().await.unwrap()
}

/// Returns the only member.
async fn only(store: &PostgresStore) -> Node {
    let [only] = roster(store).await.nodes.try_into().unwrap();
    only
}

async fn is_member(store: &PostgresStore, node: &NodeId) -> bool {
    store.changes(None, Some(node)).await.unwrap().member
}

#[tokio::test]
async fn joining_is_an_epoch_without_a_key() {
    let place = place!();
    let store = place.started().await;
    let before = cursor(&store).await;
    assert!(!is_member(&store, &node(1)).await);
    store.join(&node(1)).await.unwrap();
    assert!(is_member(&store, &node(1)).await);
    assert!(!is_member(&store, &node(2)).await);
    assert_eq!(changed(&store, &before).await, []);
    assert_eq!(cursor(&store).await.epoch, before.epoch + 1);
    let first = only(&store).await;
    assert_eq!(first, Node::new(node(1), 0, first.heartbeat, false));
    assert_eq!(roster(&store).await.cursor, cursor(&store).await);
    store.join(&node(1)).await.unwrap();
    let second = Node::new(node(1), 0, first.heartbeat + 1, false);
    assert_eq!(only(&store).await, second);
    assert_eq!(cursor(&store).await.epoch, before.epoch + 2);
}

#[tokio::test]
async fn an_acknowledgement_notes_an_epoch_of_this_history_only() {
    let place = place!();
    let store = place.started().await;
    store.join(&node(1)).await.unwrap();
    let first = only(&store).await.heartbeat;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let present = cursor(&store).await;
    store.acknowledge(&node(1), &present).await.unwrap();
    assert_eq!(
        only(&store).await,
        Node::new(node(1), present.epoch, first + 1, false)
    );
    let foreign = [
        Cursor {
            epoch: present.epoch + 1,
            ..present.clone()
        },
        Cursor {
            epoch: u64::MAX,
            ..present.clone()
        },
        Cursor {
            epoch: present.epoch - 1,
            ..present.clone()
        },
        Cursor {
            tag: vec![0; 32],
            ..present.clone()
        },
        Cursor {
            tag: Vec::new(),
            ..present.clone()
        },
    ];
    for (heartbeat, cursor) in (first + 2..).zip(&foreign) {
        store.acknowledge(&node(1), cursor).await.unwrap();
        assert_eq!(
            only(&store).await,
            Node::new(node(1), present.epoch, heartbeat, false),
            "{cursor:?}"
        );
    }
    store.acknowledge(&node(2), &present).await.unwrap();
    assert_eq!(
        only(&store).await.id,
        node(1),
        "an unlisted node stays unlisted"
    );
    assert_eq!(cursor(&store).await, present, "it does not log any change");
}

/// After a restore another change may have the number.
#[tokio::test]
async fn an_acknowledgement_of_what_the_log_has_lost_counts_no_more() {
    let place = place!();
    let store = place.started().await;
    store.join(&node(1)).await.unwrap();
    let present = cursor(&store).await;
    store.acknowledge(&node(1), &present).await.unwrap();
    assert_eq!(only(&store).await.acknowledged, present.epoch);
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "UPDATE api_key_changes SET tag = uuid_send(gen_random_uuid())",
    )
    .await
    .unwrap();
    assert_eq!(only(&store).await.acknowledged, 0);
}

#[tokio::test]
async fn a_node_is_taken_off_only_where_it_has_not_moved() {
    let place = place!();
    let store = place.started().await;
    store.join(&node(1)).await.unwrap();
    let seen = only(&store).await;
    store.remove_node(&seen).await.unwrap();
    assert_eq!(only(&store).await, seen, "it was not suspected");

    store
        .acknowledge(&node(1), &cursor(&store).await)
        .await
        .unwrap();
    store.suspect(&seen).await.unwrap();
    assert!(
        !only(&store).await.suspected,
        "its heartbeat has changed since"
    );

    let seen = only(&store).await;
    store.suspect(&seen).await.unwrap();
    assert!(only(&store).await.suspected);
    assert!(!is_member(&store, &node(1)).await);
    store
        .acknowledge(&node(1), &cursor(&store).await)
        .await
        .unwrap();
    assert!(
        only(&store).await.suspected,
        "an acknowledgement does not end the suspicion"
    );
    store.remove_node(&seen).await.unwrap();
    assert_eq!(
        roster(&store).await.nodes.len(),
        1,
        "its heartbeat has changed since"
    );

    store.join(&node(1)).await.unwrap();
    assert!(is_member(&store, &node(1)).await);
    let seen = only(&store).await;
    store.suspect(&seen).await.unwrap();
    store.remove_node(&seen).await.unwrap();
    assert_eq!(roster(&store).await.nodes, []);
    assert!(!is_member(&store, &node(1)).await);

    store.join(&node(1)).await.unwrap();
    store.leave(&node(1)).await.unwrap();
    assert_eq!(roster(&store).await.nodes, []);
}

/// A node that joins while another removes it is a member in the end, whichever comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn joining_and_dismissing_at_once_leave_a_member_or_none_but_nothing_between() {
    let place = place!();
    let store = std::sync::Arc::new(place.started().await);
    for round in 0..50 {
        store.join(&node(1)).await.unwrap();
        let seen = only(&store).await;
        store.suspect(&seen).await.unwrap();
        let other = std::sync::Arc::clone(&store);
        let dismissing = tokio::spawn(async move { other.remove_node(&seen).await.unwrap() });
        store.join(&node(1)).await.unwrap();
        dismissing.await.unwrap();
        // Either the join came last, or the removal found that the heartbeat had changed.
        assert!(is_member(&store, &node(1)).await, "round {round}");
    }
}

/// The member list says how far the change log had come when it was read, so a change that has
/// returned is in it.
#[tokio::test]
async fn the_roster_is_of_one_moment() {
    let place = place!();
    let store = place.started().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let before = roster(&store).await.cursor;
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    let after = roster(&store).await.cursor;
    assert_eq!(after.epoch, before.epoch + 1);
    assert_eq!(changed(&store, &before).await, [id(1)]);
}

async fn leases(store: &PostgresStore) -> (Duration, Duration) {
    let lease = store.changes(None, None).await.unwrap().lease;
    (lease, roster(store).await.longest_lease)
}

#[tokio::test]
async fn a_longer_lease_holds_at_once_and_a_shorter_one_when_the_longer_is_over() {
    let place = place!();
    // The longer one is not over before this test has seen it, on a busy machine too.
    let (long, short) = (Duration::from_secs(4), Duration::from_millis(200));
    let watching = place.started().await;
    assert_eq!(
        leases(&watching).await,
        (Duration::from_secs(2), Duration::from_secs(2))
    );
    place
        .store()
        .lease(Duration::from_secs(3))
        .start()
        .await
        .unwrap();
    assert_eq!(
        leases(&watching).await,
        (Duration::from_secs(3), Duration::from_secs(3))
    );
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "UPDATE api_key_meta SET lease_ms = 4000; UPDATE api_key_meta SET longest_lease_ms = 4000",
    )
    .await
    .unwrap();
    assert_eq!(leases(&watching).await, (long, long));

    let lowering = place.store().lease(short);
    let began = Instant::now();
    let mut starting = std::pin::pin!(lowering.start());
    while leases(&watching).await.0 == long {
        let _ = tokio::time::timeout(Duration::from_millis(1), &mut starting).await;
    }
    assert_eq!(leases(&watching).await, (short, long));
    starting.await.unwrap();
    assert!(began.elapsed() >= long, "{:?}", began.elapsed());
    assert_eq!(leases(&watching).await, (short, short));
}

/// A node that waits for an old lease to end must not end the wait if the lease was set again
/// meanwhile.
#[tokio::test]
async fn a_lease_that_is_set_again_meanwhile_is_not_called_over() {
    let place = place!();
    let watching = place.started().await;
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "UPDATE api_key_meta SET lease_ms = 4000; UPDATE api_key_meta SET longest_lease_ms = 4000",
    )
    .await
    .unwrap();
    let lowering = place.store().lease(Duration::from_millis(100));
    let mut starting = std::pin::pin!(lowering.start());
    while number(&mut tool, "SELECT lease_ms FROM api_key_meta").await == 4_000 {
        let _ = tokio::time::timeout(Duration::from_millis(1), &mut starting).await;
    }
    // Up and down again: both numbers are as before, and a node may just have got the longer lease.
    run(
        &mut tool,
        "UPDATE api_key_meta SET lease_ms = 4000; UPDATE api_key_meta SET lease_ms = 100",
    )
    .await
    .unwrap();
    starting.await.unwrap();
    assert_eq!(
        leases(&watching).await,
        (Duration::from_millis(100), Duration::from_secs(4))
    );
    // The next start ends the wait.
    place.started().await;
    assert_eq!(
        leases(&watching).await,
        (Duration::from_millis(100), Duration::from_millis(100))
    );
}

#[tokio::test]
async fn a_lease_out_of_bounds_is_refused() {
    let place = place!();
    for out in [19, 60_001, 0] {
        let store = place.store().lease(Duration::from_millis(out));
        let error = store.start().await.unwrap_err();
        assert!(error.to_string().contains("20 ms to 60 s"), "{error}");
    }
}
