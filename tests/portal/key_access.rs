//! Who may do what with a key by its pages, and forged forms.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::test::TestRequest;
use apikey_runtime::testing::ManualClock;
use apikey_runtime::{ApiKeyManager, KeyId, MemoryStore, NewKey};

use crate::app::{Answer, MOUNT, app, get, manager, portal, post, post_loaded, send};

/// The pages of a key.
const PAGES: [&str; 4] = ["", "/edit", "/rotate", "/revoke"];

/// The forms that change a key: the page that has each, and where it is sent.
const FORMS: [(&str, &str); 5] = [
    ("/edit", "/edit"),
    ("", "/disable"),
    ("/rotate", "/rotate"),
    ("", "/end-grace"),
    ("/revoke", "/revoke"),
];

/// Creates a key whose old secret is in its grace.
async fn rotated(manager: &ApiKeyManager, label: &str) -> NewKey {
    let key = manager.create(label).owner("acme").await.unwrap();
    let grace = Duration::from_secs(7 * 24 * 3_600);
    manager.rotate(key.id()).grace(grace).await.unwrap()
}

/// What a person fills in; each form reads its own fields.
const TYPED: [(&str, &str); 4] = [
    ("label", "changed"),
    ("grace", "900"),
    ("reason", "spring cleaning"),
    ("sure", "yes"),
];

/// The record, and the number of its entries in the audit log.
async fn state(manager: &ApiKeyManager, id: KeyId) -> (apikey_runtime::KeyRecord, usize) {
    let entries = manager.audit().key(id).await.unwrap().entries.len();
    (manager.get(id).await.unwrap(), entries)
}

fn same(one: &Answer, other: &Answer) {
    assert_eq!(one.status, other.status);
    assert_eq!(one.text, other.text);
    let headers = |answer: &Answer| {
        let headers = answer.headers.iter();
        // Each request has its own.
        let headers = headers.filter(|(name, _)| *name != "x-request-id");
        let mut texts: Vec<_> = headers
            .map(|(name, value)| format!("{name}: {value:?}"))
            .collect();
        texts.sort();
        texts
    };
    assert_eq!(headers(one), headers(other));
}

#[actix_web::test]
async fn the_key_of_another_owner_is_answered_as_one_that_does_not_exist() {
    let manager = manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let ownerless = manager.create("ci").await.unwrap();
    let before = state(&manager, key.id()).await;
    let app = app(portal(&manager)).await;
    let none = KeyId::from_u128(7);
    for page in PAGES {
        let of = async |id: &str| get(&app, "bob", &format!("/keys/{id}{page}")).await;
        let missing = of(&none.to_string()).await;
        assert_eq!(missing.status, 404);
        for id in [
            key.id().to_string(),
            ownerless.id().to_string(),
            "x".to_owned(),
        ] {
            same(&of(&id).await, &missing);
        }
    }
    let token = get(&app, "alice", &format!("/keys/{}", key.id())).await;
    let token = token.token(&format!("/keys/{}/disable", key.id()));
    for (_, form) in FORMS.into_iter().chain([("", "/enable")]) {
        for fields in [vec![], vec![("token", token.as_str()), ("version", "1")]] {
            let of =
                async |id: KeyId| post(&app, "bob", &format!("/keys/{id}{form}"), &fields).await;
            let missing = of(none).await;
            assert_eq!(missing.status, 404, "{form}");
            same(&of(key.id()).await, &missing);
        }
    }
    assert_eq!(state(&manager, key.id()).await, before);
}

