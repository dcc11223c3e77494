//! Limits of keys and routes, over HTTP (family R).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, HttpResponse, get, web};
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::events::EventKind;
use apikey_runtime::{
    ApiKeyExt, ApiKeyManager, Config, DefaultPolicy, Guarded, KeyHeaders, Limit, MemoryStore,
    Policy, Quota, Rate, RequireApiKey, RoutePolicy, ScopeExpr, Timestamp, api_key_required,
};
use apikey_test_support::{PATIENCE, within};

/// 2026-11-30T23:59:00Z.
const LATE: i64 = 1_796_083_140_000;

const MINUTE: Duration = Duration::from_secs(60);

struct Searches;

impl RoutePolicy for Searches {
    const POLICY: Policy = Policy::new()
        .name("shop::handlers::search")
        .rate_limit(Rate::per_minute(6).with_burst(3));
}

struct Costly;

impl RoutePolicy for Costly {
    const POLICY: Policy = Policy::new().cost(5);
}

struct Admin;

impl RoutePolicy for Admin {
    const POLICY: Policy = Policy::new().scopes(ScopeExpr::One("admin"));
}

async fn plain(_: Guarded<DefaultPolicy, ()>) -> &'static str {
    "done"
}

async fn search(_: Guarded<Searches, ()>) -> &'static str {
    "found"
}

async fn costly(_: Guarded<Costly, ()>) -> &'static str {
    "done"
}

async fn admin(_: Guarded<Admin, ()>) -> &'static str {
    "done"
}

/// Creates a function that sends a request to an app. A macro, because the service's type cannot be
/// named.
macro_rules! asking {
    ($app:expr) => {{
        let app = init_service($app).await;
        async move |path: &str, key: &str| {
            let request = TestRequest::get()
                .uri(path)
                .insert_header(("Authorization", format!("Bearer {key}")));
            Answer::of(&call_service(&app, request.to_request()).await)
        }
    }};
}

struct Scene {
    manager: ApiKeyManager,
    clock: Arc<ManualClock>,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(LATE)));
        let store = MemoryStore::new().with_clock(clock.clone());
        let manager = ApiKeyManager::builder()
            .config(config)
            .store(store)
            .clock(clock.clone() as Arc<dyn Clock>)
            .start()
            .await
            .unwrap();
        Self { manager, clock }
    }

    /// Returns a function that requests a path with a key.
    async fn app(&self) -> impl AsyncFn(&str, &str) -> Answer {
        let manager = self.manager.clone();
        asking!(
            App::new()
                .wrap(KeyHeaders)
                .configure(move |app| manager.init_app(app))
                .route("/plain", web::get().to(plain))
                .route("/search", web::get().to(search))
                .route("/costly", web::get().to(costly))
                .route("/admin", web::get().to(admin))
        )
    }

    async fn key(&self, limits: impl IntoIterator<Item = Limit>) -> String {
        let key = self.manager.create("a").limits(limits).await.unwrap();
        key.expose_secret().to_owned()
    }
}

/// An answer's status and its limit headers.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    retry_after: Option<u64>,
    /// `r` and `t` by name.
    state: BTreeMap<String, (i64, Option<i64>)>,
    /// `q` and `w` by name.
    policy: BTreeMap<String, (i64, Option<i64>)>,
}

impl Answer {
    fn of<B>(response: &ServiceResponse<B>) -> Self {
        let text = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        Self {
            status: response.status().as_u16(),
            retry_after: text("retry-after").map(|seconds| seconds.parse().unwrap()),
            state: parameters(text("ratelimit"), "r", "t"),
            policy: parameters(text("ratelimit-policy"), "q", "w"),
        }
    }
}

/// Parses a list of plain strings, each with the parameters `first` and perhaps `second`, in this
/// order: the part of structured fields (RFC 9651) that the draft uses.
fn parameters(
    field: Option<String>,
    first: &str,
    second: &str,
) -> BTreeMap<String, (i64, Option<i64>)> {
    let member = |text: &str| {
        let mut parts = text.split(';');
        let name = parts.next().unwrap();
        let name = name
            .strip_prefix('"')
            .and_then(|name| name.strip_suffix('"'));
        let mut of = |key: &str| {
            let (name, digits) = parts.next()?.split_once('=').expect("a parameter");
            assert_eq!(name, key, "{text}");
            Some(digits.parse().expect("an integer"))
        };
        let numbers = (of(first).expect("the first is required"), of(second));
        assert_eq!(parts.next(), None, "{text}");
        (name.expect("a string").to_owned(), numbers)
    };
    let members = field.iter().flat_map(|field| field.split(", "));
    members.map(member).collect()
}

