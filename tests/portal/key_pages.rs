//! The page of a key: what it says, and to whom; hostile texts; a store that is down.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::testing::ManualClock;
use apikey_runtime::{ApiKeyManager, KeyId, MemoryStore, Quota, Rate};
use apikey_test_support::store::{Call, Fault, GateStore, RecordsOnly};

use crate::app::{MOUNT, app, get, manager, portal, post_loaded};

const HOUR: Duration = Duration::from_secs(3_600);

#[actix_web::test]
async fn a_page_says_all_that_is_known_of_a_key() {
    let manager = manager().await;
    let key = manager
        .create("nightly backup")
        .description("copies the orders")
        .owner("acme")
        .scopes(["hello:read", "orders:read"])
        .environment("live")
        .networks(["127.0.0.0/8".parse().unwrap()])
        .methods(["GET"])
        .limits_of_test()
        .expires_in(6 * 24 * HOUR + HOUR)
        .actor("anna")
        .await
        .unwrap();
    for _ in 0..3 {
        manager.verify(key.expose_secret()).await.unwrap_err();
    }
    manager
        .update(key.id())
        .networks([])
        .methods(Vec::<String>::new())
        .actor("ben")
        .await
        .unwrap();
    for _ in 0..2 {
        manager.verify(key.expose_secret()).await.unwrap();
    }
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", &format!("/keys/{}", key.id())).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let beginning = format!("_{}\u{2026}", key.id());
    for part in [
        "nightly backup",
        "copies the orders",
        "acme",
        "<code>hello:read</code>",
        "<code>orders:read</code>",
        "live",
        ">active<",
        ">ends in 6 days<",
        "by anna",
        "<dt>Changed</dt><dd>once",
        "by ben",
        "Last used",
        "just now",
        &beginning,
        // Usage, as a picture and as a table.
        "role=\"img\"",
        "<title>nightly backup: 2 allowed and 3 denied in 30 days</title>",
        "<td>2</td><td>3</td>",
        "checked by the application itself",
        "address not permitted 3",
        // Limits.
        "quota 100/day",
        ">98 of 100</td>",
        "rate 10/minute",
        // Its audit.
        "Key created",
        "Key changed",
        &format!("{MOUNT}/audit?key={}&amp;owner=acme", key.id()),
        // What may be done.
        &format!("{MOUNT}/keys/{}/edit", key.id()),
        &format!("{MOUNT}/keys/{}/rotate", key.id()),
        &format!("{MOUNT}/keys/{}/revoke", key.id()),
        &format!("action=\"{MOUNT}/keys/{}/disable\"", key.id()),
    ] {
        assert!(page.text.contains(part), "{part} is not in {}", page.text);
    }
    let secret = key.expose_secret().rsplit('_').next().unwrap();
    assert!(!page.text.contains(secret));
    assert!(!page.text.contains("style=") && !page.text.contains("/enable\""));
}

trait LimitsOfTest {
    fn limits_of_test(self) -> Self;
}

impl LimitsOfTest for apikey_runtime::manager::CreateKey {
    fn limits_of_test(self) -> Self {
        self.limit("daily", Quota::per_day(100))
            .limit("minute", Rate::per_minute(10))
    }
}

/// The one fact that says whether a grace may end.
#[actix_web::test]
async fn a_grace_shows_the_last_use_of_both_secrets() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = ApiKeyManager::builder()
        .shared_store(Arc::new(MemoryStore::new()))
        .clock(Arc::clone(&clock) as Arc<_>)
        .start()
        .await
        .unwrap();
    let old = manager.create("ci").owner("acme").await.unwrap();
    manager.verify(old.expose_secret()).await.unwrap();
    clock.advance(3 * HOUR);
    let new = manager.rotate(old.id()).grace(24 * HOUR).await.unwrap();
    let app = app(portal(&manager)).await;
    let path = format!("/keys/{}", old.id());

    let page = get(&app, "alice", &path).await.text;
    assert!(page.contains("Two secrets work"), "{page}");
    assert!(page.contains("24 hours from now"), "{page}");
    assert!(
        page.contains(">3 hours ago</time>") && page.contains("New secret: it was not used yet"),
        "{page}"
    );

    manager.verify(new.expose_secret()).await.unwrap();
    clock.advance(2 * HOUR);
    manager.verify(old.expose_secret()).await.unwrap();
    clock.advance(HOUR);
    let page = get(&app, "alice", &path).await.text;
    let old_use = page.find("Old secret: last used").unwrap();
    let new_use = page.find("New secret: last used").unwrap();
    assert!(page[old_use..new_use].contains(">1 hour ago<"), "{page}");
    assert!(
        page[new_use..new_use + 200].contains(">3 hours ago<"),
        "{page}"
    );

    // It is ended by those who may, at once or by the time.
    let end = format!("{path}/end-grace");
    let page = get(&app, "rita", &path).await.text;
    assert!(page.contains("Two secrets work") && !page.contains(&end));
    let hidden = get(&app, "alice", &path).await.hidden(&end);
    let sent = post_loaded(&app, "alice", &end, &hidden, &[]).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    assert!(manager.verify(old.expose_secret()).await.is_err());
    assert!(manager.verify(new.expose_secret()).await.is_ok());
    let page = get(&app, "alice", &path).await.text;
    assert!(!page.contains("Two secrets work") && !page.contains(&end));
    // A grace that began since is another one.
    manager.rotate(old.id()).grace(24 * HOUR).await.unwrap();
    let sent = post_loaded(&app, "alice", &end, &hidden, &[]).await;
    assert_eq!(sent.status, 409, "{}", sent.text);
    assert!(manager.verify(new.expose_secret()).await.is_ok());

    clock.advance(24 * HOUR);
    let page = get(&app, "alice", &path).await.text;
    assert!(!page.contains("Two secrets work") && !page.contains(&end));
}

