//! Stripping the credential: afterwards the request does not contain the key.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{Error, HttpMessage, HttpRequest};
use apikey_runtime::{ApiKeyManager, Config, Policy, RequireApiKey, ScopeExpr, api_key_required};
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::locations::{Location, Message, key_locations};
use apikey_test_support::store::GateStore;
use apikey_test_support::{forge, manager, manager_on};

/// What was seen of requests, and by which observer.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Seen {
    fn note(&self, who: &'static str, what: String) {
        self.0.lock().unwrap().push((who, what));
    }

    fn take(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Returns the observers that saw any of `needles`.
    fn who_saw(&self, needles: &[&str]) -> Vec<&'static str> {
        let holds = |text: &str| needles.iter().any(|needle| text.contains(needle));
        let seen = self.take();
        assert!(!seen.is_empty());
        seen.into_iter()
            .filter(|(_, text)| holds(text))
            .map(|(who, _)| who)
            .collect()
    }
}

/// Returns everything that a request shows of itself, except for its path's parameters.
fn shown(request: &HttpRequest) -> String {
    let mut text = format!("{} {}\n", request.uri(), request.query_string());
    for (name, value) in request.headers() {
        let _ = writeln!(
            text,
            "{name}: {}",
            String::from_utf8_lossy(value.as_bytes())
        );
    }
    let _ = writeln!(text, "{:?}", request.cookies());
    let _ = writeln!(text, "{}", request.full_url());
    text
}

fn note(who: &'static str, request: &HttpRequest, what: String) {
    request.app_data::<Seen>().unwrap().note(who, what);
}

async fn outside(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let response = next.call(request).await?;
    note("outside", response.request(), shown(response.request()));
    Ok(response)
}

async fn between(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    note("between", request.request(), shown(request.request()));
    next.call(request).await
}

async fn handler(request: HttpRequest, body: Bytes) -> String {
    let body = String::from_utf8_lossy(&body).into_owned();
    note("handler", &request, format!("{}\n{body}", shown(&request)));
    "in".to_owned()
}

/// Guarded itself, with the defaults: its guard reads `Authorization`, which does not hold a key.
#[api_key_required]
async fn guarded(request: HttpRequest, body: Bytes) -> String {
    handler(request, body).await
}

fn scope(app: &mut ServiceConfig, path: &str, guard: RequireApiKey) {
    let scope = web::scope(path)
        .route("/guarded", web::route().to(guarded))
        .route("", web::route().to(handler))
        .wrap(from_fn(between))
        .wrap(guard)
        .wrap(from_fn(outside));
    app.service(scope);
}

fn routes(app: &mut ServiceConfig) {
    for location in Location::ALL {
        let policy = Policy::new().locations(key_locations(&[location]));
        let strict = policy.scopes(ScopeExpr::One("admin"));
        let strip = |policy| RequireApiKey::with(policy).strip_credential();
        scope(app, &format!("/strip/{location:?}"), strip(policy));
        scope(app, &format!("/strict/{location:?}"), strip(strict));
        scope(
            app,
            &format!("/keep/{location:?}"),
            RequireApiKey::with(policy),
        );
        scope(
            app,
            &format!("/optional/{location:?}"),
            strip(policy.optional()),
        );
        scope(app, &format!("/fresh/{location:?}"), strip(policy.fresh()));
    }
    let all = Policy::new().locations(key_locations(&Location::ALL));
    scope(app, "/all", RequireApiKey::with(all).strip_credential());
    scope(app, "/configured", RequireApiKey::new().strip_credential());
}

fn serve(manager: &ApiKeyManager) -> (Seen, Server) {
    let (manager, seen) = (manager.clone(), Seen::default());
    let noted = seen.clone();
    let server = Server::start(move |app| {
        manager.init_app(app);
        app.app_data(noted.clone());
        routes(app);
    });
    (seen, server)
}

/// Returns the key in the forms in which a location could show it.
fn needles(key: &str) -> [String; 2] {
    [
        forge::parts(key).secret,
        apikey_test_support::locations::base64(format!("{key}:").as_bytes()),
    ]
}

