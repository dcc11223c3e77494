//! A small API with handlers for each location of a key, for scopes, methods, rates, `optional` and `fresh`.
//!
//! ```sh
//! cargo run -p orders
//! ```
//!
//! It prints a line `NAME: KEY` for each key that it creates, and then serves. Requests to try:
//!
//! ```sh
//! curl -H "Authorization: Bearer $READER" http://127.0.0.1:8080/orders
//! curl -H "Authorization: Bearer $WRITER" --json '{"item":"tea","quantity":2}' http://127.0.0.1:8080/orders
//! curl -H "Authorization: Bearer $PROJECT7" http://127.0.0.1:8080/projects/7
//! curl -H "X-API-Key: $READER" http://127.0.0.1:8080/header
//! curl -H "Authorization: ApiKey $READER" http://127.0.0.1:8080/apikey
//! curl -u "$READER:" http://127.0.0.1:8080/basic
//! curl --json "{\"api_key\":\"$READER\",\"n\":1}" http://127.0.0.1:8080/json
//! ```
//!
//! `cargo run -p orders -- routes` lists the guarded handlers and what they demand. The test at the end of
//! this file fails if a route answers without a key and is not named as open.
//!
//! Optional variables: `PORT` (8080 by default, 0 for a free port) and `APIKEYS_DB` (a new file in a
//! temporary directory by default).

use std::error::Error;
use std::time::{Duration, SystemTime};

use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::{App, HttpResponse, HttpServer, Responder, get, post, web};
use apikey_runtime::events::EventKind;
use apikey_runtime::{ApiKey, ApiKeyManager, Config, RequireApiKey, SqliteStore, api_key_required};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    quantity: u32,
}

#[get("/orders")]
#[api_key_required(scope = "orders:read")]
async fn list_orders() -> impl Responder {
    web::Json([Order {
        item: "tea".to_owned(),
        quantity: 2,
    }])
}

/// Reads the body only after the key is accepted: malformed JSON without a key is answered with 401.
#[post("/orders")]
#[api_key_required(scope = "orders:write")]
async fn place_order(order: web::Json<Order>) -> impl Responder {
    HttpResponse::Created().json(order.into_inner())
}

/// Accepts a key for project 7 on `/projects/7` and denies it on `/projects/8`.
#[get("/projects/{project_id}")]
#[api_key_required(scope = "project:{project_id}:read")]
async fn project(path: web::Path<String>) -> impl Responder {
    web::Json(serde_json::json!({ "project": path.into_inner() }))
}

/// Requires an expression of scopes.
#[get("/reports")]
#[api_key_required(scopes = all("orders:read", any("orders:write", "reports:read")))]
async fn reports() -> impl Responder {
    "reports"
}

/// Asks the store for the key, so that a change by another process counts at once.
#[get("/fresh")]
#[api_key_required(scope = "orders:read", fresh)]
async fn fresh() -> impl Responder {
    "fresh"
}

/// Lets each key through 6 times a minute, at most 2 times at once: each request costs 10 units.
#[get("/search")]
#[api_key_required(scope = "orders:read", rate_limit = "60/minute", burst = 20, cost = 10)]
async fn search() -> impl Responder {
    "found"
}

#[get("/header")]
#[api_key_required(location = header("X-API-Key"))]
async fn in_a_header(key: ApiKey) -> impl Responder {
    key.label().to_owned()
}

#[get("/apikey")]
#[api_key_required(location = header("Authorization", scheme = "ApiKey"))]
async fn in_a_scheme_of_its_own(key: ApiKey) -> impl Responder {
    key.label().to_owned()
}

#[get("/optional")]
#[api_key_required(optional)]
async fn with_or_without(key: Option<ApiKey>) -> impl Responder {
    key.map_or_else(|| "anonymous".to_owned(), |key| key.label().to_owned())
}

#[get("/whoami")]
#[api_key_required]
async fn whoami(key: ApiKey) -> impl Responder {
    web::Json(serde_json::json!({
        "label": key.label(),
        "id": key.id(),
        "owner": key.owner(),
        "scopes": key.scopes(),
    }))
}

/// Takes the key from the query string. Query strings end up in logs and browser histories: use this
/// only for clients that cannot send a header.
#[get("/query")]
#[api_key_required(location = query("api_key"))]
async fn in_the_query(key: ApiKey) -> impl Responder {
    key.label().to_owned()
}

