//! The routes that `RequireApiKey` leaves open, over HTTP, with requests that try to open others.

use actix_web::body::MessageBody;
use actix_web::dev::{ResourceDef, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Condition, Next, NormalizePath, TrailingSlash, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer};
use apikey_runtime::{ApiKey, ApiKeyManager, Quota, RequireApiKey, api_key_required};
use apikey_test_support::http::Server;
use apikey_test_support::locations::Message;
use apikey_test_support::manager;

/// Says which route a request reached.
async fn said(request: HttpRequest) -> String {
    request.match_pattern().unwrap_or_default()
}

/// Reads the rest of its path as a file server or a proxy behind it might, and says what that leads to.
async fn forwards(request: HttpRequest, tail: web::Path<String>) -> String {
    let mut segments = Vec::new();
    let path = format!("docs/{tail}").replace('\\', "/");
    for segment in path.split('/') {
        match segment.split(';').next() {
            Some("..") => drop(segments.pop()),
            Some("" | ".") | None => {}
            Some(name) => segments.push(name),
        }
    }
    match segments.first() {
        Some(&"docs") => request.match_pattern().unwrap_or_default(),
        _ => format!("/{}", segments.join("/")),
    }
}

#[api_key_required]
async fn guarded(key: ApiKey) -> String {
    key.label().to_owned()
}

fn routes(app: &mut ServiceConfig) {
    app.route("/", web::route().to(said))
        .route("/health", web::route().to(said))
        .route("/health/deep", web::route().to(said))
        .route("/docs", web::route().to(said))
        .route("/docs/{tail}*", web::route().to(forwards))
        .route("/guarded", web::route().to(guarded))
        .route("/guarded/open", web::route().to(guarded))
        .route("/admin", web::route().to(said))
        .route("/admin/", web::route().to(said))
        .route("/admin/{tail}*", web::route().to(said))
        .route("/{page}/public", web::route().to(said));
}

/// How middleware inside the guard changes paths.
const INSIDE: [Option<TrailingSlash>; 4] = [
    None,
    Some(TrailingSlash::Trim),
    Some(TrailingSlash::MergeOnly),
    Some(TrailingSlash::Always),
];

fn serve(manager: &ApiKeyManager, inside: Option<TrailingSlash>, guard: RequireApiKey) -> Server {
    let manager = manager.clone();
    let factory = move || {
        let normalize = NormalizePath::new(inside.unwrap_or_default());
        App::new()
            .configure(|app| manager.init_app(app))
            .configure(routes)
            .wrap(Condition::new(inside.is_some(), normalize))
            .wrap(guard.clone())
    };
    let server = HttpServer::new(factory).workers(1).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    Server::of(server.addrs()[0], server.run())
}

const OPEN: [&str; 5] = [
    "/health",
    "GET /docs/{tail}*",
    "/{page}/public",
    "/guarded/open",
    "GET /nowhere",
];

#[actix_web::test]
async fn named_routes_are_open_and_all_others_need_a_key() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let key = key.expose_secret();
    let server = serve(&manager, None, RequireApiKey::new().open(OPEN));
    for (path, said) in [
        ("/health", "/health"),
        ("/he%61lth", "/health"),
        ("/health?x=/admin", "/health"),
        ("/docs/guide/a.html", "/docs/{tail}*"),
        ("/x%20y/public", "/{page}/public"),
    ] {
        server.get(path, None).await.says(said);
        // What is open does not look at the key.
        server.get(path, key).await.says(said);
        server.get(path, "nonsense").await.says(said);
    }
    let denied = [
        "/",
        "/docs",
        "/docs/",
        "/admin",
        "/guarded",
        "/absent",
        "/health/",
        "/health/deep",
    ];
    for path in denied {
        server.get(path, None).await.refused(401, "missing-key");
        server
            .get(path, "nonsense")
            .await
            .refused(401, "invalid-key");
    }
    assert_eq!(server.get("/absent", key).await.status, 404);
    assert_eq!(server.get("/nowhere", None).await.status, 404);
    let post = Message::post("/docs/guide").bytes();
    server.send(post).await.refused(401, "missing-key");
    let mut head = server.connect().await;
    head.send(Message::new("HEAD", "/docs/guide").bytes()).await;
    assert_eq!(head.head_only().await.status, 200);
}

