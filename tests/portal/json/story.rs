//! What a program does with keys: it creates, lists, changes, rotates and revokes them.

use std::time::Duration;

use apikey_runtime::audit::ChangeChannel;
use apikey_runtime::{KeyId, Timestamp};
use serde_json::json;

use super::client::{ALL, Call};
use crate::app::{MOUNT, app, manager, portal};

const HOUR: Duration = Duration::from_secs(3_600);

#[actix_web::test]
async fn a_program_creates_reads_changes_rotates_and_revokes_a_key() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let program = manager.create("program").owner("acme").scopes(ALL);
    let program = program.environment("live").await.unwrap();
    let secret = program.expose_secret();
    let body = json!({
        "label": "nightly", "description": "the nightly build", "scopes": ["hello:read"],
        "networks": ["192.0.2.0/24"], "methods": ["GET"], "environment": "live", "expires_in": 3600,
    });
    let created = Call::post("/keys").with(secret).json(body).send(&app).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(created.header("cache-control"), "no-store");
    let shown = created.json();
    let id: KeyId = shown["key"]["id"].as_str().unwrap().parse().unwrap();
    let path = format!("/keys/{id}");
    assert_eq!(created.header("location"), format!("{MOUNT}/v1{path}"));
    assert_eq!(created.header("etag"), "\"1\"");
    let by = format!("key:{}", program.id());
    assert_eq!(shown["key"]["created_by"], by);
    assert_eq!(shown["key"]["state"], "active");
    assert_eq!(shown["key"]["owner"], "acme");
    let expires: Timestamp = serde_json::from_value(shown["key"]["expires_at"].clone()).unwrap();
    let left = expires.as_millis() - manager.now().as_millis();
    assert!((1..=3_600_000).contains(&left), "{left}");
    let first = shown["secret"].as_str().unwrap().to_owned();

    let read = Call::get(&path).with(secret).send(&app).await;
    assert_eq!((read.status.as_u16(), read.header("etag")), (200, "\"1\""));
    assert_eq!(read.json(), shown["key"]);

    let patch = || Call::patch(&path).with(secret).if_match("\"1\"");
    let changed = patch()
        .json(json!({"label": "weekly", "networks": null}))
        .send(&app)
        .await;
    assert_eq!(
        (changed.status.as_u16(), changed.header("etag")),
        (200, "\"2\"")
    );
    assert_eq!(changed.json()["label"], "weekly");
    assert_eq!(changed.json()["networks"], json!([]));
    assert_eq!(changed.json()["updated_by"], by);

    let rotate = Call::post(format!("{path}/rotate")).with(secret);
    let rotated = rotate.json(json!({"grace": 60})).send(&app).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    assert_eq!(rotated.header("cache-control"), "no-store");
    assert_eq!(rotated.header("etag"), "\"3\"");
    assert!(rotated.json()["key"]["previous_secret_until"].is_string());
    let second = rotated.json()["secret"].as_str().unwrap().to_owned();
    assert_ne!(first, second);

    let disable = Call::post(format!("{path}/disable"))
        .with(secret)
        .send(&app)
        .await;
    assert_eq!(disable.json()["state"], "disabled", "{}", disable.text);
    let enable = Call::post(format!("{path}/enable"))
        .with(secret)
        .send(&app)
        .await;
    assert_eq!(enable.json()["state"], "active", "{}", enable.text);

    let revoke = Call::post(format!("{path}/revoke")).with(secret);
    let body = json!({"reason": "not needed", "note": "ticket 7", "confirmed": true});
    let revoked = revoke
        .json(body)
        .header("x-request-id", "r-7")
        .send(&app)
        .await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    assert_eq!(revoked.header("x-request-id"), "r-7");
    let answer = revoked.json();
    assert_eq!(answer["key"]["state"], "revoked");
    assert_eq!(answer["key"]["revoked_reason"], "not needed");
    assert_eq!(answer["newly_revoked"], true);
    assert!(answer["confirmation"]["acknowledged"].is_array());
    let page = manager.audit().key(id).await.unwrap();
    let origin = &page.entries[0].origin;
    assert_eq!(origin.actor.as_deref(), Some(by.as_str()));
    assert_eq!(origin.channel, ChangeChannel::Api);
    assert_eq!(origin.reason.as_deref(), Some("ticket 7"));
    assert_eq!(origin.request_id.as_deref(), Some("r-7"));
    // A request without an id gets one, which the audit log has.
    let made = rotated.header("x-request-id");
    let entry = page
        .entries
        .iter()
        .find(|one| one.origin.request_id.as_deref() == Some(made));
    assert!(made.len() == 32 && entry.is_some());

    let audit = Call::get(format!("{path}/audit?limit=2"))
        .with(secret)
        .send(&app)
        .await;
    let audit = audit.json();
    assert_eq!(audit["entries"].as_array().unwrap().len(), 2);
    assert_eq!(audit["entries"][0]["action"], "revoked");
    assert!(audit["next"].is_string());
}

