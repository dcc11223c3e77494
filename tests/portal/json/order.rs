//! The order of checks, and what is refused before all of them.

use actix_web::http::Method;
use apikey_runtime::KeyState;
use serde_json::json;

use super::client::{ALL, Call, key};
use crate::app::{ByHeader, app, get, manager, portal};

#[actix_web::test]
async fn checks_have_an_order() {
    let manager = manager().await;
    let id = manager.create("ci").owner("acme").await.unwrap().id();
    let app = app(portal(&manager)).await;
    let (path, rotate) = (format!("/keys/{id}"), format!("/keys/{id}/rotate"));
    let broken = |call: Call| call.text("text/plain", "{");
    // The person, the key, the role, the version, the media type, the syntax, the content.
    broken(Call::patch(&path).by(""))
        .send(&app)
        .await
        .problem(401);
    broken(Call::patch(&path).by("bob"))
        .send(&app)
        .await
        .problem(404);
    broken(Call::patch(&path).by("rita"))
        .send(&app)
        .await
        .problem(403);
    broken(Call::patch(&path).by("alice"))
        .send(&app)
        .await
        .problem(428);
    for stale in ["\"2\"", "W/\"1\"", "1", "\"2\", \"3\"", "x"] {
        broken(Call::patch(&path).by("alice").if_match(stale))
            .send(&app)
            .await
            .problem(412);
    }
    let patch = || Call::patch(&path).by("alice").if_match("\"7\", \"1\"");
    let unread = broken(patch()).send(&app).await;
    unread.problem(415);
    assert_eq!(
        unread.header("accept"),
        "application/json, application/merge-patch+json"
    );
    patch()
        .text("application/json", "{")
        .send(&app)
        .await
        .problem(400);
    patch()
        .text("application/json", "[]")
        .send(&app)
        .await
        .problem(422);
    patch()
        .text("application/json", "{\"label\":\"a\",\"label\":\"b\"}")
        .send(&app)
        .await
        .problem(422);
    patch()
        .json(json!({"colour": "red"}))
        .send(&app)
        .await
        .names("`colour`");
    let merge = patch().text(
        "Application/Merge-Patch+JSON; charset=utf-8",
        "{\"label\":\"a\"}",
    );
    assert_eq!(merge.send(&app).await.status, 200);
    // For an action, a version is not needed, and counts if it is stated.
    Call::post(&rotate)
        .by("bob")
        .json(json!({}))
        .send(&app)
        .await
        .problem(404);
    Call::post(&rotate)
        .by("rita")
        .json(json!({}))
        .send(&app)
        .await
        .problem(403);
    Call::post(&rotate)
        .by("alice")
        .if_match("\"1\"")
        .json(json!({}))
        .send(&app)
        .await
        .problem(412);
    Call::post(&rotate)
        .by("alice")
        .json(json!({}))
        .send(&app)
        .await
        .names("`grace`");
    for action in ["rotate", "revoke", "enable", "disable"] {
        let call = Call::post(format!("{path}/{action}"))
            .by("alice")
            .if_match("\"1\"");
        call.json(json!({"grace": 0})).send(&app).await.problem(412);
    }
    let star = Call::post(&rotate).by("alice").if_match("*");
    assert_eq!(star.json(json!({"grace": 0})).send(&app).await.status, 200);
    let long = format!("{{\"label\":\"{}\"}}", "x".repeat(33_000));
    let large = Call::post("/keys")
        .by("alice")
        .text("application/json", &long);
    large.send(&app).await.problem(413);
    // A merge patch is not a body of an action.
    let call = Call::post(&rotate)
        .by("alice")
        .text("application/merge-patch+json", "{}");
    call.send(&app).await.problem(415);
}

