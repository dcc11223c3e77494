//! Changing a key by its form, and two people who do so at once.

use std::time::Duration;

use apikey_runtime::{ApiKeyManager, Config, KeyRecord, MemoryStore};

use crate::app::{MOUNT, app, get, manager, portal, post_loaded};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The fields of the form, with these scopes.
fn typed<'a>(label: &'a str, scopes: &[&'a str]) -> Vec<(&'static str, &'a str)> {
    let scopes = scopes.iter().map(|scope| ("scope", *scope));
    [("label", label), ("end", "")]
        .into_iter()
        .chain(scopes)
        .collect()
}

#[actix_web::test]
async fn an_owner_changes_what_is_theirs() {
    let manager = manager().await;
    let wide = ["orders:read", "admin:all"];
    let key = manager
        .create("ci")
        .owner("acme")
        .scopes(wide)
        .environment("live");
    let key = key.expires_in(40 * DAY).await.unwrap();
    let app = app(portal(&manager)).await;
    let action = format!("/keys/{}/edit", key.id());
    let form = get(&app, "alice", &action).await;
    for reserved in [
        "name=\"owner\"",
        "name=\"environment\"",
        "name=\"limits\"",
        "name=\"metadata\"",
    ] {
        assert!(!form.text.contains(reserved), "{reserved}");
    }
    let mut fields = typed("ci 2", &["admin:all", "hello:read"]);
    fields.extend([
        ("description", "copies"),
        ("networks", "192.0.2.0/24\n2001:db8::1"),
        ("method", "GET"),
        ("method", "POST"),
    ]);
    fields.retain(|field| *field != ("end", ""));
    fields.push(("end", "2592000"));
    let sent = post_loaded(&app, "alice", &action, &form.hidden(&action), &fields).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    assert_eq!(
        sent.header("location"),
        format!("{MOUNT}/keys/{}", key.id())
    );
    let record = manager.get(key.id()).await.unwrap();
    assert_eq!(record.label, "ci 2");
    assert_eq!(record.description.as_deref(), Some("copies"));
    // A scope that alice may not give stays, another one goes, and one that she may give comes.
    assert_eq!(
        record.scopes.iter().collect::<Vec<_>>(),
        ["admin:all", "hello:read"]
    );
    assert_eq!((record.networks.len(), record.methods.len()), (2, 2));
    assert_eq!(record.environment.as_deref(), Some("live"));
    assert!(record.expires < key.record().expires);
    assert_eq!(record.updated_by.as_deref(), Some("alice"));

    // What does not differ is not changed.
    let form = get(&app, "alice", &action).await;
    fields.pop();
    fields.push(("end", ""));
    let sent = post_loaded(&app, "alice", &action, &form.hidden(&action), &fields).await;
    assert_eq!(sent.status, 303);
    assert_eq!(manager.get(key.id()).await.unwrap(), record);
}

#[actix_web::test]
async fn an_owner_neither_gives_scopes_nor_prolongs_what_they_may_not() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let wide = ["orders:read", "admin:all"];
    let key = manager.create("ci").owner("acme").scopes(wide);
    let key = key.expires_in(DAY).await.unwrap();
    let before = manager.get(key.id()).await.unwrap();
    let action = format!("/keys/{}/edit", key.id());
    let with_end = |end, scopes: &[&'static str]| {
        let mut fields = typed("ci", scopes);
        fields.retain(|(name, _)| *name != "end");
        fields.push(("end", end));
        fields
    };
    let reserved = |field| {
        let mut fields = typed("ci", &wide);
        fields.push(field);
        fields
    };
    for (fields, status) in [
        // A scope of the catalogue, and one that is not in it.
        (typed("ci", &["orders:read", "orders:write"]), 403),
        (typed("ci", &["orders:read", "apikeys:manage"]), 422),
        // A later end, or none, of a key with a scope that alice may not give.
        (with_end("604800", &wide), 403),
        (with_end("never", &wide), 403),
        // What belongs to admins.
        (reserved(("owner", "globex")), 403),
        (reserved(("owner", "")), 403),
        (reserved(("environment", "test")), 403),
        (reserved(("limits", "")), 403),
        (reserved(("metadata", "{}")), 403),
    ] {
        let hidden = get(&app, "alice", &action).await.hidden(&action);
        let sent = post_loaded(&app, "alice", &action, &hidden, &fields).await;
        assert_eq!(sent.status, status, "{fields:?} {}", sent.text);
        assert_eq!(manager.get(key.id()).await.unwrap(), before, "{fields:?}");
    }
    // Control: without that scope, the later end is hers to give.
    let hidden = get(&app, "alice", &action).await.hidden(&action);
    let fields = with_end("604800", &["orders:read"]);
    let sent = post_loaded(&app, "alice", &action, &hidden, &fields).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    let after = manager.get(key.id()).await.unwrap();
    assert!(after.expires > before.expires && !after.scopes.contains("admin:all"));
}