#[actix_web::test]
async fn each_route_is_for_those_who_may() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    for (name, pages, forms) in [
        ("", [403; 4], 403),
        ("bob", [404; 4], 404),
        ("rita", [200, 403, 403, 403], 403),
        ("demoted", [200, 403, 403, 403], 403),
        ("alice", [200; 4], 0),
        ("root", [200; 4], 0),
    ] {
        for ((page, form), expected) in FORMS.into_iter().zip([303, 303, 200, 303, 200]) {
            let key = rotated(&manager, "ci").await;
            let path = format!("/keys/{}", key.id());
            for (page, status) in PAGES.into_iter().zip(pages) {
                let answer = get(&app, name, &format!("{path}{page}")).await;
                assert_eq!(answer.status, status, "{name} {page}");
                if forms == 403 {
                    assert!(!answer.text.contains("method=\"post\""));
                    assert!(PAGES[1..].iter().all(|page| !answer.text.contains(page)));
                }
            }
            let before = state(&manager, key.id()).await;
            let action = format!("{path}{form}");
            // With the token of somebody who may, or with their own: the demoted one has hers from before.
            let who = if forms == 0 { name } else { "alice" };
            let hidden = get(&app, who, &format!("{path}{page}"))
                .await
                .hidden(&action);
            let sent = post_loaded(&app, name, &action, &hidden, &TYPED).await;
            let status = if forms == 0 { expected } else { forms };
            assert_eq!(sent.status, status, "{name} {form} {}", sent.text);
            assert_eq!(
                sent.text.contains("Your role does not"),
                forms == 403 && !name.is_empty(),
                "{name} {form}"
            );
            let after = state(&manager, key.id()).await;
            assert_eq!(before == after, forms != 0, "{name} {form}");
            if forms == 0 {
                let page = manager.audit().key(key.id()).await.unwrap();
                let origin = &page.entries[0].origin;
                assert_eq!(origin.actor.as_deref(), Some(name));
                assert_eq!(origin.channel.code(), "page");
            }
        }
    }
}

#[actix_web::test]
async fn no_get_changes_anything() {
    let manager = manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let before = state(&manager, key.id()).await;
    let app = app(portal(&manager)).await;
    for name in ["", "bob", "rita", "alice", "root"] {
        for page in PAGES
            .into_iter()
            .chain(["/disable", "/enable", "/end-grace"])
        {
            let query = "?sure=yes&grace=0&label=x&version=1";
            for query in ["", query] {
                get(&app, name, &format!("/keys/{}{page}{query}", key.id())).await;
            }
        }
    }
    assert_eq!(state(&manager, key.id()).await, before);
}

/// A request to send, as a browser of another site makes it.
fn from(headers: &[(&'static str, &'static str)]) -> TestRequest {
    let request = TestRequest::default().method(Method::POST);
    headers
        .iter()
        .fold(request, |request, header| request.insert_header(*header))
}

