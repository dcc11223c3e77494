//! Headers of responses: challenges that real clients answer, `Vary`, and what an error handler leaves
//! out.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use apikey_runtime::{
    ApiKey, ApiKeyManager, Config, Denied, DenyReason, KeyHeaders, KeyLocation, MemoryStore,
    NewKey, Policy, RequireApiKey, api_key_required,
};
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::skip::Requirement;
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{forge, manager, manager_on, programs};

const CURL: Requirement = Requirement {
    program: "curl",
    remedy: "on Debian, `apt-get install curl`",
};
const WGET: Requirement = Requirement {
    program: "wget",
    remedy: "on Debian, `apt-get install wget`",
};
const PYTHON: Requirement = Requirement {
    program: "python3",
    remedy: "on Debian, `apt-get install python3`",
};

#[api_key_required(
    locations = [header("X-API-Key"), basic, header("Authorization", scheme = "ApiKey"), bearer,
        query("api_key")],
    scopes = not("limited"),
)]
async fn anywhere(key: ApiKey) -> String {
    key.label().to_owned()
}

#[api_key_required(locations = [query("k"), header("X-API-Key"), cookie("k")])]
async fn without_scheme() -> &'static str {
    "in"
}

#[api_key_required(location = basic)]
async fn only_basic(key: ApiKey) -> String {
    key.label().to_owned()
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        app.route("/anywhere", web::route().to(anywhere))
            .route("/without-scheme", web::route().to(without_scheme))
            .route("/basic", web::route().to(only_basic));
    })
}

#[actix_web::test]
async fn each_scheme_of_the_route_is_challenged_once_bearer_first_and_basic_last() {
    let config = Config::builder().realm("shop").build().unwrap();
    let builder = ApiKeyManager::builder()
        .config(config)
        .store(MemoryStore::new());
    let manager = builder.start().await.unwrap();
    let limited = manager.create("a").scopes(["limited"]).await.unwrap();
    let server = serve(&manager);
    let challenges = |answer: &Answer| {
        let lines = answer.all("www-authenticate");
        lines.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let missing = server.get("/anywhere", None).await;
    missing.refused(401, "missing-key");
    assert_eq!(
        challenges(&missing),
        [
            "Bearer realm=\"shop\"",
            "ApiKey realm=\"shop\"",
            "Basic realm=\"shop\""
        ]
    );
    let with = |error: &str| {
        [
            format!("Bearer realm=\"shop\", error=\"{error}\""),
            format!("ApiKey realm=\"shop\", error=\"{error}\""),
            "Basic realm=\"shop\"".to_owned(),
        ]
    };
    let unknown = server.get("/anywhere", forge::unknown().as_str()).await;
    assert_eq!(challenges(&unknown), with("invalid_token"));
    let both = server
        .get("/anywhere?api_key=x", limited.expose_secret())
        .await;
    both.refused(400, "multiple-keys");
    assert_eq!(challenges(&both), with("invalid_request"));
    let scope = server.get("/anywhere", limited.expose_secret()).await;
    scope.refused(403, "insufficient-scope");
    assert_eq!(challenges(&scope), with("insufficient_scope"));
    // Locations without a scheme do not hide that a 401 has a challenge.
    let bare = server.get("/without-scheme", None).await;
    assert_eq!(challenges(&bare), ["ApiKey realm=\"shop\""]);
}

/// These clients send a key only after a challenge of their scheme.
#[actix_web::test]
async fn curl_wget_and_urllib_answer_the_challenge_of_their_scheme() {
    const TEST: &str = "curl_wget_and_urllib_answer_the_challenge_of_their_scheme";
    const URLLIB: &str = "
import sys, urllib.request as r
url, key = sys.argv[1:]
passwords = r.HTTPPasswordMgrWithDefaultRealm()
passwords.add_password(None, url, key, '')
opener = r.build_opener(r.ProxyHandler({}), r.HTTPBasicAuthHandler(passwords))
print(opener.open(url, timeout=20).read().decode(), end='')
";
    let manager = manager().await;
    let key = manager.create("served").await.unwrap();
    let server = serve(&manager);
    let key = key.expose_secret();
    let user = format!("{key}:");
    let as_user = format!("--user={key}");
    for path in ["/anywhere", "/basic"] {
        let url = format!("http://{}{path}", server.address);
        let curl = ["-sS", "--noproxy", "*", "--anyauth", "-u", &user, &url];
        let wget = [
            "-qO-",
            "--no-proxy",
            "--tries=1",
            &as_user,
            "--password=x",
            &url,
        ];
        let python = ["-c", URLLIB, &url, key];
        for (program, arguments) in [(CURL, &curl[..]), (WGET, &wget[..]), (PYTHON, &python[..])] {
            if let Some(said) = programs::run(TEST, &program, arguments).await {
                assert_eq!(said, "served", "{} {path}", program.program);
            }
        }
    }
    // Control: the clients did not send the key unasked.
    let url = format!("http://{}/without-scheme", server.address);
    let curl = ["-sS", "--noproxy", "*", "--anyauth", "-u", &user, &url];
    if let Some(said) = programs::run(TEST, &CURL, &curl).await {
        assert!(said.contains("missing-key"), "{said}");
    }
}

#[api_key_required]
async fn plain() -> &'static str {
    "in"
}

