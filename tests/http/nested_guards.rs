//! Guards around guards: each with a key of its own, also of another manager.

use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpRequest, HttpResponse, web};
use apikey_runtime::{
    ApiKeyExt, ApiKeyManager, Config, KeyLocation, Limit, MemoryStore, NewKey, Policy, Quota, Rate,
    RequireApiKey, api_key_required,
};
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::{PATIENCE, manager, within};

#[api_key_required]
async fn guarded() -> &'static str {
    "in"
}

#[api_key_required(scope = "admin")]
async fn admin() -> &'static str {
    "in"
}

fn nobody(_: &HttpRequest) -> Option<ApiKeyManager> {
    None
}

#[api_key_required(manager = nobody)]
async fn unmanaged() -> &'static str {
    "in"
}

/// The lowest guard checks first.
#[api_key_required(location = header("X-Third"))]
#[api_key_required(location = header("X-API-Key"))]
async fn third() -> &'static str {
    "in"
}

#[api_key_required(location = header("X-Third"))]
#[api_key_required(optional, location = header("X-API-Key"))]
async fn third_after_anonymous() -> &'static str {
    "in"
}

#[api_key_required(scope = "admin")]
#[api_key_required]
async fn admin_after_plain() -> &'static str {
    "in"
}

#[api_key_required(locations = [bearer, header("X-API-Key")])]
async fn either() -> &'static str {
    "in"
}

#[api_key_required(locations = [bearer, json("k")])]
async fn bearer_or_json() -> &'static str {
    "in"
}

#[api_key_required(location = header("X-API-Key"))]
async fn other_header() -> &'static str {
    "in"
}

/// Tells the label of the key that middleware sees in the response.
async fn label(
    request: actix_web::dev::ServiceRequest,
    next: Next<impl actix_web::body::MessageBody>,
) -> Result<actix_web::dev::ServiceResponse<impl actix_web::body::MessageBody>, actix_web::Error> {
    let mut response = next.call(request).await?;
    let label = response.api_key().map(|key| key.label().to_owned());
    let label = label.unwrap_or_else(|| "none".to_owned()).parse().unwrap();
    let name = actix_web::http::header::HeaderName::from_static("x-label");
    response.headers_mut().insert(name, label);
    Ok(response)
}

/// Creates a key with 20 credits.
async fn key(manager: &ApiKeyManager, label: &str) -> NewKey {
    let credits = Limit::new("credits", Quota::lifetime(20));
    manager.create(label).limits([credits]).await.unwrap()
}

/// Asserts that a key is left with so many credits, once its refunds have come.
async fn left(manager: &ApiKeyManager, key: &NewKey, credits: u64) {
    let remaining = async || manager.limits(key.id()).await.unwrap()[0].remaining;
    let reached = within(PATIENCE, async || remaining().await == credits).await;
    assert!(
        reached.is_some(),
        "{} of {}",
        remaining().await,
        key.label()
    );
    let requests = async || manager.usage(key.id()).await.unwrap().total().requests;
    let counted = within(PATIENCE, async || requests().await == 20 - credits).await;
    assert!(counted.is_some(), "{} of {}", requests().await, key.label());
}

/// Two managers, of which the inner one expects its keys in `X-API-Key`.
struct Nested {
    outer: ApiKeyManager,
    inner: ApiKeyManager,
    key_out: NewKey,
    key_in: NewKey,
    server: Server,
}

impl Nested {
    async fn new() -> Self {
        let config = Config::builder().header_name("X-API-Key").build().unwrap();
        let builder = ApiKeyManager::builder().config(config);
        let inner = builder.store(MemoryStore::new()).start().await.unwrap();
        let outer = manager().await;
        let (key_out, key_in) = (key(&outer, "out").await, key(&inner, "in").await);
        let (of_app, of_scope) = (outer.clone(), inner.clone());
        let server = Server::start(move |app| {
            of_app.init_app(app);
            let of_scope = of_scope.clone();
            let scope = web::scope("/inner")
                .configure(|scope| of_scope.init_app(scope))
                .route("/open", web::get().to(async || "in"))
                .route("/guarded", web::get().to(guarded))
                .route("/admin", web::get().to(admin))
                .route("/unmanaged", web::get().to(unmanaged));
            let outer = web::scope("/outer").service(scope);
            let outer = outer.wrap(RequireApiKey::new()).wrap(from_fn(label));
            app.service(outer);
        });
        Self {
            outer,
            inner,
            key_out,
            key_in,
            server,
        }
    }

