//! Headers that announce the end of a key or of a superseded secret.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::web;
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::config::ConfigBuilder;
use apikey_runtime::{
    ApiKeyManager, Config, KeyHeaders, KeyStore, MemoryStore, NewKey, Policy, RequireApiKey,
    Timestamp, api_key_required,
};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::{PATIENCE, manager, soon};

const DAY: Duration = Duration::from_secs(24 * 3_600);

const HOUR: Duration = Duration::from_secs(3_600);

const NAMES: [&str; 4] = ["api-key-expires", "api-key-status", "deprecation", "sunset"];

#[api_key_required]
async fn guarded() -> &'static str {
    "in"
}

#[api_key_required(scope = "none")]
async fn out_of_scope() -> &'static str {
    "in"
}

#[api_key_required]
async fn with_its_own() -> impl actix_web::Responder {
    actix_web::HttpResponse::Ok()
        .insert_header(("Sunset", "of the handler"))
        .insert_header(("Api-Key-Expires", "@1"))
        .finish()
}

async fn inside() -> &'static str {
    "in"
}

/// Serves the attribute within `KeyHeaders` and without it, and the middleware.
fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        let companion = web::scope("/companion")
            .route("/guarded", web::get().to(guarded))
            .route("/scope", web::get().to(out_of_scope))
            .route("/own", web::get().to(with_its_own))
            .wrap(KeyHeaders);
        let middleware = web::scope("/middleware")
            .route("/plain", web::get().to(inside))
            .route("/guarded", web::get().to(guarded))
            .wrap(RequireApiKey::new());
        let stripped = web::scope("/stripped")
            .route("/guarded", web::get().to(guarded))
            .wrap(RequireApiKey::new().strip_credential());
        let fresh = web::scope("/fresh")
            .route("/plain", web::get().to(inside))
            .wrap(RequireApiKey::with(Policy::new().fresh()));
        app.service(companion)
            .service(middleware)
            .service(stripped)
            .service(fresh)
            .route("/bare", web::get().to(guarded));
    })
}

const ANNOUNCING: [&str; 5] = [
    "/companion/guarded",
    "/middleware/plain",
    "/middleware/guarded",
    "/stripped/guarded",
    "/fresh/plain",
];

/// Returns the headers about the end of the key, sorted by name.
fn notices(answer: &Answer) -> Vec<(&'static str, String)> {
    let lines = |name: &'static str| answer.all(name).into_iter().map(move |value| (name, value));
    let lines = NAMES.into_iter().flat_map(lines);
    lines
        .map(|(name, value)| (name, value.to_owned()))
        .collect()
}

/// Sends the request where headers are added, from the store and from the cache.
async fn announced(server: &Server, key: &NewKey) -> Vec<(&'static str, String)> {
    let mut first = None;
    for path in ANNOUNCING.into_iter().chain(ANNOUNCING) {
        let answer = server.get(path, key.expose_secret()).await;
        assert_eq!(answer.status, 200, "{path}");
        let found = notices(&answer);
        assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{path}");
        if !found.is_empty() {
            assert_eq!(answer.header("vary"), Some("authorization"), "{path}");
        }
    }
    first.unwrap()
}

fn seconds(time: Timestamp) -> i64 {
    time.as_millis().div_euclid(1_000)
}

async fn on(store: Arc<dyn KeyStore>, config: ConfigBuilder) -> ApiKeyManager {
    let config = config.store_timeout(PATIENCE).build();
    let builder = ApiKeyManager::builder().config(config.unwrap());
    soon(builder.shared_store(store).start()).await.unwrap()
}

fn expires(at: Timestamp) -> (&'static str, String) {
    ("api-key-expires", format!("@{}", seconds(at)))
}

/// Returns the header about the secret before the last rotation.
async fn superseded(manager: &ApiKeyManager, key: &NewKey) -> (&'static str, String) {
    let record = soon(manager.get(key.id())).await.unwrap();
    let until = record.previous.unwrap().until;
    (
        "api-key-status",
        format!("superseded;until=@{}", seconds(until)),
    )
}

#[actix_web::test]
async fn the_end_of_a_key_and_of_a_grace_is_announced_on_every_store() {
    for fleet in Fleet::every(Duration::from_millis(500)).await {
        let (manager, name) = (on(fleet.store(), Config::builder()).await, fleet.name);
        let server = serve(&manager);
        let lives = async |days: u32| {
            let create = manager.create("a").expires_in(DAY * days);
            let key = soon(create).await.unwrap();
            let record = soon(manager.get(key.id())).await.unwrap();
            (key, record.expires.unwrap())
        };
        let (ending, end) = lives(20).await;
        let (later, _) = lives(40).await;
        assert_eq!(announced(&server, &ending).await, [expires(end)], "{name}");
        assert_eq!(announced(&server, &later).await, [], "{name}");

        // A rotated key: the old secret is superseded, and the new one is not.
        let new = soon(manager.rotate(later.id()).grace(HOUR)).await.unwrap();
        let status = superseded(&manager, &later).await;
        assert_eq!(announced(&server, &later).await, [status], "{name}");
        assert_eq!(announced(&server, &new).await, [], "{name}");
        soon(manager.rotate(ending.id()).grace(HOUR)).await.unwrap();
        let status = superseded(&manager, &ending).await;
        let both = [expires(end), status.clone()];
        assert_eq!(announced(&server, &ending).await, both, "{name}");

        // A later end takes the announcement back.
        let postponed = SystemTime::now() + DAY * 300;
        let update = manager.update(ending.id()).expires_at(postponed);
        soon(update).await.unwrap();
        assert_eq!(announced(&server, &ending).await, [status], "{name}");
        soon(manager.shutdown()).await.unwrap();
    }
}

