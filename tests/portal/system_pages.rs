//! The guarded routes, and the health of the manager: for admins.

use actix_web::http::Method;
use actix_web::test::TestRequest;
use actix_web::{HttpResponse, post};
use apikey_runtime::api_key_required;
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{PATIENCE, manager_on, within};

use crate::app::{MOUNT, app, get, manager, portal, send};

#[post("/orders/{id}")]
#[api_key_required(scope = "orders:write", rate_limit = "5/minute", fresh)]
async fn change_order() -> HttpResponse {
    HttpResponse::Ok().finish()
}

#[actix_web::test]
async fn only_admins_see_routes_and_health() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    for path in ["/routes", "/health"] {
        assert_eq!(get(&app, "", path).await.status, 403, "{path}");
        for name in ["alice", "rita", "bob"] {
            let page = get(&app, name, path).await;
            let missing = get(&app, name, "/nothing").await;
            assert_eq!((page.status, &page.text), (missing.status, &missing.text));
            assert_eq!(page.status, 404, "{path} {name}");
        }
        assert_eq!(get(&app, "root", path).await.status, 200, "{path}");
    }
    let list = get(&app, "alice", "").await;
    for (path, is_shown) in [
        ("/audit", true),
        ("/admin", false),
        ("/routes", false),
        ("/health", false),
    ] {
        let link = format!("href=\"/account/api-keys{path}\"");
        assert_eq!(list.text.contains(&link), is_shown, "{path}");
        assert!(get(&app, "root", "").await.text.contains(&link), "{path}");
    }
}

#[actix_web::test]
async fn a_guarded_handler_is_listed_with_its_place_and_demands() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let page = get(&app, "root", "/routes").await;
    for text in [
        "POST /orders/{id}",
        "scopes: orders:write",
        "rate: 5/minute",
        "reads the store for each request",
        "system_pages::change_order",
        "tests/portal/system_pages.rs:",
    ] {
        assert!(page.text.contains(text), "{text} in {}", page.text);
    }
}

#[actix_web::test]
async fn the_health_says_that_the_store_is_down() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let app = app(portal(&manager)).await;
    let page = get(&app, "root", "/health").await;
    assert!(
        page.text.contains("<strong>Ready.</strong>"),
        "{}",
        page.text
    );
    let node = manager.members().await.unwrap()[0].id.to_string();
    assert!(page.text.contains(&node) && page.text.contains("alive"));
    store.go_down();
    store.fail(Call::Nodes, Fault::Unavailable);
    let is_told = within(PATIENCE, async || {
        let page = get(&app, "root", "/health").await;
        assert_eq!(page.status, 200);
        page.text.contains("<strong>Not ready.</strong>") && page.text.contains("the test says so")
    });
    assert!(is_told.await.is_some());
    let page = get(&app, "root", "/health").await;
    assert!(
        page.text.contains("The list of nodes cannot be read"),
        "{}",
        page.text
    );
}

#[actix_web::test]
async fn an_application_that_cannot_tell_who_is_signed_in_is_told_from_a_store_that_is_down() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    for path in ["", "/new", "/audit"] {
        let page = get(&app, "mallory", path).await;
        assert_eq!(page.status, 503, "{path}");
        assert!(
            page.text.contains("Who is signed in cannot be told"),
            "{path}"
        );
        assert!(!page.text.contains("mallory"), "{path}");
    }
}

/// A browser opens the address of a form's answer by `GET`, for example after it was closed.
#[actix_web::test]
async fn the_address_of_a_forms_answer_leads_back_to_the_list() {
    let manager = manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let of_key = |action: &str| format!("/keys/{}/{action}", key.id());
    let (read, sent, both) = ("GET, HEAD", "POST", "GET, HEAD, POST");
    for (method, path, allowed) in [
        (Method::GET, of_key("disable"), sent),
        (Method::HEAD, of_key("enable"), sent),
        (Method::GET, of_key("end-grace"), sent),
        (Method::PUT, of_key("edit"), both),
        (Method::DELETE, "/new".to_owned(), both),
        (Method::GET, "/admin/owner/revoke".to_owned(), sent),
        (Method::GET, "/admin/owner/suspend".to_owned(), sent),
        (Method::GET, "/admin/owner/resume".to_owned(), sent),
        (Method::GET, "/admin/revoke-selected".to_owned(), sent),
        (Method::GET, "/admin/purge".to_owned(), sent),
        (Method::POST, "/health".to_owned(), read),
        (Method::POST, "/audit.csv".to_owned(), read),
        (Method::POST, String::new(), read),
        (Method::POST, "/assets/portal.css".to_owned(), read),
    ] {
        let request = TestRequest::default().method(method.clone());
        let request = request.insert_header(("sec-fetch-site", "same-origin"));
        let answer = send(&app, "root", request, &path).await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
        let link = format!("href=\"{MOUNT}\"");
        assert!(answer.text.contains(&link), "{path}: {}", answer.text);
    }
    assert!(manager.get(key.id()).await.unwrap().enabled);
}
