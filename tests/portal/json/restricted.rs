//! What a key may give: at most what it has itself.

use std::time::Duration;

use apikey_runtime::manager::CreateKey;
use apikey_runtime::{ApiKeyManager, Config, KeyRecord, Rate};
use apikey_test_support::store::GateStore;
use serde_json::{Value, json};

use super::client::{ALL, Call, key};
use crate::app::{app, manager, manager_with, portal};

const HOUR: Duration = Duration::from_secs(3_600);

const LESS_RESTRICTED: &str = "less-restricted";

/// A manager that accepts two prefixes.
async fn two_prefixes() -> ApiKeyManager {
    let config = Config::builder().prefixes(["my_api", "old_api"]);
    manager_with(config.build().unwrap(), GateStore::new()).await
}

/// A key of acme that is used in one network, for some methods, in one environment, and not without a limit.
fn restricted(manager: &ApiKeyManager) -> CreateKey {
    let call = manager.create("program").owner("acme").scopes(ALL);
    call.environment("test")
        .networks(["192.0.2.0/24".parse().unwrap()])
        .methods(["GET", "POST", "PATCH"])
        .prefix("old_api")
        .limit("calls", Rate::per_minute(1_000))
}

/// What restricts a key besides its scopes and its end.
fn restrictions(record: &KeyRecord) -> Value {
    json!({
        "environment": record.environment, "networks": record.networks, "methods": record.methods,
        "limits": record.limits, "prefix": record.prefix,
    })
}

#[actix_web::test]
async fn a_key_that_a_key_creates_is_restricted_like_it() {
    let manager = two_prefixes().await;
    let program = restricted(&manager).await.unwrap();
    let app = app(portal(&manager)).await;
    let create = |mut body: Value| {
        body["label"] = "x".into();
        let call = Call::post("/keys").with(program.expose_secret());
        call.from("192.0.2.7").json(body).send(&app)
    };
    let made = create(json!({})).await.json();
    let id = made["key"]["id"].as_str().unwrap().parse().unwrap();
    let made = manager.get(id).await.unwrap();
    assert_eq!(restrictions(&made), restrictions(program.record()));
    for wider in [
        json!({"environment": "live"}),
        json!({"environment": null}),
        json!({"networks": null}),
        json!({"networks": []}),
        json!({"networks": ["192.0.2.0/23"]}),
        json!({"networks": ["192.0.2.0/25", "2001:db8::/32"]}),
        json!({"methods": null}),
        json!({"methods": ["GET", "DELETE"]}),
    ] {
        let answer = create(wider.clone()).await;
        assert_eq!(answer.problem(403), LESS_RESTRICTED, "{wider}");
    }
    let narrower =
        json!({"environment": "test", "networks": ["192.0.2.128/25"], "methods": ["HEAD"]});
    let made = create(narrower).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json()["key"]["methods"], json!(["HEAD"]));
    create(json!({"networks": ["x"]})).await.names("`networks`");
    // A person creates keys without any.
    let body = json!({"label": "x", "environment": "live"});
    let free = Call::post("/keys").by("alice").json(body).send(&app).await;
    assert_eq!(free.status, 201, "{}", free.text);
}

#[actix_web::test]
async fn a_key_does_not_widen_what_restricts_itself() {
    let manager = two_prefixes().await;
    let program = restricted(&manager).await.unwrap();
    let child = restricted(&manager).scopes(["hello:read"]).methods(["GET"]);
    let child = child.await.unwrap();
    let app = app(portal(&manager)).await;
    for id in [child.id(), program.id()] {
        let before = manager.get(id).await.unwrap();
        let patch = |body: Value| {
            let call = Call::patch(format!("/keys/{id}")).with(program.expose_secret());
            call.from("192.0.2.7").if_match("*").json(body).send(&app)
        };
        for wider in [
            json!({"networks": null}),
            json!({"networks": ["0.0.0.0/0"]}),
            json!({"methods": null}),
            json!({"methods": ["GET", "DELETE"]}),
        ] {
            let answer = patch(wider.clone()).await;
            assert_eq!(answer.problem(403), LESS_RESTRICTED, "{wider}");
        }
        assert_eq!(manager.get(id).await.unwrap(), before);
        // Narrower is permitted. Wider again is too, up to the caller's own, which it narrows for ever.
        let narrower = patch(json!({"label": "y", "networks": ["192.0.2.0/28"]})).await;
        assert_eq!(narrower.status, 200, "{}", narrower.text);
        let wider = patch(json!({"networks": ["192.0.2.0/24"]})).await;
        match id == child.id() {
            true => assert_eq!(wider.status, 200, "{}", wider.text),
            false => assert_eq!(wider.problem(403), LESS_RESTRICTED),
        }
    }
}

