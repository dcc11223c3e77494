//! The guard as middleware: what is around it, what is inside it, and two guards at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::{Next, NormalizePath, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, Error, HttpRequest, HttpServer};
use apikey_runtime::{
    ApiKey, ApiKeyExt, ApiKeyManager, KeyId, KeyStore, MemoryStore, Policy, RequireApiKey,
    ScopeExpr, api_key_required,
};
use apikey_test_support::http::Server;
use apikey_test_support::locations::{Location, Message, key_locations};
use apikey_test_support::store::{Call, GateStore, NoHistory};
use apikey_test_support::{forge, manager, manager_on, patient_manager, timeless_manager};

async fn inside() -> &'static str {
    "in"
}

#[api_key_required]
async fn guarded(key: ApiKey) -> String {
    key.label().to_owned()
}

#[api_key_required(fresh)]
async fn fresh(key: ApiKey) -> String {
    key.label().to_owned()
}

#[api_key_required(scope = "inner")]
async fn scoped(key: ApiKey) -> String {
    key.label().to_owned()
}

#[api_key_required(optional)]
async fn optional(key: Option<ApiKey>) -> String {
    key.map_or_else(|| "nobody".to_owned(), |key| key.label().to_owned())
}

#[api_key_required(prefix = "adm")]
async fn of_prefix(key: ApiKey) -> String {
    key.label().to_owned()
}

#[api_key_required(environment = "live")]
async fn of_environment(key: ApiKey) -> String {
    key.label().to_owned()
}

/// Registers all kinds of handlers under one guard.
fn under(app: &mut ServiceConfig, path: &str, guard: RequireApiKey) {
    let scope = web::scope(path)
        .route("/open", web::route().to(inside))
        .route("/guarded", web::route().to(guarded))
        .route("/fresh", web::route().to(fresh))
        .route("/scoped", web::route().to(scoped))
        .route("/optional", web::route().to(optional))
        .route("/prefix", web::route().to(of_prefix))
        .route("/environment", web::route().to(of_environment));
    app.service(scope.wrap(from_fn(meanwhile)).wrap(guard));
}

const OUTER: Policy = Policy::new().scopes(ScopeExpr::One("outer"));

fn routes(app: &mut ServiceConfig) {
    for (path, policy) in [
        ("/plain", Policy::new()),
        ("/outer", OUTER),
        ("/freshly", Policy::new().fresh()),
        ("/maybe", Policy::new().optional()),
        ("/adm", Policy::new().prefix("adm")),
        (
            "/elsewhere",
            Policy::new().locations(key_locations(&[Location::Header])),
        ),
    ] {
        under(app, path, RequireApiKey::with(policy));
        let strip = RequireApiKey::with(policy).strip_credential();
        under(app, &format!("{path}-strip"), strip);
    }
}

/// What happens to a key after the middleware allowed it and before the handler is reached.
#[derive(Clone)]
struct Meanwhile(ApiKeyManager, Arc<AtomicUsize>);

async fn meanwhile(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let what = request.headers().get("x-meanwhile").cloned();
    if let (Some(what), Some(Meanwhile(manager, done))) =
        (what, request.app_data::<Meanwhile>().cloned())
    {
        let (what, id) = what.to_str().unwrap().split_once(' ').unwrap();
        let id: KeyId = id.parse().unwrap();
        done.fetch_add(1, SeqCst);
        match what {
            "revoke" => drop(manager.revoke(id).await.unwrap()),
            "disable" => manager.disable(id).await.unwrap(),
            "expire" => drop(
                manager
                    .update(id)
                    .expires_at(SystemTime::now())
                    .await
                    .unwrap(),
            ),
            "rotate" => drop(manager.rotate(id).grace(Duration::ZERO).await.unwrap()),
            "grace" => drop(
                manager
                    .rotate(id)
                    .grace(Duration::from_secs(60))
                    .await
                    .unwrap(),
            ),
            "scopes" => drop(manager.update(id).scopes(["outer"]).await.unwrap()),
            _ => {}
        }
    }
    next.call(request).await
}

fn serve(manager: &ApiKeyManager, routes: fn(&mut ServiceConfig)) -> Server {
    let manager = manager.clone();
    let done = Arc::new(AtomicUsize::new(0));
    Server::start(move |app| {
        manager.init_app(app);
        app.app_data(Meanwhile(manager.clone(), Arc::clone(&done)));
        routes(app);
    })
}