#[api_key_required(location = header("X-API-Key"))]
async fn own_header() -> &'static str {
    "in"
}

#[api_key_required(locations = [cookie("k"), basic, bearer, header("X-API-Key"), query("k")])]
async fn several() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::VARY, "Origin, Cookie"))
        .append_header((header::VARY, "Accept"))
        .body("in")
}

#[api_key_required(optional, location = header("X-API-Key"))]
async fn optional(key: Option<ApiKey>) -> String {
    key.map_or("nobody".to_owned(), |key| key.label().to_owned())
}

#[api_key_required(location = bearer)]
#[api_key_required(location = header("X-API-Key"))]
async fn twice() -> &'static str {
    "in"
}

#[api_key_required(location = query("k"))]
async fn in_query() -> &'static str {
    "in"
}

fn guarded(app: &mut ServiceConfig) {
    app.route("/plain", web::route().to(plain))
        .route("/own", web::route().to(own_header))
        .route("/several", web::route().to(several))
        .route("/optional", web::route().to(optional))
        .route("/twice", web::route().to(twice))
        .route("/query", web::route().to(in_query));
}

/// Serves the routes under `KeyHeaders`, and some under `RequireApiKey`.
fn with_middleware(manager: &ApiKeyManager) -> Server {
    const OPTIONAL: Policy = Policy::new()
        .optional()
        .locations(&[KeyLocation::Cookie { name: "k" }]);
    let manager = manager.clone();
    let server = HttpServer::new(move || {
        let inside = async || {
            HttpResponse::Ok()
                .insert_header((header::VARY, "Origin"))
                .body("in")
        };
        let scope = |path: &str, guard: RequireApiKey| {
            web::scope(path)
                .wrap(guard)
                .route("", web::get().to(inside))
        };
        let (manager, headers) = (manager.clone(), web::scope("/headers").wrap(KeyHeaders));
        App::new()
            .configure(|app| manager.init_app(app))
            .service(headers.configure(guarded))
            .service(scope("/default", RequireApiKey::new()))
            .service(scope("/cookie", RequireApiKey::with(OPTIONAL)))
            .service(
                web::scope("/outer")
                    .wrap(RequireApiKey::new())
                    .configure(guarded),
            )
            .configure(guarded)
    });
    let server = server.workers(1).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    Server::of(server.addrs()[0], server.run())
}

#[actix_web::test]
async fn every_denial_varies_by_the_headers_that_may_carry_a_key() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let scoped = manager.create("a").await.unwrap();
    let server = with_middleware(&manager);
    for (path, vary) in [
        ("/plain", Some("authorization")),
        ("/own", Some("x-api-key")),
        ("/several", Some("cookie, authorization, x-api-key")),
        ("/twice", Some("x-api-key")),
        ("/headers/several", Some("cookie, authorization, x-api-key")),
        ("/default", Some("authorization")),
        ("/query", None),
    ] {
        let answer = server.get(path, None).await;
        answer.refused(401, "missing-key");
        assert_eq!(answer.header("vary"), vary, "{path}");
        assert_eq!(answer.all("vary").len(), usize::from(vary.is_some()));
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    let elsewhere = ["192.0.2.0/24".parse().unwrap()];
    manager
        .update(scoped.id())
        .networks(elsewhere)
        .await
        .unwrap();
    for (reason, status) in [("address-not-permitted", 403), ("store-unavailable", 503)] {
        let answer = server.get("/plain", scoped.expose_secret()).await;
        answer.refused(status, reason);
        assert_eq!(answer.header("vary"), Some("authorization"), "{reason}");
        store.fail(Call::Find, Fault::Unavailable);
        manager.update(scoped.id()).label("b").await.ok();
    }
}

