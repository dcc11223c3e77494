//! Changes of many keys, and reports.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::clock::ManualClock;
use apikey_runtime::{KeyState, MemoryStore};
use apikey_test_support::manager_at;
use serde_json::json;

use super::client::Call;
use crate::app::{app, manager, portal};

#[actix_web::test]
async fn many_keys_are_revoked_by_ids_by_owner_and_by_disuse() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = manager_at(Arc::new(MemoryStore::new()), clock.clone()).await;
    let app = app(portal(&manager)).await;
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(
            manager
                .create(format!("ci {number}"))
                .owner("acme")
                .await
                .unwrap()
                .id(),
        );
    }
    let other = manager.create("other").owner("globex").await.unwrap().id();
    let revoke =
        |name: &'static str, body| Call::post("/keys:revoke").by(name).json(body).send(&app);
    let live = async || {
        let mut live = 0;
        for id in &ids {
            live += usize::from(manager.get(*id).await.unwrap().revoked.is_none());
        }
        live
    };
    // One key of another owner, and nothing is revoked.
    revoke("alice", json!({"ids": [ids[0], other]}))
        .await
        .problem(404);
    revoke("rita", json!({"ids": [ids[0]]})).await.problem(403);
    for wrong in [
        json!({}),
        json!({"ids": []}),
        json!({"ids": [ids[0]], "owner": "acme"}),
        json!({"ids": vec![ids[0]; 101]}),
        json!({"ids": [ids[0]], "after": "x"}),
        json!({"unused_since": "2100-01-01T00:00:00Z"}),
    ] {
        revoke("root", wrong).await.problem(422);
    }
    assert_eq!(live().await, 3);
    let done = revoke(
        "alice",
        json!({"ids": [ids[0], ids[0]], "reason": "old", "confirmed": true}),
    )
    .await
    .json();
    assert_eq!(done["revoked"], 1);
    assert!(done["confirmation"]["acknowledged"].is_array());
    // Those that are used stay.
    let used = manager.create("used").owner("acme").await.unwrap();
    clock.advance(Duration::from_secs(1));
    let since = manager.now();
    clock.advance(Duration::from_secs(1));
    manager.verify(used.expose_secret()).await.unwrap();
    let done = revoke("alice", json!({"unused_since": since})).await.json();
    assert!(done["revoked"] == 2 && done["next"].is_null(), "{done}");
    assert_eq!(live().await, 0);
    manager.verify(used.expose_secret()).await.unwrap();
    let done = revoke("bob", json!({"unused_since": "2000-01-01T00:00:00Z"}))
        .await
        .json();
    assert_eq!(done["revoked"], 0);
    revoke("alice", json!({"owner": "globex"}))
        .await
        .problem(404);
    let done = revoke("alice", json!({"owner": "acme", "reason": "left"}))
        .await
        .json();
    assert_eq!(done["revoked"], json!(null));
    assert!(manager.verify(used.expose_secret()).await.is_err());
    assert!(manager.get(other).await.unwrap().revoked.is_none());
    revoke("root", json!({"owner": "unheard"}))
        .await
        .problem(404);
}

/// Steps of 100 keys, by a cursor.
#[actix_web::test]
async fn unused_keys_are_revoked_in_steps() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = manager_at(Arc::new(MemoryStore::new()), clock.clone()).await;
    let app = app(portal(&manager)).await;
    for number in 0..150 {
        manager
            .create(format!("ci {number}"))
            .owner("acme")
            .await
            .unwrap();
    }
    clock.advance(Duration::from_secs(1));
    let mut body = json!({"owner": "acme", "unused_since": manager.now()});
    let mut steps = Vec::new();
    loop {
        let done = Call::post("/keys:revoke")
            .by("root")
            .json(body.clone())
            .send(&app)
            .await
            .json();
        steps.push(done["revoked"].as_u64().unwrap());
        if done["next"].is_null() {
            break;
        }
        body["after"] = done["next"].clone();
    }
    assert_eq!(steps, [100, 50]);
}

