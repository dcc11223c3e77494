//! Owners' changes that another node makes: what a node has in memory, or is reading, follows them.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{OwnerRevocation, OwnerStore, WriteOptions};
use apikey_runtime::{ApiKeyManager, DenyReason, KeyStore, MemoryStore, NewKey};
use apikey_test_support::store::{Call, Forward, Forwarding, GateStore, StaleStore};
use apikey_test_support::{PATIENCE, forge, manager_on, patient_manager, soon, within};

/// Outlasts every test, so that effects before its end have other causes.
const LONG: Duration = Duration::from_secs(60);

fn leased(lease: Duration) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new().with_lease(lease))
}

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let checked = soon(manager.verify(key.expose_secret())).await;
    checked.err().map(|denied| denied.reason())
}

fn owners(store: &dyn KeyStore) -> &dyn OwnerStore {
    store.owners().unwrap()
}

async fn revoke_all(store: &dyn KeyStore) {
    let revocation = OwnerRevocation::new(SystemTime::now().into());
    let revoked = owners(store)
        .revoke_owner_keys("acme", &revocation, &ChangeOrigin::new())
        .await;
    revoked.unwrap();
}

async fn suspend(store: &dyn KeyStore, suspended: bool) {
    let changed = owners(store)
        .set_owner_suspended("acme", suspended, &ChangeOrigin::new())
        .await;
    assert!(changed.unwrap().1);
}

/// Waits until the node has followed what the store changed before this call: for a denial of a key
/// in memory, it asks the store first.
async fn followed(manager: &ApiKeyManager, in_memory: &NewKey) {
    let wrong = forge::new_wrong_secret(in_memory.expose_secret());
    assert!(soon(manager.verify(&wrong)).await.is_err());
}

/// Brings a key into the node's memory, after the node has followed its creation.
async fn settle(manager: &ApiKeyManager, key: &NewKey) {
    for _ in 0..2 {
        assert_eq!(refusal(manager, key).await, None);
        followed(manager, key).await;
    }
    assert_eq!(refusal(manager, key).await, None);
}

/// Ten thousand keys of one owner are read for the first time, and the store has answered that they
/// are live. Then another node revokes all of them. Returns how many checks allow a key that start
/// after the node has followed that.
async fn allowed_after(inner: Arc<MemoryStore>, store: Arc<GateStore>) -> usize {
    const KEYS: usize = 10_000;
    let (there, here) = (
        patient_manager(inner.clone()).await,
        patient_manager(store.clone()).await,
    );
    let mut keys = Vec::new();
    for _ in 0..KEYS {
        keys.push(there.create("a").owner("acme").await.unwrap());
    }
    let other = there.create("b").await.unwrap();
    settle(&here, &other).await;
    let gate = store.gate_after(Call::Find);
    let mut context = Context::from_waker(Waker::noop());
    let mut early: Vec<_> = keys
        .iter()
        .map(|key| Box::pin(here.verify(key.expose_secret())))
        .collect();
    for check in &mut early {
        assert!(check.as_mut().poll(&mut context).is_pending());
    }
    for _ in 0..KEYS {
        gate.arrived().await;
    }
    store.heal();
    revoke_all(&*inner).await;
    followed(&here, &other).await;

    let mut allowed = 0;
    // While the reads are in flight: they are not joined. Then after they ended: they are not kept.
    for (some, opens) in [(&keys[..500], true), (&keys[..], false)] {
        for key in some {
            allowed += usize::from(refusal(&here, key).await != Some(DenyReason::Revoked));
        }
        if opens {
            gate.open();
            for check in early.drain(..) {
                // These began before, so they may be allowed.
                let _ = soon(check).await;
            }
        }
    }
    allowed
}

#[actix_web::test]
async fn v05_reads_in_flight_bring_no_key_back_when_all_keys_of_their_owner_are_revoked() {
    let inner = leased(LONG);
    let store = GateStore::around(inner.clone());
    assert_eq!(allowed_after(inner, store).await, 0);
}

/// Negative control: a store that itself caches what the reads saw.
#[actix_web::test]
async fn v05_reads_in_flight_that_are_kept_would_be_found_out() {
    let inner = leased(LONG);
    let store = GateStore::around(StaleStore::around(inner.clone()));
    assert_ne!(allowed_after(inner, store).await, 0);
}

