//! New keys, and the page of a secret.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::test::TestRequest;
use apikey_portal::{BoxError, Grants, Person, Portal, PortalAuth};
use apikey_runtime::audit::{AuditAction, ChangeChannel};
use apikey_runtime::{ApiKeyManager, Config, KeyRecord, MemoryStore, Scopes};
use apikey_test_support::manager_on;
use apikey_test_support::store::{Call, Fault, GateStore};

use crate::app::{
    Answer, ByHeader, MOUNT, app, get, manager, manager_with, portal, post, send, submit,
};

const DAY: Duration = Duration::from_secs(24 * 3_600);

async fn keys(manager: &ApiKeyManager) -> Vec<KeyRecord> {
    manager.list().await.unwrap().keys
}

/// Returns the secret that a page shows, which is there once.
fn secret(page: &Answer) -> String {
    let mark = "data-secret>";
    let at = page.text.find(mark).expect("a secret is shown") + mark.len();
    let secret = &page.text[at..];
    let secret = secret[..secret.find('<').unwrap()].to_owned();
    assert_eq!(page.text.matches(&secret).count(), 1);
    secret
}

#[actix_web::test]
async fn a_person_creates_a_key_and_sees_its_secret_once() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let fields = [
        ("label", "nightly backup"),
        ("description", "copies\r\norders"),
        ("scope", "hello:read"),
        ("scope", "orders:read"),
        ("environment", "live"),
        ("networks", "192.0.2.7\r\n2001:db8::/32"),
        ("method", "GET"),
        ("method", "POST"),
        ("end", "604800"),
    ];
    let page = submit(&app, "alice", "/new", "/new", &fields).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(page.header("cache-control"), "private, no-store");
    let secret = secret(&page);
    for part in [
        "readonly",
        "autocomplete=\"off\"",
        "role=\"status\"",
        "curl -H &#34;Authorization: Bearer $API_KEY&#34;",
    ] {
        let quoted = part.replace("&#34;", "\"");
        assert!(
            page.text.contains(part) || page.text.contains(&quoted),
            "{part}: {}",
            page.text
        );
    }
    assert!(
        manager.verify(&secret).await.is_err(),
        "the network is unknown here"
    );
    let [record] = &keys(&manager).await[..] else {
        panic!("one key");
    };
    assert_eq!(record.label, "nightly backup");
    assert_eq!(record.description.as_deref(), Some("copies orders"));
    assert_eq!(record.owner.as_deref(), Some("acme"));
    assert_eq!(record.created_by.as_deref(), Some("alice"));
    assert_eq!(record.environment.as_deref(), Some("live"));
    assert_eq!(record.networks.len(), 2);
    assert_eq!(record.methods, ["GET", "POST"]);
    assert_eq!(
        record.scopes,
        Scopes::new(["hello:read", "orders:read"]).unwrap()
    );
    let life = record.expires.unwrap().as_millis() - record.created.as_millis();
    assert_eq!(life, i64::try_from((7 * DAY).as_millis()).unwrap());
    let audit = manager.audit().await.unwrap();
    let entry = &audit.entries[0];
    assert_eq!(entry.action, AuditAction::Created);
    assert_eq!(entry.origin.channel, ChangeChannel::Page);
    // Neither the list nor another page has it.
    for path in ["", "/new", &format!("/keys/{}", record.id)] {
        assert!(
            !get(&app, "alice", path).await.text.contains(&secret),
            "{path}"
        );
    }
}

#[actix_web::test]
async fn the_least_form_creates_a_key_that_works() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let page = submit(&app, "alice", "/new", "/new", &[("label", "ci")]).await;
    let key = manager.verify(&secret(&page)).await.unwrap();
    assert_eq!(key.label(), "ci");
    assert_eq!(keys(&manager).await[0].expires, None);
}