#[actix_web::test]
async fn a_success_varies_where_a_middleware_sees_it_and_what_was_there_stays() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let server = with_middleware(&manager);
    let bearer = format!("Bearer {}", key.expose_secret());
    let bearer = ("Authorization", bearer.as_str());
    let own = ("X-API-Key", key.expose_secret());
    for (path, headers, vary) in [
        ("/headers/plain", &[bearer][..], &["authorization"][..]),
        ("/headers/own", &[own], &["x-api-key"]),
        (
            "/headers/several",
            &[bearer],
            &["Origin, Cookie, Accept, authorization, x-api-key"],
        ),
        ("/headers/optional", &[own], &["x-api-key"]),
        // A response without a key depends on its absence.
        ("/headers/optional", &[], &["x-api-key"]),
        (
            "/headers/twice",
            &[bearer, own],
            &["authorization, x-api-key"],
        ),
        ("/default", &[bearer], &["Origin, authorization"]),
        ("/cookie", &[], &["Origin, cookie"]),
        ("/outer/plain", &[bearer], &["authorization"]),
        ("/outer/own", &[bearer, own], &["x-api-key, authorization"]),
        // The attribute cannot change its handler's response.
        ("/own", &[own], &[]),
    ] {
        for _ in 0..2 {
            let answer = server.get_with(path, headers).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.all("vary"), vary, "{path}");
        }
    }
    let key = key.expose_secret();
    let answer = server.get(&format!("/headers/query?k={key}"), None).await;
    assert_eq!((answer.status, answer.header("vary")), (200, None));
}

type Handler = fn(&Denied, &HttpRequest) -> HttpResponse;

/// An error handler that builds its response from nothing.
fn from_nothing(denied: &Denied, _request: &HttpRequest) -> HttpResponse {
    let status = StatusCode::from_u16(denied.status()).unwrap();
    HttpResponse::build(status).body(denied.reason().code())
}

/// An error handler that edits the default response.
fn edited(denied: &Denied, request: &HttpRequest) -> HttpResponse {
    let mut response = denied.response(request);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Mine"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    response
}

/// An error handler that changes the status: no key is 404, another denial 401.
fn changed(denied: &Denied, _request: &HttpRequest) -> HttpResponse {
    match denied.reason() {
        DenyReason::MissingKey => HttpResponse::NotFound().finish(),
        _ => HttpResponse::Unauthorized().finish(),
    }
}

/// Registers a limited route for each way to respond: the attribute, and the middleware.
macro_rules! handlers {
    ($($handler:ident, $guarded:ident;)*) => {
        $(
            #[api_key_required(
                locations = [basic, bearer], rate_limit = "1/hour", methods(GET), on_error = $handler
            )]
            async fn $guarded() -> &'static str {
                "in"
            }
        )*

        fn handlers(app: &mut ServiceConfig) {$(
            let middleware = RequireApiKey::with(LIMITED).on_error($handler);
            app.route(concat!("/attribute/", stringify!($handler)), web::route().to($guarded))
                .service(
                    web::scope(concat!("/middleware/", stringify!($handler)))
                        .wrap(middleware)
                        .route("", web::route().to(async || "in")),
                );
        )*}
    };
}

handlers! {
    from_nothing, guarded_from_nothing;
    edited, guarded_edited;
    changed, guarded_changed;
}

const LIMITED: Policy = Policy::new()
    .locations(&[KeyLocation::Basic, KeyLocation::BEARER])
    .name("limited")
    .methods(&["GET"])
    .rate_limit(apikey_runtime::Rate::new(
        1,
        std::time::Duration::from_hours(1),
    ));

/// Serves the routes, of which one has the default responses; the manager has an error handler if
/// one is given.
async fn serve_handlers(of_manager: Option<Handler>) -> (Server, NewKey) {
    let builder = ApiKeyManager::builder().store(MemoryStore::new());
    let builder = match of_manager {
        Some(handler) => builder.error_handler(handler),
        None => builder,
    };
    let manager = builder.start().await.unwrap();
    let key = manager.create("a").await.unwrap();
    let server = Server::start(move |app| {
        manager.init_app(app);
        let limited = RequireApiKey::with(LIMITED);
        app.configure(handlers).service(
            web::scope("/default")
                .wrap(limited)
                .route("", web::route().to(async || "in")),
        );
    });
    (server, key)
}