#[actix_web::test]
async fn a_state_is_told_in_words_and_offers_what_helps() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let new = async |label: &str| manager.create(label).owner("acme").await.unwrap().id();
    let page = async |id: KeyId| get(&app, "alice", &format!("/keys/{id}")).await.text;

    let disabled = new("disabled").await;
    manager.disable(disabled).await.unwrap();
    let text = page(disabled).await;
    assert!(text.contains(">disabled<") && text.contains("until it is enabled"));
    assert!(text.contains("/enable\"") && !text.contains("/disable\""));

    let revoked = new("revoked").await;
    let call = manager.revoke(revoked).reason("it leaked");
    call.await.unwrap();
    let text = page(revoked).await;
    assert!(text.contains(">revoked<") && text.contains("it leaked"));
    for action in ["edit", "rotate", "revoke", "enable", "disable"] {
        assert!(!text.contains(&format!("{revoked}/{action}")), "{action}");
    }

    let suspended = new("suspended").await;
    manager.suspend_owner("acme").await.unwrap();
    let text = page(suspended).await;
    assert!(text.contains(">suspended<") && text.contains("resumes the owner"));
}

#[actix_web::test]
async fn hostile_texts_are_texts_on_each_page() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    for text in [
        "'\"><script>alert(1)</script>",
        "</title></svg><img src=x onerror=alert(1)>",
        "{{ 7*7 }} &lt; ${7*7}",
        "javascript:alert(1)",
        &"\u{fdfd}".repeat(85),
    ] {
        let key = manager
            .create(text)
            .description(text)
            .owner(text)
            .actor(text)
            .await
            .unwrap();
        manager.verify(key.expose_secret()).await.unwrap();
        let path = format!("/keys/{}", key.id());
        let forms = ["", "/edit", "/rotate", "/revoke"];
        for form in forms {
            let page = get(&app, "root", &format!("{path}{form}")).await;
            assert_eq!(page.status, 200, "{text}");
            check_texts(&page.text, text);
        }
        // What was typed comes back as a text too.
        let revoke = format!("{path}/revoke");
        let hidden = get(&app, "root", &revoke).await.hidden(&revoke);
        let typed = [("reason", text)];
        let page = post_loaded(&app, "root", &revoke, &hidden, &typed).await;
        assert_eq!(page.status, 422);
        check_texts(&page.text, text);
        let edit = format!("{path}/edit");
        let hidden = get(&app, "root", &edit).await.hidden(&edit);
        let typed = [
            ("label", text),
            ("networks", text),
            ("limits", text),
            ("metadata", text),
            ("scope", text),
            ("owner", text),
            ("date", text),
            ("end", text),
        ];
        let page = post_loaded(&app, "root", &edit, &hidden, &typed).await;
        assert_eq!(page.status, 422, "{}", page.text);
        check_texts(&page.text, text);
        let typed = [("reason", text), ("sure", "yes")];
        let hidden = get(&app, "root", &revoke).await.hidden(&revoke);
        let page = post_loaded(&app, "root", &revoke, &hidden, &typed).await;
        assert_eq!(page.status, 200, "{}", page.text);
        check_texts(&page.text, text);
        check_texts(&get(&app, "root", &path).await.text, text);
    }
}

/// A text with a character of markup is nowhere as it is.
fn check_texts(page: &str, text: &str) {
    assert!(!page.contains("<script>alert"), "{page}");
    assert!(!page.contains("<img"), "{page}");
    assert!(!page.contains("href=\"javascript:"), "{page}");
    let is_markup = text.contains(['<', '"']);
    assert!(!is_markup || !page.contains(text), "{page}");
    assert_eq!(page.matches("</main>").count(), 1);
}