/// Also when the form comes to another node, after a restart, and when it would not be accepted any more.
#[actix_web::test]
async fn a_repeated_form_creates_one_key() {
    let store = Arc::new(MemoryStore::new());
    let config = Config::builder().max_keys_per_owner(1).build().unwrap();
    let first = manager_with(config.clone(), store.clone()).await;
    let app_1 = app(portal(&first)).await;
    let token = get(&app_1, "alice", "/new").await.token("/new");
    let fields = [("label", "ci"), ("token", token.as_str())];
    let page = post(&app_1, "alice", "/new", &fields).await;
    assert_eq!(page.status, 200);
    let secret = secret(&page);
    let second = manager_with(config, store.clone()).await;
    let app_2 = app(portal(&second)).await;
    // Another text in the same form is a repeat too.
    let changed = [("label", ""), ("token", token.as_str())];
    for (answer, form) in [
        (post(&app_1, "alice", "/new", &fields).await, "same"),
        (post(&app_2, "alice", "/new", &fields).await, "other node"),
        (post(&app_2, "alice", "/new", &changed).await, "changed"),
    ] {
        assert_eq!(answer.status, 409, "{form}: {}", answer.text);
        assert!(answer.text.contains("shown once") && answer.text.contains("rotate the key"));
        assert!(!answer.text.contains(&secret));
        let id = keys(&second).await[0].id;
        assert!(
            answer.text.contains(&format!("{MOUNT}/keys/{id}")),
            "{form}"
        );
    }
    assert_eq!(keys(&second).await.len(), 1);
    // Control: another form is another key, for which there is no room.
    let other = submit(&app_2, "alice", "/new", "/new", &[("label", "ci")]).await;
    assert_eq!(other.status, 422);
    assert!(
        other
            .text
            .contains("The owner has 1 live key, and may not have more"),
        "{}",
        other.text
    );
}

#[actix_web::test]
async fn two_equal_forms_at_once_create_one_key() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let token = get(&app, "alice", "/new").await.token("/new");
    let fields = [("label", "ci"), ("token", token.as_str())];
    let both = futures_util::future::join(
        post(&app, "alice", "/new", &fields),
        post(&app, "alice", "/new", &fields),
    );
    let (one, other) = both.await;
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(keys(&manager).await.len(), 1);
}

#[actix_web::test]
async fn all_faults_are_said_at_once_and_no_input_is_lost() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let fields = [
        ("label", ""),
        ("description", "why \"so\" <b>"),
        ("scope", "orders:read"),
        ("scope", "orders:fly"),
        ("environment", "test"),
        ("networks", "192.0.2.0/24\r\nhere"),
        ("method", "PUT"),
        ("end", "date"),
        ("date", "2020-01-01"),
    ];
    let page = submit(&app, "alice", "/new", "/new", &fields).await;
    assert_eq!(page.status, 422);
    for part in [
        "Write a name",
        "The scope orders:fly cannot be chosen here",
        "here is not a network",
        "The last day is over",
        "why &#34;so&#34; &#60;b&#62;</textarea>",
        "value=\"orders:read\" checked",
        "value=\"test\"",
        "192.0.2.0/24\r\nhere</textarea>",
        "value=\"PUT\" checked",
        "value=\"date\" checked",
        "value=\"2020-01-01\"",
        "data-fault",
        "<details class=\"more\" open>",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert_eq!(keys(&manager).await.len(), 0);
    // The runtime's own bounds, as a sentence; the same form goes on.
    let long = "x".repeat(300);
    let token = page.token("/new");
    let fields = [("label", long.as_str()), ("token", &token)];
    let page = post(&app, "alice", "/new", &fields).await;
    assert_eq!(page.status, 422);
    assert!(
        page.text
            .contains("The label has 300 bytes; write 1 to 256."),
        "{}",
        page.text
    );
    let fields = [("label", "ci"), ("token", &token)];
    assert_eq!(post(&app, "alice", "/new", &fields).await.status, 200);
}

#[actix_web::test]
async fn a_person_gives_only_scopes_that_they_may_give() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", "/new").await;
    assert!(page.text.contains("value=\"hello:read\">"), "{}", page.text);
    assert!(
        page.text.contains("value=\"orders:write\" disabled>"),
        "{}",
        page.text
    );
    let fields = [
        ("label", "wide"),
        ("scope", "hello:read"),
        ("scope", "orders:write"),
    ];
    let refused = submit(&app, "alice", "/new", "/new", &fields).await;
    assert_eq!(refused.status, 403);
    assert_eq!(keys(&manager).await.len(), 0);
    // Control: an admin may, and for any owner.
    let mut fields = fields.to_vec();
    fields.push(("owner", "globex"));
    let page = submit(&app, "root", "/new", "/new", &fields).await;
    assert_eq!(page.status, 200);
    assert_eq!(keys(&manager).await[0].owner.as_deref(), Some("globex"));
    let page = submit(&app, "root", "/new", "/new", &[("label", "nobody's")]).await;
    assert_eq!(page.status, 200);
    assert_eq!(keys(&manager).await.len(), 2);
}