#[actix_web::test]
async fn the_rules_for_issuing_hold_and_nothing_that_was_typed_is_lost() {
    let config = Config::builder().max_lifetime(30 * DAY).build().unwrap();
    let store = MemoryStore::new();
    let manager = ApiKeyManager::builder().config(config).store(store).start();
    let manager = manager.await.unwrap();
    let key = manager
        .create("ci")
        .owner("acme")
        .expires_in(DAY)
        .await
        .unwrap();
    let before = manager.get(key.id()).await.unwrap();
    let app = app(portal(&manager)).await;
    let action = format!("/keys/{}/edit", key.id());
    let form = get(&app, "alice", &action).await;
    assert!(form.text.contains("at most 30 days"), "{}", form.text);
    assert!(!form.text.contains("value=\"never\""), "{}", form.text);
    for (name, value, fault) in [
        ("end", "never", "must have an expiry"),
        ("end", "31536000", "at most 30 days"),
        ("end", "soon", "Choose when"),
        ("label", "", "Write a name"),
        ("networks", "here", "here is not a network"),
        ("description", &"x".repeat(1_025), "1024"),
    ] {
        let mut fields = typed("kept name", &[]);
        fields.retain(|(field, _)| *field != name);
        fields.push((name, value));
        let sent = post_loaded(&app, "alice", &action, &form.hidden(&action), &fields).await;
        assert_eq!(sent.status, 422, "{name} {}", sent.text);
        assert!(sent.text.contains(fault), "{fault} is not in {}", sent.text);
        assert!(sent.text.contains("data-fault"));
        assert!(name == "label" || sent.text.contains("value=\"kept name\""));
        assert!(name == "end" || sent.text.contains(value));
    }
    assert_eq!(manager.get(key.id()).await.unwrap(), before);
}

#[actix_web::test]
async fn an_admin_changes_owner_environment_limits_and_metadata() {
    let manager = manager().await;
    let key = manager.create("ci").owner(" acme ").await.unwrap();
    let app = app(portal(&manager)).await;
    let action = format!("/keys/{}/edit", key.id());
    let form = get(&app, "root", &action).await;
    assert!(form.text.contains("value=\" acme \""), "{}", form.text);
    let mut fields = typed("ci", &[]);
    fields.extend([
        ("owner", "globex"),
        ("environment", "test"),
        ("limits", "daily = quota 1000/day\nminute = rate 10/minute"),
        ("metadata", "{\"plan\": \"pro\"}"),
    ]);
    for (name, value, fault) in [
        ("limits", "daily", "daily is not a limit"),
        ("limits", "daily = quota x/day", "In the limit daily"),
        ("limits", "a = quota 1/day\na = quota 2/day", "two limits"),
        ("metadata", "[]", "not a JSON object"),
        ("owner", &"o".repeat(257), "256"),
    ] {
        let mut wrong = fields.clone();
        wrong.retain(|(field, _)| *field != name);
        wrong.push((name, value));
        let sent = post_loaded(&app, "root", &action, &form.hidden(&action), &wrong).await;
        assert_eq!(sent.status, 422, "{name} {}", sent.text);
        let text = sent.text.to_lowercase();
        assert!(
            text.contains(&fault.to_lowercase()),
            "{fault} {}",
            sent.text
        );
    }
    let sent = post_loaded(&app, "root", &action, &form.hidden(&action), &fields).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    let record = manager.get(key.id()).await.unwrap();
    assert_eq!(record.owner.as_deref(), Some("globex"));
    assert_eq!(record.environment.as_deref(), Some("test"));
    assert_eq!(record.limits.len(), 2);
    assert_eq!(record.metadata["plan"], "pro");

    // The form shows them as they were typed.
    let form = get(&app, "root", &action).await;
    assert!(
        form.text
            .contains("daily = quota 1000/day\nminute = rate 10/minute")
    );
    let sent = post_loaded(
        &app,
        "root",
        &action,
        &form.hidden(&action),
        &typed("ci", &[]),
    )
    .await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    let record = manager.get(key.id()).await.unwrap();
    assert_eq!(
        (record.owner, record.limits.len()),
        (Some("globex".to_owned()), 2)
    );
}

async fn record(manager: &ApiKeyManager, key: &apikey_runtime::NewKey) -> KeyRecord {
    manager.get(key.id()).await.unwrap()
}

#[actix_web::test]
async fn two_people_change_one_key_and_one_wins() {
    let manager = manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let action = format!("/keys/{}/edit", key.id());
    let of_alice = get(&app, "alice", &action).await.hidden(&action);
    let of_root = get(&app, "root", &action).await.hidden(&action);
    let winner = post_loaded(&app, "root", &action, &of_root, &admin("of root")).await;
    assert_eq!(winner.status, 303, "{}", winner.text);

    let loser = post_loaded(&app, "alice", &action, &of_alice, &typed("of alice", &[])).await;
    assert_eq!(loser.status, 409);
    assert_eq!(record(&manager, &key).await.label, "of root");
    // What she wrote is there, and what the key says now.
    for part in [
        "Changed meanwhile",
        "value=\"of alice\"",
        "<dd>of root</dd>",
    ] {
        assert!(loser.text.contains(part), "{part} is not in {}", loser.text);
    }
    assert!(!loser.text.contains("<dt>Scopes</dt>"), "{}", loser.text);
    // She has seen it, and sends hers again.
    let hidden = loser.hidden(&action);
    let sent = post_loaded(&app, "alice", &action, &hidden, &typed("of alice", &[])).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    assert_eq!(record(&manager, &key).await.label, "of alice");
    // A form that is sent twice has nothing more to say.
    let sent = post_loaded(&app, "alice", &action, &hidden, &typed("of alice", &[])).await;
    assert_eq!(sent.status, 409);
    assert!(
        sent.text.contains("says already what you wrote"),
        "{}",
        sent.text
    );
}