    /// Sends both keys.
    async fn get(&self, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.key_out.expose_secret());
        let headers = [
            ("Authorization", bearer.as_str()),
            ("X-API-Key", self.key_in.expose_secret()),
        ];
        self.server.get_with(path, &headers).await
    }

    async fn left(&self, out: u64, inside: u64) {
        left(&self.outer, &self.key_out, out).await;
        left(&self.inner, &self.key_in, inside).await;
    }
}

/// The header of a guard is that of the manager which checked, and not of one that is nearer to the handler.
#[actix_web::test]
async fn a_response_varies_by_the_headers_of_both_managers() {
    let nested = Nested::new().await;
    for (path, vary) in [
        ("/outer/inner/open", "authorization"),
        ("/outer/inner/guarded", "x-api-key, authorization"),
        ("/outer/inner/admin", "x-api-key, authorization"),
    ] {
        assert_eq!(nested.get(path).await.header("vary"), Some(vary), "{path}");
    }
}

#[actix_web::test]
async fn a_guard_of_another_manager_that_denies_refunds_the_outer_one() {
    let nested = Nested::new().await;
    for _ in 0..3 {
        let denied = nested.get("/outer/inner/admin").await;
        denied.refused(403, "insufficient-scope");
        let denied = nested.get("/outer/inner/unmanaged").await;
        denied.refused(500, "no-manager");
    }
    nested.left(20, 20).await;
    // Control: what is allowed is charged to both.
    nested.get("/outer/inner/guarded").await.says("in");
    nested.left(19, 19).await;
}

#[actix_web::test]
async fn a_denied_request_has_no_key_whatever_was_allowed_before() {
    let nested = Nested::new().await;
    let label = async |path: &str| nested.get(path).await.header("x-label").map(str::to_owned);
    assert_eq!(label("/outer/inner/open").await.as_deref(), Some("out"));
    assert_eq!(label("/outer/inner/guarded").await.as_deref(), Some("in"));
    for path in ["/outer/inner/admin", "/outer/inner/unmanaged"] {
        assert_eq!(label(path).await.as_deref(), Some("none"), "{path}");
    }
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/third", web::get().to(third))
        .route("/anonymous", web::get().to(third_after_anonymous))
        .route("/admin", web::get().to(admin_after_plain))
        .route("/either", web::post().to(either))
        .route("/json", web::post().to(bearer_or_json))
        .route("/other", web::post().to(other_header));
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        let rate = Policy::new().rate_limit(Rate::per_hour(2));
        for (path, guard) in [
            ("/keep", RequireApiKey::new()),
            ("/strip", RequireApiKey::new().strip_credential()),
            ("/limited", RequireApiKey::with(rate)),
        ] {
            app.service(web::scope(path).configure(routes).wrap(guard));
        }
    })
}

/// A later key replaces an earlier one, and so does none.
#[actix_web::test]
async fn a_guard_that_denies_refunds_all_keys_before_it() {
    let manager = manager().await;
    let [one, two, three] = [
        key(&manager, "1").await,
        key(&manager, "2").await,
        key(&manager, "3").await,
    ];
    let server = serve(&manager);
    let bearer = format!("Bearer {}", one.expose_secret());
    let bearer = ("Authorization", bearer.as_str());
    let (second, last) = (
        ("X-API-Key", two.expose_secret()),
        ("X-Third", three.expose_secret()),
    );
    let denied = server.get_with("/keep/third", &[bearer, second]).await;
    denied.refused(401, "missing-key");
    let denied = server.get_with("/keep/anonymous", &[bearer]).await;
    denied.refused(401, "missing-key");
    for key in [&one, &two, &three] {
        left(&manager, key, 20).await;
    }
    // Control: what is allowed is charged to each.
    let allowed = server
        .get_with("/keep/third", &[bearer, second, last])
        .await;
    allowed.says("in");
    let allowed = server.get_with("/keep/anonymous", &[bearer, last]).await;
    allowed.says("in");
    for (key, credits) in [(&one, 18), (&two, 19), (&three, 18)] {
        left(&manager, key, credits).await;
    }
}

