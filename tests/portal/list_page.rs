//! The list of keys.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::middleware::Compress;
use actix_web::test::{self, TestRequest};
use actix_web::{App, HttpRequest};
use apikey_portal::{BoxError, Brand, Person, Portal, PortalAuth};
use apikey_runtime::testing::ManualClock;
use apikey_runtime::{
    ApiKeyManager, Config, KeyId, MemoryStore, Policy, ScopeExpr, SqliteStore, Timestamp,
};
use apikey_test_support::store::{Call, Fault, GateStore, RecordsOnly};
use apikey_test_support::{manager_at, manager_on, patient_manager};

use crate::app::{Answer, MOUNT, app, get, manager, portal, send};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A label that markup, links and texts of other directions could be made of.
const HOSTILE: &str = "'\"><script>alert(1)</script>&#x27;";

/// Returns the ids of the keys on a page, in their order.
fn ids(page: &Answer) -> Vec<String> {
    let link = format!("<a href=\"{MOUNT}/keys/");
    let rows = page.text.split(&link).skip(1);
    rows.map(|row| row[..22].to_owned()).collect()
}

/// Returns the link to the next page, below [`MOUNT`].
fn next(page: &Answer) -> Option<String> {
    let (_, rest) = page.text.split_once("rel=\"next\" href=\"")?;
    let link = rest[..rest.find('"').unwrap()].strip_prefix(MOUNT).unwrap();
    Some(link.replace("&amp;", "&").replace("&#38;", "&"))
}

#[actix_web::test]
async fn a_person_sees_the_keys_of_their_owner() {
    let manager = manager().await;
    let key = manager.create("nightly").owner("acme").await.unwrap();
    manager.create("other").owner("globex").await.unwrap();
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", "").await;
    assert_eq!(page.status, 200);
    assert!(
        page.text.contains("nightly") && !page.text.contains("other"),
        "{}",
        page.text
    );
    assert!(!page.text.contains(key.expose_secret()));
    let shown = format!(
        "{}_{}\u{2026}",
        key.record().prefix,
        &key.id().as_str()[..8]
    );
    assert!(page.text.contains(&shown), "{}", page.text);
    assert_eq!(get(&app, "", "").await.status, 403);
    let head = TestRequest::default().method(Method::HEAD);
    assert_eq!(send(&app, "alice", head, "").await.status, 200);
}

#[actix_web::test]
async fn each_person_sees_the_keys_of_their_owners_and_no_others() {
    let manager = manager().await;
    let of = async |owner: &str| {
        manager
            .create("x")
            .owner(owner)
            .await
            .unwrap()
            .id()
            .to_string()
    };
    let (acme, globex) = (of("acme").await, of("globex").await);
    let nobodys = manager.create("x").await.unwrap().id().to_string();
    let app = app(portal(&manager)).await;
    let sorted = |page: &Answer| ids(page).into_iter().collect::<BTreeSet<_>>();
    for (name, query, seen) in [
        ("alice", "", vec![&acme]),
        ("alice", "?owner=acme", vec![&acme]),
        ("rita", "", vec![&acme]),
        ("bob", "", vec![&globex]),
        ("root", "", vec![&acme, &globex, &nobodys]),
        ("root", "?owner=globex", vec![&globex]),
    ] {
        let page = get(&app, name, query).await;
        let seen = seen.into_iter().cloned().collect();
        assert_eq!(sorted(&page), seen, "{name} {query}");
        let may_create = page.text.contains(&format!("href=\"{MOUNT}/new\""));
        assert_eq!(may_create, name != "rita", "{name}");
    }
    for query in ["?owner=globex", "?owner=nobody"] {
        assert_eq!(get(&app, "alice", query).await.status, 404, "{query}");
    }
    // Neither by an id nor by a cursor of another owner.
    for query in [format!("?q={globex}"), format!("?after=0~{globex}")] {
        assert!(!ids(&get(&app, "alice", &query).await).contains(&globex));
    }
    for query in ["?state=flying", "?unused=x", "?after=x"] {
        assert_eq!(get(&app, "alice", query).await.status, 400, "{query}");
    }
}

