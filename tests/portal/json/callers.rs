//! Keys as callers: what they may do, and what their secrets appear in.

use std::time::Duration;

use apikey_runtime::{ApiKeyManager, Config, MemoryStore, Timestamp};
use apikey_test_support::forge;
use apikey_test_support::log::Log;
use serde_json::json;

use super::client::{ALL, Call, key};
use crate::app::{MOUNT, app, manager, portal};

const HOUR: Duration = Duration::from_secs(3_600);

#[actix_web::test]
async fn a_key_and_a_person_are_not_both_accepted() {
    let manager = manager().await;
    let program = key(&manager, "acme", &ALL).await;
    let app = app(portal(&manager)).await;
    for path in ["/keys", "/self"] {
        let both = Call::get(path)
            .by("alice")
            .with(program.expose_secret())
            .send(&app)
            .await;
        assert_eq!(both.problem(400), "malformed-request");
    }
    // Another Bearer credential is the application's own.
    let own = Call::get("/keys")
        .by("alice")
        .with("eyJhbGciOi.e30.x")
        .send(&app)
        .await;
    assert_eq!(own.status, 200);
    // Sessions that are away do not matter to a key, and are 503 for everyone else.
    let away = Call::get("/keys")
        .by("mallory")
        .with(program.expose_secret())
        .send(&app)
        .await;
    assert_eq!(away.status, 200);
    Call::get("/keys")
        .by("mallory")
        .send(&app)
        .await
        .problem(503);
}

#[actix_web::test]
async fn a_keys_networks_and_methods_hold_and_failed_keys_count() {
    let config = Config::builder()
        .failed_attempts("3/minute")
        .trusted_proxies(["10.0.0.0/8"])
        .forwarded_header("X-Forwarded-For");
    let manager = ApiKeyManager::builder().config(config.build().unwrap());
    let manager = manager.store(MemoryStore::new()).start().await.unwrap();
    let program = manager
        .create("program")
        .owner("acme")
        .scopes(ALL)
        .methods(["GET"]);
    let program = program
        .networks(["192.0.2.0/24".parse().unwrap()])
        .await
        .unwrap();
    let app = app(portal(&manager)).await;
    let list = |address: &str| {
        Call::get("/keys")
            .with(program.expose_secret())
            .from(address)
    };
    assert_eq!(list("192.0.2.7").send(&app).await.status, 200);
    assert_eq!(
        list("198.51.100.1").send(&app).await.problem(403),
        "address-not-permitted"
    );
    let post = Call::post("/self/revoke")
        .with(program.expose_secret())
        .from("192.0.2.7");
    assert_eq!(post.send(&app).await.problem(403), "method-not-permitted");
    // Proxies are trusted as the portal's manager says, which the application need not have.
    let through = |client: &str| list("10.0.0.1").header("x-forwarded-for", client);
    assert_eq!(through("192.0.2.7").send(&app).await.status, 200);
    through("198.51.100.1").send(&app).await.problem(403);
    let forged = forge::wrong_secret(program.expose_secret());
    let guess = |address: &str| Call::get("/self").with(&forged).from(address).send(&app);
    for _ in 0..3 {
        assert_eq!(guess("203.0.113.9").await.problem(401), "invalid-key");
    }
    let blocked = guess("203.0.113.9").await;
    assert_eq!(blocked.problem(429), "too-many-failed-attempts");
    assert!(!blocked.header("retry-after").is_empty());
    guess("203.0.113.10").await.problem(401);
    // Uses are counted under the route's pattern.
    let usage = manager.usage(program.id()).await.unwrap();
    let routes: Vec<_> = usage.by_route().into_iter().map(|one| one.route).collect();
    assert!(routes.contains(&format!("{MOUNT}/v1/keys")), "{routes:?}");
}

#[actix_web::test]
async fn a_key_that_ends_does_not_make_another_one_last_longer() {
    let manager = manager().await;
    let program = manager
        .create("program")
        .owner("acme")
        .scopes(ALL)
        .expires_in(HOUR);
    let program = program.await.unwrap();
    let end = program.record().expires.unwrap();
    let app = app(portal(&manager)).await;
    let create = |body| {
        Call::post("/keys")
            .with(program.expose_secret())
            .json(body)
            .send(&app)
    };
    for late in [
        json!({"label": "x", "expires_at": null}),
        json!({"label": "x", "expires_in": 7200}),
        json!({"label": "x", "expires_at": Timestamp::from_millis(end.as_millis() + 1)}),
    ] {
        assert_eq!(create(late).await.problem(403), "ends-too-late");
    }
    // Without an end, it ends with the key that creates it.
    let child = create(json!({"label": "x"})).await.json();
    assert_eq!(child["key"]["expires_at"], json!(end));
    let path = format!("/keys/{}", child["key"]["id"].as_str().unwrap());
    for body in [json!({"expires_at": null}), json!({"expires_in": 7200})] {
        let call = Call::patch(&path)
            .with(program.expose_secret())
            .if_match("*");
        assert_eq!(
            call.json(body).send(&app).await.problem(403),
            "ends-too-late"
        );
    }
    let earlier = Call::patch(&path)
        .with(program.expose_secret())
        .if_match("*");
    assert_eq!(
        earlier
            .json(json!({"expires_in": 60}))
            .send(&app)
            .await
            .status,
        200
    );
    // Nor does it get the secret of one that lasts longer.
    let lasting = manager.create("lasting").owner("acme").await.unwrap().id();
    for action in ["rotate", "enable"] {
        let call = Call::post(format!("/keys/{lasting}/{action}")).with(program.expose_secret());
        let answer = call.json(json!({"grace": 0})).send(&app).await;
        assert_eq!(answer.problem(403), "ends-too-late");
    }
    // It gives neither scopes that it lacks, nor those by which it manages keys.
    for scope in ["orders:write", "apikeys:manage"] {
        let body = json!({"label": "x", "scopes": [scope]});
        assert_eq!(create(body).await.problem(403), "scopes-not-held");
    }
}

