//! Change logs that were lost, restored or deleted: the store never mistakes one for an unchanged
//! log.

use apikey_runtime::KeyStore;
use apikey_runtime::store::{
    ChangeLog, ChangeSet, KeyPatch, Membership, NodeId, StoreError, WriteOptions,
};
use apikey_test_support::servers::redis::DURABLE;

use super::{ask, changed, cursor, is_unknown, redis_server, soon, started};
use crate::{InSteps, because, id, owned, record};

const META: &str = "{apikey}:meta";
const LOG: &str = "{apikey}:changes";

#[tokio::test]
async fn an_emptied_server_knows_no_cursor_and_no_key() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    let node = NodeId::from_u128(1);
    store.join(&node).await.unwrap();
    for command in ["FLUSHALL", "FLUSHDB"] {
        server.command(&[command]).text();
        assert!(is_unknown(&store, &since).await);
        let changes = store.changes(None, Some(&node)).await.unwrap();
        assert!(!changes.member, "the member list is gone");
        assert_eq!(store.find(&id(1)).await.unwrap(), None);
        // As many changes as before, but others.
        let fresh = cursor(&store).await;
        store
            .insert(&record(1), &WriteOptions::new())
            .await
            .unwrap();
        assert_eq!(changed(&store, &fresh).await, [id(1)]);
        assert!(is_unknown(&store, &since).await);
    }
}

/// A write can be the first call to find that the change log is gone.
#[tokio::test]
async fn a_write_to_an_emptied_server_starts_a_history_that_has_it() {
    let server = redis_server!();
    let store = started(&server).await;
    let since = cursor(&store).await;
    server.command(&["FLUSHALL"]).text();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    assert!(is_unknown(&store, &since).await);
    assert!(store.find(&id(1)).await.unwrap().is_some());
    server.command(&["FLUSHALL"]).text();
    store.join(&NodeId::from_u128(1)).await.unwrap();
    assert_eq!(store.members().await.unwrap().nodes.len(), 1);
}

#[tokio::test]
async fn forgotten_scripts_are_told_again() {
    let server = redis_server!();
    let store = started(&server).await;
    let since = cursor(&store).await;
    for number in 1..=3 {
        server.command(&["SCRIPT", "FLUSH"]).text();
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
        server.command(&["SCRIPT", "FLUSH"]).text();
        assert_eq!(changed(&store, &since).await.len() as u128, number);
    }
    server.command(&["SCRIPT", "FLUSH"]).text();
    assert_eq!(
        store.revoke_all("a", &because("left")).await.unwrap().len(),
        3
    );
}

#[tokio::test]
async fn what_was_thrown_out_is_not_taken_for_unchanged() {
    let server = redis_server!();
    let store = started(&server).await;
    let node = NodeId::from_u128(1);
    store.join(&node).await.unwrap();
    for gone in [&[META][..], &[META, LOG]] {
        store
            .insert(&record(1), &WriteOptions::new())
            .await
            .unwrap();
        let since = cursor(&store).await;
        store.acknowledge(&node, &since).await.unwrap();
        let command = [&["DEL"][..], gone].concat();
        server.command(&command).text();
        assert!(is_unknown(&store, &since).await, "without {gone:?}");
        let roster = store.members().await.unwrap();
        assert_eq!(roster.nodes[0].acknowledged, 0, "of another change log");
        assert_eq!(
            roster.longest_lease.as_secs(),
            60,
            "it is unknown what it was"
        );
        server
            .command(&["DEL", &format!("{{apikey}}:key:{}", id(1))])
            .text();
    }
    // If only the log is lost, the epoch is kept, and the log continues from there.
    let since = cursor(&store).await;
    server.command(&["DEL", LOG]).text();
    assert_eq!(changed(&store, &since).await, []);
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    assert!(is_unknown(&store, &since).await);
}

#[tokio::test]
async fn a_log_that_has_lost_its_end_is_unknown() {
    let server = redis_server!();
    let store = started(&server).await;
    let since = cursor(&store).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&record(2), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(changed(&store, &since).await, [id(1), id(2)]);
    let last = cursor(&store).await.epoch;
    server.command(&["XDEL", LOG, &format!("{last}-0")]).text();
    assert!(is_unknown(&store, &since).await);
}

/// As many changes after the dump as before it, so that the epochs are equal.
#[tokio::test]
async fn a_restart_with_an_old_dump_is_another_history() {
    let mut server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    server.command(&["SAVE"]).text();
    let at_the_dump = cursor(&store).await;
    store
        .insert(&record(2), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    let after = cursor(&store).await;
    server.kill();
    server.restart();
    let (_, _) = soon(async || store.find(&id(1)).await.ok()).await;
    let standing = soon(async || store.changes(None, None).await.ok()).await.0;
    assert_eq!(standing.cursor.epoch, at_the_dump.epoch);
    for since in [&at_the_dump, &after] {
        assert!(
            is_unknown(&store, since).await,
            "a node may have cached what came after the dump"
        );
    }
    for _ in 0..2 {
        store
            .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
            .await
            .unwrap();
    }
    assert_eq!(cursor(&store).await.epoch, after.epoch);
    assert!(
        is_unknown(&store, &after).await,
        "the same number, and another tag"
    );
}

#[tokio::test]
async fn a_restart_without_loss_goes_on_and_makes_every_node_forget() {
    let mut server = redis_server!(DURABLE);
    let store = started(&server).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let before = cursor(&store).await;
    server.kill();
    server.restart();
    let (record, _) = soon(async || store.find(&id(1)).await.ok()).await;
    assert!(record.is_some());
    let after = soon(async || store.changes(Some(&before), None).await.ok())
        .await
        .0;
    assert_eq!(
        (after.set, after.cursor.epoch),
        (ChangeSet::Resync, before.epoch)
    );
    assert_eq!(changed(&store, &after.cursor).await, []);
}

/// Epochs and versions above 2^53 are still counted one by one.
#[tokio::test]
async fn large_numbers_stay_exact() {
    let server = redis_server!();
    let store = started(&server).await;
    let mut large = record(1);
    large.version = i64::MAX as u64 - 1;
    store.insert(&large, &WriteOptions::new()).await.unwrap();
    let epoch = (1_u64 << 60) + 1;
    server
        .command(&["HSET", META, "epoch", &epoch.to_string()])
        .text();
    let since = cursor(&store).await;
    assert_eq!(since.epoch, epoch);
    for _ in 0..3 {
        store
            .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
            .await
            .unwrap();
    }
    let next = cursor(&store).await;
    assert_eq!(next.epoch, epoch + 3);
    store
        .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(changed(&store, &next).await, [id(1)]);
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(found.version, i64::MAX as u64, "it stays at the largest");
    let exact = WriteOptions::new().with_expected_version(Some(i64::MAX as u64 - 1));
    let refused = store.update(&id(1), &KeyPatch::new(), &exact).await;
    assert!(matches!(refused, Err(StoreError::Conflict)));
}

#[tokio::test]
async fn a_lease_that_was_broken_by_hand_is_an_error() {
    let server = redis_server!();
    let store = started(&server).await;
    for bad in ["", "soon", "19", "60001", "-5"] {
        server.command(&["HSET", META, "lease_ms", bad]).text();
        let error = store.changes(None, None).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Corrupt { .. }),
            "{bad}: {error:?}"
        );
    }
    server.command(&["HSET", META, "lease_ms", "500"]).text();
    assert_eq!(ask(&store, None).await.lease.as_millis(), 500);
}