#[actix_web::test]
async fn a_key_is_found_by_the_beginning_of_its_name_or_id() {
    let manager = manager().await;
    let key = manager.create("CI nightly").owner("acme").await.unwrap();
    manager.create("deploy").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let id = key.id().to_string();
    let prefix = key.record().prefix.clone();
    let secret = key.expose_secret();
    for (query, count) in [
        ("ci".to_owned(), 1),
        ("%20CI%20night".to_owned(), 1),
        ("nightly".to_owned(), 0),
        (id.clone(), 1),
        (id[..6].to_owned(), 1),
        (format!("{prefix}_{}", &id[..8]), 1),
        (secret.to_owned(), 1),
        (format!("{prefix}_zzzz"), 0),
        (String::new(), 2),
    ] {
        let page = get(&app, "alice", &format!("?q={query}")).await;
        assert_eq!(page.status, 200);
        assert_eq!(ids(&page).len(), count, "{query}");
        assert!(count != 1 || ids(&page) == [id.clone()], "{query}");
        // Who pastes a whole key finds it, and the page does not repeat the secret.
        assert!(!page.text.contains(secret));
    }
    let page = get(&app, "alice", "?q=absent").await;
    assert!(
        page.text.contains("There are no keys that match"),
        "{}",
        page.text
    );
    assert!(page.text.contains("value=\"absent\""));
}

#[actix_web::test]
async fn a_search_by_an_id_says_if_more_keys_have_its_beginning() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let create = async |number: u128| {
        let key = manager.create("ci").owner("acme");
        key.id(KeyId::from_u128(number)).await.unwrap()
    };
    for number in 1..=50 {
        create(number).await;
    }
    let beginning = &KeyId::from_u128(1).to_string()[..8];
    let list = async || get(&app, "alice", &format!("?q={beginning}")).await;
    let said = "More ids begin so; write more of it.";
    let page = list().await;
    assert_eq!(ids(&page).len(), 50);
    assert!(!page.text.contains(said), "{}", page.text);
    create(51).await;
    let page = list().await;
    assert_eq!(ids(&page).len(), 50);
    assert!(page.text.contains(said), "{}", page.text);
}

/// A key that is pasted into any field for a search.
#[actix_web::test]
async fn a_pasted_secret_is_neither_in_a_page_nor_in_a_link() {
    let manager = manager().await;
    let key = manager.create("CI").owner("acme").await.unwrap();
    let (whole, id) = (key.expose_secret(), key.id().to_string());
    let secret = whole.split_once(&id).unwrap().1;
    let app = app(portal(&manager).sign_in("/login")).await;
    for (pages, fields) in [
        (&[""][..], &["q", "owner", "state", "unused", "after"][..]),
        (
            &["/audit"],
            &["key", "owner", "actor", "from", "to", "before"],
        ),
        (
            &["/admin", "/admin/owner", "/admin/keys", "/admin/unused"],
            &["owner", "q", "after", "days", "since"],
        ),
    ] {
        for (page, field) in pages
            .iter()
            .flat_map(|page| fields.iter().map(move |field| (page, field)))
        {
            let owner = if *field == "owner" { "" } else { "owner=acme&" };
            let path = format!("{page}?{owner}{field}={whole}");
            let page = get(&app, "root", &path).await;
            assert!(!page.text.contains(secret), "{path}: {}", page.text);
        }
    }
    let page = get(&app, "root", &format!("/audit?key={whole}")).await;
    assert!(page.text.contains("Key created"), "{}", page.text);
    // A text around it, as in a header that was copied whole.
    let page = get(&app, "root", &format!("/admin/keys?q=Bearer%20{whole},")).await;
    assert!(page.text.contains(&id) && !page.text.contains(secret));
    // Nor is it sent on to the page for signing in, by whatever spelling of an address.
    let escaped = whole.replace('_', "%5F");
    for query in [
        format!("?q={whole}"),
        format!("?q={escaped}"),
        format!("/keys/{whole}"),
    ] {
        let answer = get(&app, "", &query).await;
        assert_eq!(answer.status, 303, "{query}");
        assert!(!answer.header("location").contains(secret), "{query}");
    }
    let answer = get(&app, "", "?q=ci").await;
    assert!(answer.header("location").ends_with("%3Fq%3Dci"));
}