async fn send(server: &Server, path: &str, location: Location, keys: &[&str]) -> Answer {
    let mut message = Message::post(path);
    for key in keys {
        message = message.with(location, key);
    }
    server.send(message.bytes()).await
}

#[actix_web::test]
async fn l07_the_key_is_seen_nowhere_after_success() {
    let manager = manager().await;
    let (seen, server) = serve(&manager);
    for location in Location::ALL {
        // A key for each way, so that its first check is cold and the second warm.
        for way in ["strip", "optional", "fresh"] {
            let key = manager.create("a").await.unwrap();
            let needles = needles(key.expose_secret());
            let needles = needles.each_ref().map(String::as_str);
            for _ in 0..2 {
                for path in [
                    format!("/{way}/{location:?}"),
                    format!("/{way}/{location:?}/guarded"),
                ] {
                    let answer = send(&server, &path, location, &[key.expose_secret()]).await;
                    answer.says("in");
                    assert_eq!(seen.who_saw(&needles), Vec::<&str>::new(), "{path}");
                }
            }
            // Control.
            let path = format!("/keep/{location:?}");
            send(&server, &path, location, &[key.expose_secret()])
                .await
                .says("in");
            let seen = seen.who_saw(&needles);
            assert!(seen.contains(&"handler"), "{path}: {seen:?}");
            assert_eq!(seen.contains(&"outside"), !location.is_in_body());
        }
    }
}

#[actix_web::test]
async fn l07_the_key_is_seen_nowhere_after_failure() {
    let manager = manager().await;
    let (seen, server) = serve(&manager);
    for location in Location::ALL {
        let good = manager.create("a").await.unwrap();
        let good = good.expose_secret();
        let revoked = manager.create("a").await.unwrap();
        manager.revoke(revoked.id()).await.unwrap();
        let revoked = revoked.expose_secret();
        let wrong = forge::wrong_secret(good);
        let broken = format!("{good}0");
        let secrets = [
            needles(good),
            needles(revoked),
            needles(&wrong),
            needles(&broken),
        ];
        let secrets: Vec<&str> = secrets.iter().flatten().map(String::as_str).collect();
        let cases: [(&str, &[&str], u16); 7] = [
            ("strip", &[&wrong], 401),
            ("strip", &[&broken], 401),
            ("strip", &[revoked], 401),
            ("strip", &[revoked], 401),
            ("strip", &[good, revoked], 400),
            ("strict", &[good], 403),
            ("optional", &[&wrong], 401),
        ];
        for (way, keys, status) in cases {
            let path = format!("/{way}/{location:?}");
            let answer = send(&server, &path, location, keys).await;
            assert_eq!(answer.status, status, "{path}: {answer:?}");
            assert_eq!(seen.who_saw(&secrets), Vec::<&str>::new(), "{path}");
        }
        let (path, keys) = (format!("/keep/{location:?}"), [wrong.as_str()]);
        assert_eq!(send(&server, &path, location, &keys).await.status, 401);
        let controls: &[&str] = if location.is_in_body() {
            &[]
        } else {
            &["outside"]
        };
        assert_eq!(seen.who_saw(&secrets), controls, "the control");
    }
}