#[get("/cookie")]
#[api_key_required(location = cookie("api_key"))]
async fn in_a_cookie(key: ApiKey) -> impl Responder {
    key.label().to_owned()
}

/// Takes the user name as the key, as in `curl -u KEY:`.
#[get("/basic")]
#[api_key_required(location = basic)]
async fn as_a_user_name(key: ApiKey) -> impl Responder {
    key.label().to_owned()
}

/// Takes the key from the JSON body, which the handler gets unchanged. The handler answers with the
/// other members.
#[post("/json")]
#[api_key_required(location = json("api_key"))]
async fn in_json(body: web::Json<serde_json::Map<String, serde_json::Value>>) -> impl Responder {
    let mut rest = body.into_inner();
    rest.remove("api_key");
    web::Json(rest)
}

#[post("/form")]
#[api_key_required(location = form("api_key"))]
async fn in_a_form(
    fields: web::Form<std::collections::BTreeMap<String, String>>,
) -> impl Responder {
    let mut rest = fields.into_inner();
    rest.remove("api_key");
    web::Json(rest)
}

/// Accepts several locations. A request with keys in two of them is rejected.
#[get("/anywhere")]
#[api_key_required(locations = [bearer, header("X-API-Key"), query("api_key")])]
async fn anywhere(key: ApiKey) -> impl Responder {
    key.label().to_owned()
}

/// Accepts keys for one method only, although the route matches every method.
#[api_key_required(methods(POST))]
async fn post_only(key: ApiKey) -> impl Responder {
    key.label().to_owned()
}

/// Runs behind the middleware of its scope, which removes the key from the request.
async fn scoped(tail: web::Path<String>, key: ApiKey) -> impl Responder {
    web::Json(serde_json::json!({ "tail": tail.into_inner(), "key": key.label() }))
}

#[get("/open")]
async fn open() -> impl Responder {
    "open\n"
}

fn routes(app: &mut web::ServiceConfig) {
    app.service(list_orders)
        .service(place_order)
        .service(project)
        .service(reports)
        .service(fresh)
        .service(search)
        .service(in_a_header)
        .service(in_a_scheme_of_its_own)
        .service(with_or_without)
        .service(whoami)
        .service(in_the_query)
        .service(in_a_cookie)
        .service(as_a_user_name)
        .service(in_json)
        .service(in_a_form)
        .service(anywhere)
        .route("/post-only", web::route().to(post_only))
        .service(
            web::scope("/scoped")
                .wrap(RequireApiKey::new().strip_credential().allow_preflight())
                .route("/{tail:.*}", web::get().to(scoped)),
        )
        .service(open);
}