/// Acts as a CORS middleware: records the outcome, and adds a header to every answer.
async fn around(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let errors = request.app_data::<Arc<AtomicUsize>>().unwrap().clone();
    match next.call(request).await {
        Ok(mut response) => {
            let status = response.status().as_u16();
            let headers = response.headers_mut();
            let name = HeaderName::from_static("access-control-allow-origin");
            headers.insert(name, HeaderValue::from_static("*"));
            headers.insert(HeaderName::from_static("x-seen"), HeaderValue::from(status));
            Ok(response)
        }
        Err(error) => {
            errors.fetch_add(1, SeqCst);
            Err(error)
        }
    }
}

/// For the control: a guard that answers with an error.
async fn erring(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if request.headers().contains_key("x-let-me-in") {
        next.call(request).await
    } else {
        Err(actix_web::error::ErrorUnauthorized("no"))
    }
}

#[actix_web::test]
async fn a_refusal_is_a_response_that_middleware_around_sees_and_adds_to() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let errors = Arc::new(AtomicUsize::new(0));
    let (configured, counted) = (manager.clone(), Arc::clone(&errors));
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.app_data(Arc::clone(&counted));
        let answer = web::route().to(inside);
        let body = Policy::new().locations(key_locations(&[Location::Json]));
        app.service(
            web::scope("/gate")
                .route("", answer)
                .wrap(RequireApiKey::new())
                .wrap(from_fn(around)),
        );
        let answer = web::route().to(inside);
        let guard = RequireApiKey::with(body);
        app.service(
            web::scope("/body")
                .route("", answer)
                .wrap(guard)
                .wrap(from_fn(around)),
        );
        let answer = web::route().to(inside);
        let guard = RequireApiKey::with(OUTER);
        app.service(
            web::scope("/outer")
                .route("", answer)
                .wrap(guard)
                .wrap(from_fn(around)),
        );
        let answer = web::route().to(inside);
        let guard = from_fn(erring);
        app.service(
            web::scope("/erring")
                .route("", answer)
                .wrap(guard)
                .wrap(from_fn(around)),
        );
    });
    let seen = |answer: &apikey_test_support::http::Answer| {
        let status = answer.status.to_string();
        assert_eq!(answer.header("x-seen"), Some(status.as_str()), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        answer.status
    };
    let unknown = forge::unknown();
    for (path, key, status) in [
        ("/gate", None, 401),
        ("/gate", Some("nonsense"), 401),
        ("/gate", Some(unknown.as_str()), 401),
        ("/gate", Some(key.expose_secret()), 200),
        ("/outer", Some(key.expose_secret()), 403),
        ("/body", None, 401),
    ] {
        let answer = server.get(path, key).await;
        assert_eq!(seen(&answer), status, "{path} {key:?}");
    }
    let broken = server.post("/body", None, "{").await;
    assert_eq!(seen(&broken), 400);
    store.go_down();
    let down = server
        .get("/gate", forge::unknown().replace('y', "z").as_str())
        .await;
    assert_eq!(seen(&down), 401, "a wrong checksum does not need the store");
    let cold = forge::key("my_api", "0BCDEFGHIJKLMNOPQRSTUV", &"y".repeat(64));
    assert_eq!(seen(&server.get("/gate", cold.as_str()).await), 503);
    assert_eq!(errors.load(SeqCst), 0);
    let answer = server.get("/erring", None).await;
    assert_eq!(
        (answer.status, answer.header("x-seen")),
        (401, None),
        "the control"
    );
    assert_eq!(errors.load(SeqCst), 1);
}