fn one(
    name: &str,
    first: i64,
    second: impl Into<Option<i64>>,
) -> BTreeMap<String, (i64, Option<i64>)> {
    BTreeMap::from([(name.to_owned(), (first, second.into()))])
}

#[actix_web::test]
async fn a_key_is_held_to_its_rate_and_told_how_it_stands() {
    let scene = Scene::new().await;
    let app = scene.app().await;
    let key = scene.key([Limit::new("minute", Rate::per_minute(2))]).await;
    let first = app("/plain", &key).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.state, one("minute", 1, 30));
    assert_eq!(first.policy, one("minute", 2, 60));
    assert_eq!(app("/plain", &key).await.state, one("minute", 0, 60));
    let refused = app("/plain", &key).await;
    // A client that reads either number waits for the same time.
    assert_eq!((refused.status, refused.retry_after), (429, Some(30)));
    assert_eq!(refused.state, one("minute", 0, 30));
    // Just before the time, and then at it.
    scene.clock.advance(Duration::from_millis(29_999));
    let refused = app("/plain", &key).await;
    assert_eq!(refused.retry_after, Some(1));
    assert_eq!(refused.state, one("minute", 0, 1));
    scene.clock.advance(Duration::from_millis(1));
    assert_eq!(app("/plain", &key).await.status, 200);
    assert_eq!(app("/plain", &key).await.status, 429);
    // Another key is not affected.
    let other = scene.key([Limit::new("minute", Rate::per_minute(2))]).await;
    assert_eq!(app("/plain", &other).await.status, 200);
}

#[actix_web::test]
async fn a_key_and_a_route_without_limits_are_told_nothing() {
    let scene = Scene::new().await;
    let app = scene.app().await;
    let key = scene.key([]).await;
    let answer = app("/plain", &key).await;
    assert_eq!(
        (answer.status, answer.state.len(), answer.policy.len()),
        (200, 0, 0)
    );
}

#[actix_web::test]
async fn a_routes_rate_holds_for_each_key_and_only_there() {
    let scene = Scene::new().await;
    let app = scene.app().await;
    let (one_key, other) = (scene.key([]).await, scene.key([]).await);
    for left in [2, 1, 0] {
        let answer = app("/search", &one_key).await;
        assert_eq!(answer.state["search"].0, left);
        assert_eq!(answer.policy["search"], (6, Some(60)));
    }
    assert_eq!(app("/search", &one_key).await.status, 429);
    assert_eq!(app("/search", &other).await.status, 200);
    assert_eq!(app("/plain", &one_key).await.status, 200);
}

/// R-07.
#[actix_web::test]
async fn r07_where_one_of_several_limits_refuses_none_is_charged() {
    let scene = Scene::new().await;
    let app = scene.app().await;
    let limits = [
        Limit::new("wide", Rate::per_minute(100)),
        Limit::new("narrow", Rate::per_minute(1)),
        Limit::new("daily", Quota::per_day(50)),
    ];
    let key = scene.key(limits).await;
    let passed = app("/plain", &key).await;
    assert_eq!(
        (
            passed.status,
            passed.state["wide"].0,
            passed.state["daily"].0
        ),
        (200, 99, 49)
    );
    for _ in 0..5 {
        let refused = app("/plain", &key).await;
        assert_eq!((refused.status, refused.retry_after), (429, Some(60)));
    }
    scene.clock.advance(MINUTE);
    let passed = app("/plain", &key).await;
    // 5 denials did not charge: one more was used, and the whole rate has recovered.
    assert_eq!((passed.status, passed.state["wide"].0), (200, 99));
    assert_eq!(passed.state["daily"].0, 49, "a new day");
}

