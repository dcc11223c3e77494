//! Usage: what is counted for which key and route; it equals what clients saw.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, get, web};
use apikey_runtime::clock::ManualClock;
use apikey_runtime::{
    ApiKeyManager, DefaultPolicy, DenyReason, Guarded, KeyId, KeyStore, MemoryStore, Policy,
    RequireApiKey, RoutePolicy, ScopeExpr, SqliteStore, Timestamp, api_key_required,
};
use apikey_test_support::http::Server;
use apikey_test_support::{forge, manager, manager_at, manager_on};

const HOUR: i64 = 3_600_000;

#[get("/plain")]
#[api_key_required]
async fn plain() -> &'static str {
    "in"
}

#[get("/orders/{id}/items/{item}")]
#[api_key_required]
async fn item() -> &'static str {
    "in"
}

#[get("/year/{year:[0-9]{4}}")]
#[api_key_required]
async fn year() -> &'static str {
    "in"
}

#[get("/files/{path}*")]
#[api_key_required]
async fn file() -> &'static str {
    "in"
}

#[get("/scoped")]
#[api_key_required(scope = "b")]
async fn scoped() -> &'static str {
    "in"
}

#[get("/methods")]
#[api_key_required(methods(POST))]
async fn methods() -> &'static str {
    "in"
}

/// A handler for requests that do not match any route.
async fn nowhere(_: Guarded<DefaultPolicy, ()>) -> &'static str {
    "nowhere"
}

#[get("/closed")]
#[api_key_required(require_https)]
async fn closed() -> &'static str {
    "in"
}

struct Dear;

impl RoutePolicy for Dear {
    const POLICY: Policy = Policy::new().cost(5);
}

async fn dear(_: Guarded<Dear, ()>) -> &'static str {
    "in"
}

struct Cheap;

impl RoutePolicy for Cheap {
    const POLICY: Policy = Policy::new().cost(0);
}

async fn cheap(_: Guarded<Cheap, ()>) -> &'static str {
    "in"
}

struct Fresh;

impl RoutePolicy for Fresh {
    const POLICY: Policy = Policy::new().fresh();
}

struct FreshReader;

impl RoutePolicy for FreshReader {
    const POLICY: Policy = READER.fresh();
}

/// Two guards side by side: the first waits for the store, and the second decides meanwhile.
async fn side_by_side(_: Guarded<Fresh, ()>, _: Guarded<DefaultPolicy, ()>) -> &'static str {
    "in"
}

async fn denied_later(_: Guarded<FreshReader, ()>, _: Guarded<DefaultPolicy, ()>) -> &'static str {
    "in"
}

const READER: Policy = Policy::new().scopes(ScopeExpr::One("read"));

fn routes(app: &mut web::ServiceConfig) {
    app.service((plain, item, year, file, scoped, methods, closed));
    app.route("/dear", web::get().to(dear));
    app.route("/cheap", web::get().to(cheap));
    app.route("/side-by-side", web::get().to(side_by_side));
    app.route("/denied-later", web::get().to(denied_later));
    app.service(
        web::scope("/tenants/{tenant}").service(
            web::scope("/v1")
                .wrap(RequireApiKey::new())
                .route("/open/{id:\\d+}", web::get().to(|| async { "in" }))
                .route("/dear", web::get().to(dear))
                .service((plain, scoped)),
        ),
    );
    app.service(
        web::scope("/strict")
            .wrap(RequireApiKey::with(READER))
            .service(plain),
    );
    app.default_service(web::to(nowhere));
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        routes(app);
    })
}

/// Returns how often each route allowed the key.
async fn by_route(manager: &ApiKeyManager, id: KeyId) -> BTreeMap<String, u64> {
    let report = manager.usage(id).await.unwrap();
    let routes = report.by_route().into_iter();
    routes.map(|row| (row.route, row.counts.requests)).collect()
}

