//! Who may do what in the API: each route, for each kind of caller.

use actix_web::http::Method;
use apikey_runtime::KeyId;
use serde_json::{Value, json};

use super::client::{ALL, Call, key};
use crate::app::{app, manager, portal};

/// A row: the route, and the status for nobody, another owner, the owner, somebody who only reads, an admin, a key that may
/// only read, and a key with all scopes.
type Row = (&'static str, &'static str, Value, [u16; 7]);

fn rows() -> Vec<Row> {
    let none = || json!({});
    let grace = || json!({"grace": 0});
    let see = [401, 404, 200, 200, 200, 200, 200];
    let change = [401, 404, 200, 403, 200, 403, 200];
    let own = [401, 200, 200, 200, 200, 200, 200];
    let admin = [401, 403, 403, 403, 200, 403, 403];
    let owner = [401, 404, 403, 403, 200, 403, 403];
    vec![
        ("GET", "/keys", none(), own),
        ("GET", "/keys?owner=acme", none(), see),
        (
            "POST",
            "/keys",
            json!({"label": "x", "owner": "acme"}),
            [401, 404, 201, 403, 201, 403, 201],
        ),
        ("GET", "/keys/{id}", none(), see),
        ("PATCH", "/keys/{id}", json!({"label": "x"}), change),
        ("POST", "/keys/{id}/rotate", grace(), change),
        ("POST", "/keys/{id}/revoke", none(), change),
        ("POST", "/keys/{id}/enable", none(), change),
        ("POST", "/keys/{id}/disable", none(), change),
        ("GET", "/keys/{id}/usage", none(), see),
        ("GET", "/keys/{id}/audit", none(), see),
        ("POST", "/keys:revoke", json!({"ids": ["{id}"]}), change),
        ("POST", "/keys:revoke", json!({"owner": "acme"}), change),
        ("POST", "/owners/acme/suspend", none(), owner),
        ("POST", "/owners/acme/resume", none(), owner),
        ("GET", "/audit", none(), own),
        ("GET", "/audit?owner=acme", none(), see),
        ("GET", "/routes", none(), admin),
        ("GET", "/health", none(), admin),
        ("GET", "/self", none(), [401, 401, 401, 401, 401, 200, 200]),
        (
            "POST",
            "/self/revoke",
            none(),
            [401, 401, 401, 401, 401, 200, 200],
        ),
    ]
}

fn call(method: &str, path: &str, id: KeyId, body: &Value) -> Call {
    let path = path.replace("{id}", id.as_str());
    let method: Method = method.parse().unwrap();
    let call = Call::new(method.clone(), path);
    match method {
        Method::GET => call,
        _ => {
            let body = body.to_string().replace("{id}", id.as_str());
            call.if_match("*").text("application/json", &body)
        }
    }
}

#[actix_web::test]
async fn each_caller_may_do_what_the_table_says() {
    for (method, path, body, expected) in rows() {
        for (place, expected) in expected.into_iter().enumerate() {
            // Each on its own: some end a key, or an owner.
            let manager = manager().await;
            let id = manager.create("ci").owner("acme").scopes(["hello:read"]);
            let id = id.await.unwrap().id();
            let app = app(portal(&manager)).await;
            let request = call(method, path, id, &body);
            let request = match place {
                0..=4 => request.by(["", "bob", "alice", "rita", "root"][place]),
                5 => request.with(
                    key(&manager, "acme", &["apikeys:read", "hello:read"])
                        .await
                        .expose_secret(),
                ),
                _ => request.with(key(&manager, "acme", &ALL).await.expose_secret()),
            };
            let (before, keys) = (
                manager.get(id).await.unwrap(),
                manager.list().await.unwrap().keys.len(),
            );
            let answer = request.send(&app).await;
            assert_eq!(
                answer.status, expected,
                "{method} {path}, {place}: {}",
                answer.text
            );
            if expected >= 400 {
                answer.problem(expected);
                assert_eq!(
                    manager.get(id).await.unwrap(),
                    before,
                    "{method} {path}, {place}"
                );
                assert_eq!(manager.list().await.unwrap().keys.len(), keys);
            }
        }
    }
}

#[actix_web::test]
async fn a_key_of_another_owner_is_answered_as_one_that_does_not_exist() {
    let manager = manager().await;
    let id = manager.create("ci").owner("acme").await.unwrap().id();
    let stray = manager.create("stray").await.unwrap().id();
    let program = key(&manager, "globex", &ALL).await;
    let app = app(portal(&manager)).await;
    let unknown: KeyId = "0000000000000000000001".parse().unwrap();
    for (method, path, body, _) in rows() {
        if !path.contains("{id}") && !body.to_string().contains("{id}") {
            continue;
        }
        let mut answers = Vec::new();
        for id in [id, stray, unknown] {
            for is_person in [true, false] {
                let request = call(method, path, id, &body);
                let request = match is_person {
                    true => request.by("bob"),
                    false => request.with(program.expose_secret()),
                };
                let request = request.header("x-request-id", "same");
                let answer = request.send(&app).await;
                answer.problem(404);
                let mut headers: Vec<_> = answer
                    .headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {value:?}"))
                    .collect();
                headers.sort();
                answers.push((headers, answer.text));
            }
        }
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{method} {path}"
        );
    }
    // A text that is not an id, too.
    let odd = Call::get("/keys/..%2f").by("bob").send(&app).await;
    let absent = Call::get(format!("/keys/{unknown}"))
        .by("bob")
        .send(&app)
        .await;
    assert_eq!(odd.text, absent.text);
}

#[actix_web::test]
async fn a_key_needs_the_scope_of_the_call() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let id = manager.create("ci").owner("acme").await.unwrap().id();
    for (scope, read, create, manage) in [
        ("apikeys:read", 200, 403, 403),
        ("apikeys:create", 403, 201, 403),
        ("apikeys:manage", 403, 403, 200),
        ("hello:read", 403, 403, 403),
    ] {
        let program = key(&manager, "acme", &[scope]).await;
        let secret = program.expose_secret();
        let answer = Call::get("/keys").with(secret).send(&app).await;
        assert_eq!(answer.status, read, "{scope}: {}", answer.text);
        let body = json!({"label": "x"});
        let answer = Call::post("/keys").with(secret).json(body).send(&app).await;
        assert_eq!(answer.status, create, "{scope}: {}", answer.text);
        let answer = Call::post(format!("/keys/{id}/disable"))
            .with(secret)
            .send(&app)
            .await;
        assert_eq!(answer.status, manage, "{scope}: {}", answer.text);
        if manage == 403 {
            assert_eq!(answer.problem(403), "insufficient-scope");
            assert!(answer.header("www-authenticate").contains("apikeys:manage"));
        }
    }
}