/// Uses up the limit; returns the answers to no key, an unknown key, another method, and a limit.
async fn denials(server: &Server, path: &str, key: &NewKey) -> [Answer; 4] {
    let missing = server.get(path, None).await;
    let unknown = server.get(path, forge::unknown().as_str()).await;
    let method = server.post(path, key.expose_secret(), "").await;
    server.get(path, key.expose_secret()).await.says("in");
    let limited = server.get(path, key.expose_secret()).await;
    [missing, unknown, method, limited]
}

const HEADERS: [&str; 6] = [
    "www-authenticate",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "cache-control",
    "vary",
];

#[actix_web::test]
async fn headers_that_an_error_handler_leaves_out_are_added() {
    let (server, key) = serve_handlers(None).await;
    let defaults = denials(&server, "/default", &key).await;
    for (of_manager, path) in [
        (None, "/attribute/from_nothing"),
        (None, "/middleware/from_nothing"),
        (Some(from_nothing as Handler), "/default"),
    ] {
        let (server, key) = serve_handlers(of_manager).await;
        let own = denials(&server, path, &key).await;
        for (own, default) in own.iter().zip(&defaults) {
            assert_eq!(own.status, default.status);
            assert_eq!(own.text(), default.problem());
            for name in HEADERS {
                // The route's name differs, and so do its limit's.
                if name.starts_with("ratelimit") {
                    assert_eq!(own.all(name).len(), default.all(name).len(), "{name}");
                } else {
                    assert_eq!(own.all(name), default.all(name), "{name} {}", own.text());
                }
            }
        }
    }
    // Control: each header occurs.
    let occurs = |name| defaults.iter().any(|answer| answer.header(name).is_some());
    assert!(HEADERS.into_iter().all(occurs));
}

#[actix_web::test]
async fn a_header_that_an_error_handler_set_stays() {
    for path in ["/attribute/edited", "/middleware/edited"] {
        let (server, key) = serve_handlers(None).await;
        let [missing, unknown, method, limited] = denials(&server, path, &key).await;
        for (answer, reason) in [
            (missing, "missing-key"),
            (unknown, "invalid-key"),
            (method, "method-not-permitted"),
            (limited, "rate-limited"),
        ] {
            let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(
                problem["type"],
                format!("urn:problem-type:api-key:{reason}")
            );
            for (name, value) in [
                ("retry-after", "7"),
                ("www-authenticate", "Mine"),
                ("cache-control", "private"),
                ("vary", "Origin, authorization"),
            ] {
                assert_eq!(answer.all(name), [value], "{name} {reason}");
            }
            let limits = usize::from(reason == "rate-limited");
            assert_eq!(answer.all("ratelimit").len(), limits);
        }
    }
}

#[actix_web::test]
async fn a_changed_status_has_a_challenge_only_if_it_is_401() {
    for path in ["/attribute/changed", "/middleware/changed"] {
        let (server, key) = serve_handlers(None).await;
        let [missing, unknown, method, limited] = denials(&server, path, &key).await;
        assert_eq!(missing.status, 404);
        assert_eq!(missing.header("www-authenticate"), None);
        assert_eq!(missing.header("cache-control"), Some("no-store"));
        assert_eq!(
            unknown.all("www-authenticate"),
            ["Bearer error=\"invalid_token\"", "Basic realm=\"api\""]
        );
        for answer in [method, limited] {
            assert_eq!(answer.status, 401);
            let challenges = answer.all("www-authenticate");
            assert_eq!(challenges, ["Bearer", "Basic realm=\"api\""]);
        }
    }
}

/// Middleware of an application that checks keys by itself.
#[actix_web::test]
async fn a_denial_of_verify_becomes_a_response_too() {
    let config = Config::builder().header_name("X-API-Key").build().unwrap();
    let builder = ApiKeyManager::builder().config(config);
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    let server = Server::start(move |app| {
        manager.init_app(app);
        let verifying =
            async |request: HttpRequest, manager: web::Data<ApiKeyManager>| match manager
                .verify("nonsense")
                .await
            {
                Ok(_) => HttpResponse::Ok().finish(),
                Err(denied) => denied.response(&request),
            };
        app.route("/", web::get().to(verifying));
    });
    let answer = server.get("/", None).await;
    answer.refused(401, "invalid-key");
    let challenge = "ApiKey error=\"invalid_token\"";
    assert_eq!(answer.all("www-authenticate"), [challenge]);
    assert_eq!(answer.header("vary"), Some("x-api-key"));
}