fn counts<'a>(routes: impl IntoIterator<Item = (&'a str, u64)>) -> BTreeMap<String, u64> {
    let routes = routes.into_iter();
    routes
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

#[actix_web::test]
async fn requests_count_under_their_routes_pattern() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let paths = [
        ("/plain", "/plain"),
        ("/plain?id=7", "/plain"),
        ("/%70lain", "/plain"),
        ("/orders/17/items/4", "/orders/{id}/items/{item}"),
        ("/orders/orders/items/items", "/orders/{id}/items/{item}"),
        ("/orders/%7Bid%7D/items/%2F%25", "/orders/{id}/items/{item}"),
        ("/year/2026", "/year/{year}"),
        ("/files/", "/files/{path}"),
        ("/files/a/b/c", "/files/{path}"),
        ("/tenants/acme/v1/plain", "/tenants/{tenant}/v1/plain"),
        ("/tenants/v1/v1/open/1", "/tenants/{tenant}/v1/open/{id}"),
        ("/tenants/acme/v1/none", "/tenants/{tenant}/v1/*"),
        ("/nothing/here", "/*"),
        ("/tenants/acme", "/tenants/{tenant}"),
        ("/", "/*"),
    ];
    let mut expected = BTreeMap::new();
    for (path, route) in paths {
        server.get(path, key.expose_secret()).await;
        *expected.entry(route).or_default() += 1;
    }
    manager.verify(key.expose_secret()).await.unwrap();
    expected.insert("-", 1);
    assert_eq!(by_route(&manager, key.id()).await, counts(expected));
}

#[actix_web::test]
async fn middleware_around_the_whole_app_counts_under_the_routes_that_follow() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let app = App::new()
        .configure(|app| manager.init_app(app))
        .configure(routes)
        .wrap(RequireApiKey::new());
    let app = init_service(app).await;
    let authorization = ("Authorization", format!("Bearer {}", key.expose_secret()));
    let paths = [
        "/plain",
        "/%70lain",
        "/orders/17/items/4",
        "/%6frders/17/%69tems/4",
        "/year/2026",
        "/files/a/b/c",
        "/tenants/acme/v1/plain",
        "/tenants/acme/%761/plain",
        "/tenants/acme/v1/none",
        "/nothing/here",
    ];
    for path in paths {
        let request = TestRequest::with_uri(path).insert_header(authorization.clone());
        call_service(&app, request.to_request()).await;
    }
    let expected = [
        ("/plain", 2),
        ("/orders/{id}/items/{item}", 2),
        ("/year/{year}", 1),
        ("/files/{path}", 1),
        ("/tenants/{tenant}/v1/plain", 2),
        ("/*", 2),
    ];
    assert_eq!(by_route(&manager, key.id()).await, counts(expected));
}

/// Paths that a client invents do not become routes.
#[actix_web::test]
async fn a_client_makes_no_routes() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let mut client = server.connect().await;
    let authorization = format!("Bearer {}", key.expose_secret());
    for number in 0..200 {
        for start in [
            "/orders/1",
            "",
            "/tenants/a/v1",
            "/files",
            "/tenants/a/v1/open",
        ] {
            let path = format!("{start}/{number}{{x}}%00/items/{number}");
            let path = path.replace(['{', '}'], "%7B");
            client
                .get(&path, &[("Authorization", &authorization)])
                .await;
        }
    }
    let routes = by_route(&manager, key.id()).await;
    let names: Vec<_> = routes.keys().map(String::as_str).collect();
    assert_eq!(names, ["/*", "/files/{path}", "/tenants/{tenant}/v1/*"]);
    assert_eq!(routes.values().sum::<u64>(), 1_000);
}