#[actix_web::test]
async fn a_preflight_passes_where_that_was_asked_for_and_nothing_else_does() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager, |app| {
        under(app, "/open", RequireApiKey::new().allow_preflight());
        under(app, "/shut", RequireApiKey::new());
    });
    let origin = ("Origin", "https://pages.example");
    let asks = ("Access-Control-Request-Method", "GET");
    let send = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        let message = headers
            .iter()
            .fold(Message::new(method, path), |message, (name, value)| {
                message.header(name, value)
            });
        server.send(message.bytes()).await
    };
    send("OPTIONS", "/open/open", &[origin, asks])
        .await
        .says("in");
    send("OPTIONS", "/shut/open", &[origin, asks])
        .await
        .refused(401, "missing-key");
    // A handler's own guard still applies.
    send("OPTIONS", "/open/guarded", &[origin, asks])
        .await
        .refused(401, "missing-key");
    for (method, headers) in [
        ("OPTIONS", &[][..]),
        ("OPTIONS", &[origin][..]),
        ("OPTIONS", &[asks][..]),
        ("GET", &[origin, asks][..]),
        ("POST", &[origin, asks][..]),
        ("options", &[origin, asks][..]),
        ("OPTIONSX", &[origin, asks][..]),
        (
            "GET",
            &[origin, asks, ("X-HTTP-Method-Override", "OPTIONS")][..],
        ),
    ] {
        let answer = send(method, "/open/open", headers).await;
        answer.refused(401, "missing-key");
    }
    let bearer = format!("Bearer {}", key.expose_secret());
    let with_key = [("Authorization", bearer.as_str())];
    send("OPTIONS", "/shut/open", &with_key).await.says("in");
}

/// An open handler, a scope under the middleware, and one with the same prefix in its name.
fn scopes(app: &mut ServiceConfig) {
    let secret = web::scope("/scoped")
        .route("", web::route().to(inside))
        .route("/{tail:.*}", web::route().to(inside))
        .wrap(RequireApiKey::new());
    app.service(secret)
        .route("/open", web::route().to(async || "open"))
        .route("/scopedx", web::route().to(async || "open"))
        .route("/other/{tail:.*}", web::route().to(async || "open"));
}

const VARIANTS: [&str; 36] = [
    "/scoped",
    "/scoped/",
    "/scoped//",
    "/scoped/x",
    "//scoped/x",
    "///scoped/x",
    "/./scoped/x",
    "/../scoped/x",
    "/scoped/./x",
    "/scoped//x",
    "/scoped/../open",
    "/scoped/../scoped/x",
    "/scoped/%2e%2e/open",
    "/scoped/..%2fopen",
    "/open/../scoped/x",
    "/other/../scoped/x",
    "/other/..%2Fscoped/x",
    "/open/..%2fscoped/x",
    "/%73coped/x",
    "/%73%63%6f%70%65%64/x",
    "/%2573coped/x",
    "/scoped%2Fx",
    "/scoped%2fx",
    "/scoped%5Cx",
    "/scoped\\x",
    "/scoped;a=b/x",
    "/scoped.json",
    "/scoped%00/x",
    "/scoped%20/x",
    "/SCOPED/x",
    "/Scoped/x",
    "/scoped/x?y=/open",
    "/scoped/x#/open",
    "http://localhost/scoped/x",
    "http://localhost//scoped/x",
    "/scoped/x;/../../open",
];

async fn no_variant_reaches_the_handler(server: &Server) -> Result<(), String> {
    for path in VARIANTS {
        for method in ["GET", "POST", "HEAD", "OPTIONS", "BREW"] {
            let mut client = server.connect().await;
            client.send(Message::new(method, path).bytes()).await;
            let answer = if method == "HEAD" {
                client.head_only().await
            } else {
                client.answer().await
            };
            if answer.text() == "in"
                || (method == "HEAD" && answer.header("content-length") == Some("2"))
            {
                return Err(format!("{method} {path}: {answer:?}"));
            }
        }
    }
    Ok(())
}

#[actix_web::test]
async fn no_variant_of_a_path_reaches_a_scope_around_its_middleware() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager, scopes);
    no_variant_reaches_the_handler(&server).await.unwrap();
    for path in [
        "/scoped",
        "/scoped/",
        "/scoped/x",
        "/%73coped/x",
        "/scoped/../open",
    ] {
        server.get(path, None).await.refused(401, "missing-key");
        server.get(path, key.expose_secret()).await.says("in");
    }
    server.get("/open", None).await.says("open");
    let bare = Server::start(|app| {
        app.route("/scoped/{tail:.*}", web::route().to(inside));
    });
    no_variant_reaches_the_handler(&bare)
        .await
        .expect_err("the control");
}

#[actix_web::test]
async fn no_variant_of_a_path_reaches_a_scope_where_paths_are_normalized() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let factory = move || {
        let manager = manager.clone();
        App::new()
            .wrap(NormalizePath::trim())
            .configure(move |app| manager.init_app(app))
            .configure(scopes)
    };
    let server = HttpServer::new(factory).workers(1).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    let server = Server::of(server.addrs()[0], server.run());
    no_variant_reaches_the_handler(&server).await.unwrap();
    for path in ["//scoped//x//", "/scoped/", "/scoped/x"] {
        server.get(path, None).await.refused(401, "missing-key");
        server.get(path, key.expose_secret()).await.says("in");
    }
}