#[actix_web::test]
async fn a_guard_inside_an_open_route_still_checks() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let key = key.expose_secret();
    let server = serve(&manager, None, RequireApiKey::new().open(OPEN));
    server
        .get("/guarded/open", None)
        .await
        .refused(401, "missing-key");
    server.get("/guarded/open", key).await.says("a");
    // What passes is stripped too, so that an open handler cannot forward the key.
    let strip = RequireApiKey::new().strip_credential().open(OPEN);
    let server = serve(&manager, None, strip);
    server
        .get("/guarded/open", key)
        .await
        .refused(401, "missing-key");
    server.get("/guarded", key).await.says("a");
}

/// The response of an open route is the same for every client, so caches may share it.
#[actix_web::test]
async fn an_open_response_does_not_vary() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager, None, RequireApiKey::new().open(OPEN));
    let open = server.get("/health", None).await;
    assert_eq!(open.header("vary"), None);
    let closed = server.get("/docs", key.expose_secret()).await;
    assert_eq!(closed.header("vary"), Some("authorization"));
    let inner = server.get("/guarded/open", key.expose_secret()).await;
    assert_eq!(inner.header("vary"), Some("authorization"));
}

/// A guarded handler under the app's guard is checked by both, and counts a request once.
#[actix_web::test]
async fn under_the_guard_of_the_app_a_request_counts_once() {
    let manager = manager().await;
    let key = manager
        .create("a")
        .limit("daily", Quota::per_day(10))
        .await
        .unwrap();
    let server = serve(&manager, None, RequireApiKey::new().open(OPEN));
    for (path, left) in [
        ("/guarded", 9),
        ("/guarded", 8),
        ("/guarded/open", 7),
        ("/docs", 6),
    ] {
        assert_eq!(server.get(path, key.expose_secret()).await.status, 200);
        let limits = manager.limits(key.id()).await.unwrap();
        assert_eq!(limits[0].remaining, left, "{path}");
    }
    assert_eq!(server.get("/health", key.expose_secret()).await.status, 200);
    let limits = manager.limits(key.id()).await.unwrap();
    assert_eq!(limits[0].remaining, 6, "an open route is free");
}

/// Paths that may lead elsewhere than their text says.
fn tricks() -> Vec<String> {
    let mut tricks = Vec::new();
    for open in ["/docs/x", "/health", "/x/public", "/x"] {
        for secret in ["admin", "admin/", "", "docs"] {
            for between in [
                "/",
                "//",
                "/./",
                "/../",
                "/x/../../",
                "/../../",
                "/%2e%2e/",
                "/%2E%2E/",
                "/.%2e/",
                "/..%2f",
                "/..%2F",
                "%2f",
                "%2F..%2F",
                "%2f%2f",
                "/%2f",
                "/..%5c",
                "/..\\",
                "\\",
                "/..;/",
                "/..;a=b/",
                "/;/../",
                ";/",
                "/%00/",
                "%00/",
                "/%2500/../",
                "/%252e%252e/",
                "/%c0%ae%c0%ae/",
                "/...//",
                "?/",
                "#/",
            ] {
                tricks.push(format!("{open}{between}{secret}"));
            }
        }
    }
    for path in [
        "*",
        "http://localhost/admin",
        "http://localhost//admin",
        "http://localhost/docs/../admin",
        "//localhost/admin",
        "/ADMIN",
        "/Health/deep",
        "/health%2fdeep",
        "/public",
        "//public",
        "/%2fpublic",
        "/a/b/public",
        "/a%2fb/public",
        "/health.",
        "/health%20",
        "/health%00",
        "/health;x",
        "/health/.",
        "/docs/.",
        "/docs/..",
        "/docs/%2e",
        "/admin/",
        "/admin//",
        "/admin/./",
        "/docs/",
        "/docs//",
        "//docs/",
    ] {
        tricks.push(path.to_owned());
    }
    tricks
}

