//! The audit log: who reads what of it, as a page and as a file.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use actix_web::test::{TestRequest, call_service};
use apikey_runtime::Timestamp;
use apikey_runtime::audit::ChangeOrigin;
use apikey_test_support::manager_on;
use apikey_test_support::store::{Call, Fault, GateStore, RecordsOnly};
use futures_util::lock::Mutex;

use crate::app::{MOUNT, app, get, manager, portal, send};

/// Files are bounded for the whole process, so one test at a time asks for them.
static FILES: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);

/// The three forms of the audit log.
const FORMS: [&str; 3] = ["/audit", "/audit.csv", "/audit.json"];

#[actix_web::test]
async fn a_person_reads_the_entries_of_their_owner_and_an_admin_all() {
    let _files = FILES.lock().await;
    let manager = manager().await;
    let ours = manager.create("nightly").owner("acme").actor("anna");
    let ours = ours.await.unwrap();
    let theirs = manager.create("weekly").owner("globex").await.unwrap();
    manager.create("nobody's").await.unwrap();
    let app = app(portal(&manager)).await;
    for form in FORMS {
        assert_eq!(get(&app, "", form).await.status, 403, "{form}");
        for (name, reads) in [("alice", 0), ("rita", 0), ("bob", 1), ("root", 2)] {
            let page = get(&app, name, form).await;
            assert_eq!(page.status, 200, "{form} {name}");
            let has = |text: &str| page.text.contains(text);
            assert_eq!(has("nightly"), reads != 1, "{form} {name}: {}", page.text);
            assert_eq!(has("weekly"), reads >= 1, "{form} {name}");
            assert_eq!(has("s 2") || has("nobody"), reads == 2, "{form} {name}");
            assert!(!has(ours.expose_secret()) && !has(theirs.expose_secret()));
        }
        // Of another owner, and of another owner's key.
        let other = get(&app, "alice", &format!("{form}?owner=globex")).await;
        let missing = get(&app, "alice", "/nothing").await;
        assert_eq!((other.status, &other.text), (missing.status, &missing.text));
        assert_eq!(other.status, 404);
        let key = get(&app, "alice", &format!("{form}?key={}", theirs.id())).await;
        assert!(key.status == 200 && !key.text.contains("weekly"), "{form}");
        let key = get(&app, "root", &format!("{form}?key={}", theirs.id())).await;
        assert!(key.text.contains("weekly") && !key.text.contains("nightly"));
    }
}

/// Negative control: without `AuditView::redact`, this fails.
#[actix_web::test]
async fn a_key_that_was_given_away_tells_neither_owner_of_the_other() {
    let _files = FILES.lock().await;
    let manager = manager().await;
    let key = manager.create("first name").owner("acme").await.unwrap();
    let origin = ChangeOrigin::new()
        .with_actor("root")
        .with_reason("sold by acme to globex");
    let given = manager.update(key.id()).owner("globex");
    given.label("second name").origin(origin).await.unwrap();
    manager.update(key.id()).label("third name").await.unwrap();
    let unowned = manager.create("of admins").await.unwrap();
    let given = manager.update(unowned.id()).owner("acme");
    given.label("of acme").await.unwrap();
    let app = app(portal(&manager)).await;
    for form in FORMS {
        for id in ["", &format!("?key={}", key.id())] {
            let path = format!("{form}{id}");
            let before = get(&app, "alice", &path).await;
            let has = |text: &str| before.text.contains(text);
            assert!(
                has("first name") && has("not yours"),
                "{path} {}",
                before.text
            );
            assert!(!has("globex") && !has("second") && !has("third"), "{path}");
            assert!(!has("of admins"), "{path}");
            let after = get(&app, "bob", &path).await;
            let has = |text: &str| after.text.contains(text);
            assert!(
                has("third name") && has("not yours"),
                "{path} {}",
                after.text
            );
            assert!(!has("acme") && !has("first name"), "{path}");
            let all = get(&app, "root", &path).await;
            assert!(all.text.contains("sold by acme to globex"), "{path}");
        }
    }
}