#[actix_web::test]
async fn l07_a_key_that_is_written_otherwise_is_seen_nowhere_either() {
    let manager = manager().await;
    let (seen, server) = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let key = key.expose_secret();
    let needles = needles(key);
    let needles = needles.each_ref().map(String::as_str);
    let post = |location: Location| Message::post(&format!("/strip/{location:?}"));
    let encoded: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let all_needles = [needles.as_slice(), &[encoded.as_str()]].concat();
    for (message, status) in [
        (
            post(Location::Query).query(&format!("a=1&api%5Fkey={key}")),
            200,
        ),
        (
            post(Location::Query).query(&format!("%61pi_key={encoded}")),
            200,
        ),
        (
            post(Location::Query).query(&format!("api_key={key}%ZZ&b=2")),
            400,
        ),
        (
            post(Location::Query).query(&format!("api_key={key}&api%5fkey={key}")),
            400,
        ),
        (
            post(Location::Form).field(&format!("api%5Fkey={encoded}")),
            200,
        ),
        (
            post(Location::Json).member(&format!("\"n\":1,\"\\u0061pi_key\":\"{key}\"")),
            200,
        ),
        (
            post(Location::Cookie).header("cookie", &format!("a=1;api_key=\"{key}\"")),
            200,
        ),
        (
            post(Location::Bearer).header("aUTHORIZATION", &format!("bEARER   {key}")),
            200,
        ),
        (post(Location::Header).header("x-API-key", key), 200),
    ] {
        let answer = server.send(message.bytes()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(
            seen.who_saw(&all_needles),
            Vec::<&str>::new(),
            "{message:?}"
        );
    }
}

#[actix_web::test]
async fn l07_all_else_of_the_request_stays() {
    let manager = manager().await;
    let (seen, server) = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let key = key.expose_secret();
    let message = Message::post("/strip/Query")
        .query(&format!("x=%20+1&api_key={key}&&y=%zz"))
        .header("Authorization", "Bearer of-another")
        .header("Cookie", "a=1");
    server.send(message.bytes()).await.says("in");
    let text = format!("{:?}", seen.take());
    assert!(text.contains("/strip/Query?x=%20+1&&y=%zz "), "{text}");
    assert!(text.contains("Bearer of-another") && text.contains("a=1"));

    let cookies = format!("a=1; api_key={key}; b=\"2\"");
    let message = Message::post("/strip/Cookie").header("Cookie", &cookies);
    let message = message.header("Cookie", "c=3");
    server.send(message.bytes()).await.says("in");
    let text = format!("{:?}", seen.take());
    assert!(text.contains("a=1; b=") && text.contains("c=3"), "{text}");

    let body = format!("\"z\":1.50e3,\"api_key\":\"{key}\",\"a\":[ 1,\"api_key\" ]");
    server
        .send(Message::post("/strip/Json").member(&body).bytes())
        .await
        .says("in");
    let text = format!("{:?}", seen.take()).replace('\\', "");
    assert!(
        text.contains("{\"z\":1.50e3,\"a\":[ 1,\"api_key\" ]}"),
        "{text}"
    );

    let body = format!("z=%20+&&api_key={key}&a=%zz");
    server
        .send(Message::post("/strip/Form").field(&body).bytes())
        .await
        .says("in");
    let text = format!("{:?}", seen.take());
    assert!(text.contains("z=%20+&&a=%zz"), "{text}");
}

#[actix_web::test]
async fn l07_where_the_route_looks_at_all_doors_each_is_cleared() {
    let manager = manager().await;
    let (seen, server) = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let needles = needles(key.expose_secret());
    let needles = needles.each_ref().map(String::as_str);
    for location in Location::ALL {
        send(&server, "/all", location, &[key.expose_secret()])
            .await
            .says("in");
        assert_eq!(seen.who_saw(&needles), Vec::<&str>::new(), "{location:?}");
    }
    for [one, other] in Location::pairs() {
        let message = Message::post("/all");
        let message = message.with(one, key.expose_secret());
        let message = message.with(other, key.expose_secret());
        server
            .send(message.bytes())
            .await
            .refused(400, "multiple-keys");
        assert_eq!(
            seen.who_saw(&needles),
            Vec::<&str>::new(),
            "{one:?} {other:?}"
        );
    }
}

#[actix_web::test]
async fn l07_the_configured_place_is_cleared_too() {
    for (config, location) in [
        (Config::builder(), Location::Bearer),
        (Config::builder().header_name("X-API-Key"), Location::Header),
        (Config::builder().header_type("Token"), Location::Scheme),
        (Config::builder().location("basic"), Location::Basic),
        (Config::builder().location("websocket"), Location::WebSocket),
        (Config::builder().location("query"), Location::Query),
        (Config::builder().location("cookie"), Location::Cookie),
        (Config::builder().location("json"), Location::Json),
        (Config::builder().location("form"), Location::Form),
    ] {
        let builder = ApiKeyManager::builder().config(config.build().unwrap());
        let manager = builder
            .shared_store(GateStore::new())
            .start()
            .await
            .unwrap();
        let (seen, server) = serve(&manager);
        let key = manager.create("a").await.unwrap();
        let secrets = [needles(key.expose_secret()), needles(&forge::unknown())];
        let secrets: Vec<&str> = secrets.iter().flatten().map(String::as_str).collect();
        for _ in 0..2 {
            for path in ["/configured", "/configured/guarded"] {
                send(&server, path, location, &[key.expose_secret()])
                    .await
                    .says("in");
                assert_eq!(seen.who_saw(&secrets), Vec::<&str>::new(), "{location:?}");
                let answer = send(&server, path, location, &[&forge::unknown()]).await;
                answer.refused(401, "invalid-key");
                assert_eq!(seen.who_saw(&secrets), Vec::<&str>::new(), "{location:?}");
            }
        }
    }
}

/// After 503, too.
#[actix_web::test]
async fn l07_the_key_is_seen_nowhere_when_the_store_is_down() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let (seen, server) = serve(&manager);
    let key = manager.create("a").await.unwrap();
    store.go_down();
    let needles = needles(key.expose_secret());
    let needles = needles.each_ref().map(String::as_str);
    for location in Location::ALL {
        let answer = send(
            &server,
            &format!("/strip/{location:?}"),
            location,
            &[key.expose_secret()],
        )
        .await;
        answer.refused(503, "store-unavailable");
        assert_eq!(seen.who_saw(&needles), Vec::<&str>::new(), "{location:?}");
    }
}