#[actix_web::test]
async fn around_a_whole_app_what_does_not_exist_is_guarded_too() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let factory = move || {
        let manager = manager.clone();
        App::new()
            .wrap(RequireApiKey::new())
            .configure(move |app| manager.init_app(app))
            .route("/in", web::get().to(inside))
    };
    let server = HttpServer::new(factory).workers(1).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    let server = Server::of(server.addrs()[0], server.run());
    for path in ["/in", "/nowhere", "/", "//in"] {
        server.get(path, None).await.refused(401, "missing-key");
    }
    server.get("/in", key.expose_secret()).await.says("in");
    assert_eq!(
        server.get("/nowhere", key.expose_secret()).await.status,
        404
    );
}

/// Changes the request, as middleware may if it is the only owner.
async fn changes(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let name = HeaderName::from_static("x-changed");
    request
        .head_mut()
        .headers_mut()
        .insert(name, HeaderValue::from_static("1"));
    let uri = request.uri().clone();
    request.match_info_mut().get_mut().update(&uri);
    next.call(request).await
}

/// For the control: keeps a clone of the request during the call.
async fn holds(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let held = request.request().clone();
    let response = next.call(request).await;
    drop(held);
    response
}

async fn changed(request: HttpRequest) -> String {
    format!("{:?}", request.headers().get("x-changed"))
}

#[actix_web::test]
async fn no_clone_of_the_request_is_held_while_the_inner_service_is_called() {
    let store = GateStore::new();
    let manager = patient_manager(store.clone()).await;
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        let anywhere = Policy::new()
            .locations(key_locations(&Location::ALL))
            .optional();
        for (path, guard) in [
            ("/keep", RequireApiKey::with(anywhere)),
            ("/strip", RequireApiKey::with(anywhere).strip_credential()),
            ("/fresh", RequireApiKey::with(anywhere.fresh())),
        ] {
            let scope = web::scope(path).route("/{tail:.*}", web::route().to(changed));
            app.service(scope.wrap(from_fn(changes)).wrap(guard));
        }
        let scope = web::scope("/held").route("/{tail:.*}", web::route().to(changed));
        app.service(scope.wrap(from_fn(changes)).wrap(from_fn(holds)));
    });
    for path in ["/keep/x", "/strip/x", "/fresh/x"] {
        server.get(path, None).await.says("Some(\"1\")");
        for location in Location::ALL {
            // Cold cache, then warm.
            let key = manager.create("a").await.unwrap();
            for _ in 0..2 {
                let message = Message::post(path).with(location, key.expose_secret());
                server.send(message.bytes()).await.says("Some(\"1\")");
            }
        }
    }
    // While the request waits for the store.
    let key = manager.create("a").await.unwrap();
    let gate = store.gate_before(Call::Find);
    let mut client = server.connect().await;
    let message = Message::post("/strip/x").with(Location::Bearer, key.expose_secret());
    client.send(message.bytes()).await;
    gate.arrived().await;
    gate.open();
    client.answer().await.says("Some(\"1\")");
    let mut client = server.connect().await;
    client.send(Message::get("/held/x").bytes()).await;
    assert!(
        client.try_answer().await.is_none(),
        "the control: actix panics"
    );
}

#[actix_web::test]
async fn m12_of_two_middlewares_and_of_a_guard_under_one_both_are_enforced() {
    let manager = manager().await;
    let server = serve(&manager, |app| {
        routes(app);
        let inner = RequireApiKey::with(Policy::new().scopes(ScopeExpr::One("inner")));
        let inner = web::scope("/b")
            .route("", web::route().to(inside))
            .wrap(inner);
        app.service(
            web::scope("/a")
                .service(inner)
                .wrap(RequireApiKey::with(OUTER)),
        );
    });
    let keys = [
        (vec![], 403, 403, 403),
        (vec!["outer"], 403, 403, 200),
        (vec!["inner"], 403, 403, 403),
        (vec!["outer", "inner"], 200, 200, 200),
    ];
    for (scopes, nested, both, plain_inside) in keys {
        let key = manager.create("a").scopes(&scopes).await.unwrap();
        let key = key.expose_secret();
        for _ in 0..2 {
            for (path, status) in [
                ("/a/b", nested),
                ("/outer/scoped", both),
                ("/outer-strip/scoped", both),
                ("/outer/guarded", plain_inside),
                ("/outer-strip/guarded", plain_inside),
                ("/outer/open", plain_inside),
            ] {
                let answer = server.get(path, key).await;
                assert_eq!(answer.status, status, "{path} {scopes:?}: {answer:?}");
            }
            // The stricter guard is inside: the outer one alone would allow the key.
            let strict = if scopes.contains(&"inner") { 200 } else { 403 };
            for path in [
                "/plain/scoped",
                "/plain-strip/scoped",
                "/maybe-strip/scoped",
            ] {
                let answer = server.get(path, key).await;
                assert_eq!(answer.status, strict, "{path} {scopes:?}: {answer:?}");
                server.get("/plain/guarded", key).await.says("a");
            }
        }
    }
}

