//! Requests at the same time.

use std::sync::Arc;

use apikey_runtime::MemoryStore;
use apikey_test_support::patient_manager;
use apikey_test_support::store::{Call as StoreCall, GateStore};
use serde_json::json;

use super::client::Call;
use crate::app::{app, portal};

#[actix_web::test]
async fn two_equal_requests_at_once_create_one_key() {
    let store = GateStore::around(Arc::new(MemoryStore::new()));
    let manager = patient_manager(store.clone()).await;
    let app = app(portal(&manager).form_key([9; 32])).await;
    let create = |person: &'static str, key: &'static str| {
        let call = Call::post("/keys")
            .by(person)
            .header("idempotency-key", key);
        call.json(json!({"label": "once"})).send(&app)
    };
    let gate = store.gate_before(StoreCall::Insert);
    let both = async { tokio::join!(create("alice", "\"a\""), create("alice", "\"a\"")) };
    let open = async {
        // Both have found that the key does not exist.
        gate.arrived().await;
        gate.arrived().await;
        gate.open();
    };
    let ((one, other), ()) = tokio::join!(both, open);
    let (made, refused) = match one.status == 201 {
        true => (one, other),
        false => (other, one),
    };
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(refused.problem(409), "already-created");
    assert_eq!(refused.json()["key_id"], made.json()["key"]["id"]);
    assert!(!refused.text.contains("secret\":"));
    assert_eq!(manager.list().owner("acme").await.unwrap().keys.len(), 1);
    // A repeat with another body, too; other keys and people have their own.
    assert_eq!(
        create("alice", "\"a\"").await.problem(409),
        "already-created"
    );
    assert_eq!(create("alice", "\"b\"").await.status, 201);
    assert_eq!(create("bob", "\"a\"").await.status, 201);
    for wrong in ["a", "\"\"", "\"a"] {
        create("alice", wrong).await.problem(400);
    }
}

#[actix_web::test]
async fn of_two_changes_of_one_version_one_is_made() {
    let store = GateStore::around(Arc::new(MemoryStore::new()));
    let manager = patient_manager(store.clone()).await;
    let id = manager.create("ci").owner("acme").await.unwrap().id();
    let app = app(portal(&manager)).await;
    let gate = store.gate_before(StoreCall::Update);
    let patch = |label: &'static str| {
        let call = Call::patch(format!("/keys/{id}"))
            .by("alice")
            .if_match("\"1\"");
        call.json(json!({"label": label})).send(&app)
    };
    let both = async { tokio::join!(patch("one"), patch("two")) };
    let open = async {
        gate.arrived().await;
        gate.arrived().await;
        gate.open();
    };
    let ((one, two), ()) = tokio::join!(both, open);
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    let record = manager.get(id).await.unwrap();
    let label = if one.status == 200 { "one" } else { "two" };
    assert_eq!((record.label.as_str(), record.version), (label, 2));
}