/// A route with a parameter: actix keeps a copy of the address beside the path's values, and shows
/// it in the request's `Debug`.
async fn with_a_parameter(request: HttpRequest, tail: web::Path<String>) -> String {
    let kept = request.match_info().get_ref().uri().to_string();
    note("handler", &request, format!("{kept} {request:?}"));
    tail.into_inner()
}

async fn outside_of_a_parameter(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let response = next.call(request).await?;
    let request = response.request();
    let kept = request.match_info().get_ref().uri().to_string();
    note("outside", request, format!("{kept} {request:?}"));
    Ok(response)
}

#[actix_web::test]
async fn l07_a_key_of_the_query_is_not_kept_with_the_values_of_the_path() {
    let manager = manager().await;
    let seen = Seen::default();
    let (configured, noted) = (manager.clone(), seen.clone());
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.app_data(noted.clone());
        let policy = Policy::new().locations(key_locations(&[Location::Query]));
        for (path, guard) in [
            ("/keep/{owner}", RequireApiKey::with(policy)),
            (
                "/strip/{owner}",
                RequireApiKey::with(policy).strip_credential(),
            ),
        ] {
            let scope = web::scope(path)
                .route("/{tail:.*}", web::route().to(with_the_tail))
                .wrap(guard)
                .wrap(from_fn(outside_of_a_parameter));
            app.service(scope);
        }
    });
    let key = manager.create("a").await.unwrap();
    let secret = forge::parts(key.expose_secret()).secret;
    let unknown = forge::parts(&forge::unknown()).secret;
    let needles = [secret.as_str(), unknown.as_str()];
    let path = |way: &str, key: &str| format!("/{way}/me/a/b?x=1&api_key={key}&y=2");
    server
        .get(&path("keep", key.expose_secret()), None)
        .await
        .says("a/b");
    assert!(seen.who_saw(&needles).contains(&"handler"), "the control");
    // Cold, warm, and denied.
    for _ in 0..2 {
        server
            .get(&path("strip", key.expose_secret()), None)
            .await
            .says("a/b");
        assert_eq!(seen.who_saw(&needles), Vec::<&str>::new());
        let answer = server.get(&path("strip", &forge::unknown()), None).await;
        answer.refused(401, "invalid-key");
        assert_eq!(seen.who_saw(&needles), Vec::<&str>::new());
    }
}

async fn with_the_tail(request: HttpRequest, path: web::Path<(String, String)>) -> String {
    let (_, tail) = path.into_inner();
    with_a_parameter(request, web::Path::from(tail)).await
}