/// Sends a mix of requests of one key; returns how often it was allowed and how often denied.
async fn a_day(server: &Server, key: &str) -> (u64, BTreeMap<String, u64>) {
    let (mut allowed, mut refused) = (0, BTreeMap::new());
    let requests = [
        ("/plain", 9),
        ("/orders/1/items/2", 4),
        ("/scoped", 3),
        ("/methods", 2),
        ("/tenants/acme/v1/plain", 5),
        ("/tenants/acme/v1/scoped", 6),
        ("/strict/plain", 7),
        ("/elsewhere", 8),
    ];
    for (path, times) in requests {
        for _ in 0..times {
            let answer = server.get(path, key).await;
            match answer.status {
                200 => allowed += 1,
                _ => *refused.entry(answer.problem()).or_default() += 1,
            }
        }
    }
    (allowed, refused)
}

/// Returns the same counts from usage.
async fn counted(manager: &ApiKeyManager, id: KeyId) -> (u64, BTreeMap<String, u64>) {
    let total = manager.usage(id).await.unwrap().total();
    let refused = total.denied.iter();
    let refused = refused.map(|(reason, count)| (reason.code().to_owned(), *count));
    (total.requests, refused.collect())
}

async fn adds_up(store: impl Fn() -> Arc<dyn KeyStore>, restarts: bool) {
    let manager = manager_on(store()).await;
    let key = manager.create("a").await.unwrap();
    let bystander = manager.create("b").await.unwrap();
    let server = serve(&manager);
    // A key's id with a wrong secret does not use the key.
    let wrong = forge::wrong_secret(key.expose_secret());
    assert_eq!(server.get("/plain", wrong.as_str()).await.status, 401);
    let (allowed, refused) = a_day(&server, key.expose_secret()).await;
    assert_eq!((allowed, refused.values().sum::<u64>()), (26, 18));
    assert_eq!(
        counted(&manager, key.id()).await,
        (allowed, refused.clone())
    );
    assert_eq!(
        counted(&manager, bystander.id()).await,
        (0, BTreeMap::new())
    );

    // Later counts reach the store when the manager stops, and not before.
    let (again, _) = a_day(&server, key.expose_secret()).await;
    manager.shutdown().await.unwrap();
    if !restarts {
        return;
    }
    let manager = manager_on(store()).await;
    let refused: BTreeMap<_, _> = refused.into_iter().map(|(why, n)| (why, n * 2)).collect();
    assert_eq!(
        counted(&manager, key.id()).await,
        (allowed + again, refused)
    );
    manager.shutdown().await.unwrap();
}

#[actix_web::test]
async fn sums_are_what_the_client_counted() {
    adds_up(|| Arc::new(MemoryStore::new()), false).await;
}

#[actix_web::test]
async fn sums_are_what_the_client_counted_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("keys.db");
    adds_up(|| Arc::new(SqliteStore::new(&at)), true).await;
}

#[actix_web::test]
async fn a_request_through_two_gates_counts_once() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").scopes(["read"]).await.unwrap();
    for path in [
        "/tenants/acme/v1/plain",
        "/strict/plain",
        // The inner guard's cost is higher: the request costs that much, and not more.
        "/tenants/acme/v1/dear",
    ] {
        assert_eq!(server.get(path, key.expose_secret()).await.status, 200);
    }
    let total = manager.usage(key.id()).await.unwrap().total();
    assert_eq!((total.requests, total.cost, total.denials()), (3, 7, 0));
    // Allowed by the outer guard, denied by the inner one: this is a denial, and nothing else, even
    // if the outer guard's count has already been moved.
    for _ in 0..2 {
        let answer = server.get("/tenants/acme/v1/scoped", key.expose_secret());
        assert_eq!(answer.await.status, 403);
        let total = manager.usage(key.id()).await.unwrap().total();
        assert_eq!((total.requests, total.cost), (3, 7));
    }
    let total = manager.usage(key.id()).await.unwrap().total();
    assert_eq!(total.denied_for(DenyReason::InsufficientScope), 2);
}