/// Neither by a new secret or a longer life of one that exists.
#[actix_web::test]
async fn a_key_gives_nothing_to_one_that_is_less_restricted() {
    let manager = two_prefixes().await;
    let program = restricted(&manager).await.unwrap();
    let free = manager.create("free").owner("acme").expires_in(HOUR);
    let free = free.await.unwrap().id();
    let equal = restricted(&manager).scopes(["hello:read"]).await.unwrap();
    let app = app(portal(&manager)).await;
    let send = |call: Call, body: Value| {
        let call = call.with(program.expose_secret()).from("192.0.2.7");
        call.if_match("*").json(body).send(&app)
    };
    for (id, is_free) in [(free, true), (equal.id(), false)] {
        for (call, body) in [
            (
                Call::post(format!("/keys/{id}/rotate")),
                json!({"grace": 0}),
            ),
            (Call::post(format!("/keys/{id}/enable")), json!({})),
            (
                Call::patch(format!("/keys/{id}")),
                json!({"expires_at": null}),
            ),
            (
                Call::patch(format!("/keys/{id}")),
                json!({"scopes": ["hello:read", "orders:read"]}),
            ),
        ] {
            let answer = send(call, body).await;
            match is_free {
                true => assert_eq!(answer.problem(403), LESS_RESTRICTED),
                false => assert_eq!(answer.status, 200, "{}", answer.text),
            }
        }
        // Less is always possible.
        for action in ["disable", "revoke"] {
            let answer = send(Call::post(format!("/keys/{id}/{action}")), json!({})).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    }
}

#[actix_web::test]
async fn a_key_that_ends_gives_no_scope_to_one_that_lasts_longer() {
    let manager = manager().await;
    let program = manager.create("program").owner("acme").scopes(ALL);
    let program = program.expires_in(HOUR).await.unwrap();
    let lasting = manager.create("lasting").owner("acme").await.unwrap().id();
    let app = app(portal(&manager)).await;
    let patch = |body: Value| {
        let call = Call::patch(format!("/keys/{lasting}")).with(program.expose_secret());
        call.if_match("*").json(body).send(&app)
    };
    let scopes = || json!(["hello:read"]);
    for late in [
        json!({"scopes": scopes()}),
        json!({"scopes": scopes(), "expires_at": null}),
        json!({"scopes": scopes(), "expires_in": 7200}),
    ] {
        assert_eq!(
            patch(late.clone()).await.problem(403),
            "ends-too-late",
            "{late}"
        );
    }
    assert!(manager.get(lasting).await.unwrap().scopes.is_empty());
    let earlier = patch(json!({"scopes": scopes(), "expires_in": 60})).await;
    assert_eq!(earlier.status, 200, "{}", earlier.text);
    // Those that it has stay.
    let same = patch(json!({"scopes": scopes(), "label": "y"})).await;
    assert_eq!(same.status, 200, "{}", same.text);
}

#[actix_web::test]
async fn a_superseded_secret_reads_and_ends_its_grace_alone() {
    let manager = manager().await;
    let old = key(&manager, "acme", &ALL).await;
    let other = manager.create("ci").owner("acme").await.unwrap().id();
    let new = manager.rotate(old.id()).grace(HOUR).await.unwrap();
    let app = app(portal(&manager)).await;
    for (call, body) in [
        (Call::post("/keys"), json!({"label": "x", "expires_in": 60})),
        (Call::post(format!("/keys/{}/revoke", old.id())), json!({})),
        (Call::post(format!("/keys/{}/disable", old.id())), json!({})),
        (Call::post(format!("/keys/{other}/revoke")), json!({})),
        (Call::patch(format!("/keys/{other}")), json!({"label": "x"})),
        (Call::post("/keys:revoke"), json!({"owner": "acme"})),
        (Call::post("/keys:revoke"), json!({"ids": [old.id()]})),
    ] {
        let call = call.with(old.expose_secret()).if_match("*");
        let answer = call.json(body).send(&app).await;
        assert_eq!(answer.problem(403), "superseded-secret");
    }
    assert_eq!(manager.list().owner("acme").await.unwrap().keys.len(), 2);
    for secret in [new.expose_secret(), old.expose_secret()] {
        let list = Call::get("/keys").with(secret).send(&app).await;
        assert_eq!(list.status, 200, "{}", list.text);
    }
    let end = Call::post("/self/revoke").with(old.expose_secret());
    assert_eq!(end.send(&app).await.json()["outcome"], "grace_ended");
    let own = Call::get("/self")
        .with(new.expose_secret())
        .send(&app)
        .await;
    assert_eq!(own.status, 200);
}