/// A browser sends a preflight to the address of the request that follows, with its query.
#[actix_web::test]
async fn l07_a_preflight_that_is_let_through_carries_no_key_on() {
    let manager = manager().await;
    let seen = Seen::default();
    let (configured, noted) = (manager.clone(), seen.clone());
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.app_data(noted.clone());
        let policy = Policy::new().locations(key_locations(&Location::ALL));
        scope(app, "/keep", RequireApiKey::with(policy).allow_preflight());
        let guard = RequireApiKey::with(policy)
            .allow_preflight()
            .strip_credential();
        scope(app, "/strip", guard);
    });
    let key = manager.create("a").await.unwrap();
    let needles = needles(key.expose_secret());
    let needles = needles.each_ref().map(String::as_str);
    let ask = |path: &str, location: Location| {
        Message::new("OPTIONS", path)
            .header("Origin", "https://pages.example")
            .header("Access-Control-Request-Method", "POST")
            .with(location, key.expose_secret())
    };
    for location in Location::ALL
        .into_iter()
        .filter(|location| !location.is_in_body())
    {
        server.send(ask("/keep", location).bytes()).await.says("in");
        assert!(seen.who_saw(&needles).contains(&"handler"), "the control");
        server
            .send(ask("/strip", location).bytes())
            .await
            .says("in");
        assert_eq!(seen.who_saw(&needles), Vec::<&str>::new(), "{location:?}");
    }
}

/// Extensions of others stay, and do not contain the key.
async fn extensions(request: HttpRequest) -> String {
    let extensions = request.extensions();
    format!("{:?}", extensions.get::<u32>())
}

#[actix_web::test]
async fn stripping_leaves_what_others_put_among_the_extensions() {
    let manager = manager().await;
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        let mark = async |request: ServiceRequest, next: Next<_>| {
            request.extensions_mut().insert(7_u32);
            next.call(request).await
        };
        let scope = web::scope("/strip")
            .route("", web::get().to(extensions))
            .wrap(RequireApiKey::new().strip_credential())
            .wrap(from_fn(mark));
        app.service(scope);
    });
    let key = manager.create("a").await.unwrap();
    server
        .get("/strip", key.expose_secret())
        .await
        .says("Some(7)");
}

/// After 500, too: without a manager there is no configuration, but the default location is known.
#[actix_web::test]
async fn l07_the_key_is_seen_nowhere_where_there_is_no_manager() {
    let seen = Seen::default();
    let noted = seen.clone();
    let server = Server::start(move |app| {
        app.app_data(noted.clone());
        routes(app);
    });
    let key = forge::unknown();
    let needles = needles(&key);
    let needles = needles.each_ref().map(String::as_str);
    let mut wrong = Vec::new();
    for (path, location) in [
        ("/configured", Location::Bearer),
        ("/strip/Header", Location::Header),
        ("/strip/Query", Location::Query),
    ] {
        let answer = send(&server, path, location, &[&key]).await;
        answer.refused(500, "no-manager");
        if !seen.who_saw(&needles).is_empty() {
            wrong.push(path);
        }
    }
    send(&server, "/keep/Bearer", Location::Bearer, &[&key])
        .await
        .refused(500, "no-manager");
    assert_eq!(seen.who_saw(&needles), ["outside"], "the control");
    assert_eq!(wrong, Vec::<&str>::new());
}

#[api_key_required(location = header("X-Other"))]
async fn looks_elsewhere() -> &'static str {
    "in"
}

#[api_key_required]
async fn looks_where_the_manager_says() -> &'static str {
    "in"
}

/// Stripping does not relax the locations that an inner route requires.
#[actix_web::test]
async fn a_route_that_says_where_to_look_does_not_take_the_proof_of_a_key_found_elsewhere() {
    let manager = manager().await;
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        for (path, guard) in [
            ("/keep", RequireApiKey::new()),
            ("/strip", RequireApiKey::new().strip_credential()),
        ] {
            let scope = web::scope(path)
                .route("/elsewhere", web::get().to(looks_elsewhere))
                .route("/usual", web::get().to(looks_where_the_manager_says));
            app.service(scope.wrap(guard));
        }
    });
    let key = manager.create("a").await.unwrap();
    for path in ["/keep/elsewhere", "/strip/elsewhere"] {
        let answer = server.get(path, key.expose_secret()).await;
        answer.refused(401, "missing-key");
    }
    // Control: a route that does not name a location accepts it.
    server
        .get("/strip/usual", key.expose_secret())
        .await
        .says("in");
}