#[actix_web::test]
async fn changes_are_told_in_words_and_digests_never() {
    let _files = FILES.lock().await;
    let manager = manager().await;
    let key = manager.create("nightly").owner("acme");
    let key = key.scopes(["hello:read"]).await.unwrap();
    let digest = manager.get(key.id()).await.unwrap().digest.to_string();
    let update = manager
        .update(key.id())
        .scopes(["hello:read", "orders:read"]);
    update.await.unwrap();
    let new = manager
        .rotate(key.id())
        .grace(std::time::Duration::from_secs(60));
    let new = new.await.unwrap();
    let revoke = manager.revoke(key.id()).reason("leaked in a log");
    revoke.actor("ben").await.unwrap();
    manager.suspend_owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", "/audit").await;
    for words in [
        "Key created",
        "Key changed",
        "Key rotated",
        "Key revoked",
        "All keys of the owner suspended",
        "leaked in a log",
        "ben",
        "hello:read, orders:read",
        "The old secret works until",
        "not named <small>by the application",
        "<time datetime=\"2",
    ] {
        assert!(page.text.contains(words), "{words} in {}", page.text);
    }
    let shown = manager.get(key.id()).await.unwrap();
    for form in FORMS {
        let page = get(&app, "root", form).await;
        for secret in [key.expose_secret(), new.expose_secret(), &digest] {
            assert!(!page.text.contains(secret), "{form}");
        }
        assert!(!page.text.contains(&shown.digest.to_string()), "{form}");
    }
}

#[actix_web::test]
async fn texts_are_data_in_pages_and_files() {
    let _files = FILES.lock().await;
    let manager = manager().await;
    let hostile = "\"'><script>alert(1)</script>";
    let formula = "=HYPERLINK(\"//evil\")";
    let key = manager.create(hostile).owner(formula).await.unwrap();
    let origin = ChangeOrigin::new().with_actor("@SUM(1)");
    let revoke = manager.revoke(key.id()).origin(origin);
    revoke.reason("-2+3").await.unwrap();
    let app = app(portal(&manager)).await;
    let page = get(&app, "root", "/audit").await;
    assert!(page.text.contains("&lt;script&gt;") || page.text.contains("&#60;script&#62;"));
    assert!(!page.text.contains("<script>alert"));
    let csv = get(&app, "root", "/audit.csv").await;
    for cell in [
        "\"'=HYPERLINK(\"\"//evil\"\")\"",
        "\"'@SUM(1)\"",
        "\"'-2+3\"",
    ] {
        assert!(csv.text.contains(cell), "{cell} in {}", csv.text);
    }
    let file = "attachment; filename=\"audit.csv\"";
    assert_eq!(csv.header("content-disposition"), file);
    assert!(csv.header("content-type").starts_with("text/csv"));
    assert_eq!(csv.header("cache-control"), "private, no-store");
    let json = get(&app, "root", "/audit.json").await;
    let file = "attachment; filename=\"audit.json\"";
    assert_eq!(json.header("content-disposition"), file);
    let entries: Vec<serde_json::Value> = serde_json::from_str(&json.text).unwrap();
    assert_eq!(entries[0]["reason"], "-2+3");
    assert_eq!(entries[1]["owner"], formula);
    // A filter is shown again as it was written.
    let page = get(&app, "root", "/audit?actor=%22%3E%3Cscript%3E").await;
    assert!(page.status == 200 && !page.text.contains("\"><script>"));
}

#[actix_web::test]
async fn a_page_has_the_newest_entries_and_a_file_all() {
    let _files = FILES.lock().await;
    let manager = manager().await;
    let key = manager.create("nightly").owner("acme").await.unwrap();
    for number in 0..1_100 {
        let label = format!("name {number}.");
        manager.update(key.id()).label(label).await.unwrap();
    }
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", "/audit").await;
    assert_eq!(
        page.text.matches("<strong>Key changed</strong>").count(),
        50
    );
    assert!(page.text.contains("name 1099.") && page.text.contains("name 1050."));
    let link = page
        .text
        .split("/account/api-keys/audit?before=")
        .nth(1)
        .unwrap();
    let before = link.split('"').next().unwrap();
    let next = get(&app, "alice", &format!("/audit?before={before}")).await;
    assert!(next.text.contains("name 1049.") && !next.text.contains("name 1098."));
    let json = get(&app, "alice", "/audit.json").await;
    let entries: Vec<serde_json::Value> = serde_json::from_str(&json.text).unwrap();
    assert_eq!(entries.len(), 1_101);
    let csv = get(&app, "alice", "/audit.csv").await;
    assert_eq!(csv.text.matches("\r\n").count(), 1_102);
    assert_eq!(csv.text.matches("\"position\"").count(), 1);
}