#[actix_web::test]
async fn each_person_may_create_for_their_owners() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    for (name, status) in [
        ("", 403),
        ("rita", 403),
        ("alice", 200),
        ("bob", 200),
        ("root", 200),
    ] {
        assert_eq!(get(&app, name, "/new").await.status, status, "{name}");
    }
    let token = get(&app, "alice", "/new").await.token("/new");
    let fields = [("label", "x"), ("token", token.as_str())];
    for (name, status) in [("", 403), ("rita", 403), ("bob", 403), ("root", 403)] {
        let answer = post(&app, name, "/new", &fields).await;
        assert_eq!(answer.status, status, "{name}: the token is Alice's");
    }
    let other = [("label", "x"), ("owner", "globex")];
    assert_eq!(
        submit(&app, "alice", "/new", "/new", &other).await.status,
        404
    );
    assert_eq!(keys(&manager).await.len(), 0);
    // Control.
    assert_eq!(post(&app, "alice", "/new", &fields).await.status, 200);
}

#[actix_web::test]
async fn a_forged_form_creates_nothing() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let token = get(&app, "alice", "/new").await.token("/new");
    let form = || {
        let fields = [("label", "x"), ("token", token.as_str())];
        TestRequest::default().method(Method::POST).set_form(fields)
    };
    for (header, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "http://localhost:8081"),
        ("origin", "null"),
        ("x-nothing", ""),
        ("authorization", "Bearer x"),
    ] {
        let request = form().insert_header((header, value));
        let answer = send(&app, "alice", request, "/new").await;
        assert_eq!(answer.status, 403, "{header}: {value}");
    }
    for token in ["", "0.0.0", &token[1..]] {
        let answer = post(&app, "alice", "/new", &[("label", "x"), ("token", token)]).await;
        assert_eq!(answer.status, 403, "{token}");
    }
    assert_eq!(keys(&manager).await.len(), 0);
    // Control.
    let request = form().insert_header(("sec-fetch-site", "same-origin"));
    assert_eq!(send(&app, "alice", request, "/new").await.status, 200);
}

/// The person has these owners.
struct Of(&'static [&'static str]);

impl PortalAuth for Of {
    async fn person(&self, _: &actix_web::HttpRequest) -> Result<Option<Person>, BoxError> {
        let mut person = Person::new("dana").with_grants(Grants::All);
        for owner in self.0 {
            person = person.with_owner(*owner);
        }
        Ok(Some(person))
    }
}

#[actix_web::test]
async fn a_person_with_several_owners_chooses_one() {
    let manager = manager().await;
    let several = app(Portal::new(manager.clone(), Of(&["acme", "globex"]))).await;
    let page = submit(&several, "dana", "/new", "/new", &[("label", "x")]).await;
    assert_eq!(page.status, 422);
    assert!(
        page.text.contains("Choose the owner of the key."),
        "{}",
        page.text
    );
    let fields = [("label", "x"), ("owner", "globex")];
    assert_eq!(
        submit(&several, "dana", "/new", "/new", &fields)
            .await
            .status,
        200
    );
    let [key] = &keys(&manager).await[..] else {
        panic!("one key");
    };
    assert_eq!(key.owner.as_deref(), Some("globex"));
    // The blanks around an owner belong to it.
    let blanks = app(Portal::new(manager.clone(), Of(&["acme", " acme"]))).await;
    let fields = [("label", "y"), ("owner", " acme")];
    let page = submit(&blanks, "dana", "/new", "/new", &fields).await;
    assert_eq!(page.status, 200);
    for (query, count) in [("?owner=%20acme", 1), ("?owner=acme", 0)] {
        let page = get(&blanks, "dana", query).await;
        assert_eq!(page.text.matches("<th scope=\"row\">").count(), count);
    }
    let nobodys = app(Portal::new(manager.clone(), Of(&[]))).await;
    assert_eq!(get(&nobodys, "dana", "/new").await.status, 403);
}

