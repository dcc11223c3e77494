//! Changes of a key beside those of others, and changes whose answer is lost.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::events::EventKind;
use apikey_runtime::{ApiKeyManager, Error, KeyStore, MemoryStore, NewKey};
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{manager_on, patient_manager, soon};

use super::HOUR;

async fn accepts(manager: &ApiKeyManager, key: &NewKey) -> bool {
    soon(manager.verify(key.expose_secret())).await.is_ok()
}

/// A manager whose changes stop at a gate, and another one of the same store.
async fn two() -> (Arc<GateStore>, ApiKeyManager, ApiKeyManager) {
    let shared = Arc::new(MemoryStore::new());
    let store = GateStore::around(Arc::clone(&shared) as Arc<dyn KeyStore>);
    let slow = patient_manager(Arc::clone(&store) as Arc<dyn KeyStore>).await;
    (store, slow, manager_on(shared).await)
}

/// The controls are a change of something else, and a rotation without a grace, which is to end each former secret.
#[actix_web::test]
async fn a_rotation_with_a_grace_does_not_end_that_of_another_one_which_comes_between() {
    for (grace, rotates) in [(HOUR, true), (HOUR, false), (Duration::ZERO, true)] {
        let (store, slow, fast) = two().await;
        let old = fast.create("a").await.unwrap();
        let id = old.id();
        let gate = store.gate_before(Call::Update);
        let writer = slow.clone();
        let writing = actix_web::rt::spawn(async move { writer.rotate(id).grace(grace).await });
        gate.arrived().await;
        let mut valid = vec![old];
        if rotates {
            valid.push(fast.rotate(id).grace(HOUR).await.unwrap());
        } else {
            fast.update(id).label("b").await.unwrap();
        }
        gate.open();
        let outcome = soon(writing).await.unwrap();
        if grace.is_zero() {
            assert!(accepts(&fast, &outcome.unwrap()).await);
            for key in &valid {
                assert!(!accepts(&fast, key).await);
            }
            continue;
        }
        match outcome {
            Err(Error::Conflict(_)) => assert!(rotates),
            outcome => valid.push(outcome.unwrap()),
        }
        assert_eq!(valid.len(), 2);
        for key in &valid {
            assert!(accepts(&slow, key).await && accepts(&fast, key).await);
        }
    }
}

/// A repeated call would end the grace of the secret that the clients have. The control is a change that was not made.
#[actix_web::test]
async fn a_rotation_whose_answer_is_lost_returns_the_new_secret() {
    let store = GateStore::new();
    let manager = manager_on(Arc::clone(&store) as Arc<dyn KeyStore>).await;
    let old = manager.create("a").await.unwrap();
    let rotations = async || manager.get(old.id()).await.unwrap().rotations;
    store.fail(Call::Update, Fault::AnswerLost);
    let new = soon(manager.rotate(old.id()).grace(HOUR)).await.unwrap();
    for key in [&old, &new] {
        assert!(accepts(&manager, key).await);
    }
    assert_eq!(rotations().await, 1);
    store.fail(Call::Update, Fault::Unavailable);
    let failed = soon(manager.rotate(old.id()).grace(HOUR)).await;
    assert!(matches!(failed, Err(Error::Store(_))), "{failed:?}");
    assert_eq!(rotations().await, 1);
    for key in [&old, &new] {
        assert!(accepts(&manager, key).await);
    }
}

/// The change is durable, and the record cannot be read afterwards.
#[actix_web::test]
async fn an_update_is_told_although_its_key_cannot_be_read() {
    let store = GateStore::new();
    let manager = manager_on(Arc::clone(&store) as Arc<dyn KeyStore>).await;
    let key = manager.create("a").await.unwrap();
    let mut events = manager.events();
    store.fail(Call::Find, Fault::Unavailable);
    let unread = soon(manager.update(key.id()).label("b")).await;
    assert!(matches!(unread, Err(Error::Store(_))), "{unread:?}");
    let event = soon(events.next()).await.unwrap();
    assert_eq!(
        (event.kind, event.key_id),
        (EventKind::Updated, Some(key.id()))
    );
    // The control: a change that was not made.
    store.fail(Call::Update, Fault::Unavailable);
    assert!(soon(manager.update(key.id()).label("c")).await.is_err());
    store.heal();
    manager.disable(key.id()).await.unwrap();
    let event = soon(events.next()).await.unwrap();
    assert_eq!(event.kind, EventKind::Disabled);
    assert_eq!(manager.get(key.id()).await.unwrap().label, "b");
}

/// The control is a key that gets another label meanwhile.
#[actix_web::test]
async fn a_key_that_is_revoked_meanwhile_is_not_enabled() {
    for is_revoked in [true, false] {
        let (store, slow, fast) = two().await;
        let id = fast.create("a").await.unwrap().id();
        fast.disable(id).await.unwrap();
        let mut events = slow.events();
        let gate = store.gate_before(Call::Update);
        let writer = slow.clone();
        let writing = actix_web::rt::spawn(async move { writer.enable(id).await });
        gate.arrived().await;
        if is_revoked {
            assert!(fast.revoke(id).await.unwrap());
        } else {
            fast.update(id).label("b").await.unwrap();
        }
        gate.open();
        let outcome = soon(writing).await.unwrap();
        assert_eq!(
            matches!(outcome, Err(Error::Revoked(_))),
            is_revoked,
            "{outcome:?}"
        );
        assert_eq!(outcome.is_ok(), !is_revoked);
        slow.create("next").await.unwrap();
        let event = soon(events.next()).await.unwrap();
        assert_eq!(event.kind == EventKind::Enabled, !is_revoked, "{event:?}");
    }
}