#[actix_web::test]
async fn filters_that_cannot_be_read_are_shown_again() {
    let _files = FILES.lock().await;
    let manager = manager().await;
    let today: String = Timestamp::from(SystemTime::now()).to_string()[..10].to_owned();
    manager.create("nightly").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", &format!("/audit?from={today}&to=2999-01-01")).await;
    assert!(page.text.contains("nightly"));
    let page = get(&app, "alice", "/audit?to=2020-01-01").await;
    assert!(page.status == 200 && !page.text.contains("nightly"));
    let page = get(&app, "alice", "/audit?actor=ben").await;
    assert!(page.status == 200 && !page.text.contains("nightly"));
    for wrong in [
        "key=x%22y",
        "from=yesterday",
        "from=2026-01-02&to=2026-01-01",
        "before=%3Cb%3E",
    ] {
        let page = get(&app, "alice", &format!("/audit?{wrong}")).await;
        assert_eq!(page.status, 422, "{wrong}");
        assert!(page.text.contains("data-fault"), "{wrong}");
        assert!(!page.text.contains("<b>") && !page.text.contains("x\"y"));
        for file in ["/audit.csv", "/audit.json"] {
            let answer = get(&app, "alice", &format!("{file}?{wrong}")).await;
            assert_eq!(answer.status, 400, "{wrong}");
        }
    }
}

#[actix_web::test]
async fn a_store_without_an_audit_log_and_one_that_is_down_say_so() {
    let _files = FILES.lock().await;
    let manager = manager_on(Arc::new(RecordsOnly::default())).await;
    let app = app(portal(&manager)).await;
    for form in FORMS {
        let page = get(&app, "alice", form).await;
        assert_eq!(page.status, 501, "{form}");
        assert!(page.text.contains("does not keep an audit log"), "{form}");
    }
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    manager.create("nightly").owner("acme").await.unwrap();
    store.fail(Call::ReadAudit, Fault::Unavailable);
    let app = crate::app::app(portal(&manager)).await;
    for form in FORMS {
        assert_eq!(get(&app, "alice", form).await.status, 503, "{form}");
    }
}

/// What people copy: from the list, from the page of a key, from a program.
#[actix_web::test]
async fn entries_are_found_by_what_pages_show_of_a_key() {
    let _files = FILES.lock().await;
    let manager = manager().await;
    let key = manager.create("nightly").owner("acme").await.unwrap();
    manager.create("weekly").owner("acme").await.unwrap();
    let other = manager.create("theirs").owner("globex").await.unwrap();
    let app = app(portal(&manager)).await;
    let prefix = &key.record().prefix;
    let (id, secret) = (key.id().to_string(), key.expose_secret());
    for pasted in [
        id.clone(),
        format!("{prefix}_{id}%E2%80%A6"),
        format!("{prefix}_{}%E2%80%A6", &id[..8]),
        format!("{prefix}_{}..", &id[..8]),
        format!("{}%E2%80%A6", &id[..8]),
        format!("+{}", &id[..8]),
        secret.to_owned(),
    ] {
        let page = get(&app, "alice", &format!("/audit?key={pasted}")).await;
        assert_eq!(page.status, 200, "{pasted}: {}", page.text);
        assert!(page.text.contains("nightly") && !page.text.contains("weekly"));
        assert!(page.text.contains(&format!("value=\"{id}\"")), "{pasted}");
        assert!(!page.text.contains(secret), "{pasted}");
        let file = get(&app, "alice", &format!("/audit.csv?key={pasted}")).await;
        assert!(file.text.contains("nightly") && !file.text.contains("weekly"));
        let list = get(&app, "alice", &format!("?q={pasted}")).await;
        assert!(
            list.text.contains("nightly") && !list.text.contains("weekly"),
            "{pasted}"
        );
    }
    // The beginning of another owner's key is that of none.
    let strange = other.id().to_string();
    for beginning in [&strange[..8], "0000000"] {
        let page = get(&app, "alice", &format!("/audit?key={beginning}")).await;
        assert_eq!(page.status, 422, "{beginning}");
        assert!(!page.text.contains(&strange) && page.text.contains(beginning));
    }
}

