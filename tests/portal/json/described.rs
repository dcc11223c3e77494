//! The document of the API is what the API does. Each answer of a test's [`Call`] is compared with the document.

use std::collections::BTreeSet;

use apikey_runtime::Timestamp;
use serde_json::json;

use super::client::{ALL, Call, key};
use super::document::{DOCUMENT, faults, operations};
use crate::app::{app, get, manager, portal};

#[actix_web::test]
async fn each_operation_answers_as_the_document_says() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let limits =
        json!([{"name": "daily", "quota": "1000/day"}, {"name": "fast", "rate": "10/minute"}]);
    let new = json!({
        "label": "ci", "description": "d", "owner": "acme", "scopes": ["hello:read"], "environment": "live",
        "networks": ["192.0.2.0/24"], "methods": ["GET"], "limits": limits, "metadata": {"a": [1]},
        "not_before": "2020-01-01T00:00:00Z", "expires_in": 3600, "prefix": "my_api",
    });
    let made = Call::post("/keys")
        .by("root")
        .json(new)
        .send(&app)
        .await
        .json();
    let id = made["key"]["id"].as_str().unwrap().to_owned();
    let used = key(&manager, "acme", &ALL).await;
    manager
        .rotate(used.id())
        .grace(std::time::Duration::from_secs(60))
        .await
        .unwrap();
    manager.verify(used.expose_secret()).await.unwrap();
    let at = Timestamp::from_millis(manager.now().as_millis() + 60_000);
    let patch = json!({
        "label": "ci 2", "description": null, "scopes": null, "networks": null, "methods": null, "limits": null,
        "metadata": {"a": null}, "environment": null, "owner": "acme", "not_before": null, "expires_at": at,
    });
    let mut called = BTreeSet::new();
    for (method, path, body) in [
        ("GET", "/keys".to_owned(), json!(null)),
        ("POST", "/keys".to_owned(), json!({"label": "x"})),
        ("GET", format!("/keys/{id}"), json!(null)),
        ("PATCH", format!("/keys/{id}"), patch),
        ("POST", format!("/keys/{id}/rotate"), json!({"grace": 60})),
        ("POST", format!("/keys/{id}/disable"), json!({"note": "n"})),
        ("POST", format!("/keys/{id}/enable"), json!({})),
        (
            "GET",
            format!("/keys/{}/usage?by=hour", used.id()),
            json!(null),
        ),
        (
            "GET",
            format!("/keys/{}/usage?by=route", used.id()),
            json!(null),
        ),
        ("GET", format!("/keys/{id}/audit"), json!(null)),
        (
            "POST",
            format!("/keys/{id}/revoke"),
            json!({"reason": "r", "note": "n", "confirmed": true}),
        ),
        (
            "POST",
            "/owners/acme/suspend".to_owned(),
            json!({"note": "n", "confirmed": true}),
        ),
        ("POST", "/owners/acme/resume".to_owned(), json!({})),
        ("GET", "/audit".to_owned(), json!(null)),
        ("GET", "/routes".to_owned(), json!(null)),
        ("GET", "/health".to_owned(), json!(null)),
        ("GET", "/keys?owner=acme".to_owned(), json!(null)),
        (
            "POST",
            "/keys:revoke".to_owned(),
            json!({"ids": [id], "reason": "r", "confirmed": true}),
        ),
        (
            "POST",
            "/keys:revoke".to_owned(),
            json!({"owner": "acme", "unused_since": "2020-01-01T00:00:00Z"}),
        ),
        ("GET", "/self".to_owned(), json!(null)),
        (
            "POST",
            "/self/revoke".to_owned(),
            json!({"reason": "r", "confirmed": true}),
        ),
    ] {
        let is_own = path.starts_with("/self");
        let call = Call::new(method.parse().unwrap(), &path);
        let call = match is_own {
            true => call.with(used.expose_secret()),
            false => call.by("root"),
        };
        let call = if method == "PATCH" {
            call.if_match("*")
        } else {
            call
        };
        let call = if body.is_null() {
            call
        } else {
            call.json(body)
        };
        let answer = call.send(&app).await;
        assert!(
            answer.status.is_success(),
            "{method} {path}: {}",
            answer.text
        );
        let operation = super::document::operation(method, &path).unwrap();
        called.insert((operation.method, operation.path));
    }
    let all: BTreeSet<_> = operations()
        .into_iter()
        .map(|one| (one.method, one.path))
        .collect();
    assert_eq!(called, all);
}

#[actix_web::test]
async fn the_document_is_served_with_a_server_relative_to_itself() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let served = get(&app, "", "/openapi.json").await;
    assert_eq!(
        (served.status.as_u16(), served.header("content-type")),
        (200, "application/json")
    );
    assert_eq!(served.json(), *DOCUMENT);
    assert_eq!(DOCUMENT["servers"][0]["url"], "v1");
}

/// Negative control.
#[test]
fn a_value_that_does_not_fit_is_found() {
    let schemas = &DOCUMENT["components"]["schemas"];
    let problem = json!({"type": "t", "title": "t", "status": 404, "detail": "d"});
    assert_eq!(faults(&schemas["Problem"], &problem), [""; 0]);
    for (name, value, fault) in [
        ("status", json!("404"), "$.status: type"),
        ("status", json!(200), "$.status: minimum"),
        ("path", json!("/"), "$.path is not known"),
    ] {
        let mut wrong = problem.clone();
        wrong[name] = value;
        assert_eq!(faults(&schemas["Problem"], &wrong), [fault]);
    }
    assert_eq!(
        faults(&schemas["Rotation"], &json!({})),
        ["$: \"grace\" is missing"]
    );
    let page = json!({"keys": [{"id": 1}], "next": null});
    assert!(faults(&schemas["KeyPage"], &page).contains(&"$.keys[0].id: type".to_owned()));
    let wrong = json!({"by": "year", "from": "now"});
    let found = faults(&schemas["Usage"], &wrong);
    assert!(
        found.contains(&"$.by: enum".to_owned()) && found.contains(&"$.from: format".to_owned())
    );
}