/// The call on this node ends the reads in flight before it returns.
#[actix_web::test]
async fn v05_a_read_that_races_revoke_all_on_this_node_is_neither_joined_nor_kept() {
    let store = GateStore::new();
    let manager = patient_manager(store.clone()).await;
    let key = manager.create("a").owner("acme").await.unwrap();
    store.polled().await;
    let gate = store.gate_after(Call::Find);
    let mut early = Box::pin(manager.verify(key.expose_secret()));
    poll_fn(|context| {
        assert!(early.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    gate.arrived().await;
    store.heal();
    manager.revoke_all("acme").await.unwrap();
    assert_eq!(refusal(&manager, &key).await, Some(DenyReason::Revoked));
    gate.open();
    let _ = soon(early).await;
    assert_eq!(refusal(&manager, &key).await, Some(DenyReason::Revoked));
}

#[actix_web::test]
async fn an_owner_is_suspended_and_resumed_on_two_managers() {
    let inner = leased(LONG);
    let stores = [(); 2].map(|()| GateStore::around(inner.clone()));
    let managers = [
        manager_on(stores[0].clone()).await,
        manager_on(stores[1].clone()).await,
    ];
    let keys = [
        managers[0].create("a").owner("acme").await.unwrap(),
        managers[0].create("b").owner("acme").await.unwrap(),
    ];
    let other = managers[0].create("c").owner("other").await.unwrap();
    for manager in &managers {
        settle(manager, &other).await;
    }
    let follow = async || {
        for manager in &managers {
            followed(manager, &other).await;
        }
    };
    let all = async |reason: Option<DenyReason>| {
        for manager in &managers {
            for key in &keys {
                assert_eq!(refusal(manager, key).await, reason);
            }
            assert_eq!(refusal(manager, &other).await, None);
        }
    };
    all(None).await;
    let reads = || stores.each_ref().map(|store| store.count(Call::Find));
    let before = reads();
    for _ in 0..2 {
        suspend(&*inner, true).await;
        follow().await;
        all(Some(DenyReason::Disabled)).await;
        suspend(&*inner, false).await;
        follow().await;
        all(None).await;
    }
    revoke_all(&*inner).await;
    follow().await;
    all(Some(DenyReason::Revoked)).await;
    assert_eq!(reads(), before, "the entries stay in memory");
}

/// The push is lost and the lease is long, so this node polls only if a check asks for it.
#[actix_web::test]
async fn a_suspension_is_overturned_by_a_poll_and_a_revocation_asks_nothing() {
    let inner = leased(LONG);
    let store = GateStore::around(inner.clone());
    store.cut_push();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").owner("acme").await.unwrap();
    settle(&manager, &key).await;
    suspend(&*inner, true).await;
    followed(&manager, &key).await;
    for _ in 0..2 {
        assert_eq!(refusal(&manager, &key).await, Some(DenyReason::Disabled));
    }
    suspend(&*inner, false).await;
    assert_eq!(refusal(&manager, &key).await, None);
    revoke_all(&*inner).await;
    followed(&manager, &key).await;
    let asked = || (store.count(Call::Find), store.count(Call::Changes));
    let before = asked();
    for _ in 0..10 {
        assert_eq!(refusal(&manager, &key).await, Some(DenyReason::Revoked));
    }
    assert_eq!(asked(), before);
}

/// A store that is replaced by another one, as if a dump of earlier was restored.
#[derive(Debug, Default)]
struct Restorable {
    stores: [MemoryStore; 2],
    restored: AtomicBool,
}

impl Forward for Restorable {
    fn inner(&self) -> &dyn KeyStore {
        &self.stores[usize::from(self.restored.load(SeqCst))]
    }
}

#[actix_web::test]
async fn versions_of_owners_go_back_when_a_store_is_restored() {
    let store = Arc::new(Forwarding(Restorable::default()));
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").owner("acme").await.unwrap();
    let refuses = async |reason: Option<DenyReason>| {
        let same = within(PATIENCE, async || refusal(&manager, &key).await == reason);
        assert!(same.await.is_some(), "{reason:?}");
    };
    refuses(None).await;
    let [present, dump] = &store.stores;
    let record = present.find(&key.id()).await.unwrap().unwrap();
    dump.insert(&record, &WriteOptions::new()).await.unwrap();
    for suspended in [true, false, true, false, true] {
        suspend(present, suspended).await;
    }
    refuses(Some(DenyReason::Disabled)).await;
    revoke_all(present).await;
    refuses(Some(DenyReason::Revoked)).await;

    store.restored.store(true, SeqCst);
    refuses(None).await;
    // The versions that follow are lower than those that the node has seen.
    suspend(dump, true).await;
    refuses(Some(DenyReason::Disabled)).await;
    suspend(dump, false).await;
    refuses(None).await;
    revoke_all(dump).await;
    refuses(Some(DenyReason::Revoked)).await;
}
