//! Guards above and below `#[utoipa::path]` wherever a handler can stand, and the order of checks.

#![allow(dead_code)]

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, get, routes, scope, test, web};
use apikey_runtime::openapi::ApiKeySecurity;
use apikey_runtime::{Denied, api_key_required, api_key_required as admin};
use serde_json::json;
use utoipa::OpenApi;

/// A crate that re-exports the runtime without the attribute.
mod reexport {
    pub use apikey_runtime::__private;
}

#[api_key_required(scope = "routes")]
#[utoipa::path]
#[routes]
#[get("/routes")]
#[get("/more/routes")]
#[post("/routes")]
async fn several(_body: String) -> &'static str {
    "ok"
}

#[utoipa::path(post, path = "/routes")]
#[routes]
#[get("/below/routes")]
#[post("/below/routes")]
#[api_key_required(scope = "routes")]
async fn several_below(_body: String) -> &'static str {
    "ok"
}

#[scope("/scoped")]
mod scoped {
    use actix_web::get;
    use apikey_runtime::api_key_required;

    #[api_key_required(scope = "scoped")]
    #[utoipa::path]
    #[get("/above")]
    pub async fn scoped_above() -> &'static str {
        "ok"
    }

    #[utoipa::path]
    #[get("/below")]
    #[api_key_required(scope = "scoped")]
    pub async fn scoped_below() -> &'static str {
        "ok"
    }
}

macro_rules! handlers {
    ($($(#[$attribute:meta])* $name:ident: $path:literal, $scope:expr;)*) => {$(
        $(#[$attribute])*
        #[api_key_required(scope = "made")]
        #[utoipa::path(get, path = $path, operation_id = concat!("made-", $path))]
        #[api_key_required(scope = $scope)]
        async fn $name(_body: String) -> &'static str {
            "ok"
        }
    )*};
}

handlers! {
    /// Docs.
    made: "/made", "one";
    made_too: "/made/too", "two";
}

macro_rules! below {
    ($name:ident, $path:literal, $scope:literal) => {
        #[utoipa::path(operation_id = concat!("below-", $path))]
        #[get($path)]
        #[api_key_required(scope = $scope)]
        async fn $name(_body: String) -> &'static str {
            "ok"
        }
    };
}

below!(made_below, "/made/below", "below");

macro_rules! guarded {
    ($item:item) => {
        #[api_key_required(scope = "item")]
        $item
    };
}

guarded! {
    /// Docs.
    #[utoipa::path(get, path = "/item")]
    pub(crate) async fn item(_body: String) -> &'static str {
        "ok"
    }
}

#[api_key_required(scope = "conditional")]
#[cfg_attr(
    all(),
    allow(unused),
    utoipa::path(get, path = "/conditional"),
    get("/conditional")
)]
#[cfg(all())]
async fn conditional() -> &'static str {
    "ok"
}

#[cfg_attr(all(), utoipa::path)]
#[get("/conditional/below")]
#[api_key_required(scope = "conditional")]
async fn conditional_below() -> &'static str {
    "ok"
}

#[api_key_required(scope = "absent")]
#[cfg(any())]
#[utoipa::path(get, path = "/absent")]
#[cfg(any())]
async fn absent() -> &'static str {
    "ok"
}

#[api_key_required(scope = "renamed", crate = crate::reexport)]
#[utoipa::path]
#[get("/renamed")]
async fn renamed_crate() -> &'static str {
    "ok"
}

#[utoipa::path]
#[get("/renamed/below")]
#[api_key_required(scope = "renamed", crate = crate::reexport)]
async fn renamed_crate_below() -> &'static str {
    "ok"
}

fn lowest(_denied: &Denied, _request: &HttpRequest) -> HttpResponse {
    HttpResponse::build(StatusCode::IM_A_TEAPOT).finish()
}

fn topmost(_denied: &Denied, _request: &HttpRequest) -> HttpResponse {
    HttpResponse::build(StatusCode::PAYMENT_REQUIRED).finish()
}

#[api_key_required(scope = "top", on_error = topmost)]
#[utoipa::path]
#[get("/order")]
#[api_key_required(scope = "low", on_error = lowest)]
async fn order() -> &'static str {
    "ok"
}