#[actix_web::test]
async fn states_and_ends_are_words() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
    let config = Config::builder().idle_expiry(100 * DAY).build().unwrap();
    let manager = ApiKeyManager::builder()
        .config(config)
        .shared_store(Arc::new(MemoryStore::new()))
        .clock(clock.clone())
        .start()
        .await
        .unwrap();
    let create = |label: &str| manager.create(label).owner("acme");
    create("fresh")
        .expires_in(150 * DAY + DAY / 2)
        .await
        .unwrap();
    create("gone").expires_in(50 * DAY).await.unwrap();
    create("slept").await.unwrap();
    let off = create("off").await.unwrap();
    manager.disable(off.id()).await.unwrap();
    let ended = create("ended").expires_in(300 * DAY).await.unwrap();
    manager.revoke(ended.id()).await.unwrap();
    clock.advance(144 * DAY);
    let fresh = manager.list().label("fresh").await.unwrap().keys[0].id;
    manager.enable(fresh).await.unwrap();
    let app = app(portal(&manager)).await;
    for (state, label, words) in [
        (
            "active",
            "fresh",
            vec![">active<", ">ends in 6 days<", "class=\"soon\""],
        ),
        ("expired", "gone", vec![">expired<", ">ended 94 days ago<"]),
        ("idle", "slept", vec![">idle<"]),
        ("disabled", "off", vec![">disabled<"]),
        ("revoked", "ended", vec![">revoked<"]),
    ] {
        let page = get(&app, "alice", &format!("?state={state}")).await;
        assert_eq!(ids(&page).len(), 1, "{state}");
        for word in words.iter().chain([&label]) {
            assert!(page.text.contains(word), "{word}: {}", page.text);
        }
    }
    let unused = get(&app, "alice", "?unused=30").await;
    assert_eq!(ids(&unused).len(), 5);
    let unused = get(&app, "alice", "?unused=365").await;
    assert_eq!(ids(&unused).len(), 0);
}

#[actix_web::test]
async fn a_page_says_who_used_a_key_and_how_often() {
    let manager = manager().await;
    let key = manager.create("used").owner("acme").await.unwrap();
    manager.create("idle").owner("acme").await.unwrap();
    for _ in 0..3 {
        manager.verify(key.expose_secret()).await.unwrap();
    }
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", "").await;
    for part in [
        "just now</time>",
        "never used",
        "<svg class=\"spark\"",
        "3 allowed",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
}

/// Whatever the store keeps of it, the page of 50 keys costs three calls: list, last uses, usage.
#[actix_web::test]
async fn a_page_of_50_keys_costs_three_store_calls() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    for number in 0..60 {
        let key = manager
            .create(format!("key {number}"))
            .owner("acme")
            .await
            .unwrap();
        manager.verify(key.expose_secret()).await.unwrap();
    }
    let app = app(portal(&manager)).await;
    for path in ["", &next(&get(&app, "alice", "").await).unwrap()] {
        let before = store.count_all();
        let page = get(&app, "alice", path).await;
        assert_eq!(page.status, 200);
        assert_eq!(store.count_all() - before, 3, "{path}");
    }
}

#[actix_web::test]
async fn pages_have_each_key_once_also_if_keys_are_created_meanwhile() {
    let manager = manager().await;
    let mut expected = BTreeSet::new();
    for number in 0..120 {
        let key = manager
            .create(format!("key {number}"))
            .owner("acme")
            .await
            .unwrap();
        expected.insert(key.id().to_string());
    }
    let app = app(portal(&manager)).await;
    let (mut path, mut seen, mut sizes) = (String::new(), Vec::new(), Vec::new());
    loop {
        let page = get(&app, "alice", &path).await;
        sizes.push(ids(&page).len());
        seen.extend(ids(&page));
        manager.create("meanwhile").owner("acme").await.unwrap();
        match next(&page) {
            Some(link) => path = link,
            None => break,
        }
    }
    assert_eq!(sizes, [50, 50, 20]);
    assert_eq!(seen.len(), 120);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
}