#[actix_web::test]
async fn m12_under_a_middleware_the_store_is_read_once() {
    let stores: [Arc<dyn KeyStore>; 2] =
        [Arc::new(MemoryStore::new()), Arc::new(NoHistory::default())];
    for (kept, store) in [true, false].into_iter().zip(stores) {
        let store = GateStore::around(store);
        let manager = timeless_manager(store.clone()).await;
        let server = serve(&manager, |app| {
            routes(app);
            let inner = web::scope("/b")
                .route("/guarded", web::route().to(guarded))
                .wrap(RequireApiKey::new().strip_credential());
            app.service(web::scope("/a").service(inner).wrap(RequireApiKey::new()));
        });
        for path in [
            "/plain/open",
            "/plain/guarded",
            "/plain/fresh",
            "/plain/optional",
            "/plain-strip/guarded",
            "/plain-strip/fresh",
            "/plain-strip/optional",
            "/freshly/guarded",
            "/freshly/fresh",
            "/freshly-strip/guarded",
            "/freshly-strip/fresh",
            "/maybe/guarded",
            "/maybe-strip/fresh",
            "/a/b/guarded",
        ] {
            let key = manager.create("a").await.unwrap();
            let label = if path.ends_with("open") { "in" } else { "a" };
            if kept {
                store.polled().await;
            }
            // Cold: one read, whichever guard asks first.
            let before = store.count(Call::Find);
            server.get(path, key.expose_secret()).await.says(label);
            assert_eq!(
                store.count(Call::Find),
                before + 1,
                "{path}, history: {kept}"
            );
            // Then one for each request, if the store does not have a change log or the route is
            // `fresh`.
            let each = usize::from(!kept || path.contains("fresh"));
            let before = store.count(Call::Find);
            server.get(path, key.expose_secret()).await.says(label);
            assert_eq!(
                store.count(Call::Find),
                before + each,
                "{path}, history: {kept}"
            );
        }
    }
}

#[actix_web::test]
async fn with_a_manager_outside_and_another_inside_each_checks_its_own() {
    let shared: Arc<dyn KeyStore> = Arc::new(MemoryStore::new());
    let store = GateStore::around(Arc::clone(&shared));
    let (outer, twin) = (
        manager_on(store.clone()).await,
        manager_on(store.clone()).await,
    );
    let stranger = manager().await;
    let configured = [outer.clone(), twin.clone(), stranger.clone()];
    let server = Server::start(move |app| {
        let [outer, twin, stranger] = configured.clone();
        outer.init_app(app);
        for (path, guard) in [
            ("/keep", RequireApiKey::new()),
            ("/strip", RequireApiKey::new().strip_credential()),
        ] {
            let (twin, stranger) = (twin.clone(), stranger.clone());
            let twins = web::scope("/twin")
                .configure(move |app| twin.init_app(app))
                .route("/guarded", web::route().to(guarded));
            let strangers = web::scope("/stranger")
                .configure(move |app| stranger.init_app(app))
                .route("/guarded", web::route().to(guarded));
            let scope = web::scope(path).route("/guarded", web::route().to(guarded));
            app.service(scope.service(twins).service(strangers).wrap(guard));
        }
    });
    let key = outer.create("a").await.unwrap();
    let foreign = stranger.create("b").await.unwrap();
    for _ in 0..2 {
        let (key, foreign) = (key.expose_secret(), foreign.expose_secret());
        server.get("/keep/guarded", key).await.says("a");
        server.get("/strip/guarded", key).await.says("a");
        server.get("/keep/twin/guarded", key).await.says("a");
        // A verified credential is valid for the manager that verified it, and for no other.
        server
            .get("/strip/twin/guarded", key)
            .await
            .refused(401, "missing-key");
        for way in ["keep", "strip"] {
            let path = format!("/{way}/stranger/guarded");
            let reason = if way == "keep" {
                "invalid-key"
            } else {
                "missing-key"
            };
            server.get(&path, key).await.refused(401, reason);
            server.get(&path, foreign).await.refused(401, "invalid-key");
        }
    }
    // The managers do not share their caches: each has read by itself.
    assert!(store.count(Call::Find) >= 2);
}