/// Returns a request that reached a route which is not open.
async fn opened(server: &Server, is_open: fn(&str, &str) -> bool) -> Option<String> {
    for path in tricks() {
        for method in ["GET", "POST"] {
            let mut client = server.connect().await;
            client.send(Message::new(method, &path).bytes()).await;
            // What is not an HTTP request closes the connection.
            let Some(answer) = client.try_answer().await else {
                continue;
            };
            let text = answer.text();
            if answer.status == 200 && !is_open(method, &text) {
                return Some(format!("{method} {path}: {text}"));
            }
        }
    }
    None
}

fn is_named(method: &str, route: &str) -> bool {
    match route {
        "/health" | "/{page}/public" => true,
        "/docs/{tail}*" => method == "GET",
        _ => false,
    }
}

/// Opens every path below a first segment, and so not the first segment itself.
const BELOW: [&str; 1] = ["/{area}/{tail}*"];

fn is_below(_method: &str, route: &str) -> bool {
    let open = [
        "/health/deep",
        "/docs/{tail}*",
        "/admin/{tail}*",
        "/{page}/public",
    ];
    open.contains(&route)
}

#[actix_web::test]
async fn no_spelling_of_a_path_opens_another_route() {
    let manager = manager().await;
    for inside in INSIDE {
        let server = serve(&manager, inside, RequireApiKey::new().open(OPEN));
        assert_eq!(opened(&server, is_named).await, None, "{inside:?}");
    }
    for inside in [None, Some(TrailingSlash::Trim)] {
        let server = serve(&manager, inside, RequireApiKey::new().open(BELOW));
        assert_eq!(opened(&server, is_below).await, None, "{inside:?}");
    }
}

/// The exception that the documentation of `open` names: a slash that middleware inside adds. Around the
/// guard, it does not open anything.
#[actix_web::test]
async fn a_slash_added_inside_opens_what_the_pattern_does_not_match() {
    let manager = manager().await;
    let guard = RequireApiKey::new().open(["/{page}"]);
    let server = serve(&manager, Some(TrailingSlash::Always), guard.clone());
    server.get("/admin", None).await.says("/admin/");
    let factory = move || {
        App::new()
            .configure(|app| manager.init_app(app))
            .configure(routes)
            .wrap(guard.clone())
            .wrap(NormalizePath::new(TrailingSlash::Always))
    };
    let server = HttpServer::new(factory).workers(1).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    let server = Server::of(server.addrs()[0], server.run());
    for path in ["/admin", "/admin/", "/health"] {
        let answer = server.get(path, None).await;
        answer.refused(401, "missing-key");
    }
}

/// Control: middleware that compares the path with the patterns, and no more.
async fn compares(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if ResourceDef::new(BELOW[0]).is_match(request.match_info().as_str()) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    Ok(request
        .into_response(HttpResponse::Unauthorized())
        .map_into_boxed_body())
}

#[actix_web::test]
async fn a_comparison_of_the_path_alone_opens_another_route() {
    let factory = || {
        App::new()
            .configure(routes)
            .wrap(NormalizePath::trim())
            .wrap(from_fn(compares))
    };
    let server = HttpServer::new(factory).workers(1).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    let server = Server::of(server.addrs()[0], server.run());
    let opened = opened(&server, is_below).await;
    assert_ne!(opened, None);
}

#[test]
#[should_panic(expected = "malformed dynamic segment")]
fn a_malformed_pattern_panics_as_a_route_does() {
    let _ = RequireApiKey::new().open(["/{open"]);
}