async fn at_clock(config: ConfigBuilder) -> (ApiKeyManager, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_400)));
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    let builder = builder.clock(Arc::<ManualClock>::clone(&clock));
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    (manager, clock)
}

#[actix_web::test]
async fn the_first_threshold_is_exact_and_an_empty_list_disables_it() {
    let config = Config::builder().expiry_notice_days([1, 2]);
    let (manager, clock) = at_clock(config).await;
    let server = serve(&manager);
    let end = clock.read().now.checked_add(DAY * 3).unwrap();
    let key = manager.create("a").expires_at(end).await.unwrap();
    let unending = manager.create("a").await.unwrap();
    clock.advance(DAY - Duration::from_millis(1));
    assert_eq!(announced(&server, &key).await, []);
    clock.advance(Duration::from_millis(1));
    assert_eq!(announced(&server, &key).await, [expires(end)]);
    assert_eq!(announced(&server, &unending).await, []);
    clock.advance(DAY * 2 - Duration::from_millis(1));
    assert_eq!(announced(&server, &key).await, [expires(end)]);

    let (manager, _) = at_clock(Config::builder().expiry_notice_days([])).await;
    let server = serve(&manager);
    let key = manager.create("a").expires_in(HOUR).await.unwrap();
    assert_eq!(announced(&server, &key).await, []);
}

/// RFC 9745 section 4: `Sunset` is not earlier than `Deprecation`.
#[actix_web::test]
async fn deprecation_and_sunset_are_sent_by_option() {
    let config = Config::builder().deprecation_headers(true);
    let (manager, clock) = at_clock(config).await;
    let server = serve(&manager);
    // Tue, 14 Nov 2023 22:13:20 GMT.
    let start = clock.read().now;
    let after = |span| start.checked_add(span).unwrap();
    let end = after(DAY * 60);
    let key = manager.create("a").expires_at(end).await.unwrap();
    assert_eq!(announced(&server, &key).await, []);
    clock.advance(DAY * 31);
    let dates = |deprecated: Timestamp, sunset: &str| {
        let deprecated = format!("@{}", seconds(deprecated));
        [("deprecation", deprecated), ("sunset", sunset.to_owned())]
    };
    let [deprecation, sunset] = dates(after(DAY * 30), "Sat, 13 Jan 2024 22:13:20 GMT");
    let expected = [expires(end), deprecation.clone(), sunset];
    assert_eq!(announced(&server, &key).await, expected);
    // The grace ends first.
    manager.rotate(key.id()).grace(DAY).await.unwrap();
    let status = superseded(&manager, &key).await;
    let [_, sunset] = dates(start, "Sat, 16 Dec 2023 22:13:20 GMT");
    let expected = [expires(end), status, deprecation, sunset];
    assert_eq!(announced(&server, &key).await, expected);
    // The notice does not begin before the key.
    let start = clock.read().now;
    let short = manager.create("a").expires_in(HOUR).await.unwrap();
    let [deprecation, sunset] = dates(start, "Fri, 15 Dec 2023 23:13:20 GMT");
    let end = start.checked_add(HOUR).unwrap();
    let expected = [expires(end), deprecation, sunset];
    assert_eq!(announced(&server, &short).await, expected);
}

#[actix_web::test]
async fn a_denial_a_bare_attribute_and_an_own_header_are_left_alone() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").expires_in(HOUR).await.unwrap();
    let get = async |path| server.get(path, key.expose_secret()).await;
    let scope = get("/companion/scope").await;
    scope.refused(403, "insufficient-scope");
    assert_eq!(notices(&scope), []);
    assert_eq!(notices(&get("/bare").await), []);
    let own = get("/companion/own").await;
    let (one, handlers) = ("@1".to_owned(), "of the handler".to_owned());
    assert_eq!(
        notices(&own),
        [("api-key-expires", one), ("sunset", handlers)]
    );
    // Control: the same key is announced elsewhere.
    assert_eq!(notices(&get("/companion/guarded").await).len(), 1);
}

/// 200 characters that would break out of a header, a string or a page.
fn hostile() -> String {
    let text = "\"';,\\ <b>=@1; until=@9; Sunset: x %0d%0aSet-Cookie: a=b \u{e9}\u{1f511} ";
    text.chars().cycle().take(200).collect()
}

#[actix_web::test]
async fn nothing_of_a_hostile_label_is_in_a_header() {
    let config = Config::builder().deprecation_headers(true);
    let manager = on(Arc::new(MemoryStore::new()), config).await;
    let server = serve(&manager);
    let key = manager
        .create(hostile())
        .owner(hostile())
        .description(hostile());
    let key = key.expires_in(HOUR).await.unwrap();
    manager.rotate(key.id()).grace(HOUR / 2).await.unwrap();
    let parts = ["until=@9", "<b>", "Set-Cookie", "%0d", "\u{e9}", "\\", "'"];
    let shows = |text: &str| parts.iter().any(|part| text.contains(part));
    assert!(shows(&hostile()));
    for path in ANNOUNCING.into_iter().chain(["/companion/scope", "/bare"]) {
        let answer = server.get(path, key.expose_secret()).await;
        for (name, value) in &answer.headers {
            assert!(!shows(name) && !shows(value), "{path} {name}: {value}");
        }
    }
    let announced = announced(&server, &key).await;
    assert_eq!(announced.len(), 4, "{announced:?}");
}