/// 200 characters of the worst kind in each text, more scopes than a row names, and requests of both kinds on each day.
#[actix_web::test]
async fn a_page_of_long_hostile_labels_is_small_and_harmless() {
    static ADMIN: Policy = Policy::new().scopes(ScopeExpr::One("admin"));
    let clock = Arc::new(ManualClock::starting_now());
    let manager = manager_at(Arc::new(MemoryStore::new()), clock.clone()).await;
    let long = HOSTILE.repeat(6);
    let scopes: Vec<_> = (0..40)
        .map(|number| format!("{}:{number}", "s".repeat(40)))
        .collect();
    let mut keys = Vec::new();
    for _ in 0..50 {
        let create = manager.create(&long).owner(&long).description(&long);
        keys.push(create.scopes(&scopes).expires_in(31 * DAY).await.unwrap());
    }
    for day in 0..30 {
        for (number, key) in keys.iter().enumerate() {
            for _ in 0..=(day + number) % 3 {
                manager.verify(key.expose_secret()).await.unwrap();
            }
            let denied = manager.verify_for(key.expose_secret(), &ADMIN).await;
            assert!(denied.is_err());
        }
        if day < 29 {
            clock.advance(DAY);
        }
    }
    let brand = Brand::new(HOSTILE)
        .with_footer(HOSTILE)
        .with_list_notice(HOSTILE);
    let portal = portal(&manager).brand(brand);
    let app = test::init_service(
        App::new()
            .wrap(Compress::default())
            .service(portal.mount(MOUNT)),
    )
    .await;
    let page = get(&app, "root", "").await;
    assert_eq!(ids(&page).len(), 50);
    assert!(!page.text.contains("<script>"), "{}", page.text);
    let drawn = page.text.split("class=\"denied\"").skip(1);
    let strokes = drawn.map(|path| path.split('>').next().unwrap().matches('v').count());
    assert_eq!(strokes.collect::<Vec<_>>(), [30; 50]);
    assert!(page.text.len() <= 120_000, "{} bytes", page.text.len());
    let zipped = TestRequest::get()
        .uri(MOUNT)
        .insert_header(("x-test-person", "root"))
        .insert_header(("accept-encoding", "gzip"));
    let zipped = test::call_service(&app, zipped.to_request()).await;
    assert_eq!(zipped.headers().get("content-encoding").unwrap(), "gzip");
    let zipped = test::read_body(zipped).await;
    assert!(zipped.len() <= 20_000, "{} bytes", zipped.len());
    // The search repeats what was searched for.
    let query =
        "?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&owner=%22%3E%3Cscript%3E&state=&unused=";
    let page = get(&app, "root", query).await;
    assert!(
        page.status == 200 && !page.text.contains("<script>"),
        "{}",
        page.text
    );
}

/// Ten thousand keys of one owner: the first page, the last, and a key in the middle.
#[actix_web::test]
async fn ten_thousand_keys_of_one_owner_page_and_search() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::new(folder.path().join("keys.db")));
    let inner = patient_manager(store).await;
    let mut needle = None;
    // A hundred at once, so that the store commits them together.
    for batch in 0..100 {
        let calls = (0..100).map(|number| {
            let label = match (batch, number) {
                (50, 50) => "needle".to_owned(),
                _ => format!("hay {batch}-{number}"),
            };
            let call = inner.create(label).owner("acme");
            async move { call.await.unwrap() }
        });
        let created = futures_util::future::join_all(calls).await;
        if batch == 50 {
            needle = Some(created[50].id());
        }
    }
    let needle: KeyId = needle.unwrap();
    let app = app(portal(&inner)).await;
    let (mut path, mut seen) = (String::new(), BTreeSet::new());
    loop {
        let page = get(&app, "alice", &path).await;
        assert_eq!(page.status, 200);
        let before = seen.len();
        seen.extend(ids(&page));
        assert_eq!(
            seen.len() - before,
            ids(&page).len(),
            "a key is on two pages"
        );
        match next(&page) {
            Some(link) => path = link,
            None => break,
        }
    }
    assert_eq!(seen.len(), 10_000);
    for query in ["needle".to_owned(), needle.to_string()] {
        let page = get(&app, "alice", &format!("?q={query}")).await;
        assert_eq!(ids(&page), [needle.to_string()], "{query}");
    }
}