#[api_key_required(optional, scope = "inner")]
async fn optional_with_a_scope(key: Option<ApiKey>) -> String {
    key.map_or_else(|| "nobody".to_owned(), |key| key.label().to_owned())
}

/// A handler whose guard did not find a key does not see one: a key that another guard allowed did
/// not meet this guard's requirements, or belongs to another manager.
#[actix_web::test]
async fn a_guard_that_found_no_key_hands_its_handler_none() {
    let (outer, stranger) = (manager().await, manager().await);
    let configured = [outer.clone(), stranger.clone()];
    let server = Server::start(move |app| {
        let [outer, stranger] = configured.clone();
        outer.init_app(app);
        let header = Policy::new().locations(key_locations(&[Location::Header]));
        for (path, guard) in [
            ("/keep", RequireApiKey::with(header)),
            ("/strip", RequireApiKey::with(header).strip_credential()),
        ] {
            let stranger = stranger.clone();
            let strangers = web::scope("/stranger")
                .configure(move |app| stranger.init_app(app))
                .route("/optional", web::route().to(optional))
                .route("/scoped", web::route().to(optional_with_a_scope));
            let scope = web::scope(path)
                .service(strangers)
                .route("/scoped", web::route().to(optional_with_a_scope));
            app.service(scope.wrap(guard));
        }
    });
    let weak = outer.create("weak").await.unwrap();
    let right = outer.create("right").scopes(["inner"]).await.unwrap();
    let mut wrong = Vec::new();
    for (path, expected) in [
        ("/keep/scoped", "nobody"),
        ("/keep/stranger/optional", "nobody"),
        ("/keep/stranger/scoped", "nobody"),
        ("/strip/stranger/optional", "nobody"),
        ("/strip/stranger/scoped", "nobody"),
    ] {
        // First with a cold cache, then warm.
        for _ in 0..2 {
            let message = Message::get(path).with(Location::Header, weak.expose_secret());
            let answer = server.send(message.bytes()).await;
            if answer.text() != expected {
                wrong.push(format!("{path}: {}", answer.text()));
            }
        }
    }
    // With the verified credential, the inner guard evaluates the same key, which lacks the scope.
    let message = Message::get("/strip/scoped").with(Location::Header, weak.expose_secret());
    server
        .send(message.bytes())
        .await
        .refused(403, "insufficient-scope");
    let message = Message::get("/strip/scoped").with(Location::Header, right.expose_secret());
    server.send(message.bytes()).await.says("right");
    assert_eq!(wrong, Vec::<String>::new());
}

#[actix_web::test]
async fn optional_on_one_side_does_not_loosen_the_other() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager, routes);
    let key = key.expose_secret();
    for _ in 0..2 {
        for way in ["", "-strip"] {
            let ask = async |path: &str, key: Option<&str>| {
                server.get(&path.replace('*', way), key).await
            };
            ask("/maybe*/open", None).await.says("in");
            ask("/maybe*/optional", None).await.says("nobody");
            ask("/maybe*/guarded", None)
                .await
                .refused(401, "missing-key");
            ask("/maybe*/fresh", None).await.refused(401, "missing-key");
            ask("/maybe*/scoped", None)
                .await
                .refused(401, "missing-key");
            ask("/plain*/optional", None)
                .await
                .refused(401, "missing-key");
            for path in [
                "/maybe*/open",
                "/maybe*/optional",
                "/maybe*/guarded",
                "/plain*/optional",
            ] {
                ask(path, Some("nonsense"))
                    .await
                    .refused(401, "invalid-key");
                ask(path, Some(&forge::unknown()))
                    .await
                    .refused(401, "invalid-key");
                let answer = ask(path, Some(key)).await;
                answer.says(if path.ends_with("open") { "in" } else { "a" });
            }
        }
    }
}

