//! The list of guarded handlers. Each handler here stands in another place.

use actix_web::{App, get, route, routes, scope, web};
use apikey_runtime::routes::GuardedRoute;
use apikey_runtime::{ApiKey, Rate, api_key_required};
use serde_json::{Value, json};

extern crate apikey_runtime as keys;

/// Returns the listed handlers of this name in this module, or in one inside.
fn found(path: &str) -> Vec<GuardedRoute> {
    let path = format!("{}::{path}", module_path!());
    let mut routes = apikey_runtime::routes();
    routes.retain(|route| route.handler == path);
    routes
}

fn one(path: &str) -> GuardedRoute {
    let mut found = found(path);
    assert_eq!(found.len(), 1, "{path}");
    found.remove(0)
}

/// Returns the patterns of a handler, with their methods.
fn patterns(route: &GuardedRoute) -> Vec<String> {
    let patterns = route.patterns.iter();
    patterns
        .map(|one| format!("{} {}", one.method, one.pattern))
        .collect()
}

/// Returns what each guard of a handler demands of scopes.
fn scopes(route: &GuardedRoute) -> Vec<&str> {
    let demands = route.demands.iter();
    demands
        .map(|demands| demands.scopes.as_deref().unwrap_or("-"))
        .collect()
}

#[api_key_required]
async fn plain(key: ApiKey) -> String {
    key.label().to_owned()
}

const RATE: Rate = Rate::per_minute(10);

#[get("/orders/{id}")]
#[api_key_required(
    scopes = all("orders:read", not("trial")),
    locations = [bearer, header("X-API-Key"), query("k")],
    methods(GET), optional, fresh, require_https, prefix = "adm", environment = "live",
    rate_limit = RATE, burst = 20, cost = 5, on_limiter_down = "local",
)]
async fn every_option() -> &'static str {
    "all"
}
const EVERY_OPTION_LINE: u32 = line!() - 3;

#[test]
fn a_handler_is_listed_with_its_place_and_its_demands() {
    let route = one("every_option");
    assert_eq!(
        serde_json::to_value(&route).unwrap(),
        json!({
            "handler": "routes::list::every_option",
            "file": file!(),
            "line": EVERY_OPTION_LINE,
            "patterns": [{ "method": "GET", "pattern": "/orders/{id}" }],
            "demands": [{
                "scopes": "all(orders:read, not(trial))",
                "locations": ["bearer", "header(\"x-api-key\")", "query(\"k\")"],
                "methods": ["GET"],
                "optional": true, "fresh": true, "require_https": true,
                "prefix": "adm", "environment": "live",
                "rate_limit": "10/minute burst 20", "cost": 5, "on_limiter_down": "local",
            }],
        })
    );
    let plain = serde_json::to_value(one("plain")).unwrap();
    assert_eq!(plain["patterns"], json!([]));
    assert_eq!(
        plain["demands"],
        json!([{
            "scopes": Value::Null, "locations": [], "methods": [], "optional": false, "fresh": false,
            "require_https": false, "prefix": Value::Null, "environment": Value::Null,
            "rate_limit": Value::Null, "cost": 1, "on_limiter_down": "deny",
        }])
    );
}

#[api_key_required(scope = "below")]
#[get("/below")]
async fn below() -> &'static str {
    "below"
}

#[routes]
#[get("/a")]
#[post("/b/{c}")]
#[api_key_required]
async fn several() -> &'static str {
    "several"
}

#[api_key_required]
#[routes]
#[get("/a")]
#[post("/b/{c}")]
async fn several_below() -> &'static str {
    "several"
}

#[route("/many", method = "PUT", name = "many", method = "REPORT")]
#[api_key_required]
async fn many() -> &'static str {
    "many"
}

#[scope("/v{version}")]
mod versioned {
    use super::*;

    #[actix_web::get("/list")]
    #[api_key_required]
    pub async fn list() -> &'static str {
        "list"
    }
}

#[test]
fn a_visible_routing_attribute_gives_the_patterns() {
    assert_eq!(patterns(&one("below")), ["GET /below"]);
    assert_eq!(patterns(&one("several")), ["GET /a", "POST /b/{c}"]);
    assert_eq!(patterns(&one("several_below")), ["GET /a", "POST /b/{c}"]);
    assert_eq!(patterns(&one("many")), ["PUT /many", "REPORT /many"]);
    assert_eq!(patterns(&one("versioned::list")), ["GET /v{version}/list"]);
}

#[api_key_required(scope = "upper")]
#[api_key_required(scope = "lower")]
async fn twice() -> &'static str {
    "twice"
}

#[api_key_required(scope = "upper")]
#[get("/between")]
#[api_key_required(scope = "lower")]
async fn around_a_route() -> &'static str {
    "between"
}

use apikey_runtime::api_key_required as admin;

#[admin(scope = "upper")]
#[get("/renamed")]
#[admin(scope = "middle")]
#[api_key_required(scope = "lower")]
async fn thrice() -> &'static str {
    "thrice"
}

