//! What admins do for many keys: a selection, unused keys, old records.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::{ManualClock, Timestamp};
use apikey_runtime::{ApiKeyManager, KeyId, KeyStore, MemoryStore};
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{manager_at, manager_on};

use crate::app::{app, get, manager, portal, post, submit};

const SELECTED: &str = "/admin/revoke-selected";
const UNUSED: &str = "/admin/unused";
const PURGE: &str = "/admin/purge";

const DAY: Duration = Duration::from_secs(86_400);

async fn is_revoked(manager: &ApiKeyManager, id: KeyId) -> bool {
    manager.get(id).await.unwrap().revoked.is_some()
}

#[actix_web::test]
async fn ticked_keys_are_revoked_and_others_are_not() {
    let manager = manager().await;
    let mut keys = Vec::new();
    for number in 0..4 {
        let key = manager.create(format!("<b>{number}")).owner("acme");
        keys.push(key.await.unwrap().id());
    }
    let app = app(portal(&manager)).await;
    let page = get(&app, "root", "/admin/keys?owner=acme").await;
    assert!(page.text.contains("&#60;b&#62;3") && !page.text.contains("<b>"));
    let token = page.token(SELECTED);
    let ticks: Vec<_> = keys.iter().map(|key| format!("{key}.1")).collect();
    for tick in &ticks {
        assert!(page.text.contains(&format!("value=\"{tick}\"")));
    }
    let send = async |ticks: &[&str], others: &[(&'static str, &str)]| {
        let mut fields: Vec<_> = ticks.iter().map(|tick| ("key", *tick)).collect();
        fields.extend_from_slice(others);
        fields.push(("token", &token));
        post(&app, "root", SELECTED, &fields).await
    };
    let sure = [("sure", "yes"), ("reason", "not needed"), ("owner", "acme")];
    // The form again, with what was ticked.
    let again = send(
        &[&ticks[0]],
        &[("owner", "acme"), ("reason", "some <reason>")],
    )
    .await;
    assert_eq!(again.status, 422);
    assert!(
        again
            .text
            .contains(&format!("value=\"{}\" checked", ticks[0]))
    );
    assert!(again.text.contains("some &#60;reason&#62;"));
    assert_eq!(send(&[], &sure).await.status, 422);
    assert_eq!(send(&["x.1"], &sure).await.status, 400);
    let many: Vec<_> = std::iter::repeat_n(&*ticks[0], 51).collect();
    assert_eq!(send(&many, &sure).await.status, 422);
    assert!(!is_revoked(&manager, keys[0]).await);
    // One was changed since the list was shown.
    manager.update(keys[1]).label("changed").await.unwrap();
    let done = send(&[&ticks[0], &ticks[1], &ticks[2]], &sure).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(
        done.text.contains("2 of 3 ticked keys were revoked"),
        "{}",
        done.text
    );
    assert!(
        done.text
            .contains("it was changed since the list was shown")
    );
    assert!(done.text.contains("Confirmed on every node"));
    for (place, key) in keys.iter().enumerate() {
        assert_eq!(is_revoked(&manager, *key).await, place == 0 || place == 2);
    }
    // The same form once more.
    let again = send(&[&ticks[0]], &sure).await;
    assert!(again.text.contains("was revoked before"), "{}", again.text);
    // The last one is also what the page waits with.
    let entries = manager.audit().key(keys[2]).await.unwrap().entries;
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].origin.actor.as_deref(), Some("root"));
    assert_eq!(entries[0].origin.reason.as_deref(), Some("not needed"));
}