/// A rate that this process counts is refunded if the store's quota denies.
#[actix_web::test]
async fn r07_a_quota_that_is_used_up_charges_no_rate() {
    let scene = Scene::new().await;
    let app = scene.app().await;
    let limits = [
        Limit::new("minute", Rate::per_minute(5)),
        Limit::new("credits", Quota::lifetime(2)),
    ];
    let key = scene.key(limits).await;
    for _ in 0..2 {
        assert_eq!(app("/plain", &key).await.status, 200);
    }
    for _ in 0..9 {
        let refused = app("/plain", &key).await;
        assert_eq!(
            (refused.status, refused.retry_after),
            (429, None),
            "waiting does not help"
        );
        assert_eq!(refused.state["credits"], (0, None));
        assert_eq!(refused.state["minute"].0, 3, "it was not charged");
    }
    let id = scene.manager.list().await.unwrap().keys[0].id;
    let stands = scene.manager.limits(id).await.unwrap();
    let left: Vec<_> = stands
        .iter()
        .map(|one| (one.name.as_str(), one.remaining))
        .collect();
    assert_eq!(left, [("minute", 3), ("credits", 0)]);
    scene.manager.refill(id, "credits", 1).await.unwrap();
    assert_eq!(app("/plain", &key).await.status, 200);
    assert_eq!(app("/plain", &key).await.status, 429);
}

/// R-11, K-05.
#[actix_web::test]
async fn r11_what_is_refused_for_another_reason_charges_nothing() {
    let scene = Scene::new().await;
    let app = scene.app().await;
    let key = scene.key([Limit::new("credits", Quota::lifetime(3))]).await;
    let id = scene.manager.list().await.unwrap().keys[0].id;
    for _ in 0..5 {
        assert_eq!(app("/admin", &key).await.status, 403);
    }
    scene.manager.disable(id).await.unwrap();
    for _ in 0..5 {
        assert_eq!(app("/plain", &key).await.status, 401);
    }
    scene.manager.enable(id).await.unwrap();
    assert_eq!(app("/plain", &key).await.state["credits"].0, 2);
}

#[actix_web::test]
async fn a_costly_route_takes_as_much_as_it_says() {
    let scene = Scene::new().await;
    let app = scene.app().await;
    let key = scene
        .key([Limit::new("credits", Quota::lifetime(12))])
        .await;
    assert_eq!(app("/costly", &key).await.state["credits"].0, 7);
    assert_eq!(app("/plain", &key).await.state["credits"].0, 6);
    assert_eq!(app("/costly", &key).await.state["credits"].0, 1);
    // Too little is left for it, and a denial does not charge.
    assert_eq!(app("/costly", &key).await.status, 429);
    assert_eq!(app("/plain", &key).await.state["credits"].0, 0);
}

#[actix_web::test]
async fn a_days_and_a_months_end_give_the_quota_anew() {
    let scene = Scene::new().await;
    let app = scene.app().await;
    let limits = [
        Limit::new("daily", Quota::per_day(2)),
        Limit::new("monthly", Quota::per_month(3)),
    ];
    let key = scene.key(limits).await;
    for _ in 0..2 {
        assert_eq!(app("/plain", &key).await.status, 200);
    }
    let refused = app("/plain", &key).await;
    assert_eq!((refused.status, refused.retry_after), (429, Some(60)));
    assert_eq!(
        refused.policy["monthly"],
        (3, None),
        "a month has no fixed length"
    );
    scene.clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(app("/plain", &key).await.status, 429);
    // The first of December.
    scene.clock.advance(Duration::from_millis(1));
    let anew = app("/plain", &key).await;
    assert_eq!((anew.state["daily"].0, anew.state["monthly"].0), (1, 2));
    assert_eq!(anew.state["daily"].1, Some(86_400));
    assert_eq!(anew.state["monthly"].1, Some(31 * 86_400));
}

#[actix_web::test]
async fn a_wall_clock_that_is_moved_an_hour_gives_no_rate_and_no_quota() {
    for hours in [-1, 1] {
        let scene = Scene::new().await;
        // Noon, so that a day does not end.
        scene.clock.advance(MINUTE * 60 * 12);
        let app = scene.app().await;
        let limits = [
            Limit::new("minute", Rate::per_minute(3)),
            Limit::new("daily", Quota::per_day(5)),
        ];
        let key = scene.key(limits).await;
        for _ in 0..3 {
            assert_eq!(app("/plain", &key).await.status, 200);
        }
        scene.clock.step_wall(hours * 3_600_000);
        let refused = app("/plain", &key).await;
        assert_eq!(
            (refused.status, refused.retry_after),
            (429, Some(20)),
            "{hours}"
        );
        scene.clock.advance(MINUTE);
        assert_eq!(app("/plain", &key).await.state["daily"].0, 1, "{hours}");
    }
}