#[test]
fn each_guard_of_a_handler_is_listed_in_the_order_of_the_checks() {
    assert_eq!(scopes(&one("twice")), ["lower", "upper"]);
    let between = one("around_a_route");
    assert_eq!(scopes(&between), ["lower", "upper"]);
    assert_eq!(patterns(&between), ["GET /between"]);
    let of_three = one("thrice");
    assert_eq!(scopes(&of_three), ["lower", "middle", "upper"]);
    assert_eq!(patterns(&of_three), ["GET /renamed"]);
}

struct Handlers;

impl Handlers {
    #[api_key_required]
    async fn associated(_body: String) -> &'static str {
        "associated"
    }
}

struct Others<T>(T);

impl<T: Send + 'static> Others<T> {
    #[api_key_required]
    async fn associated(_body: String) -> &'static str {
        let _ = std::any::type_name::<T>();
        "associated"
    }
}

/// Never called with two types: a generic handler is listed once.
#[api_key_required(scope = "generic")]
async fn generic<T: Default + ToString + 'static>() -> String {
    T::default().to_string()
}

fn a_local_handler() -> actix_web::Route {
    #[api_key_required(scope = "one")]
    async fn local() -> &'static str {
        "one"
    }
    web::get().to(local)
}

fn another_local_handler() -> actix_web::Route {
    #[keys::api_key_required(scope = "two", crate = keys)]
    async fn local() -> &'static str {
        "two"
    }
    web::get().to(local)
}

#[test]
fn handlers_in_functions_and_in_impl_blocks_are_listed() {
    assert_eq!(found("associated").len(), 2);
    assert_eq!(scopes(&one("generic")), ["generic"]);
    let local = found("local");
    let local: Vec<_> = local.iter().map(scopes).collect();
    assert_eq!(local, [["one"], ["two"]]);
}

macro_rules! lists {
    ($($module:ident)*) => {$(
        mod $module {
            use super::*;

            #[get("/list")]
            #[api_key_required(scope = "list:read")]
            #[allow(unused)]
            pub(super) async fn list() -> &'static str {
                stringify!($module)
            }
        }
    )*};
}

lists!(m01 m02 m03 m04 m05 m06 m07 m08 m09 m10 m11 m12 m13 m14 m15 m16 m17 m18 m19 m20);

macro_rules! handlers {
    ($($name:ident $path:literal $scope:literal)*) => {$(
        #[api_key_required(scope = $scope)]
        #[get($path)]
        async fn $name() -> &'static str {
            $path
        }
    )*};
}

handlers! {
    made_first "/made/first" "first"
    made_second "/made/second" "second"
}

macro_rules! functions {
    ($($function:ident)*) => {$(
        fn $function() -> actix_web::Route {
            #[api_key_required(scope = "outer")]
            #[api_key_required(scope = "inner")]
            async fn made_in_a_function() -> &'static str {
                "made"
            }
            web::get().to(made_in_a_function)
        }
    )*};
}

functions!(first_function second_function third_function);

#[test]
fn handlers_that_macros_make_are_listed_each_by_itself() {
    let routes = apikey_runtime::routes();
    let is_list = |route: &&GuardedRoute| {
        let module = route.handler.strip_prefix("routes::list::m");
        module.is_some_and(|rest| rest.ends_with("::list") && rest.len() == 8)
    };
    let lists: Vec<_> = routes.iter().filter(is_list).collect();
    assert_eq!(lists.len(), 20);
    assert!(lists.iter().all(|route| scopes(route) == ["list:read"]));
    assert!(lists.is_sorted_by_key(|route| &route.handler));

    let (first, second) = (one("made_first"), one("made_second"));
    assert_eq!(patterns(&first), ["GET /made/first"]);
    assert_eq!(patterns(&second), ["GET /made/second"]);
    assert_eq!(scopes(&second), ["second"]);
    assert_eq!(first.line + 1, second.line);

    let made = found("made_in_a_function");
    assert_eq!(made.len(), 3);
    assert!(made.iter().all(|route| scopes(route) == ["inner", "outer"]));
}

/// Handlers that register themselves are handlers like others.
#[actix_web::test]
async fn the_handlers_can_be_routed() {
    let manager = apikey_test_support::manager().await;
    let app = App::new()
        .configure(|app| manager.init_app(app))
        .service(every_option)
        .service(below)
        .service(several)
        .service(several_below)
        .service(many)
        .service(versioned::list)
        .service(around_a_route)
        .service(thrice)
        .service(m01::list)
        .service(made_first)
        .service(made_second)
        .route("/plain", web::get().to(plain))
        .route("/twice", web::get().to(twice))
        .route("/1", web::get().to(Handlers::associated))
        .route("/2", web::get().to(Others::<u8>::associated))
        .route("/3", web::get().to(generic::<u8>))
        .route("/4", web::get().to(generic::<u16>))
        .route("/5", a_local_handler())
        .route("/6", another_local_handler())
        .route("/7", first_function())
        .route("/8", second_function())
        .route("/9", third_function());
    let _ = Others(0_u8).0;
    let app = actix_web::test::init_service(app).await;
    // `optional` allows requests without a key.
    apikey_runtime::testing::audit_routes(&app)
        .open(["GET /orders/{id}"])
        .await
        .unwrap();
}