#[admin(scope = "top", on_error = topmost)]
#[api_key_required(scope = "low", on_error = lowest)]
#[utoipa::path]
#[get("/order/stacked")]
async fn stacked() -> &'static str {
    "ok"
}

#[api_key_required(scope = "top", on_error = topmost)]
#[admin(scope = "low", on_error = lowest)]
#[utoipa::path]
#[get("/order/alias")]
async fn alias() -> &'static str {
    "ok"
}

#[api_key_required(scope = "top", on_error = topmost)]
#[utoipa::path]
#[get("/order/alias/below")]
#[admin(scope = "low", on_error = lowest)]
async fn alias_below() -> &'static str {
    "ok"
}

struct Handlers;

impl Handlers {
    #[api_key_required]
    async fn associated(_body: String) -> &'static str {
        "ok"
    }
}

static API_KEYS: ApiKeySecurity = ApiKeySecurity::new();

#[derive(OpenApi)]
#[openapi(
    paths(
        several,
        several_below,
        scoped::scoped_above,
        scoped::scoped_below,
        made,
        made_too,
        made_below,
        item,
        conditional,
        conditional_below,
        renamed_crate,
        renamed_crate_below,
        order,
        stacked,
        alias,
        alias_below
    ),
    modifiers(&API_KEYS)
)]
struct Api;

/// Handlers in a function, called as others are.
fn in_function() -> serde_json::Value {
    #[api_key_required(scope = "inner")]
    #[utoipa::path(get, path = "/inner/above")]
    async fn inner_above() -> &'static str {
        "ok"
    }

    #[utoipa::path]
    #[get("/inner/below")]
    #[api_key_required(scope = "inner")]
    async fn inner_below() -> &'static str {
        "ok"
    }

    #[derive(OpenApi)]
    #[openapi(paths(inner_above, inner_below), modifiers(&API_KEYS))]
    struct Inner;

    let _ = App::new()
        .route("/", web::get().to(inner_above))
        .service(inner_below);
    serde_json::to_value(Inner::openapi()).unwrap()
}

fn main() {
    let inner = in_function();
    for path in ["/inner/above", "/inner/below"] {
        let security = &inner["paths"][path]["get"]["security"];
        assert_eq!(security, &json!([{ "api_key": ["inner"] }]), "{path}");
    }
    check_documents();
    check_order();
}

fn check_documents() {
    let document = serde_json::to_value(Api::openapi()).unwrap();
    let security = |path: &str, method: &str| document["paths"][path][method]["security"].clone();
    for (method, path, scopes) in [
        ("get", "/routes", &["routes"][..]),
        ("post", "/routes", &["routes"]),
        ("get", "/scoped/above", &["scoped"]),
        ("get", "/scoped/below", &["scoped"]),
        ("get", "/made", &["made", "one"]),
        ("get", "/made/too", &["made", "two"]),
        ("get", "/made/below", &["below"]),
        ("get", "/item", &["item"]),
        ("get", "/conditional", &["conditional"]),
        ("get", "/conditional/below", &["conditional"]),
        ("get", "/renamed", &["renamed"]),
        ("get", "/renamed/below", &["renamed"]),
        ("get", "/order", &["low", "top"]),
        ("get", "/order/stacked", &["low", "top"]),
        ("get", "/order/alias", &["top", "low"]),
        ("get", "/order/alias/below", &["top", "low"]),
    ] {
        let mut expected: Vec<_> = scopes.to_vec();
        let security = security(path, method);
        let mut found: Vec<&str> = security[0]["api_key"]
            .as_array()
            .unwrap_or_else(|| panic!("{method} {path}: {security}"))
            .iter()
            .filter_map(|scope| scope.as_str())
            .collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{method} {path}");
    }
}

fn check_order() {
    actix_web::rt::System::new().block_on(async {
        let app = App::new()
            .service(order)
            .service(stacked)
            .service(alias)
            .service(alias_below)
            .route("/", web::get().to(Handlers::associated));
        let app = test::init_service(app).await;
        for path in [
            "/order",
            "/order/stacked",
            "/order/alias",
            "/order/alias/below",
        ] {
            let request = test::TestRequest::get().uri(path).to_request();
            let response = test::call_service(&app, request).await;
            assert_eq!(response.status(), StatusCode::IM_A_TEAPOT, "{path}");
        }
    });
}