#[actix_web::test]
async fn a_limit_is_changed_while_it_is_used() {
    let scene = Scene::new().await;
    let app = scene.app().await;
    let key = scene.key([Limit::new("credits", Quota::lifetime(2))]).await;
    let id = scene.manager.list().await.unwrap().keys[0].id;
    for _ in 0..2 {
        assert_eq!(app("/plain", &key).await.status, 200);
    }
    assert_eq!(app("/plain", &key).await.status, 429);
    let raised = [Limit::new("credits", Quota::lifetime(5))];
    scene.manager.update(id).limits(raised).await.unwrap();
    assert_eq!(app("/plain", &key).await.state["credits"].0, 2);
    let lowered = [Limit::new("credits", Quota::lifetime(1))];
    scene.manager.update(id).limits(lowered).await.unwrap();
    assert_eq!(app("/plain", &key).await.status, 429);
    scene.manager.update(id).limits([]).await.unwrap();
    let free = app("/plain", &key).await;
    assert_eq!((free.status, free.state.len()), (200, 0));
}

#[actix_web::test]
async fn the_configured_rate_is_for_keys_that_have_no_limits_of_their_own() {
    let config = Config::builder()
        .default_rate_limit("2/minute")
        .build()
        .unwrap();
    let scene = Scene::with(config).await;
    let app = scene.app().await;
    let (bare, own) = (
        scene.key([]).await,
        scene.key([Limit::new("wide", Rate::per_minute(9))]).await,
    );
    assert_eq!(app("/plain", &bare).await.state, one("default", 1, 30));
    assert_eq!(app("/plain", &bare).await.status, 200);
    assert_eq!(app("/plain", &bare).await.status, 429);
    for _ in 0..3 {
        assert_eq!(app("/plain", &own).await.status, 200);
    }
}

/// M-12.
#[actix_web::test]
async fn m12_a_request_that_passes_two_gates_is_charged_once_and_the_higher_cost() {
    let scene = Scene::new().await;
    let manager = scene.manager.clone();
    let app = asking!(
        App::new()
            .configure(move |app| manager.init_app(app))
            .service(
                web::scope("/in")
                    .wrap(RequireApiKey::with(
                        Policy::new().rate_limit(Rate::per_minute(100))
                    ))
                    .route("/plain", web::get().to(plain))
                    .route("/costly", web::get().to(costly))
                    .route("/admin", web::get().to(admin)),
            )
    );
    let limits = [
        Limit::new("credits", Quota::lifetime(20)),
        Limit::new("minute", Rate::per_minute(50)),
    ];
    let key = scene.key(limits).await;
    let once = app("/in/plain", &key).await;
    assert_eq!((once.state["credits"].0, once.state["minute"].0), (19, 49));
    // The scope's own rate is counted under the pattern that the middleware sees.
    assert_eq!(once.state.len(), 3, "{once:?}");
    let higher = app("/in/costly", &key).await;
    assert_eq!(
        (higher.state["credits"].0, higher.state["minute"].0),
        (14, 44)
    );
    // The outer guard's charge is refunded if the inner one denies.
    let before = scene.manager.list().await.unwrap().keys[0].id;
    for _ in 0..3 {
        assert_eq!(app("/in/admin", &key).await.status, 403);
    }
    let back = within(PATIENCE, async || {
        let stands = scene.manager.limits(before).await.unwrap();
        stands[0].remaining == 14 && stands[1].remaining == 44
    });
    assert!(
        back.await.is_some(),
        "{:?}",
        scene.manager.limits(before).await
    );
}

#[api_key_required]
#[api_key_required(cost = 0)]
async fn stacked() -> &'static str {
    "done"
}

#[api_key_required]
#[get("/between")]
#[api_key_required(cost = 0)]
async fn with_a_route_between() -> &'static str {
    "done"
}