#[actix_web::test]
async fn owners_are_suspended_and_resumed_by_admins_whatever_their_names() {
    let manager = manager().await;
    let owner = "a/b%2f";
    let id = manager.create("ci").owner(owner).await.unwrap().id();
    let app = app(portal(&manager)).await;
    let path = "/owners/a%2Fb%252f";
    let suspended = Call::post(format!("{path}/suspend"))
        .by("root")
        .json(json!({"note": "unpaid"}));
    let answer = suspended.send(&app).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["owner"], owner);
    assert_eq!(answer.json()["changed"], true);
    let record = manager.get(id).await.unwrap();
    assert_eq!(record.state_at(manager.now()), KeyState::Suspended);
    let again = Call::post(format!("{path}/suspend"))
        .by("root")
        .send(&app)
        .await;
    assert_eq!(again.json()["changed"], false);
    let resumed = Call::post(format!("{path}/resume"))
        .by("root")
        .json(json!({"confirmed": true}));
    assert!(resumed.send(&app).await.json()["confirmation"].is_object());
    Call::post("/owners/unheard/suspend")
        .by("root")
        .send(&app)
        .await
        .problem(404);
    Call::post(format!("{path}/suspend"))
        .by("alice")
        .send(&app)
        .await
        .problem(404);
    Call::post("/owners/acme/suspend")
        .by("alice")
        .send(&app)
        .await
        .problem(403);
    let keys = Call::get("/keys?owner=a%2Fb%252f")
        .by("root")
        .send(&app)
        .await
        .json();
    assert_eq!(keys["keys"][0]["id"], json!(id));
}

#[actix_web::test]
async fn usage_is_told_by_hour_day_and_route() {
    let manager = manager().await;
    let used = manager.create("ci").owner("acme").await.unwrap();
    for _ in 0..3 {
        manager.verify(used.expose_secret()).await.unwrap();
    }
    let app = app(portal(&manager)).await;
    let usage = |query: &str| {
        Call::get(format!("/keys/{}/usage{query}", used.id()))
            .by("alice")
            .send(&app)
    };
    for by in ["hour", "day", "route"] {
        let report = usage(&format!("?by={by}")).await;
        assert_eq!(report.status, 200, "{}", report.text);
        let report = report.json();
        assert_eq!(
            (&report["total"]["requests"], &report["rows"][0]["requests"]),
            (&json!(3), &json!(3))
        );
        assert!(report["last_used_at"].is_string());
    }
    let none = usage("?from=2020-01-01T00:00:00Z&to=2020-02-01T00:00:00Z")
        .await
        .json();
    assert_eq!(none["rows"], json!([]));
    usage("?by=year").await.names("`by`");
    usage("?by=hour&from=2020-01-01T00:00:00Z&to=2020-03-01T00:00:00Z")
        .await
        .names("31 days");
    usage("?from=2020-02-01T00:00:00Z&to=2020-01-01T00:00:00Z")
        .await
        .names("`from`");
}

#[actix_web::test]
async fn an_owner_does_not_see_what_another_one_did_with_a_key() {
    let manager = manager().await;
    let id = manager
        .create("ci")
        .owner("globex")
        .actor("bob")
        .await
        .unwrap()
        .id();
    manager
        .update(id)
        .label("theirs")
        .actor("bob")
        .await
        .unwrap();
    manager
        .update(id)
        .owner("acme")
        .origin(
            ChangeOrigin::new()
                .with_actor("root")
                .with_reason("merger of globex and acme"),
        )
        .await
        .unwrap();
    let app = app(portal(&manager)).await;
    let actors = async |name: &str, path: &str| {
        let page = Call::get(path).by(name).send(&app).await.json();
        let entries = page["entries"].as_array().unwrap().iter();
        entries
            .map(|entry| entry["actor"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let of_key = format!("/keys/{id}/audit");
    assert_eq!(actors("alice", &of_key).await, ["root"]);
    assert_eq!(actors("alice", "/audit").await, ["root"]);
    assert_eq!(actors("root", &of_key).await, ["root", "bob", "bob"]);
    assert_eq!(actors("root", "/audit?actor=bob").await, ["bob", "bob"]);
    assert_eq!(
        actors("root", &format!("/audit?key={id}&limit=1")).await,
        ["root"]
    );
    // Neither side of the change of owner learns the name of the other.
    for (name, other, path) in [
        ("alice", "globex", "/audit"),
        ("alice", "globex", &*of_key),
        ("bob", "acme", "/audit"),
    ] {
        let page = Call::get(path).by(name).send(&app).await;
        assert!(page.text.contains("root"), "{name} {path}: {}", page.text);
        for told in [other, "merger"] {
            assert!(!page.text.contains(told), "{name} {path}: {}", page.text);
        }
    }
    let all = Call::get("/audit").by("root").send(&app).await.text;
    assert!(
        all.contains("globex") && all.contains("acme") && all.contains("merger of globex and acme")
    );
    Call::get("/audit?owner=globex")
        .by("alice")
        .send(&app)
        .await
        .problem(404);
    Call::get("/audit?key=x")
        .by("alice")
        .send(&app)
        .await
        .names("`key`");
    Call::get("/audit?before=..%2F")
        .by("alice")
        .send(&app)
        .await
        .problem(422);
}