/// Makes the app, for the server and for the test of its routes. Add routes, scopes and middleware here, and
/// not where the server starts: the test sees only what this function adds.
fn app(
    manager: &ApiKeyManager,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse,
        Error = actix_web::Error,
        InitError = (),
    > + use<>,
> {
    App::new()
        .configure(|config| manager.init_app(config))
        .configure(routes)
}

/// Prints each guarded handler, with its routes and the scopes that it demands.
fn print_routes() {
    for route in apikey_runtime::routes() {
        let patterns = route.patterns.iter();
        let patterns: Vec<_> = patterns
            .map(|one| format!("{} {}", one.method, one.pattern))
            .collect();
        let scopes = route.demands.iter();
        let scopes: Vec<_> = scopes
            .filter_map(|demands| demands.scopes.as_deref())
            .collect();
        println!(
            "{} [{}] {}",
            route.handler,
            patterns.join(", "),
            scopes.join(" and ")
        );
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args()
        .nth(1)
        .is_some_and(|command| command == "routes")
    {
        print_routes();
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let path = match std::env::var_os("APIKEYS_DB") {
        Some(path) => path.into(),
        None => folder.path().join("orders.db"),
    };
    let manager = ApiKeyManager::builder()
        .config(Config::from_env()?)
        .store(SqliteStore::new(path))
        .start()
        .await?;
    make_keys(&manager).await?;
    actix_web::rt::spawn(print_expiring(manager.clone()));

    let of_app = manager.clone();
    let server = HttpServer::new(move || app(&of_app)).bind(("127.0.0.1", port()?))?;
    for address in server.addrs() {
        println!("listening on http://{address}");
    }
    server.run().await?;
    manager.shutdown().await?;
    Ok(())
}

/// Prints which keys end soon: 30, 7 and 1 days before.
async fn print_expiring(manager: ApiKeyManager) {
    let mut events = manager.events();
    while let Some(event) = events.next().await {
        if let (EventKind::ExpiringSoon { days, .. }, Some(id)) = (event.kind, event.key_id) {
            println!("the key {id} ends within {days} days");
        }
    }
}

async fn make_keys(manager: &ApiKeyManager) -> Result<(), Box<dyn Error>> {
    let reader = manager
        .create("reader")
        .owner("alice")
        .scopes(["orders:read"])
        .await?;
    println!("reader: {}", reader.expose_secret());
    let writer = manager
        .create("writer")
        .owner("bob")
        .scopes(["orders:read", "orders:write"])
        .await?;
    println!("writer: {}", writer.expose_secret());
    let project7 = manager
        .create("project7")
        .scopes(["project:7:read"])
        .await?;
    println!("project7: {}", project7.expose_secret());

    let expired = manager.create("expired").scopes(["orders:read"]).await?;
    manager
        .update(expired.id())
        .expires_at(SystemTime::now())
        .await?;
    println!("expired: {}", expired.expose_secret());

    let revoked = manager.create("revoked").scopes(["orders:read"]).await?;
    manager.revoke(revoked.id()).reason("example").await?;
    println!("revoked: {}", revoked.expose_secret());

    let disabled = manager.create("disabled").scopes(["orders:read"]).await?;
    manager.disable(disabled.id()).await?;
    println!("disabled: {}", disabled.expose_secret());

    let old = manager.create("rotated").scopes(["orders:read"]).await?;
    let new = manager
        .rotate(old.id())
        .grace(Duration::from_secs(3600))
        .await?;
    println!("rotated-old: {}", old.expose_secret());
    println!("rotated-new: {}", new.expose_secret());

    for (name, network) in [("loopback", "127.0.0.0/8"), ("elsewhere", "192.0.2.0/24")] {
        let key = manager
            .create(name)
            .scopes(["orders:read"])
            .networks([network.parse()?])
            .await?;
        println!("{name}: {}", key.expose_secret());
    }
    Ok(())
}

fn port() -> Result<u16, Box<dyn Error>> {
    match std::env::var("PORT") {
        Ok(port) => port
            .parse()
            .map_err(|_| format!("PORT is `{port}`; write a number from 0 to 65535").into()),
        Err(_) => Ok(8080),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{test, web};
    use apikey_runtime::testing::audit_routes;
    use apikey_runtime::{ApiKeyManager, MemoryStore};

    /// What answers without a key.
    const OPEN: [&str; 2] = ["GET /open", "GET /optional"];

    /// Audits the app, with more routes if a test adds them.
    async fn audit(more: impl FnOnce(&mut web::ServiceConfig)) -> Result<(), String> {
        let store = MemoryStore::new();
        let manager = ApiKeyManager::builder().store(store).start().await;
        let manager = manager.map_err(|error| error.to_string())?;
        let app = test::init_service(super::app(&manager).configure(more)).await;
        let audited = audit_routes(&app).open(OPEN).await;
        audited.map_err(|open| open.to_string())
    }

    #[actix_web::test]
    async fn each_route_needs_a_key_unless_it_is_named_as_open() {
        assert_eq!(audit(|_| {}).await, Ok(()));
    }

    /// Shows how the test above fails if somebody adds a route and forgets its guard.
    #[actix_web::test]
    async fn a_route_without_a_guard_is_found_and_named() {
        let report = || async { "report" };
        let failure = audit(|app| {
            app.route("/reports/{year}", web::get().to(report));
        });
        let failure = failure.await.map_err(|text| {
            let lines = text.lines().map(str::to_owned);
            lines.collect::<Vec<_>>()
        });
        let expected = [
            "these routes are open without a key, or could not be checked:",
            "  GET /reports/{year}: answered 200",
            "Guard each with `#[api_key_required]` or `RequireApiKey`, or name it, as in \
             `audit_routes(&app).open([\"GET /reports/{year}\"])`",
        ];
        assert_eq!(failure, Err(expected.map(str::to_owned).to_vec()));
    }
}
