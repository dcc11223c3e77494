//! Nodes whose acknowledgements take longer than their leases, on a disk that is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use apikey_runtime::store::{Cursor, Membership, Node, NodeId, StoreError};
use apikey_runtime::{KeyStore, MemoryStore};
use apikey_test_support::store::{Forward, Forwarding};
use apikey_test_support::{PATIENCE, manager_on, soon, within};

const LEASE: Duration = Duration::from_millis(200);

/// What a node writes about itself takes this long.
#[derive(Debug)]
struct SlowWrites(Arc<MemoryStore>, Duration);

impl Forward for SlowWrites {
    fn inner(&self) -> &dyn KeyStore {
        &*self.0
    }

    async fn join(&self, node: &NodeId) -> Result<(), StoreError> {
        tokio::time::sleep(self.1).await;
        self.0.join(node).await
    }

    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
        tokio::time::sleep(self.1).await;
        self.0.acknowledge(node, cursor).await
    }
}

/// What a node writes about itself fails after this long.
#[derive(Debug)]
struct FailingWrites {
    store: Arc<MemoryStore>,
    delay: Duration,
    failed: AtomicU32,
    /// How often this node suspected another.
    suspected: AtomicU32,
}

impl Forward for FailingWrites {
    fn inner(&self) -> &dyn KeyStore {
        &*self.store
    }

    async fn acknowledge(&self, _: &NodeId, _: &Cursor) -> Result<(), StoreError> {
        tokio::time::sleep(self.delay).await;
        self.failed.fetch_add(1, Ordering::SeqCst);
        Err(StoreError::unavailable("the disk is slow"))
    }

    async fn suspect(&self, seen: &Node) -> Result<(), StoreError> {
        self.suspected.fetch_add(1, Ordering::SeqCst);
        self.store.suspect(seen).await
    }
}

/// Returns after how long all nodes have acknowledged what is in the store now.
async fn caught_up(store: &MemoryStore) -> Option<Duration> {
    let epoch = store.members().await.unwrap().cursor.epoch;
    within(PATIENCE, async || {
        let members = store.members().await.unwrap();
        members.nodes.len() == 2 && members.nodes.iter().all(|node| node.acknowledged >= epoch)
    })
    .await
}

#[actix_web::test]
async fn nodes_whose_acknowledgements_take_longer_than_their_leases_catch_up() {
    for delay in [LEASE * 2, LEASE * 12] {
        let store = Arc::new(MemoryStore::new().with_lease(LEASE));
        let node = || {
            let store = Forwarding(SlowWrites(Arc::clone(&store), delay));
            soon(manager_on(Arc::new(store)))
        };
        let (here, there) = tokio::join!(node(), node());
        for _ in 0..2 {
            let key = here.create("a").await.unwrap();
            assert!(soon(there.verify(key.expose_secret())).await.is_ok());
            here.revoke(key.id()).await.unwrap();
            let took = caught_up(&store).await;
            assert!(took.is_some(), "{delay:?}");
            assert!(soon(there.verify(key.expose_secret())).await.is_err());
        }
    }
}

/// A node whose own writes fail on a slow disk has not seen one succeed, and still knows how long they take.
#[actix_web::test]
async fn a_node_whose_writes_fail_late_does_not_suspect_others_whose_writes_are_late() {
    let store = Arc::new(MemoryStore::new().with_lease(LEASE));
    let delay = LEASE * 12;
    let failing = Arc::new(Forwarding(FailingWrites {
        store: Arc::clone(&store),
        delay,
        failed: AtomicU32::new(0),
        suspected: AtomicU32::new(0),
    }));
    let other = NodeId::from_u128(1);
    store.join(&other).await.unwrap();
    let _here = soon(manager_on(failing.clone())).await;
    let _other = actix_web::rt::spawn(async move {
        loop {
            tokio::time::sleep(delay).await;
            let newest = store.members().await.unwrap().cursor;
            store.acknowledge(&other, &newest).await.unwrap();
            // A node that is suspected joins again.
            store.join(&other).await.unwrap();
        }
    });
    let failed = async |times: u32| {
        let failed = within(PATIENCE, async || {
            failing.0.failed.load(Ordering::SeqCst) >= times
        });
        assert!(failed.await.is_some());
    };
    // What it did before its first write failed does not count.
    failed(2).await;
    let before = failing.0.suspected.load(Ordering::SeqCst);
    failed(6).await;
    assert_eq!(failing.0.suspected.load(Ordering::SeqCst), before);
}