#[actix_web::test]
async fn a_stripped_key_is_judged_anew_by_the_guard_inside() {
    let config = apikey_runtime::Config::builder().prefixes(["my_api", "adm"]);
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    let server = serve(&manager, routes);
    let plain = manager.create("a").await.unwrap();
    let adm = manager.create("a").prefix("adm").await.unwrap();
    let live = manager.create("a").environment("live").await.unwrap();
    let inner = manager.create("a").scopes(["inner"]).await.unwrap();
    for _ in 0..2 {
        for (key, right) in [
            (&plain, "guarded"),
            (&adm, "prefix"),
            (&live, "environment"),
            (&inner, "scoped"),
        ] {
            for (path, reason) in [
                ("prefix", "invalid-key"),
                ("environment", "invalid-key"),
                ("scoped", "insufficient-scope"),
            ] {
                for way in ["plain", "plain-strip", "maybe-strip", "freshly-strip"] {
                    let answer = server
                        .get(&format!("/{way}/{path}"), key.expose_secret())
                        .await;
                    if path == right {
                        answer.says("a");
                    } else {
                        let status = if path == "scoped" { 403 } else { 401 };
                        answer.refused(status, reason);
                    }
                }
            }
            let answer = server
                .get("/plain-strip/guarded", key.expose_secret())
                .await;
            answer.says("a");
        }
        // The outer guard allows keys of one prefix only, whatever the inner one accepts.
        for path in ["/adm/guarded", "/adm-strip/guarded"] {
            server.get(path, adm.expose_secret()).await.says("a");
            server
                .get(path, plain.expose_secret())
                .await
                .refused(401, "invalid-key");
        }
    }
    // Each guard reads its own locations. If these do not hold a key, the inner one takes the
    // verified credential.
    let header = |path: &str, key: &str| Message::get(path).with(Location::Header, key).bytes();
    let bytes = header("/elsewhere-strip/guarded", plain.expose_secret());
    server.send(bytes).await.says("a");
    let bytes = header("/elsewhere/guarded", plain.expose_secret());
    server.send(bytes).await.refused(401, "missing-key");
    // A key at the guard's own location is not overruled by the verified credential of another
    // guard.
    let message =
        Message::get("/elsewhere-strip/guarded").with(Location::Header, plain.expose_secret());
    let message = message.with(Location::Bearer, &forge::unknown());
    server
        .send(message.bytes())
        .await
        .refused(401, "invalid-key");
}

/// Changes a key after the middleware allowed it, and before the inner guard is reached: the inner
/// guard's check starts after the change.
async fn a_change_meanwhile(store: Arc<dyn KeyStore>, ways: &[&str]) -> Vec<String> {
    let manager = manager_on(store).await;
    let server = serve(&manager, routes);
    let mut wrong = Vec::new();
    for way in ways {
        for (what, inside, status) in [
            ("nothing", "guarded", 200),
            ("nothing", "scoped", 200),
            ("revoke", "guarded", 401),
            ("revoke", "fresh", 401),
            ("revoke", "optional", 401),
            ("disable", "guarded", 401),
            ("expire", "guarded", 401),
            ("rotate", "guarded", 401),
            ("grace", "guarded", 200),
            ("scopes", "scoped", 403),
        ] {
            for warm in [false, true] {
                let path = format!("/{way}/{inside}");
                let create = manager.create("a").scopes(["outer", "inner"]);
                let key = create.await.unwrap();
                if warm {
                    let answer = server.get(&path, key.expose_secret()).await;
                    answer.says("a");
                }
                let bearer = format!("Bearer {}", key.expose_secret());
                let meanwhile = format!("{what} {}", key.id());
                let headers = [
                    ("Authorization", bearer.as_str()),
                    ("X-Meanwhile", &meanwhile),
                ];
                let answer = server.get_with(&path, &headers).await;
                if answer.status != status {
                    wrong.push(format!("{path} {what}, warm: {warm}: {}", answer.status));
                }
            }
        }
    }
    wrong
}

const WAYS: [&str; 8] = [
    "plain",
    "plain-strip",
    "outer",
    "outer-strip",
    "freshly",
    "freshly-strip",
    "maybe",
    "maybe-strip",
];

#[actix_web::test]
async fn v08_a_key_that_is_revoked_or_changed_meanwhile_is_refused_by_the_guard_inside() {
    let wrong = a_change_meanwhile(Arc::new(MemoryStore::new()), &WAYS).await;
    assert_eq!(wrong, Vec::<String>::new());
}