#[actix_web::test]
async fn the_policy_decides_which_ends_are_offered() {
    let config = Config::builder()
        .max_lifetime(30 * DAY)
        .default_lifetime(7 * DAY);
    let manager = manager_with(config.build().unwrap(), Arc::new(MemoryStore::new())).await;
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", "/new").await;
    assert!(
        page.text.contains("value=\"604800\" checked> in 7 days"),
        "{}",
        page.text
    );
    assert!(
        page.text.contains("value=\"2592000\"> in 30 days"),
        "{}",
        page.text
    );
    assert!(page.text.contains("A key may live for at most 30 days."));
    for longer in ["value=\"7776000\"", "value=\"never\""] {
        assert!(!page.text.contains(longer), "{longer}");
    }
    for (end, status) in [("never", 422), ("7776000", 422), ("2592000", 200)] {
        let fields = [("label", "x"), ("end", end)];
        let page = submit(&app, "alice", "/new", "/new", &fields).await;
        assert_eq!(page.status, status, "{end}: {}", page.text);
    }
    assert_eq!(keys(&manager).await.len(), 1);
}

#[actix_web::test]
async fn a_store_that_is_down_is_said_and_the_form_may_be_sent_again() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let app = app(portal(&manager)).await;
    let token = get(&app, "alice", "/new").await.token("/new");
    let fields = [("label", "x"), ("token", token.as_str())];
    store.fail(Call::Insert, Fault::Unavailable);
    let page = post(&app, "alice", "/new", &fields).await;
    assert_eq!(page.status, 503);
    let unknown = "not known whether the key was created";
    assert!(page.text.contains(unknown), "{}", page.text);
    store.heal();
    assert_eq!(post(&app, "alice", "/new", &fields).await.status, 200);
    assert_eq!(keys(&manager).await.len(), 1);
    // The answer is lost after the key was stored: the page does not say that nothing was changed.
    let token = get(&app, "alice", "/new").await.token("/new");
    let fields = [("label", "y"), ("token", token.as_str())];
    store.fail(Call::Insert, Fault::AnswerLost);
    let page = post(&app, "alice", "/new", &fields).await;
    assert_eq!(page.status, 503);
    assert!(page.text.contains(unknown) && !page.text.contains("Nothing was changed"));
    store.heal();
    let page = post(&app, "alice", "/new", &fields).await;
    assert_eq!(page.status, 409);
    assert!(page.text.contains("unless the answer was lost"));
    assert_eq!(keys(&manager).await.len(), 2);
}

#[actix_web::test]
async fn hostile_texts_are_texts() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let hostile = "'\"><script>alert(1)</script>";
    let fields = [
        ("label", hostile),
        ("description", hostile),
        ("networks", hostile),
    ];
    let page = submit(&app, "alice", "/new", "/new", &fields).await;
    assert_eq!(page.status, 422);
    assert!(!page.text.contains("<script>") && page.text.contains("&#60;script&#62;"));
    let fields = [("label", hostile), ("description", hostile)];
    let page = submit(&app, "alice", "/new", "/new", &fields).await;
    assert_eq!(page.status, 200);
    assert!(!page.text.contains("<script>") && page.text.contains("&#60;script&#62;"));
    // Marks of direction are rejected.
    let fields = [("label", "a\u{202e}b")];
    let page = submit(&app, "alice", "/new", "/new", &fields).await;
    assert_eq!(page.status, 422);
    assert!(page.text.contains("U+202E"), "{}", page.text);
}

#[actix_web::test]
async fn the_example_has_the_header_of_the_configuration() {
    let config = Config::builder().header_name("X-Api-Key").build().unwrap();
    let manager = manager_with(config, Arc::new(MemoryStore::new())).await;
    let app = app(portal(&manager)).await;
    let page = submit(&app, "alice", "/new", "/new", &[("label", "x")]).await;
    assert!(
        page.text.to_lowercase().contains("x-api-key: $api_key"),
        "{}",
        page.text
    );
}

#[actix_web::test]
async fn a_key_without_scopes_says_so() {
    let manager = manager().await;
    let all = app(portal(&manager)).await;
    let told = "has no scope yet";
    for (scopes, is_told) in [(&[][..], true), (&[("scope", "hello:read")][..], false)] {
        let fields = [&[("label", "nightly"), ("end", "604800")], scopes].concat();
        let page = submit(&all, "alice", "/new", "/new", &fields).await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert_eq!(page.text.contains(told), is_told, "{}", page.text);
    }
    // Routes of an application without scopes demand none.
    let none = app(Portal::new(manager.clone(), ByHeader)).await;
    let fields = [("label", "nightly"), ("end", "604800")];
    let page = submit(&none, "alice", "/new", "/new", &fields).await;
    assert!(
        page.status == 200 && !page.text.contains(told),
        "{}",
        page.text
    );
}