/// The guard between does not have limits, and hands on what the outer one charged.
#[actix_web::test]
async fn a_rate_of_the_outer_guard_is_refunded_past_a_guard_without_limits() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager);
    for _ in 0..5 {
        let denied = server.get("/limited/admin", key.expose_secret()).await;
        denied.refused(403, "insufficient-scope");
    }
    // Control: without a denial, the rate holds.
    let changed = manager.update(key.id()).scopes(["admin"]);
    changed.await.unwrap();
    for status in [200, 200, 429] {
        let answer = server.get("/limited/admin", key.expose_secret()).await;
        assert_eq!(answer.status, status);
    }
}

/// L-03, L-04: a key that a middleware took out is still one of the request.
#[actix_web::test]
async fn l03_a_stripped_key_and_another_one_are_one_too_many() {
    let manager = manager().await;
    let (one, two) = (key(&manager, "1").await, key(&manager, "2").await);
    let server = serve(&manager);
    let bearer = format!("Bearer {}", one.expose_secret());
    let json = format!("{{\"k\":\"{}\"}}", two.expose_secret());
    let post = async |path: &str, header: Option<&str>, body: &str| {
        let header = header.map(|key| format!("X-API-Key: {key}\r\n"));
        let header = header.unwrap_or_default();
        let length = body.len();
        server
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: {bearer}\r\n{header}\
                 Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .await
    };
    for way in ["/keep", "/strip"] {
        let both = post(&format!("{way}/either"), Some(two.expose_secret()), "{}").await;
        both.refused(400, "multiple-keys");
        let both = post(&format!("{way}/json"), None, &json).await;
        both.refused(400, "multiple-keys");
    }
    left(&manager, &one, 20).await;
    left(&manager, &two, 20).await;
    // Control: one key is enough, and one at a location of which the guard does not know is not its own.
    for way in ["/keep", "/strip"] {
        post(&format!("{way}/either"), None, "{}").await.says("in");
        post(&format!("{way}/json"), None, "{}").await.says("in");
        let other = post(&format!("{way}/other"), Some(two.expose_secret()), "{}").await;
        other.says("in");
    }
    left(&manager, &one, 14).await;
    left(&manager, &two, 18).await;
}

/// `ApiKey` in a handler without a guard is answered by the manager's handler.
#[actix_web::test]
async fn the_managers_error_handler_answers_for_a_key_that_was_not_checked() {
    let builder = ApiKeyManager::builder().store(MemoryStore::new());
    let builder = builder.error_handler(|denied, _| {
        HttpResponse::InternalServerError().body(format!("own: {}", denied.reason().code()))
    });
    let manager = builder.start().await.unwrap();
    let server = Server::start(move |app| {
        manager.init_app(app);
        app.route("/", web::get().to(async |_: apikey_runtime::ApiKey| "in"));
    });
    let answer = server.get("/", None).await;
    let says = "own: misconfigured-route".to_owned();
    assert_eq!((answer.status, answer.text()), (500, says));
}

/// Preflights are answered without a check, and the response still depends on whether there was a key.
#[actix_web::test]
async fn a_preflight_varies_by_the_header_of_the_guard() {
    const COOKIE: Policy = Policy::new().locations(&[KeyLocation::Cookie { name: "k" }]);
    let manager = manager().await;
    let server = Server::start(move |app| {
        manager.init_app(app);
        for (path, guard) in [
            ("/bearer", RequireApiKey::new()),
            ("/cookie", RequireApiKey::with(COOKIE)),
        ] {
            let scope = web::scope(path).route("", web::route().to(async || "in"));
            app.service(scope.wrap(guard.allow_preflight()));
        }
    });
    for (path, vary) in [("/bearer", "authorization"), ("/cookie", "cookie")] {
        let answer = server
            .send(format!(
                "OPTIONS {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nOrigin: http://b\r\n\
                 Access-Control-Request-Method: GET\r\n\r\n"
            ))
            .await;
        answer.says("in");
        assert_eq!(answer.header("vary"), Some(vary), "{path}");
    }
}