#[actix_web::test]
async fn a_search_that_looks_at_many_keys_goes_on_at_a_cursor() {
    let manager = manager().await;
    let first = manager.create("needle").owner("acme").await.unwrap().id();
    for _ in 0..10_050 {
        manager.create("hay").owner("acme").await.unwrap();
    }
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", "?q=needle").await;
    assert_eq!(ids(&page).len(), 0);
    assert!(page.text.contains("The search goes on"), "{}", page.text);
    let page = get(&app, "alice", &next(&page).unwrap()).await;
    assert_eq!(ids(&page), [first.to_string()]);
    assert_eq!(next(&page), None);
}

#[actix_web::test]
async fn a_store_that_is_down_is_said() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let app = app(portal(&manager)).await;
    store.fail(Call::List, Fault::Unavailable);
    let page = get(&app, "alice", "").await;
    assert_eq!(page.status, 503);
    assert!(page.text.contains("Not available") && page.text.contains("</html>"));
    store.heal();
    assert_eq!(get(&app, "alice", "").await.status, 200);
}

#[actix_web::test]
async fn a_store_that_keeps_nothing_but_records_has_a_list() {
    let manager = manager_on(Arc::new(RecordsOnly::default())).await;
    manager.create("plain").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", "").await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("plain") && !page.text.contains("never used"));
}

/// The person has several owners.
struct Dana;

impl PortalAuth for Dana {
    async fn person(&self, _: &HttpRequest) -> Result<Option<Person>, BoxError> {
        Ok(Some(
            Person::new("dana").with_owner("acme").with_owner("globex"),
        ))
    }
}

#[actix_web::test]
async fn a_person_with_several_owners_sees_one_after_the_other() {
    let manager = manager().await;
    for owner in ["acme", "globex"] {
        manager
            .create(format!("of {owner}"))
            .owner(owner)
            .await
            .unwrap();
    }
    let app = app(Portal::new(manager.clone(), Dana)).await;
    let page = get(&app, "dana", "").await;
    assert!(
        page.text.contains("of acme") && !page.text.contains("of globex"),
        "{}",
        page.text
    );
    assert!(
        page.text
            .contains("<option selected>acme</option><option>globex</option>")
    );
    let page = get(&app, "dana", "?owner=globex").await;
    assert!(!page.text.contains("of acme<") && page.text.contains("of globex"));
}

#[actix_web::test]
async fn the_brand_and_the_button_to_sign_out_are_the_applications() {
    let manager = manager().await;
    let brand = Brand::new("Acme")
        .with_logo("/static/acme.svg")
        .with_home("https://acme.example/")
        .with_style_sheet("/static/acme.css")
        .with_list_notice("Read the <terms>.")
        .with_footer("Ask us");
    let app = app(portal(&manager).brand(brand).sign_out("/logout")).await;
    let page = get(&app, "alice", "").await;
    for part in [
        "<form method=\"post\" action=\"/logout\"><button>Sign out</button></form>",
        "href=\"https://acme.example/\"",
        "src=\"/static/acme.svg\"",
        "Read the &#60;terms&#62;.",
        "<footer class=\"foot\">Ask us</footer>",
        "aria-current=\"page\">Keys</a>",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    let own = page.text.find("/assets/").unwrap();
    assert!(
        page.text.find("/static/acme.css").unwrap() > own,
        "it follows the portal's own"
    );
    let plain = crate::app::app(portal(&manager)).await;
    assert!(!get(&plain, "alice", "").await.text.contains("Sign out"));
    let wrong = crate::app::app(portal(&manager).sign_out("//evil.example/logout")).await;
    assert_eq!(get(&wrong, "alice", "").await.status, 500);
}
