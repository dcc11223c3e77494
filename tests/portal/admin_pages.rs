//! What admins do for one owner.

use actix_web::http::Method;
use actix_web::test::TestRequest;
use apikey_runtime::audit::{AuditAction, ChangeChannel};
use apikey_test_support::manager_on;
use apikey_test_support::store::{Call, Fault, GateStore, WithoutOwners};

use crate::app::{Answer, app, get, manager, portal, post, send, submit};

const REVOKE: &str = "/admin/owner/revoke";
const SUSPEND: &str = "/admin/owner/suspend";
const RESUME: &str = "/admin/owner/resume";

/// The value of a hidden field of the form for `action`.
pub fn field<'p>(page: &'p Answer, action: &str, name: &str) -> &'p str {
    let action = format!("action=\"/account/api-keys{action}\"");
    let form = page.text.split(&action);
    let form = form.last().unwrap();
    let value = format!("name=\"{name}\" value=\"");
    form.split(&value)
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
}

#[actix_web::test]
async fn the_pages_exist_for_admins_only() {
    let manager = manager().await;
    let key = manager.create("nightly").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let pages = [
        "/admin",
        "/admin/owner?owner=acme",
        "/admin/keys?owner=acme",
        "/admin/unused?owner=acme",
    ];
    let forms = [
        REVOKE,
        SUSPEND,
        RESUME,
        "/admin/revoke-selected",
        "/admin/unused",
        "/admin/purge",
    ];
    for path in pages {
        assert_eq!(get(&app, "", path).await.status, 403, "{path}");
        assert_eq!(get(&app, "root", path).await.status, 200, "{path}");
    }
    for path in forms {
        assert_eq!(
            post(&app, "", path, &[("owner", "acme")]).await.status,
            403,
            "{path}"
        );
    }
    let before = manager.audit().await.unwrap().entries.len();
    for name in ["alice", "rita", "bob"] {
        let missing = get(&app, name, "/nothing").await;
        assert_eq!(missing.status, 404);
        for path in pages {
            let page = get(&app, name, path).await;
            assert_eq!((page.status, &page.text), (missing.status, &missing.text));
        }
        for path in forms {
            // Decided before the form is read.
            for fields in [&[("owner", "acme")][..], &[]] {
                let page = post(&app, name, path, fields).await;
                assert_eq!((page.status, &page.text), (missing.status, &missing.text));
            }
        }
    }
    assert!(manager.verify(key.expose_secret()).await.is_ok());
    assert_eq!(manager.audit().await.unwrap().entries.len(), before);
}

#[actix_web::test]
async fn an_owner_is_suspended_and_resumed() {
    let manager = manager().await;
    let key = manager.create("nightly").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let page = "/admin/owner?owner=acme";
    for (action, is_denied, words) in [(SUSPEND, true, "suspended"), (RESUME, false, "resumed")] {
        let shown = get(&app, "root", page).await;
        let version = field(&shown, action, "version").to_owned();
        let fields = [("owner", "acme"), ("version", &*version)];
        let done = submit(&app, "root", page, action, &fields).await;
        assert_eq!(done.status, 200, "{}", done.text);
        assert!(done.text.contains(words) && done.text.contains("Confirmed on every node"));
        let verified = manager.verify(key.expose_secret()).await;
        assert_eq!(verified.is_err(), is_denied, "{action}");
    }
    let page = manager.audit().page_size(1).await.unwrap();
    let entry = &page.entries[0];
    assert_eq!(entry.action, AuditAction::OwnerResumed);
    assert_eq!(entry.origin.actor.as_deref(), Some("root"));
    assert_eq!(entry.origin.channel, ChangeChannel::Page);
}

#[actix_web::test]
async fn all_keys_of_an_owner_are_revoked_by_one_change() {
    let manager = manager().await;
    let mut keys = Vec::new();
    for number in 0..10 {
        let key = manager.create(format!("key {number}")).owner("acme");
        keys.push(key.await.unwrap());
    }
    let other = manager.create("other").owner("globex").await.unwrap();
    let app = app(portal(&manager)).await;
    let page = "/admin/owner?owner=acme";
    // Without the box, and without a reason, nothing is revoked, and what was written stays.
    let fields = [("owner", "acme"), ("version", "1"), ("reason", "a <leak>")];
    let again = submit(&app, "root", page, REVOKE, &fields).await;
    assert_eq!(again.status, 422);
    assert!(again.text.contains("Tick the box") && again.text.contains("a &#60;leak&#62;"));
    let fields = [("owner", "acme"), ("version", "1"), ("sure", "yes")];
    let again = submit(&app, "root", page, REVOKE, &fields).await;
    assert!(again.status == 422 && again.text.contains("Write the reason"));
    let long = "x".repeat(300);
    let fields = [
        ("owner", "acme"),
        ("version", "1"),
        ("sure", "yes"),
        ("reason", &*long),
    ];
    let again = submit(&app, "root", page, REVOKE, &fields).await;
    assert!(
        again.status == 422 && again.text.contains(&long),
        "{}",
        again.text
    );
    let before = manager.audit().await.unwrap().entries.len();
    let fields = [
        ("owner", "acme"),
        ("version", "1"),
        ("sure", "yes"),
        ("reason", "breach"),
    ];
    let token = get(&app, "root", page).await.token(REVOKE);
    let done = submit(&app, "root", page, REVOKE, &fields).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(done.text.contains("All keys are revoked"));
    assert!(done.text.contains("Confirmed on every node"));
    for key in &keys {
        assert!(manager.verify(key.expose_secret()).await.is_err());
    }
    assert!(manager.verify(other.expose_secret()).await.is_ok());
    let entries = manager.audit().await.unwrap().entries;
    assert_eq!(entries.len(), before + 1);
    assert_eq!(entries[0].action, AuditAction::OwnerRevoked);
    assert_eq!(entries[0].origin.reason.as_deref(), Some("breach"));
    // The same form once more does not revoke a key that was created since.
    let key = manager.create("later").owner("acme").await.unwrap();
    let repeated = [&fields[..], &[("token", &*token)]].concat();
    let again = post(&app, "root", REVOKE, &repeated).await;
    assert_eq!(again.status, 409, "{}", again.text);
    assert!(manager.verify(key.expose_secret()).await.is_ok());
}