#[actix_web::test]
async fn a_forged_form_is_refused_and_changes_nothing() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = ApiKeyManager::builder()
        .shared_store(Arc::new(MemoryStore::new()))
        .clock(Arc::clone(&clock) as Arc<_>)
        .start()
        .await
        .unwrap();
    let app = app(portal(&manager)).await;
    let key = rotated(&manager, "ci").await;
    let other = rotated(&manager, "other").await;
    let path = format!("/keys/{}", key.id());
    let before = state(&manager, key.id()).await;
    for (page, form) in FORMS {
        let action = format!("{path}{form}");
        let load = async |name: &str| {
            get(&app, name, &format!("{path}{page}"))
                .await
                .hidden(&action)
        };
        let own = load("alice").await;
        // Of another site.
        let fields: Vec<_> = own
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(TYPED)
            .collect();
        for headers in [
            &[][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "https://evil.example")],
            &[("origin", "http://localhost:8081")],
            &[("origin", "null")],
        ] {
            let sent = send(&app, "alice", from(headers).set_form(&fields), &action).await;
            assert_eq!(sent.status, 403, "{form} {headers:?}");
        }
        // Of another person, another key, another form, none; one that was changed.
        let of_other = format!("/keys/{}{page}", other.id());
        let of_other = get(&app, "alice", &of_other).await;
        let of_other = of_other.token(&format!("/keys/{}{form}", other.id()));
        let elsewhere = FORMS.into_iter().find(|(_, other)| *other != form).unwrap();
        let of_form = get(&app, "alice", &format!("{path}{}", elsewhere.0)).await;
        let of_form = of_form.token(&format!("{path}{}", elsewhere.1));
        let mut changed = token(&own).to_owned();
        changed.replace_range(0..1, if changed.starts_with('1') { "2" } else { "1" });
        let of_root = load("root").await;
        for bad in [token(&of_root), &of_other, &of_form, &changed, "", "x.y.z"] {
            let hidden = with_token(&own, bad);
            let sent = post_loaded(&app, "alice", &action, &hidden, &TYPED).await;
            assert_eq!(sent.status, 403, "{form} {bad}");
            assert!(sent.text.contains("Form expired"), "{}", sent.text);
        }
        // Too old.
        clock.advance(Duration::from_secs(12 * 3_600));
        let sent = post_loaded(&app, "alice", &action, &own, &TYPED).await;
        assert_eq!(sent.status, 403, "{form}");
        assert_eq!(state(&manager, key.id()).await, before, "{form}");
    }
    // Control: each of these forms is accepted as it is shown.
    for (page, form) in FORMS {
        let action = format!("{path}{form}");
        let hidden = get(&app, "alice", &format!("{path}{page}"))
            .await
            .hidden(&action);
        let sent = post_loaded(&app, "alice", &action, &hidden, &TYPED).await;
        assert!(
            matches!(sent.status.as_u16(), 200 | 303),
            "{form} {}",
            sent.text
        );
    }
}

fn token(hidden: &[(String, String)]) -> &str {
    let found = hidden.iter().find(|(name, _)| name == "token");
    &found.unwrap().1
}

fn with_token(hidden: &[(String, String)], token: &str) -> Vec<(String, String)> {
    let others = hidden.iter().filter(|(name, _)| name != "token").cloned();
    others
        .chain([("token".to_owned(), token.to_owned())])
        .collect()
}

/// The order of checks: a form that cannot be read does not tell a stranger that a key exists.
#[actix_web::test]
async fn what_a_form_says_is_read_after_the_person_may() {
    let manager = manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    for (name, status) in [("", 403), ("bob", 404), ("rita", 403), ("alice", 400)] {
        let request = from(&[
            ("sec-fetch-site", "same-origin"),
            ("content-type", "text/plain"),
        ]);
        let path = format!("/keys/{}/rotate", key.id());
        let sent = send(&app, name, request.set_payload("x"), &path).await;
        assert_eq!(sent.status, status, "{name}");
    }
    // A form without its version.
    let path = format!("/keys/{}", key.id());
    let token = get(&app, "alice", &path).await;
    let token = token.token(&format!("{path}/disable"));
    let sent = post(
        &app,
        "alice",
        &format!("{path}/disable"),
        &[("token", &token)],
    )
    .await;
    assert_eq!(sent.status, 400);
    assert!(MOUNT.starts_with('/') && manager.get(key.id()).await.unwrap().enabled);
}

/// An address that cannot be read is told to those who may see the page, and to nobody else.
#[actix_web::test]
async fn what_an_address_asks_is_read_after_the_person_may() {
    let manager = manager().await;
    manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let twice = "?owner=acme&owner=acme&q=a&q=a";
    for path in ["", "/audit", "/audit.csv", "/audit.json"] {
        let path = format!("{path}{twice}");
        for (name, status) in [("", 403), ("alice", 400), ("root", 400)] {
            assert_eq!(get(&app, name, &path).await.status, status, "{name} {path}");
        }
    }
    let missing = get(&app, "alice", "/nothing").await;
    for page in ["", "/owner", "/keys", "/unused"] {
        let path = format!("/admin{page}{twice}");
        assert_eq!(get(&app, "", &path).await.status, 403, "{path}");
        same(&get(&app, "alice", &path).await, &missing);
        assert_eq!(get(&app, "root", &path).await.status, 400, "{path}");
    }
}