#[api_key_required(cost = 0)]
#[api_key_required]
async fn reversed() -> &'static str {
    "done"
}

#[api_key_required(scope = "admin")]
#[api_key_required]
async fn denied_above() -> &'static str {
    "done"
}

#[api_key_required(scope = "admin")]
#[get("/denied-between")]
#[api_key_required]
async fn denied_above_a_route() -> &'static str {
    "done"
}

/// M-12.
#[actix_web::test]
async fn m12_a_request_that_passes_two_attributes_is_charged_once_or_not_at_all() {
    let scene = Scene::new().await;
    let manager = scene.manager.clone();
    let app = asking!(
        App::new()
            .wrap(KeyHeaders)
            .configure(move |app| manager.init_app(app))
            .service((with_a_route_between, denied_above_a_route))
            .route("/stacked", web::get().to(stacked))
            .route("/reversed", web::get().to(reversed))
            .route("/denied", web::get().to(denied_above))
    );
    let credits = || [Limit::new("credits", Quota::lifetime(20))];
    for path in ["/stacked", "/between", "/reversed"] {
        let key = scene.key(credits()).await;
        assert_eq!(app(path, &key).await.state["credits"].0, 19, "{path}");
    }
    for path in ["/denied", "/denied-between"] {
        let created = scene.manager.create("b").limits(credits()).await.unwrap();
        for _ in 0..3 {
            assert_eq!(app(path, created.expose_secret()).await.status, 403);
        }
        let remaining = async || scene.manager.limits(created.id()).await.unwrap()[0].remaining;
        let refunded = within(PATIENCE, async || remaining().await == 20).await;
        assert!(refunded.is_some(), "{path}: {}", remaining().await);
    }
}

/// An app and a scope inside it, each with a rate of its own and without a name.
#[actix_web::test]
async fn of_two_nested_rates_each_holds() {
    let scene = Scene::new().await;
    let manager = scene.manager.clone();
    let strict = Policy::new().rate_limit(Rate::per_minute(2));
    let app = asking!(
        App::new()
            .configure(move |app| manager.init_app(app))
            .wrap(RequireApiKey::with(
                Policy::new().rate_limit(Rate::per_minute(100))
            ))
            .service(
                web::scope("/in")
                    .wrap(RequireApiKey::with(strict))
                    .route("/plain", web::get().to(plain)),
            )
            .route("/plain", web::get().to(plain))
    );
    let key = scene.key([]).await;
    for status in [200, 200, 429, 429] {
        assert_eq!(app("/in/plain", &key).await.status, status);
    }
    for _ in 0..9 {
        assert_eq!(app("/plain", &key).await.status, 200);
    }
}

/// actix routes by the decoded path. An encoded one must not have a rate of its own.
#[actix_web::test]
async fn a_path_that_is_written_otherwise_has_the_same_rate() {
    let scene = Scene::new().await;
    let manager = scene.manager.clone();
    let rate = Policy::new().rate_limit(Rate::per_minute(3));
    let app = asking!(
        App::new()
            .configure(move |app| manager.init_app(app))
            .wrap(RequireApiKey::with(rate))
            .service(web::scope("/in").route("/plain", web::get().to(plain)))
            .route("/plain", web::get().to(plain))
    );
    let key = scene.key([]).await;
    let paths = ["/in/plain", "/%69n/plain", "/in/%70lain", "/%69%6E/pl%61in"];
    for (path, status) in paths.into_iter().zip([200, 200, 200, 429]) {
        assert_eq!(app(path, &key).await.status, status, "{path}");
    }
    // Another route has its own.
    assert_eq!(app("/%70lain", &key).await.state["/plain"].0, 2);
}