#[actix_web::test]
async fn forged_bulk_forms_change_nothing() {
    for (action, path, foreign) in [
        (SELECTED, "/admin/keys", PURGE),
        (UNUSED, "/admin/unused?owner=acme&days=90", SELECTED),
        (PURGE, "/admin", SELECTED),
    ] {
        let clock = Arc::new(ManualClock::starting_now());
        let manager = manager_at(Arc::new(MemoryStore::new()), clock.clone()).await;
        let key = manager.create("nightly").owner("acme").await.unwrap();
        let gone = manager.create("old").owner("acme").await.unwrap().id();
        manager.revoke(gone).await.unwrap();
        clock.advance(DAY * 100);
        let app = app(portal(&manager)).await;
        let token_of = async |action, path| get(&app, "root", path).await.token(action);
        let right = token_of(action, path).await;
        let foreign_path = if foreign == PURGE {
            "/admin"
        } else {
            "/admin/keys"
        };
        let foreign = token_of(foreign, foreign_path).await;
        let day = |ago: u32| {
            let now = std::time::SystemTime::from(manager.now());
            Timestamp::from(now - DAY * ago).to_string()[..10].to_owned()
        };
        let (tick, since, before) = (format!("{}.1", key.id()), day(90), day(1));
        let fields = |token: &str| {
            let fields = [
                ("key", &*tick),
                ("owner", "acme"),
                ("sure", "yes"),
                ("reason", "x"),
                ("since", &*since),
                ("before", &*before),
                ("token", token),
            ];
            fields.map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let send = async |token: &str, header: (&'static str, &str)| {
            let request = actix_web::test::TestRequest::post().set_form(fields(token));
            crate::app::send(&app, "root", request.insert_header(header), action).await
        };
        let written = manager.audit().await.unwrap().entries.len();
        let same_origin = ("sec-fetch-site", "same-origin");
        // Of another form, old, and none.
        let old = format!("0.{}", right.split_once('.').unwrap().1);
        for token in [&*foreign, &*old, ""] {
            assert_eq!(send(token, same_origin).await.status, 403, "{action}");
        }
        let elsewhere = send(&right, ("origin", "http://localhost:9")).await;
        assert_eq!(elsewhere.status, 403, "{action}");
        assert_eq!(manager.audit().await.unwrap().entries.len(), written);
        // Negative control: the same fields are accepted from a page of the same origin.
        let sent = send(&right, same_origin).await;
        assert_eq!(sent.status, 200, "{action}: {}", sent.text);
        assert_eq!(is_revoked(&manager, key.id()).await, action != PURGE);
        assert_eq!(manager.get(gone).await.is_err(), action == PURGE);
    }
}

#[actix_web::test]
async fn unused_keys_are_revoked_in_bounded_steps() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = manager_at(Arc::new(MemoryStore::new()), clock.clone()).await;
    let mut keys = Vec::new();
    for number in 0..230 {
        keys.push(
            manager
                .create(format!("key {number}"))
                .owner("acme")
                .await
                .unwrap(),
        );
    }
    manager.create("other").owner("globex").await.unwrap();
    clock.advance(DAY * 100);
    manager.verify(keys[0].expose_secret()).await.unwrap();
    let young = manager.create("young").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let path = "/admin/unused?owner=acme&days=90";
    let page = get(&app, "root", path).await;
    assert_eq!(page.status, 200);
    assert!(
        page.text.contains("231 keys of this owner"),
        "{}",
        page.text
    );
    assert!(page.text.contains("<strong>229</strong>") && page.text.contains("Revoke 200 of them"));
    let since = crate::admin_pages::field(&page, UNUSED, "since").to_owned();
    let fields = [
        ("owner", "acme"),
        ("since", &*since),
        ("reason", "unused <90> days"),
    ];
    let again = submit(&app, "root", path, UNUSED, &fields).await;
    assert!(again.status == 422 && again.text.contains("unused &#60;90&#62; days"));
    assert!(!is_revoked(&manager, keys[1].id()).await);
    let fields = [&fields[..], &[("sure", "yes")]].concat();
    let done = submit(&app, "root", path, UNUSED, &fields).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(done.text.contains("200 keys revoked") && done.text.contains("<strong>29</strong>"));
    assert!(done.text.contains("Revoke these 29") && done.text.contains(" checked"));
    let token = done.token(UNUSED);
    let fields = [&fields[..], &[("token", &*token)]].concat();
    let done = post(&app, "root", UNUSED, &fields).await;
    assert!(done.text.contains("29 keys revoked") && done.text.contains("<strong>0</strong>"));
    for key in &keys[1..] {
        assert!(is_revoked(&manager, key.id()).await);
    }
    assert!(!is_revoked(&manager, keys[0].id()).await && !is_revoked(&manager, young.id()).await);
    for wrong in [
        "days=0",
        "days=x",
        "since=2999-01-01",
        "since=soon",
        "after=x",
    ] {
        let page = get(&app, "root", &format!("{UNUSED}?owner=acme&{wrong}")).await;
        assert_eq!(page.status, 400, "{wrong}");
    }
    assert_eq!(get(&app, "root", UNUSED).await.status, 404);
}

#[actix_web::test]
async fn one_key_is_told_of_in_the_singular() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = manager_at(Arc::new(MemoryStore::new()), clock.clone()).await;
    let mut ids = Vec::new();
    for number in 0..201 {
        let key = manager.create(format!("key {number}")).owner("acme");
        ids.push(key.await.unwrap().id());
    }
    clock.advance(DAY * 100);
    let app = app(portal(&manager)).await;
    let path = "/admin/unused?owner=acme&days=90";
    let page = get(&app, "root", path).await;
    let since = crate::admin_pages::field(&page, UNUSED, "since").to_owned();
    let sure = [("owner", "acme"), ("reason", "x"), ("sure", "yes")];
    let fields = [&sure[..], &[("since", &*since)]].concat();
    let done = submit(&app, "root", path, UNUSED, &fields).await;
    assert!(
        done.text
            .contains("<strong>1</strong> is left that was neither"),
        "{}",
        done.text
    );
    let mut last = String::new();
    for id in ids {
        if !is_revoked(&manager, id).await {
            last = format!("{id}.1");
        }
    }
    let fields = [&sure[..], &[("key", &*last)]].concat();
    let done = submit(&app, "root", "/admin/keys", SELECTED, &fields).await;
    assert!(
        done.text.contains("1 of 1 ticked key was revoked"),
        "{}",
        done.text
    );
}