/// Two admins see one version; the second learns of the first.
#[actix_web::test]
async fn of_two_admins_who_race_the_second_is_told() {
    let manager = manager().await;
    let key = manager.create("nightly").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let first = get(&app, "root", "/admin/owner?owner=acme").await;
    let fields = [
        ("owner", "acme"),
        ("version", "1"),
        ("token", &*first.token(SUSPEND)),
    ];
    assert_eq!(post(&app, "root", SUSPEND, &fields).await.status, 200);
    assert_eq!(post(&app, "root", SUSPEND, &fields).await.status, 409);
    let token = first.token(REVOKE);
    let fields = [
        ("owner", "acme"),
        ("version", "1"),
        ("token", &*token),
        ("sure", "yes"),
        ("reason", "breach"),
    ];
    let told = post(&app, "root", REVOKE, &fields).await;
    assert!(told.status == 409 && told.text.contains("was changed since"));
    assert!(manager.get(key.id()).await.unwrap().revoked.is_none());
}

#[actix_web::test]
async fn forged_forms_change_nothing() {
    for action in [REVOKE, SUSPEND] {
        let manager = manager().await;
        let key = manager.create("nightly").owner("acme").await.unwrap();
        manager.create("other").owner("globex").await.unwrap();
        let app = app(portal(&manager)).await;
        let page = get(&app, "root", "/admin/owner?owner=acme").await;
        let other = get(&app, "root", "/admin/owner?owner=globex").await;
        let before = manager.audit().await.unwrap().entries.len();
        let fields = |token: &str| {
            let fields = [
                ("owner", "acme"),
                ("version", "1"),
                ("sure", "yes"),
                ("reason", "breach"),
                ("token", token),
            ];
            fields.map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let right = page.token(action);
        for headers in [
            &[("sec-fetch-site", "same-site")][..],
            &[("sec-fetch-site", "cross-site")],
            &[("origin", "null")],
            &[("origin", "http://evil.example")],
            &[("origin", "http://localhost:1")],
            &[],
        ] {
            let mut request = TestRequest::default().method(Method::POST);
            for header in headers {
                request = request.insert_header(*header);
            }
            let request = request.set_form(fields(&right));
            let answer = send(&app, "root", request, action).await;
            assert_eq!(answer.status, 403, "{action} {headers:?}");
        }
        // Of another action, of another owner, of an old form, and none.
        let wrong = [
            page.token(if action == REVOKE { SUSPEND } else { REVOKE }),
            other.token(action),
            format!("0.{}", right.split_once('.').unwrap().1),
            String::new(),
        ];
        for token in wrong {
            let request = TestRequest::default().method(Method::POST);
            let request = request.insert_header(("sec-fetch-site", "same-origin"));
            let request = request.set_form(fields(&token));
            let answer = send(&app, "root", request, action).await;
            assert_eq!(answer.status, 403, "{action} {token}");
        }
        assert!(manager.verify(key.expose_secret()).await.is_ok());
        assert_eq!(manager.audit().await.unwrap().entries.len(), before);
        // Negative control: the same fields are accepted from a page of the same origin.
        let request = TestRequest::default().method(Method::POST);
        let request = request.insert_header(("sec-fetch-site", "same-origin"));
        let answer = send(&app, "root", request.set_form(fields(&right)), action).await;
        assert_eq!(answer.status, 200, "{action}: {}", answer.text);
        assert!(manager.verify(key.expose_secret()).await.is_err());
    }
}

#[actix_web::test]
async fn owners_are_any_texts() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let long = "o".repeat(256);
    for owner in [
        "a/b/../c",
        "\"'><script>alert(1)</script>",
        "  acme  ",
        "100%25&owner=bob#x?y",
        "=1+1",
        "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{1f511}",
        &long,
    ] {
        let key = manager.create("nightly").owner(owner).await.unwrap();
        let encoded: String = owner.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/admin/owner?owner={encoded}");
        let page = get(&app, "root", &path).await;
        assert_eq!(page.status, 200, "{owner:?}");
        assert!(!page.text.contains("<script>alert"));
        let fields = [
            ("owner", owner),
            ("version", "1"),
            ("sure", "yes"),
            ("reason", "test"),
        ];
        let done = submit(&app, "root", &path, REVOKE, &fields).await;
        assert_eq!(done.status, 200, "{owner:?}: {}", done.text);
        assert!(
            manager.verify(key.expose_secret()).await.is_err(),
            "{owner:?}"
        );
        // Each link of the page leads to the same owner.
        let links = page.text.matches("?owner=").count();
        assert!(links >= 4, "{owner:?}");
        for link in page.text.split("href=\"/account/api-keys").skip(1) {
            let link = link
                .split('"')
                .next()
                .unwrap()
                .replace("&#38;", "&")
                .replace("&amp;", "&");
            if let Some((_, value)) = link.split_once("?owner=") {
                assert_eq!(get(&app, "root", &link).await.status, 200, "{link}");
                assert!(!value.contains(['<', '\'', ' ']), "{link}");
            }
        }
    }
    for missing in ["%E2%80%AE", "never", ""] {
        let page = get(&app, "root", &format!("/admin/owner?owner={missing}")).await;
        assert_eq!(page.status, 404, "{missing}");
    }
}