#[actix_web::test]
async fn a_holder_reads_and_revokes_its_own_key_alone() {
    let manager = manager().await;
    // Without an owner, a key sees no other key.
    let bare = manager
        .create("bare")
        .scopes(["apikeys:read"])
        .await
        .unwrap();
    let app = app(portal(&manager)).await;
    let own = Call::get("/self")
        .with(bare.expose_secret())
        .send(&app)
        .await
        .json();
    assert_eq!(
        (&own["id"], &own["owner"]),
        (&json!(bare.id()), &json!(null))
    );
    let list = Call::get("/keys")
        .with(bare.expose_secret())
        .send(&app)
        .await
        .json();
    assert_eq!(list, json!({"keys": [], "next": null}));
    let path = format!("/keys/{}", bare.id());
    Call::get(path)
        .with(bare.expose_secret())
        .send(&app)
        .await
        .problem(404);
    Call::get("/self").by("root").send(&app).await.problem(401);
    // A superseded secret ends its grace, and nothing else.
    let new = manager.rotate(bare.id()).grace(HOUR).await.unwrap();
    let old = Call::get("/self")
        .with(bare.expose_secret())
        .send(&app)
        .await
        .json();
    assert!(old["superseded_until"].is_string());
    let revoke = |key: &str| {
        let call = Call::post("/self/revoke").with(key);
        call.json(json!({"reason": "leaked", "confirmed": true}))
            .send(&app)
    };
    assert_eq!(
        revoke(bare.expose_secret()).await.json()["outcome"],
        "grace_ended"
    );
    revoke(bare.expose_secret()).await.problem(401);
    assert_eq!(
        Call::get("/self")
            .with(new.expose_secret())
            .send(&app)
            .await
            .status,
        200
    );
    assert_eq!(
        revoke(new.expose_secret()).await.json()["outcome"],
        "revoked"
    );
    let denied = Call::get("/self")
        .with(new.expose_secret())
        .send(&app)
        .await;
    assert_eq!(denied.problem(401), "revoked-key");
    let record = manager.get(bare.id()).await.unwrap();
    assert_eq!(record.revoked.unwrap().reason.as_deref(), Some("leaked"));
}

/// Walks all routes that answer GET, with the log of all that was done.
#[actix_web::test]
async fn a_secret_is_in_the_answer_that_made_it_and_nowhere_else() {
    let log = Log::capture();
    let manager = manager().await;
    let program = key(&manager, "acme", &ALL).await;
    let app = app(portal(&manager)).await;
    let call = Call::post("/keys").with(program.expose_secret());
    let made = call
        .json(json!({"label": "x", "scopes": ["hello:read"]}))
        .send(&app)
        .await
        .json();
    let path = format!("/keys/{}", made["key"]["id"].as_str().unwrap());
    let rotate = Call::post(format!("{path}/rotate")).with(program.expose_secret());
    let rotated = rotate.json(json!({"grace": 60})).send(&app).await.json();
    let presented = [
        program.expose_secret(),
        made["secret"].as_str().unwrap(),
        rotated["secret"].as_str().unwrap(),
    ];
    let used = Call::get("/self").with(presented[2]).send(&app).await;
    let mut texts = vec![used.text];
    for path in [
        "/keys",
        "/audit",
        "/health",
        "/routes",
        &path,
        &format!("{path}/usage"),
        &format!("{path}/audit"),
    ] {
        let answer = Call::get(path).by("root").send(&app).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        texts.push(answer.text);
    }
    let digests = manager.get(program.id()).await.unwrap().digest;
    for secret in presented {
        let tail = &secret[secret.len() - 20..];
        assert!(!log.text().contains(tail));
        assert!(
            texts
                .iter()
                .all(|text| !text.contains(tail) && !text.contains(&digests))
        );
    }
    let entries = manager.audit().owner("acme").await.unwrap().entries;
    assert!(entries.len() >= 3 && !format!("{entries:?}").contains(&presented[1][20..]));
}
