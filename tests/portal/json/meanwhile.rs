//! What others did meanwhile: keys that were given away or changed while a request was made.

use std::sync::Arc;

use apikey_runtime::{ApiKeyManager, Config, KeyId, MemoryStore};
use apikey_test_support::patient_manager;
use apikey_test_support::store::{Call as StoreCall, GateStore};
use serde_json::json;

use super::client::Call;
use crate::app::{app, manager_with, portal};

/// A manager on a store that stops calls, and another node.
async fn nodes() -> (Arc<GateStore>, ApiKeyManager, ApiKeyManager) {
    let inner = Arc::new(MemoryStore::new());
    let store = GateStore::around(inner.clone());
    let manager = patient_manager(store.clone()).await;
    let other = manager_with(Config::default(), inner).await;
    (store, manager, other)
}

async fn create(manager: &ApiKeyManager, label: &str) -> KeyId {
    manager.create(label).owner("acme").await.unwrap().id()
}

#[actix_web::test]
async fn a_key_that_was_given_away_after_a_change_is_not_shown() {
    for action in ["disable", "enable"] {
        let (store, manager, other) = nodes().await;
        let id = create(&manager, "ci").await;
        let app = app(portal(&manager).form_key([9; 32])).await;
        let gate = store.gate_after(StoreCall::Update);
        let change = Call::post(format!("/keys/{id}/{action}")).by("alice");
        let give = async {
            gate.arrived().await;
            store.heal();
            other
                .update(id)
                .owner("globex")
                .label("secret plan")
                .await
                .unwrap();
            gate.open();
        };
        let (answer, ()) = tokio::join!(change.send(&app), give);
        assert_eq!(answer.problem(404), "not-found", "{action}");
        assert!(!answer.text.contains("secret plan"));
    }
}

/// It was accepted by what the node knew before.
#[actix_web::test]
async fn a_key_that_ended_on_another_node_is_told_what_it_is() {
    let (store, manager, other) = nodes().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let show = || Call::get("/self").with(key.expose_secret()).send(&app);
    assert_eq!(show().await.status, 200);
    let gate = store.gate_before(StoreCall::Find);
    let revoke = async {
        gate.arrived().await;
        store.heal();
        other.revoke(key.id()).await.unwrap();
        gate.open();
    };
    let (answer, ()) = tokio::join!(show(), revoke);
    assert_eq!(answer.problem(401), "revoked-key");
    let challenge = answer.header("www-authenticate");
    assert!(challenge.contains("invalid_token"), "{challenge}");
}

#[actix_web::test]
async fn an_unused_key_that_is_changed_meanwhile_is_not_revoked() {
    let (store, manager, other) = nodes().await;
    let id = create(&manager, "ci").await;
    let app = app(portal(&manager).form_key([9; 32])).await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let gate = store.gate_before(StoreCall::Revoke);
    let revoke = || {
        let call = Call::post("/keys:revoke").by("alice");
        call.json(json!({"unused_since": manager.now()})).send(&app)
    };
    let change = async {
        gate.arrived().await;
        store.heal();
        other.update(id).label("needed").await.unwrap();
        gate.open();
    };
    let (answer, ()) = tokio::join!(revoke(), change);
    assert_eq!(answer.json()["revoked"], 0, "{}", answer.text);
    assert!(manager.get(id).await.unwrap().revoked.is_none());
    // Control: in the version that it has now, it is.
    assert_eq!(revoke().await.json()["revoked"], 1);
}

/// A node that is away is waited for once, and not for each key.
#[actix_web::test]
async fn many_revocations_are_confirmed_once() {
    let (store, manager, _other) = nodes().await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(create(&manager, &format!("ci {number}")).await);
    }
    let app = app(portal(&manager).form_key([9; 32])).await;
    let revoke = || {
        let call = Call::post("/keys:revoke").by("alice");
        call.json(json!({"ids": ids, "confirmed": true})).send(&app)
    };
    let done = revoke().await.json();
    assert_eq!(done["revoked"], 20);
    assert_eq!(
        done["confirmation"]["acknowledged"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // The nodes are read after all revocations. The manager itself may read them at any time.
    let calls = store.transcript();
    assert!(calls.contains("\nNodes"));
    let revocations = calls
        .lines()
        .skip_while(|call| !call.starts_with("Revoke "));
    let mut left = 20;
    let until_the_last = revocations.take_while(|call| {
        left -= usize::from(call.starts_with("Revoke "));
        left > 0
    });
    let reads = until_the_last.filter(|call| call.starts_with("Nodes"));
    let reads = reads.count();
    assert!(reads < 10, "{reads}");
    // A repeat is confirmed too.
    let again = revoke().await.json();
    assert_eq!(again["revoked"], 0);
    assert!(again["confirmation"].is_object());
}

#[actix_web::test]
async fn a_repeated_creation_does_not_name_a_key_that_was_given_away() {
    let (_store, manager, other) = nodes().await;
    let app = app(portal(&manager).form_key([9; 32])).await;
    let create = || {
        let call = Call::post("/keys").by("alice");
        let call = call.header("idempotency-key", "\"a\"");
        call.json(json!({"label": "once"})).send(&app)
    };
    let made = create().await.json();
    let id: KeyId = made["key"]["id"].as_str().unwrap().parse().unwrap();
    let named = create().await;
    assert_eq!(named.problem(409), "already-created");
    assert_eq!(named.json()["key_id"], json!(id));
    other.update(id).owner("globex").await.unwrap();
    let unnamed = create().await;
    assert_eq!(unnamed.problem(409), "already-created");
    assert!(!unnamed.text.contains(id.as_str()), "{}", unnamed.text);
}