#[actix_web::test]
async fn entries_have_the_name_of_a_key_and_the_reason_of_its_revocation() {
    let manager = manager().await;
    let key = manager.create("<i>nightly").owner("acme").await.unwrap();
    let given = manager.create("given").owner("acme").await.unwrap();
    let renamed = manager.update(given.id()).owner("globex").label("renamed");
    renamed.await.unwrap();
    let origin = ChangeOrigin::new().with_reason("ticket 7");
    let revoke = manager.revoke(key.id()).reason("leaked").origin(origin);
    revoke.await.unwrap();
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", "/audit").await;
    let link = |id: &dyn std::fmt::Display| format!("<a href=\"/account/api-keys/keys/{id}\">");
    let named = format!("{}<bdi>&#60;i&#62;nightly</bdi></a>", link(&key.id()));
    assert!(page.text.contains(&named), "{}", page.text);
    // It is not hers now.
    assert!(!page.text.contains("renamed"), "{}", page.text);
    for told in ["Reason: <bdi>leaked</bdi>", "Note: <bdi>ticket 7</bdi>"] {
        assert!(page.text.contains(told), "{told}: {}", page.text);
    }
    let bob = get(&app, "bob", "/audit").await;
    assert!(bob.text.contains("<bdi>renamed</bdi></a>"), "{}", bob.text);
}

#[actix_web::test]
async fn a_change_by_a_page_is_logged_with_the_id_that_the_answer_has() {
    let manager = manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let path = format!("/keys/{}", key.id());
    for (action, stated) in [("disable", None), ("enable", Some("from-the-proxy"))] {
        let action = format!("{path}/{action}");
        let hidden = get(&app, "alice", &path).await.hidden(&action);
        let mut request = TestRequest::post()
            .insert_header(("sec-fetch-site", "same-origin"))
            .set_form(hidden);
        if let Some(id) = stated {
            request = request.insert_header(("x-request-id", id));
        }
        let sent = send(&app, "alice", request, &action).await;
        assert_eq!(sent.status, 303, "{}", sent.text);
        let page = manager.audit().key(key.id()).await.unwrap();
        let logged = page.entries[0].origin.request_id.as_deref();
        assert_eq!(logged, Some(sent.header("x-request-id")));
        match stated {
            Some(id) => assert_eq!(logged, Some(id)),
            None => assert_eq!(logged.map(str::len), Some(32)),
        }
    }
    // Pages that are read or refused have one too.
    for (name, path) in [("alice", ""), ("alice", "/nothing"), ("", "/new")] {
        let page = get(&app, name, path).await;
        assert!(!page.header("x-request-id").is_empty(), "{path}");
    }
}

/// Each file is read from the store while it is sent, however slowly its reader takes it.
#[actix_web::test]
async fn only_a_few_files_are_sent_at_once() {
    let _files = FILES.lock().await;
    let manager = manager().await;
    manager.create("nightly").owner("acme").await.unwrap();
    let other = app(portal(&manager).public_url("https://acme.example/staff")).await;
    let app = app(portal(&manager)).await;
    let begin = async |name: &str| {
        let request = TestRequest::get().uri(&format!("{MOUNT}/audit.csv"));
        let request = request.insert_header(("x-test-person", name));
        call_service(&app, request.to_request()).await
    };
    let mut sending = Vec::new();
    for name in ["rita", "bob", "alice", "root"] {
        let answer = begin(name).await;
        assert_eq!(answer.status(), 200, "{name}");
        sending.push(answer);
        // Nobody takes the places of others.
        let refused = get(&app, name, "/audit.json").await;
        assert_eq!(refused.status, 503, "{name}");
        assert_eq!(refused.header("retry-after"), "10");
        assert!(refused.text.contains("sent to you"), "{}", refused.text);
    }
    // Somebody else, of another portal.
    let refused = get(&other, "root", "/audit.json").await;
    assert_eq!(refused.status, 503);
    assert!(refused.text.contains("Other files"), "{}", refused.text);
    // Control: pages go on, and a file that has ended makes room, also for one that fails.
    assert_eq!(get(&app, "alice", "/audit").await.status, 200);
    sending.pop();
    for path in ["/audit.csv?from=x", "/audit.csv", "/audit.json"] {
        let status = if path.contains('?') { 400 } else { 200 };
        assert_eq!(get(&app, "root", path).await.status, status, "{path}");
        assert_eq!(get(&other, "root", path).await.status, status, "{path}");
    }
    drop(begin("root").await);
}