#[actix_web::test]
async fn a_list_is_paged_and_filtered() {
    let manager = manager().await;
    for number in 0..5 {
        manager
            .create(format!("CI {number}"))
            .owner("acme")
            .await
            .unwrap();
    }
    let other = manager.create("other").owner("globex").await.unwrap();
    let app = app(portal(&manager)).await;
    let list = |query: &str| Call::get(format!("/keys{query}")).by("alice").send(&app);
    let mut labels = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = list(&query).await.json();
        for key in page["keys"].as_array().unwrap() {
            labels.push(key["label"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else {
            break;
        };
        query = format!("?limit=2&after={next}");
    }
    assert_eq!(labels.len(), 5);
    let count = async |query: &str| {
        let page = list(query).await.json();
        page["keys"].as_array().map(Vec::len)
    };
    assert_eq!(count("?label_prefix=ci%201").await, Some(1));
    assert_eq!(count("?state=revoked").await, Some(0));
    assert_eq!(count("?state=active&owner=acme").await, Some(5));
    assert_eq!(count("?unused_since=2000-01-01T00:00:00Z").await, Some(0));
    assert_eq!(
        count(&format!("?id_prefix={}", &other.id().as_str()[..8])).await,
        Some(0)
    );
    list("?owner=globex").await.problem(404);
    list("?colour=red").await.names("`colour`");
    list("?limit=0").await.names("`limit`");
    list("?limit=1&limit=2").await.names("`limit`");
    list("?state=lost").await.names("`state`");
    list("?after=x").await.names("`after`");
    list("?unused_since=monday").await.names("`unused_since`");
    // A cursor of another list: the answer does not name the id in it.
    let admin = |query: String| Call::get(format!("/keys{query}")).by("root").send(&app);
    let next = admin("?limit=1&label_prefix=ci".to_owned()).await.json()["next"].clone();
    let wrong = admin(format!(
        "?label_prefix=other&after={}",
        next.as_str().unwrap()
    ))
    .await;
    wrong.names("`after`");
    assert!(!wrong.text.contains(next.as_str().unwrap()));
    assert_eq!(
        admin("?owner=globex".to_owned()).await.json()["keys"][0]["label"],
        "other"
    );
}

#[actix_web::test]
async fn a_change_is_a_merge_patch_of_one_version() {
    let manager = manager().await;
    let key = manager
        .create("ci")
        .owner("acme")
        .description("old")
        .scopes(["hello:read", "admin:all"])
        .metadata("plan", json!({"name": "free", "since": 1}))
        .metadata("team", "x");
    let id = key.expires_in(HOUR).await.unwrap().id();
    let app = app(portal(&manager)).await;
    let patch = |name: &'static str, version: u64, body| {
        let call = Call::patch(format!("/keys/{id}")).by(name);
        call.if_match(&format!("\"{version}\""))
            .json(body)
            .send(&app)
    };
    // `null` clears; what is not named stays.
    let changed = patch("alice", 1, json!({"description": null})).await.json();
    assert_eq!(
        (&changed["description"], &changed["label"]),
        (&json!(null), &json!("ci"))
    );
    // Nothing is changed by an empty patch.
    assert_eq!(patch("alice", 2, json!({})).await.json()["version"], 2);
    // Members of an object are patched too.
    let body = json!({"metadata": {"team": null, "plan": {"since": null, "seats": 3}}});
    assert_eq!(
        patch("alice", 2, body.clone()).await.problem(403),
        "forbidden"
    );
    let changed = patch("root", 2, body).await.json();
    assert_eq!(
        changed["metadata"],
        json!({"plan": {"name": "free", "seats": 3}})
    );
    // Scopes that the key has may stay; others need to be held.
    let changed = patch("alice", 3, json!({"scopes": ["admin:all", "orders:read"]})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let denied = patch("alice", 4, json!({"scopes": ["admin:all", "orders:write"]})).await;
    assert_eq!(denied.problem(403), "scopes-not-held");
    // An earlier end is always possible, a later one only for a holder of all scopes.
    let end = manager.get(id).await.unwrap().expires.unwrap().as_millis();
    let at = |millis: i64| json!({"expires_at": Timestamp::from_millis(end + millis)});
    assert_eq!(patch("alice", 4, at(-1_000)).await.status, 200);
    assert_eq!(
        patch("alice", 5, at(1_000)).await.problem(403),
        "scopes-not-held"
    );
    assert_eq!(
        patch("alice", 5, json!({"expires_at": null}))
            .await
            .problem(403),
        "scopes-not-held"
    );
    // Unless the change takes the others away.
    let both = json!({"expires_at": null, "scopes": ["orders:read"]});
    assert_eq!(
        patch("alice", 5, both).await.json()["expires_at"],
        json!(null)
    );
    for reserved in [
        json!({"owner": "globex"}),
        json!({"environment": "live"}),
        json!({"limits": []}),
        json!({"not_before": null}),
    ] {
        patch("alice", 6, reserved).await.problem(403);
    }
    for (body, name) in [
        (json!({"label": null}), "`label`"),
        (json!({"label": 5}), "`label`"),
        (json!({"version": 7}), "`version`"),
        (json!({"secret": "x"}), "`secret`"),
        (json!({"scopes": "a b"}), "`scopes`"),
        (json!({"networks": ["here"]}), "`networks`"),
        (json!({"expires_at": "soon"}), "`expires_at`"),
        (json!({"expires_in": 5, "expires_at": null}), "`expires_in`"),
        (json!({"expires_in": u64::MAX}), "`expires_in`"),
        (json!({"metadata": []}), "`metadata`"),
        (json!({"limits": [{"name": "x"}]}), "`limits`"),
    ] {
        patch("root", 6, body).await.names(name);
    }
    assert_eq!(
        patch("root", 6, json!({"label": ""})).await.problem(422),
        "unusable-value"
    );
    let limits = json!({"limits": [{"name": "daily", "quota": "1000/day"}, {"name": "fast", "rate": "10/minute"}]});
    let changed = patch("root", 6, limits.clone()).await;
    assert_eq!(
        changed.json()["limits"],
        limits["limits"],
        "{}",
        changed.text
    );
    assert_eq!(
        patch("root", 7, json!({"owner": "globex"})).await.json()["owner"],
        "globex"
    );
    patch("alice", 8, json!({})).await.problem(404);
}