#[actix_web::test]
async fn v08_the_same_without_a_history() {
    let wrong = a_change_meanwhile(Arc::new(NoHistory::default()), &WAYS).await;
    assert_eq!(wrong, Vec::<String>::new());
}

#[actix_web::test]
async fn v08_the_same_without_a_cache() {
    let config = apikey_runtime::Config::builder().cache_capacity(0);
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    let server = serve(&manager, routes);
    for way in ["plain", "plain-strip", "freshly"] {
        let key = manager.create("a").await.unwrap();
        let path = format!("/{way}/guarded");
        server.get(&path, key.expose_secret()).await.says("a");
        let bearer = format!("Bearer {}", key.expose_secret());
        let meanwhile = format!("revoke {}", key.id());
        let headers = [
            ("Authorization", bearer.as_str()),
            ("X-Meanwhile", &meanwhile),
        ];
        let answer = server.get_with(&path, &headers).await;
        answer.refused(401, "revoked-key");
    }
}

#[actix_web::test]
async fn a_scope_of_the_path_is_filled_from_the_path_of_the_middlewares_own_scope() {
    const PROJECT: Policy = Policy::new().scopes(ScopeExpr::One("project:{project_id}:read"));
    let manager = manager().await;
    let server = serve(&manager, |app| {
        for (name, guard) in [
            ("/projects", RequireApiKey::with(PROJECT)),
            ("/stripped", RequireApiKey::with(PROJECT).strip_credential()),
        ] {
            let scope = web::scope(&format!("{name}/{{project_id}}"));
            let scope = scope
                .route("/{tail:.*}", web::route().to(inside))
                .wrap(guard);
            app.service(scope);
        }
        let guard = RequireApiKey::with(PROJECT);
        let named_inside = web::scope("/late").route("/{project_id}", web::route().to(inside));
        app.service(named_inside.wrap(guard));
    });
    let key = manager
        .create("a")
        .scopes(["project:7:read"])
        .await
        .unwrap();
    let key = key.expose_secret();
    for _ in 0..2 {
        for name in ["/projects", "/stripped"] {
            let ask = async |id: &str| server.get(&format!("{name}/{id}/x"), key).await;
            ask("7").await.says("in");
            ask("%37").await.says("in");
            for other in [
                "8",
                "77",
                "7%2F8",
                "7%2f..%2f8",
                "%2537",
                "7:read",
                "*",
                "7%00",
                "7%20",
            ] {
                let answer = ask(other).await;
                answer.refused(403, "insufficient-scope");
            }
            server
                .get(&format!("{name}/7/../8/x"), key)
                .await
                .says("in");
            server
                .get(&format!("{name}/7/x"), None)
                .await
                .refused(401, "missing-key");
        }
        // A location that only the inner route knows is unknown here: this is a mistake, and must
        // deny.
        server
            .get("/late/7", key)
            .await
            .refused(500, "misconfigured-route");
    }
}

#[actix_web::test]
async fn the_key_is_there_for_handlers_and_for_middleware_afterwards() {
    let manager = manager().await;
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        let label = async |request: ServiceRequest, next: Next<_>| {
            let early = request.request().api_key().is_some();
            let mut response = next.call(request).await?;
            let key = response.request().api_key();
            let text = format!(
                "{early} {}",
                key.map_or_else(String::new, |key| key.label().into())
            );
            let name = HeaderName::from_static("x-label");
            response
                .headers_mut()
                .insert(name, HeaderValue::try_from(text).unwrap());
            Ok(response)
        };
        for (path, guard) in [
            ("/keep", RequireApiKey::new()),
            ("/strip", RequireApiKey::new().strip_credential()),
        ] {
            let scope = web::scope(path)
                .route(
                    "",
                    web::get().to(async |key: ApiKey| key.label().to_owned()),
                )
                .wrap(guard)
                .wrap(from_fn(label));
            app.service(scope);
        }
    });
    let key = manager.create("a").await.unwrap();
    for path in ["/keep", "/strip"] {
        let answer = server.get(path, key.expose_secret()).await;
        answer.says("a");
        assert_eq!(answer.header("x-label"), Some("false a"));
        let answer = server.get(path, None).await;
        assert_eq!(answer.header("x-label"), Some("false "));
    }
}
