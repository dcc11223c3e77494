//! Texts that a store cannot keep, and stores without all parts.

use std::sync::Arc;

use apikey_runtime::PostgresStore;
use apikey_test_support::log::Log;
use apikey_test_support::store::RecordsOnly;
use apikey_test_support::{fleet, manager_on};
use serde_json::Value;

use crate::app::{app, get, portal};

/// PostgreSQL cannot compare a text with U+0000: such an address is at fault, and not the store.
#[actix_web::test]
async fn an_address_with_a_text_that_postgres_cannot_compare_is_refused() {
    let Some(server) = fleet::postgres() else {
        return;
    };
    let store = PostgresStore::new(fleet::database(server).await);
    let manager = manager_on(Arc::new(store)).await;
    manager.create("ci").owner("acme").await.unwrap();
    let log = Log::capture();
    let app = app(portal(&manager)).await;
    for path in [
        "/v1/keys?id_prefix=",
        "/v1/keys?label_prefix=",
        "/v1/keys?owner=",
        "/v1/audit?actor=",
        "/v1/audit?owner=",
        "/admin?q=",
        "/admin/keys?q=",
        "/admin/keys?owner=",
        "?owner=",
        "/audit?actor=",
    ] {
        let answer = get(&app, "root", &format!("{path}%00%00%00")).await;
        assert!(
            answer.status.is_client_error(),
            "{path}: {} {}",
            answer.status,
            answer.text
        );
        assert!(answer.text.contains("U+0000"), "{path}: {}", answer.text);
        // Negative control: a text that no key has.
        let answer = get(&app, "root", &format!("{path}xyz")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    // Tests beside this one log errors of their own.
    let errors = log.lines(&["ERROR", "U+0000"]);
    assert!(errors.is_empty(), "{errors:#?}");
}

#[actix_web::test]
async fn a_store_without_usage_is_not_the_fault_of_a_request() {
    let manager = manager_on(Arc::new(RecordsOnly::default())).await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager).form_key([7; 32])).await;
    let of_key = format!("/v1/keys/{}", key.id());
    for path in ["", "/admin/keys", "/v1/keys", &of_key] {
        let answer = get(&app, "root", path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert!(answer.text.contains("ci"), "{path}: {}", answer.text);
    }
    let read: Value = serde_json::from_str(&get(&app, "root", &of_key).await.text).unwrap();
    assert_eq!(read["last_used_at"], Value::Null);
    for path in ["?unused=30", &format!("{of_key}/usage")] {
        let answer = get(&app, "root", path).await;
        assert_eq!(answer.status, 501, "{path}: {}", answer.text);
    }
    // What is wrong with a request is still said.
    let wrong = get(&app, "root", "/v1/keys?limit=0").await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
}
