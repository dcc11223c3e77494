//! Pages of a store that lacks parts: they neither tell nor offer what it does not keep.

use std::sync::Arc;

use apikey_test_support::log::Log;
use apikey_test_support::manager_on;
use apikey_test_support::store::RecordsOnly;
use serde_json::json;

use crate::app::{app, get, portal, submit};
use crate::json::client::Call;

#[actix_web::test]
async fn pages_do_not_tell_what_the_store_does_not_keep() {
    let manager = manager_on(Arc::new(RecordsOnly::default())).await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let id = key.id();
    let app = app(portal(&manager).form_key([7; 32])).await;
    for (path, told, not_told) in [
        ("", "ci", &["Last used", "30 days", "Not used for"][..]),
        ("/admin/keys", "ci", &["Last used", "never"]),
        (
            "/admin/owner?owner=acme",
            "does not keep usage",
            &["Unused keys", ">Audit</a></li>"],
        ),
        ("/admin", "Old records", &["The audit log keeps"]),
        (
            &format!("/keys/{id}/rotate"),
            "24 hours",
            &["page then tells"],
        ),
        (
            "/health",
            "not kept by the store",
            &["Changes are followed</th><td class=\"good\">yes"],
        ),
    ] {
        let page = get(&app, "root", path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text.contains(told), "{path}: {told} in {}", page.text);
        for text in not_told {
            assert!(!page.text.contains(text), "{path}: {text} in {}", page.text);
        }
    }
    for path in ["?unused=30", "/admin/unused?owner=acme"] {
        let page = get(&app, "root", path).await;
        assert_eq!(page.status, 501, "{path}");
        let why = "The store of this application does not keep when keys are used.";
        assert!(page.text.contains(why), "{path}: {}", page.text);
    }
    let (page, action) = (format!("/keys/{id}/rotate"), format!("/keys/{id}/rotate"));
    let fields = [("grace", "3600"), ("version", "1"), ("rotations", "0")];
    let secret = submit(&app, "root", &page, &action, &fields).await;
    assert_eq!(secret.status, 200, "{}", secret.text);
    assert!(secret.text.contains("The old secret works for"));
    assert!(!secret.text.contains("last used"), "{}", secret.text);
}

#[actix_web::test]
async fn a_store_with_all_parts_tells_and_offers_them() {
    let manager = crate::app::manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    for (path, told) in [
        ("", &["Last used", "30 days", "Not used for"][..]),
        ("/admin/keys", &["Last used", "never"]),
        (
            "/admin/owner?owner=acme",
            &["Unused keys", ">Audit</a></li>"],
        ),
        ("/admin", &["The audit log keeps"]),
        (&format!("/keys/{}/rotate", key.id()), &["page then tells"]),
    ] {
        let page = get(&app, "root", path).await;
        for text in told {
            assert!(page.text.contains(text), "{path}: {text} in {}", page.text);
        }
        assert!(!page.text.contains("not kept"), "{path}");
    }
}

#[actix_web::test]
async fn a_creation_that_can_be_repeated_needs_a_secret_that_nodes_share() {
    let manager = manager_on(Arc::new(RecordsOnly::default())).await;
    let create = || {
        let call = Call::post("/keys").by("root");
        call.json(json!({"label": "ci"}))
    };
    let repeatable = || create().header("idempotency-key", "\"a\"");
    let without = app(portal(&manager)).await;
    let refused = repeatable().send(&without).await;
    assert_eq!(refused.problem(501), "not-supported");
    assert!(manager.list().await.unwrap().keys.is_empty());
    // Control: without the header, and with a key of the portal.
    assert_eq!(create().send(&without).await.status, 201);
    let with = app(portal(&manager).form_key([7; 32])).await;
    assert_eq!(repeatable().send(&with).await.status, 201);
    assert_eq!(
        repeatable().send(&with).await.problem(409),
        "already-created"
    );
}

#[actix_web::test]
async fn the_log_of_a_store_without_secrets_names_the_setting_of_the_portal() {
    let manager = manager_on(Arc::new(RecordsOnly::default())).await;
    let app = app(portal(&manager)).await;
    assert_eq!(get(&app, "root", "").await.status, 200);
    let log = Log::capture();
    let page = get(&app, "root", "/new").await;
    assert_eq!(page.status, 501, "{}", page.text);
    assert!(!log.lines(&["Portal::form_key([u8; 32])"]).is_empty());
}
