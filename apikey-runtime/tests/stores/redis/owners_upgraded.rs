//! Owners in data of an older release, and beside a process of one.

use apikey_runtime::KeyStore;
use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ChangeLog, ListQuery, Membership, NodeId, OwnerQuery, OwnerState, OwnerStore, StoreError,
    WriteOptions,
};

use super::bulk::add;
use super::owners::{OWNERS, added, because_of, change_owner, found, left, mark_all, revoked};
use super::{ask, redis_server, started};
use crate::{id, owned};

const META: &str = "{apikey}:meta";
const NODES: &str = "{apikey}:nodes";

fn meta(server: &apikey_test_support::servers::redis::RedisServer) -> String {
    server
        .command(&["HMGET", META, "schema", "required_protocol"])
        .text()
}

#[tokio::test]
async fn owners_of_data_of_schema_102_are_known_by_their_keys() {
    let server = redis_server!();
    let store = started(&server).await;
    store.stop().await;
    server.command(&["HSET", META, "schema", "102"]).text();
    server.command(&["HDEL", META, "required_protocol"]).text();
    add(&server, 1, 150, "a", "");
    add(&server, 201, 203, "b", "");
    add(&server, 301, 301, "c", "");
    let store = started(&server).await;
    assert_eq!(meta(&server), "105\n2");
    assert_eq!(ask(&store, None).await.required_protocol, 2);
    let record = store.find(&added(1)).await.unwrap().unwrap();
    assert_eq!(record.owner_state, Some(OwnerState::new()));
    assert_eq!(
        store.find_owner("a").await.unwrap(),
        Some(OwnerState::new())
    );
    assert_eq!(store.find_owner("unknown").await.unwrap(), None);
    assert_eq!(
        server.command(&["HVALS", OWNERS]).text(),
        "1 0 0\n1 0 0\n1 0 0",
        "the start gives each owner its text"
    );
    let listed = store.list_owners(&OwnerQuery::first(9)).await.unwrap();
    let names: Vec<_> = listed.owners.iter().map(|owner| &*owner.name).collect();
    assert_eq!(names, ["a", "b", "c"]);

    let state = store
        .revoke_owner_keys("a", &left(3_000, "a"), &ChangeOrigin::new())
        .await
        .unwrap();
    assert_eq!(state, OwnerState::new().with_version(2).with_revocations(1));
    assert!(
        store
            .set_owner_suspended("b", true, &ChangeOrigin::new())
            .await
            .unwrap()
            .1
    );
    assert!(
        !store
            .set_owner_suspended("c", false, &ChangeOrigin::new())
            .await
            .unwrap()
            .1
    );
    store
        .insert(&owned(151, "a"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(revoked(&store, id(151)).await, None);
    assert_eq!(revoked(&store, added(150)).await, because_of(3_000, "a"));
    mark_all(&store).await;
    let listed = store.list(&ListQuery::first(500)).await.unwrap().records;
    assert_eq!(listed.len(), 155);
    let over = listed.iter().filter(|record| record.revoked.is_some());
    assert_eq!(over.count(), 150);
    let unknown = store
        .revoke_owner_keys("unknown", &left(1, "x"), &ChangeOrigin::new())
        .await;
    assert!(matches!(unknown, Err(StoreError::NotFound)));
    store.stop().await;

    // A start on data that is up to date writes nothing, and never lowers a version.
    server
        .command(&["HSET", META, "required_protocol", "7"])
        .text();
    let store = started(&server).await;
    store.join(&NodeId::from_u128(1)).await.unwrap();
    assert_eq!(meta(&server), "105\n7");
}

/// An older release writes the owner and not the number.
#[tokio::test]
async fn what_a_process_of_an_older_release_writes_counts_as_oldest() {
    let server = redis_server!();
    let store = started(&server).await;
    for (number, owner) in [(1_000, "a"), (2_000, "b")] {
        store
            .insert(&owned(number, owner), &WriteOptions::new())
            .await
            .unwrap();
        let revocation = left(3_000, owner);
        store
            .revoke_owner_keys(owner, &revocation, &ChangeOrigin::new())
            .await
            .unwrap();
    }
    // It inserts a key of an owner that was revoked.
    add(&server, 1, 1, "a", "");
    assert_eq!(revoked(&store, added(1)).await, because_of(3_000, "a"));
    mark_all(&store).await;
    add(&server, 2, 2, "a", "");
    let (_, reason) = revoked(&store, added(2)).await.unwrap();
    assert_eq!(
        reason, None,
        "its reason was kept until the keys were marked"
    );

    // It moves a live key, whose number is of the owner that it had.
    store
        .insert(&owned(3, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&owned(5, "b"), &WriteOptions::new())
        .await
        .unwrap();
    let name = |number| format!("{{apikey}}:key:{}", id(number));
    assert_eq!(revoked(&store, id(3)).await, None);
    server.command(&["HSET", &name(3), "owner", "b"]).text();
    let moved = found(&store, 3).await;
    assert_eq!(
        moved.owner_revocations, 0,
        "the number is not of this owner"
    );
    assert!(moved.revoked.is_some());
    assert_eq!(revoked(&store, id(5)).await, None);
    change_owner(&store, 3, Some("c")).await;
    assert!(found(&store, 3).await.revoked.is_some());
}

#[tokio::test]
async fn nodes_register_the_protocol_that_they_speak() {
    let server = redis_server!();
    let store = started(&server).await;
    let [new, old] = [1, 2].map(NodeId::from_u128);
    store.join(&new).await.unwrap();
    store.join(&old).await.unwrap();
    // As an older release joins.
    server
        .command(&["HDEL", NODES, &format!("protocol:{old}")])
        .text();
    let protocols = async || {
        let nodes = store.members().await.unwrap().nodes;
        nodes.iter().map(|node| node.protocol).collect::<Vec<_>>()
    };
    assert_eq!(protocols().await, [2, 1]);
    store.join(&old).await.unwrap();
    let listed = store.members().await.unwrap().nodes;
    store.suspect(&listed[1]).await.unwrap();
    store.remove_node(&listed[1]).await.unwrap();
    store.leave(&new).await.unwrap();
    assert_eq!(
        server.command(&["EXISTS", NODES]).text(),
        "0",
        "nothing stays behind"
    );
}

/// The server is emptied, and a process of an older release is the first to write.
#[tokio::test]
async fn a_history_that_an_older_release_began_demands_the_present_protocol() {
    let server = redis_server!();
    let store = started(&server).await;
    let began_by_an_older_one = async || {
        server.command(&["HSET", META, "schema", "102"]).text();
        server.command(&["HDEL", META, "required_protocol"]).text();
        assert_eq!(
            store.changes(None, None).await.unwrap().required_protocol,
            1
        );
    };
    began_by_an_older_one().await;
    store.join(&NodeId::from_u128(1)).await.unwrap();
    assert_eq!(meta(&server), "105\n2");
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    began_by_an_older_one().await;
    store
        .set_owner_suspended("a", true, &ChangeOrigin::new())
        .await
        .unwrap();
    assert_eq!(meta(&server), "105\n2");
    began_by_an_older_one().await;
    store
        .revoke_owner_keys("a", &left(1, "a"), &ChangeOrigin::new())
        .await
        .unwrap();
    assert_eq!(meta(&server), "105\n2");
}