#[actix_web::test]
async fn it_is_told_what_is_not_known_if_the_store_fails() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    manager.create("nightly").owner("acme").await.unwrap();
    let app = app(portal(&manager).form_key([1; 32])).await;
    let page = get(&app, "root", "/admin/owner?owner=acme").await;
    let token = page.token(REVOKE);
    let fields = [
        ("owner", "acme"),
        ("version", "1"),
        ("sure", "yes"),
        ("reason", "breach"),
        ("token", &*token),
    ];
    store.fail(Call::RevokeOwnerKeys, Fault::AnswerLost);
    let told = post(&app, "root", REVOKE, &fields).await;
    assert_eq!(told.status, 503);
    assert!(
        told.text.contains("not known whether all keys are revoked"),
        "{}",
        told.text
    );
    store.heal();
    store.fail(Call::FindOwner, Fault::Unavailable);
    let down = get(&app, "root", "/admin/owner?owner=acme").await;
    assert_eq!(down.status, 503);
    assert!(down.text.contains("cannot be read at the moment"));
}

#[actix_web::test]
async fn a_store_that_does_not_keep_owners_revokes_all_keys_and_does_not_suspend() {
    let manager = manager_on(WithoutOwners::around(Default::default())).await;
    let key = manager.create("nightly").owner("acme").await.unwrap();
    let app = app(portal(&manager).form_key([1; 32])).await;
    let page = "/admin/owner?owner=acme";
    assert!(!get(&app, "root", page).await.text.contains(SUSPEND));
    let fields = [
        ("owner", "acme"),
        ("version", "0"),
        ("sure", "yes"),
        ("reason", "breach"),
    ];
    let done = submit(&app, "root", page, REVOKE, &fields).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(manager.verify(key.expose_secret()).await.is_err());
    assert_eq!(
        get(&app, "root", "/admin/owner?owner=never").await.status,
        404
    );
}

#[actix_web::test]
async fn owners_are_listed_by_name_with_their_state_and_live_keys() {
    let manager = manager().await;
    for number in 0..30 {
        let owner = format!("team {number:02} <b>");
        let key = manager.create("nightly").owner(&*owner).await.unwrap();
        if number < 2 {
            manager.revoke(key.id()).await.unwrap();
        }
    }
    manager.create("nightly").owner("acme").await.unwrap();
    manager.suspend_owner("acme").await.unwrap();
    manager.revoke_all("team 05 <b>").await.unwrap();
    let app = app(portal(&manager)).await;
    let page = get(&app, "root", "/admin").await;
    assert_eq!(page.text.matches("/admin/owner?owner=").count(), 25);
    assert!(page.text.contains("acme") && !page.text.contains("<b>"));
    assert_eq!(page.text.matches(">suspended<").count(), 1);
    assert_eq!(page.text.matches("Live keys\">0<").count(), 3);
    assert_eq!(page.text.matches("all keys\">1<").count(), 1);
    let next = page
        .text
        .split("rel=\"next\" href=\"/account/api-keys")
        .nth(1)
        .unwrap();
    let next = next.split('"').next().unwrap().replace("&amp;", "&");
    let page = get(&app, "root", &next).await;
    assert_eq!(page.text.matches("/admin/owner?owner=").count(), 6);
    assert!(page.text.contains("team 29") && !page.text.contains("rel=\"next\""));
    let page = get(&app, "root", "/admin?q=team%201").await;
    assert_eq!(page.text.matches("/admin/owner?owner=").count(), 10);
    let page = get(&app, "root", "/admin?q=%25").await;
    assert!(page.status == 200 && page.text.contains("There are no owners that match"));
}
