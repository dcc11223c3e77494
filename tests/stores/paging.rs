//! Calls that read page after page of a store: the manager's other work goes on, and it can shut down.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;

use apikey_runtime::store::{ListQuery, RecordPage, StoreError};
use apikey_runtime::{ApiKeyManager, Error, KeyState, KeyStore, MemoryStore};
use apikey_test_support::store::{Call, Forward, Forwarding, GateStore};
use apikey_test_support::{manager_on, patient_manager, soon};

/// Keys of one owner: two pages for `owner_usage`, and many for a list with small pages.
const KEYS: usize = 1_001;

async fn add_keys(manager: &ApiKeyManager) {
    for _ in 0..KEYS {
        manager.create("a label").owner("acme").await.unwrap();
    }
}

/// Lists keys by a state that no key has, so that as many records are read as one call may.
async fn list(manager: ApiKeyManager) -> Result<(), Error> {
    let list = manager.list().state(KeyState::Revoked).page_size(10);
    list.await.map(|page| {
        assert!(page.keys.is_empty());
        assert!(page.next.is_some(), "a key is left to look at");
    })
}

async fn read_owner_usage(manager: ApiKeyManager) -> Result<(), Error> {
    manager.owner_usage("acme").await.map(drop)
}

#[tokio::test]
async fn a_shutdown_ends_the_call_between_two_pages() {
    for is_list in [true, false] {
        let store = GateStore::new();
        let manager = patient_manager(store.clone()).await;
        add_keys(&manager).await;
        let page = store.gate_before(Call::List);
        let reading = match is_list {
            true => tokio::spawn(list(manager.clone())),
            false => tokio::spawn(read_owner_usage(manager.clone())),
        };
        page.arrived().await;
        let mut stopping = pin!(manager.shutdown());
        let waits = poll_fn(|context| Poll::Ready(stopping.as_mut().poll(context).is_pending()));
        assert!(waits.await, "it waits for the page");
        page.open();
        let read = soon(reading).await.unwrap();
        assert!(matches!(read, Err(Error::ShutDown)), "{read:?}");
        soon(stopping).await.unwrap();
        assert_eq!(store.count(Call::List), 1);
    }
}

/// A store whose answers are ready at once. Each page starts a task on the manager's thread.
#[derive(Debug)]
struct Pages {
    inner: MemoryStore,
    read: AtomicUsize,
    /// How many of the tasks ran.
    ran: Arc<AtomicUsize>,
    /// The most tasks that waited at once.
    behind: AtomicUsize,
}

impl Forward for Pages {
    fn inner(&self) -> &dyn KeyStore {
        &self.inner
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        let waiting = self.read.fetch_add(1, SeqCst) - self.ran.load(SeqCst);
        self.behind.fetch_max(waiting, SeqCst);
        let ran = Arc::clone(&self.ran);
        tokio::spawn(async move { ran.fetch_add(1, SeqCst) });
        self.inner.list(query).await
    }
}

#[tokio::test]
async fn other_work_of_the_manager_runs_between_two_pages() {
    let store = Arc::new(Forwarding(Pages {
        inner: MemoryStore::new(),
        read: AtomicUsize::new(0),
        ran: Arc::default(),
        behind: AtomicUsize::new(0),
    }));
    let manager = manager_on(store.clone()).await;
    add_keys(&manager).await;
    soon(list(manager.clone())).await.unwrap();
    assert_eq!(store.0.read.load(SeqCst), 10, "1,000 records");
    let behind = store.0.behind.load(SeqCst);
    assert!(behind <= 1, "{behind} tasks waited for pages");
    soon(read_owner_usage(manager)).await.unwrap();
    assert!(store.0.behind.load(SeqCst) <= 1);
}