/// R-04, with an inner guard that denies a while after the outer one charged: a refund would count
/// for the next day, or for the next part of a rolling window. The control is a window whose part is
/// not over.
#[actix_web::test]
async fn what_was_charged_in_one_period_is_not_given_to_the_next() {
    let hours = |hours| Quota::rolling(3, MINUTE * 60 * hours);
    for (quota, wait, left) in [
        (Quota::per_day(3), 0, 3),
        (hours(1), 2, 2),
        (hours(24), 2, 3),
    ] {
        let scene = Scene::new().await;
        scene.clock.advance(MINUTE * wait);
        let manager = scene.manager.clone();
        let clock = Arc::clone(&scene.clock);
        let app = asking!(
            App::new()
                .configure(move |app| manager.init_app(app))
                .service(
                    web::scope("/late")
                        // actix runs the last `wrap` first.
                        .wrap(actix_web::middleware::from_fn(
                            move |request, next: actix_web::middleware::Next<_>| {
                                clock.advance(MINUTE);
                                next.call(request)
                            }
                        ))
                        .wrap(RequireApiKey::new())
                        .route("/admin", web::get().to(admin)),
                )
                .route("/plain", web::get().to(plain))
        );
        let key = scene.key([Limit::new("quota", quota)]).await;
        assert_eq!(app("/late/admin", &key).await.status, 403);
        let mut passed = 0;
        let whole = within(PATIENCE, async || {
            passed += u32::from(app("/plain", &key).await.status == 200);
            passed == left
        });
        assert!(whole.await.is_some(), "{quota}: {passed}");
        // A refund would happen in the background.
        let refunded = within(Duration::from_millis(300), async || {
            app("/plain", &key).await.status == 200
        });
        assert!(refunded.await.is_none(), "{quota}");
    }
}

#[actix_web::test]
async fn a_quota_that_nears_its_end_is_told_once_at_each_mark() {
    let scene = Scene::new().await;
    let app = scene.app().await;
    let key = scene
        .key([Limit::new("credits", Quota::lifetime(10))])
        .await;
    let mut events = scene.manager.events();
    for _ in 0..15 {
        app("/plain", &key).await;
    }
    scene.manager.shutdown().await.unwrap();
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        if let EventKind::LimitReached { limit, percent, .. } = event.kind {
            told.push((limit, percent));
        }
    }
    assert_eq!(
        told,
        [("credits".to_owned(), 80), ("credits".to_owned(), 100)]
    );
}

#[actix_web::test]
async fn a_handler_sees_how_the_limits_stand() {
    async fn shows(request: actix_web::HttpRequest) -> HttpResponse {
        let limits = request.limit_status();
        HttpResponse::Ok().json(limits)
    }
    async fn handler(
        Guarded((request,), ..): Guarded<Searches, (actix_web::HttpRequest,)>,
    ) -> HttpResponse {
        shows(request).await
    }
    let scene = Scene::new().await;
    let manager = scene.manager.clone();
    let app = App::new()
        .configure(move |app| manager.init_app(app))
        .route("/", web::get().to(handler));
    let app = init_service(app).await;
    let key = scene.key([Limit::new("daily", Quota::per_day(7))]).await;
    let request = TestRequest::get().insert_header(("Authorization", format!("Bearer {key}")));
    let response = call_service(&app, request.to_request()).await;
    assert_eq!(response.status(), StatusCode::OK);
    // Without the middleware the answer does not have headers: it is the handler's.
    assert!(!response.headers().contains_key("ratelimit"));
    let body: serde_json::Value = actix_web::test::read_body_json(response).await;
    assert_eq!(body[0]["name"], "daily");
    assert_eq!(
        (&body[0]["quota"], &body[0]["remaining"]),
        (&"7/day".into(), &6.into())
    );
    assert_eq!(body[1]["rate"], "6/minute burst 3");
}

#[actix_web::test]
async fn limits_that_cannot_be_counted_are_refused_when_they_are_written() {
    let scene = Scene::new().await;
    let twice = [
        Limit::new("a", Rate::per_minute(1)),
        Limit::new("a", Quota::per_day(1)),
    ];
    let many: Vec<_> = (0..17)
        .map(|n| Limit::new(format!("n{n}"), Rate::per_minute(1)))
        .collect();
    for (limits, says) in [
        (twice.to_vec(), "two limits have the name `a`"),
        (
            vec![Limit::new("", Rate::per_minute(1))],
            "the name of a limit is",
        ),
        (
            vec![Limit::new("a\nb", Rate::per_minute(1))],
            "the name of a limit is",
        ),
        (many, "at most 16 limits"),
    ] {
        let error = scene
            .manager
            .create("a")
            .limits(limits.clone())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        let id = scene.manager.create("b").await.unwrap().id();
        let error = scene.manager.update(id).limits(limits).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}