#[actix_web::test]
async fn old_records_are_removed_and_keys_that_work_are_not() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = manager_at(Arc::new(MemoryStore::new()), clock.clone()).await;
    let old = manager.create("old").owner("acme").await.unwrap().id();
    manager.revoke(old).await.unwrap();
    clock.advance(DAY * 10);
    let expiring = manager.create("expiring").owner("acme").expires_in(DAY);
    let expiring = expiring.await.unwrap();
    let app = app(portal(&manager)).await;
    let day = |after: Duration| {
        let now = std::time::SystemTime::from(manager.now());
        Timestamp::from(now + after).to_string()[..10].to_owned()
    };
    let (future, past) = (day(DAY * 30), day(Duration::ZERO));
    for (before, sure, status) in [
        (&*future, "yes", 422),
        (&past, "", 422),
        ("soon", "yes", 422),
        (&past, "yes", 200),
    ] {
        let fields = [("before", before), ("sure", sure)];
        let done = submit(&app, "root", "/admin", PURGE, &fields).await;
        assert_eq!(done.status.as_u16(), status, "{before} {}", done.text);
        assert!(manager.verify(expiring.expose_secret()).await.is_ok());
        assert_eq!(manager.get(old).await.is_err(), status == 200);
        assert_eq!(
            done.text.contains("The record of 1 key is removed"),
            status == 200
        );
    }
}

#[actix_web::test]
async fn a_store_that_fails_in_between_is_told() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let mut ticks = Vec::new();
    for number in 0..3 {
        let key = manager.create(format!("key {number}")).owner("acme");
        ticks.push(format!("{}.1", key.await.unwrap().id()));
    }
    let app = app(portal(&manager).form_key([1; 32])).await;
    let token = get(&app, "root", "/admin/keys").await.token(SELECTED);
    store.fail(Call::Revoke, Fault::Unavailable);
    let mut fields: Vec<_> = ticks.iter().map(|tick| ("key", &**tick)).collect();
    fields.extend([("token", &*token), ("sure", "yes"), ("reason", "x")]);
    let told = post(&app, "root", SELECTED, &fields).await;
    assert_eq!(told.status, 503);
    assert!(told.text.contains("the store did not answer") && told.text.contains("not tried"));
    store.fail(Call::List, Fault::Unavailable);
    for path in ["/admin/keys", "/admin/unused?owner=acme"] {
        assert_eq!(get(&app, "root", path).await.status, 503, "{path}");
    }
}

/// An owner of 10^5 keys: each page, and each change of the owner, is a few calls of the store.
#[actix_web::test]
async fn an_owner_of_many_keys_is_revoked_at_once() {
    let inner = Arc::new(MemoryStore::new());
    let store = GateStore::around(inner.clone());
    let manager = manager_on(store.clone()).await;
    let first = manager.create("nightly").owner("acme").await.unwrap();
    let record = manager.get(first.id()).await.unwrap();
    for number in 1..=100_000 {
        let mut record = record.clone();
        record.id = KeyId::from_u128(number);
        inner.insert(&record, &Default::default()).await.unwrap();
    }
    let app = app(portal(&manager).form_key([1; 32])).await;
    for path in [
        "/admin",
        "/admin/owner?owner=acme",
        "/admin/keys?owner=acme",
        "/admin/unused?owner=acme",
        "?owner=acme",
    ] {
        let before = store.count_all();
        let page = get(&app, "root", path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(
            store.count_all() - before <= 5,
            "{path}: {}",
            store.transcript()
        );
        assert!(page.text.len() < 120_000, "{path}: {}", page.text.len());
    }
    let fields = [
        ("owner", "acme"),
        ("version", "1"),
        ("sure", "yes"),
        ("reason", "breach"),
    ];
    let path = "/admin/owner?owner=acme";
    let page = get(&app, "root", path).await;
    assert!(
        page.text.contains("Live keys: at least 10000"),
        "{}",
        page.text
    );
    let token = page.token("/admin/owner/revoke");
    let fields = [&fields[..], &[("token", &*token)]].concat();
    let before = store.count_all();
    let done = post(&app, "root", "/admin/owner/revoke", &fields).await;
    assert_eq!(done.status, 200, "{}", done.text);
    // The owner's state, and its change.
    assert_eq!(store.count_all() - before, 2);
    assert!(manager.verify(first.expose_secret()).await.is_err());
}