#[actix_web::test]
async fn a_store_that_is_down_is_told_with_503_and_nothing_is_changed() {
    let store = GateStore::new();
    let manager = apikey_test_support::manager_on(Arc::clone(&store) as Arc<_>).await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let before = manager.get(key.id()).await.unwrap();
    let app = app(portal(&manager)).await;
    let path = format!("/keys/{}", key.id());
    let revoke = format!("{path}/revoke");
    let hidden = get(&app, "alice", &revoke).await.hidden(&revoke);
    for call in [
        Call::Find,
        Call::Usage,
        Call::ReadAudit,
        Call::LastUsed,
        Call::Networks,
    ] {
        store.fail(call, Fault::Unavailable);
        let page = get(&app, "alice", &path).await;
        assert_eq!(page.status, 503, "{call:?}");
        assert!(page.text.contains("cannot be read at the moment"));
        store.heal();
    }
    store.fail(Call::Find, Fault::Unavailable);
    for form in ["/edit", "/rotate", "/revoke"] {
        let page = get(&app, "alice", &format!("{path}{form}")).await;
        assert_eq!(page.status, 503, "{form}");
    }
    let sent = post_loaded(&app, "alice", &revoke, &hidden, &[("sure", "yes")]).await;
    assert_eq!(sent.status, 503);
    store.heal();
    assert_eq!(manager.get(key.id()).await.unwrap(), before);
    // Control: the same form is accepted as soon as the store is up.
    let sent = post_loaded(&app, "alice", &revoke, &hidden, &[("sure", "yes")]).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
}

/// An answer that is lost may be that of a change that was made.
#[actix_web::test]
async fn it_is_told_that_a_change_may_have_been_made() {
    let store = GateStore::new();
    let manager = apikey_test_support::manager_on(Arc::clone(&store) as Arc<_>).await;
    let app = app(portal(&manager)).await;
    for (form, call, typed) in [
        ("revoke", Call::Revoke, &[("sure", "yes")][..]),
        ("rotate", Call::Update, &[("grace", "0")]),
        ("edit", Call::Update, &[("label", "new")]),
        ("disable", Call::Update, &[]),
    ] {
        let key = manager.create("ci").owner("acme").await.unwrap();
        let path = format!("/keys/{}", key.id());
        let action = format!("{path}/{form}");
        let page = if form == "disable" { &path } else { &action };
        let hidden = get(&app, "alice", page).await.hidden(&action);
        let before = manager.get(key.id()).await.unwrap();
        for fault in [Fault::Unavailable, Fault::AnswerLost] {
            store.fail(call, fault);
            let told = post_loaded(&app, "alice", &action, &hidden, typed).await;
            store.heal();
            if (form, fault) == ("rotate", Fault::AnswerLost) {
                // The store was asked what became of it, since nobody else has the new secret.
                assert_eq!(told.status, 200, "{}", told.text);
                continue;
            }
            assert_eq!(told.status, 503, "{form} {fault:?}");
            for part in ["not known whether", &format!("{MOUNT}{path}\"")] {
                assert!(told.text.contains(part), "{form} {fault:?}: {}", told.text);
            }
            assert!(!told.text.contains("Nothing was changed"));
            let after = manager.get(key.id()).await.unwrap();
            assert_eq!(after != before, fault == Fault::AnswerLost, "{form}");
        }
    }
}

/// What a store does not keep is not told as zero.
#[actix_web::test]
async fn a_page_of_a_store_without_usage_and_audit_says_what_is_known() {
    let manager = apikey_test_support::manager_on(Arc::new(RecordsOnly::default())).await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    manager.rotate(key.id()).grace(HOUR).await.unwrap();
    let app = app(portal(&manager).form_key([7; 32])).await;
    let page = get(&app, "alice", &format!("/keys/{}", key.id())).await;
    assert_eq!(page.status, 200, "{}", page.text);
    for part in [">active<", "does not keep usage", "Two secrets work"] {
        assert!(page.text.contains(part), "{part} is not in {}", page.text);
    }
    for part in ["Last used", "it was not used", "What happened"] {
        assert!(!page.text.contains(part), "{part} is in {}", page.text);
    }
}

#[actix_web::test]
async fn a_rotation_is_told_once() {
    let manager = manager().await;
    let key = manager.create("nightly").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let path = format!("/keys/{}", key.id());
    manager.rotate(key.id()).actor("anna").await.unwrap();
    let told = async || get(&app, "alice", &path).await.text;
    let page = told().await;
    assert!(page.contains("<dt>Rotated</dt><dd>once"), "{page}");
    assert!(!page.contains("<dt>Changed</dt>"), "{page}");
    assert!(page.contains("<dt>Last change</dt><dd>by anna"), "{page}");
    manager.update(key.id()).label("weekly").await.unwrap();
    let page = told().await;
    assert!(page.contains("<dt>Changed</dt><dd>once"), "{page}");
}