#[actix_web::test]
async fn two_guards_side_by_side_count_a_request_once() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    // The second guard decides at once if the key is cached.
    server.get("/plain", key.expose_secret()).await.says("in");
    for _ in 0..2 {
        let answer = server.get("/side-by-side", key.expose_secret()).await;
        answer.says("in");
    }
    let total = manager.usage(key.id()).await.unwrap().total();
    assert_eq!((total.requests, total.cost), (3, 3));
    // What the second guard counted is taken back when the first one denies.
    for _ in 0..2 {
        let answer = server.get("/denied-later", key.expose_secret()).await;
        assert_eq!(answer.status, 403);
        let total = manager.usage(key.id()).await.unwrap().total();
        assert_eq!((total.requests, total.cost), (3, 3));
    }
}

#[actix_web::test]
async fn costs_are_those_of_the_routes() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    for (path, times) in [("/plain", 2), ("/dear", 3), ("/cheap", 4), ("/scoped", 5)] {
        for _ in 0..times {
            server.get(path, key.expose_secret()).await;
        }
    }
    let report = manager.usage(key.id()).await.unwrap();
    let routes = report.by_route().into_iter();
    let costs: Vec<_> = routes.map(|row| (row.route, row.counts.cost)).collect();
    let cost = |route: &str, cost| (route.to_owned(), cost);
    let all = [
        cost("/cheap", 0),
        cost("/dear", 15),
        cost("/plain", 2),
        cost("/scoped", 0),
    ];
    assert_eq!(costs, all);
}

/// It is denied before the secret is compared.
#[actix_web::test]
async fn a_key_in_clear_text_is_no_usage() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let wrong = forge::wrong_secret(key.expose_secret());
    for key in [key.expose_secret(), wrong.as_str()] {
        let answer = server.get("/closed", key).await;
        assert_eq!(answer.problem(), DenyReason::HttpsRequired.code());
    }
    // Control: a later denial is counted.
    assert_eq!(server.get("/scoped", key.expose_secret()).await.status, 403);
    let total = manager.usage(key.id()).await.unwrap().total();
    assert_eq!(total.denied, [(DenyReason::InsufficientScope, 1)]);
}

#[actix_web::test]
async fn each_reason_counts_for_who_has_the_secret_and_for_nobody_else() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(100 * HOUR)));
    let manager = manager_at(Arc::new(MemoryStore::new()), clock.clone()).await;
    let server = serve(&manager);
    let hour = Duration::from_millis(HOUR as u64);
    let mut keys = Vec::new();
    for (builder, reason) in [
        (manager.create("a").expires_in(hour), DenyReason::Expired),
        (
            manager
                .create("b")
                .not_before(Timestamp::from_millis(1_000 * HOUR)),
            DenyReason::NotYetValid,
        ),
        (manager.create("c"), DenyReason::Revoked),
        (manager.create("d"), DenyReason::Disabled),
        (
            manager
                .create("e")
                .networks(["192.0.2.0/24".parse().unwrap()]),
            DenyReason::AddressNotPermitted,
        ),
        (
            manager.create("f").methods(["POST"]),
            DenyReason::MethodNotPermitted,
        ),
    ] {
        keys.push((builder.await.unwrap(), reason));
    }
    manager.revoke(keys[2].0.id()).await.unwrap();
    manager.disable(keys[3].0.id()).await.unwrap();
    clock.advance(hour * 2);
    for (key, reason) in &keys {
        let wrong = forge::wrong_secret(key.expose_secret());
        for _ in 0..2 {
            let answer = server.get("/plain", key.expose_secret()).await;
            assert_eq!(answer.problem(), reason.code());
            assert_eq!(server.get("/plain", wrong.as_str()).await.status, 401);
        }
        let report = manager.usage(key.id()).await.unwrap();
        assert_eq!(report.total().denied, [(*reason, 2)]);
        assert_eq!(report.total().requests, 0);
        assert_eq!(manager.last_used(key.id()).await.unwrap(), None);
    }
}