#[actix_web::test]
async fn an_end_that_lost_a_race_is_not_said_to_be_there() {
    let manager = manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let action = format!("/keys/{}/edit", key.id());
    let hidden = get(&app, "alice", &action).await.hidden(&action);
    manager.disable(key.id()).await.unwrap();
    let fields = [("label", "ci"), ("end", "86400")];
    let sent = post_loaded(&app, "alice", &action, &hidden, &fields).await;
    assert_eq!(sent.status, 409);
    for part in [
        "<dt>End</dt><dd>does not expire</dd>",
        "value=\"86400\" checked",
    ] {
        assert!(sent.text.contains(part), "{part} is not in {}", sent.text);
    }
    let sent = post_loaded(&app, "alice", &action, &sent.hidden(&action), &fields).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    assert!(record(&manager, &key).await.expires.is_some());
}

#[actix_web::test]
async fn a_last_day_beside_another_end_is_not_dropped() {
    let manager = manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let action = format!("/keys/{}/edit", key.id());
    let form = get(&app, "alice", &action).await;
    let before = record(&manager, &key).await;
    for end in ["", "never", "86400"] {
        let fields = [("label", "kept"), ("end", end), ("date", "2099-12-31")];
        let sent = post_loaded(&app, "alice", &action, &form.hidden(&action), &fields).await;
        assert_eq!(sent.status, 422, "{end}");
        let chosen = format!("value=\"{end}\" checked");
        for part in [
            "A last day is written, and another end is chosen.",
            "value=\"kept\"",
            "value=\"2099-12-31\"",
            &chosen,
        ] {
            assert!(sent.text.contains(part), "{part} is not in {}", sent.text);
        }
    }
    assert_eq!(record(&manager, &key).await, before);
    // Control: the day is the choice.
    let fields = [("label", "ci"), ("end", "date"), ("date", "2099-12-31")];
    let sent = post_loaded(&app, "alice", &action, &form.hidden(&action), &fields).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    let end = record(&manager, &key).await.expires.unwrap().to_string();
    assert!(end.starts_with("2100-01-01T00:00:00"), "{end}");
}

fn admin(label: &str) -> Vec<(&'static str, &str)> {
    let mut fields = typed(label, &[]);
    let others = [
        ("owner", "acme"),
        ("environment", ""),
        ("limits", ""),
        ("metadata", ""),
    ];
    fields.extend(others);
    fields
}

#[actix_web::test]
async fn each_form_is_for_the_version_that_it_was_shown_with() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    for (page, form, fields) in [
        ("", "/disable", vec![]),
        ("/rotate", "/rotate", vec![("grace", "0")]),
        ("/revoke", "/revoke", vec![("sure", "yes")]),
    ] {
        let key = manager.create("ci").owner("acme").await.unwrap();
        let path = format!("/keys/{}", key.id());
        let action = format!("{path}{form}");
        let hidden = get(&app, "alice", &format!("{path}{page}"))
            .await
            .hidden(&action);
        manager.update(key.id()).label("other").await.unwrap();
        let before = record(&manager, &key).await;
        let sent = post_loaded(&app, "alice", &action, &hidden, &fields).await;
        assert_eq!(sent.status, 409, "{form} {}", sent.text);
        assert!(sent.text.contains("Changed meanwhile"), "{}", sent.text);
        assert!(
            sent.text.contains(&format!("{MOUNT}{path}\"")),
            "{}",
            sent.text
        );
        assert_eq!(record(&manager, &key).await, before);
    }
}

/// The key was given away after the form was shown.
#[actix_web::test]
async fn a_key_that_was_given_away_is_not_changed_by_its_former_owner() {
    let manager = manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let action = format!("/keys/{}/edit", key.id());
    let hidden = get(&app, "alice", &action).await.hidden(&action);
    manager.update(key.id()).owner("globex").await.unwrap();
    let before = record(&manager, &key).await;
    let sent = post_loaded(&app, "alice", &action, &hidden, &typed("mine", &[])).await;
    assert_eq!(sent.status, 404);
    assert_eq!(record(&manager, &key).await, before);
    // What happened while it was another's is not told to its new owner, nor whose it was.
    let page = get(&app, "bob", &format!("/keys/{}", key.id())).await.text;
    assert!(
        !page.contains("acme") && !page.contains("Key created"),
        "{page}"
    );
}