#[actix_web::test]
async fn other_paths_and_methods_are_problems_too_and_nothing_is_redirected() {
    let manager = manager().await;
    let id = manager.create("ci").owner("acme").await.unwrap().id();
    let app = app(portal(&manager).sign_in("/login")).await;
    for path in ["", "/", "/keys/", "/nothing", "/keys/x/y", "/KEYS"] {
        let answer = Call::get(path).by("root").send(&app).await;
        assert_eq!(answer.problem(404), "not-found", "{path}");
    }
    for (method, path, allowed) in [
        (Method::DELETE, "/keys".to_owned(), "GET, HEAD, POST"),
        (Method::PUT, format!("/keys/{id}"), "GET, HEAD, PATCH"),
        (Method::GET, "/keys:revoke".to_owned(), "POST"),
        (Method::OPTIONS, "/self".to_owned(), "GET, HEAD"),
    ] {
        let answer = Call::new(method, &path).by("root").send(&app).await;
        assert_eq!(answer.problem(405), "method-not-allowed");
        assert_eq!(answer.header("allow"), allowed, "{path}");
    }
    let head = Call::new(Method::HEAD, format!("/keys/{id}"))
        .by("alice")
        .send(&app)
        .await;
    assert_eq!((head.status.as_u16(), head.header("etag")), (200, "\"1\""));
    // Pages redirect to the sign-in.
    let answer = Call::get("/keys")
        .by("")
        .header("accept", "text/html")
        .send(&app)
        .await;
    assert_eq!(answer.problem(401), "missing-key");
    assert!(
        answer.header("www-authenticate").starts_with("Bearer"),
        "{:?}",
        answer.headers
    );
    assert_eq!(get(&app, "", "").await.status, 303);
    for stated in ["a b", "", &"x".repeat(65), "ä"] {
        let answer = Call::get("/keys")
            .by("")
            .header("x-request-id", stated)
            .send(&app)
            .await;
        assert_eq!(answer.header("x-request-id").len(), 32, "{stated}");
    }
}

#[actix_web::test]
async fn forged_requests_and_a_misconfigured_portal_are_problems() {
    let manager = manager().await;
    let id = manager.create("ci").owner("acme").await.unwrap().id();
    let program = key(&manager, "acme", &ALL).await;
    let app = app(portal(&manager)).await;
    let revoke = || Call::post(format!("/keys/{id}/revoke"));
    for forged in [
        revoke().by("alice").header("sec-fetch-site", "cross-site"),
        revoke().by("alice").header("sec-fetch-site", "same-site"),
        revoke()
            .with(program.expose_secret())
            .header("origin", "https://evil.example"),
        // A session without a stated source, whatever credential is beside it.
        revoke().header("x-test-person", "alice"),
        revoke()
            .header("x-test-person", "alice")
            .header("authorization", "Bearer x"),
    ] {
        assert_eq!(forged.send(&app).await.problem(403), "forged");
    }
    let record = manager.get(id).await.unwrap();
    assert_eq!(record.state_at(manager.now()), KeyState::Active);
    // Neither header: only a key has authority.
    assert_eq!(
        revoke()
            .with(program.expose_secret())
            .send(&app)
            .await
            .status,
        200
    );
    let wrong = apikey_portal::Portal::new(manager.clone(), ByHeader).public_url("acme");
    let wrong = crate::app::app(wrong).await;
    let answer = Call::get("/keys").by("root").send(&wrong).await;
    assert_eq!(answer.problem(500), "internal-error");
    assert!(!answer.header("x-request-id").is_empty());
}

/// Comparing each name with all others takes seconds if a request may have any number of them.
#[actix_web::test]
async fn many_members_are_refused_before_they_are_compared() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    for (number, said) in [(32, "`a0`"), (33, "32"), (5_000, "32")] {
        let names = (0..number).map(|place| format!("a{place}"));
        let query = names.clone().map(|name| format!("{name}=1&"));
        let query: String = query.collect();
        let list = Call::get(format!("/keys?{query}")).by("alice");
        list.send(&app).await.names(said);
        let members = names.take(2_000).map(|name| format!("\"{name}\":1"));
        let body = members.collect::<Vec<_>>().join(",");
        let create = Call::post("/keys").by("alice");
        let create = create.text("application/json", &format!("{{{body}}}"));
        create.send(&app).await.names(said);
    }
}
