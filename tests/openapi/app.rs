//! An application with one handler for each kind of option, as its author would document it.

use actix_web::{HttpRequest, HttpResponse, Responder, get, post, route, web};
use apikey_runtime::{ApiKey, ApiKeyExt, ApiKeyManager, Denied, api_key_required};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, IntoResponses, ToSchema};

/// The label of the key.
#[derive(Serialize, IntoResponses, ToSchema)]
#[response(status = 200)]
pub(crate) struct Caller {
    pub(crate) label: Option<String>,
}

pub(crate) fn caller(key: &ApiKey) -> web::Json<Caller> {
    let label = Some(key.label().to_owned());
    web::Json(Caller { label })
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Order {
    item: String,
    quantity: u32,
}

#[derive(Deserialize, IntoParams)]
#[allow(dead_code, reason = "read by serde")]
pub(crate) struct Page {
    page: Option<String>,
}

/// A body that carries the key.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Reading {
    api_key: String,
    celsius: i32,
}

/// A body of the application's own for denied requests.
#[derive(Serialize, ToSchema)]
pub(crate) struct Refusal {
    refused: u16,
}

fn refuse(denied: &Denied, _request: &HttpRequest) -> HttpResponse {
    let refused = denied.status();
    HttpResponse::Unauthorized().json(Refusal { refused })
}

fn second_manager(request: &HttpRequest) -> Option<ApiKeyManager> {
    request.api_key_manager()
}

#[api_key_required]
#[utoipa::path(responses(Caller))]
#[get("/whoami")]
async fn whoami(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(scope = "orders:read")]
#[utoipa::path(responses((status = 200, description = "The orders.", body = Vec<Order>)))]
#[get("/orders")]
async fn list_orders() -> impl Responder {
    let item = "tea".to_owned();
    web::Json([Order { item, quantity: 2 }])
}

#[api_key_required(scope = "orders:write")]
#[utoipa::path(request_body = Order, responses(
    (status = 201, description = "The order.", body = Order),
    (status = 400, description = "The order cannot be read."),
))]
#[post("/orders")]
async fn place_order(order: web::Json<Order>) -> impl Responder {
    HttpResponse::Created().json(order.into_inner())
}

#[api_key_required(scopes = all("reports:read", any("region:eu", "region:us"), not("guest")))]
#[utoipa::path(responses(Caller))]
#[get("/report")]
async fn report(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(scopes = any("orders:read", "orders:search"))]
#[utoipa::path(responses(Caller))]
#[get("/search")]
async fn search(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(scope = "project:{project_id}:read")]
#[utoipa::path(
    params(("project_id" = u32, Path)),
    responses(Caller),
)]
#[get("/projects/{project_id}")]
async fn project(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(location = header("X-API-Key"))]
#[utoipa::path(responses(Caller))]
#[get("/header")]
async fn in_a_header(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(location = header("Authorization", scheme = "ApiKey"))]
#[utoipa::path(responses(Caller))]
#[get("/scheme")]
async fn in_a_scheme(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(location = basic)]
#[utoipa::path(responses(Caller))]
#[get("/basic")]
async fn as_a_user_name(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(location = query("api_key"))]
#[utoipa::path(params(Page), responses(Caller))]
#[get("/query")]
async fn in_the_query(key: ApiKey, _page: web::Query<Page>) -> impl Responder {
    caller(&key)
}

#[api_key_required(location = cookie("api_key"))]
#[utoipa::path(responses(Caller))]
#[get("/cookie")]
async fn in_a_cookie(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(location = websocket)]
#[utoipa::path(responses(Caller))]
#[get("/websocket")]
async fn in_a_websocket(key: ApiKey) -> impl Responder {
    caller(&key)
}

/// The author documents the member that carries the key, since it belongs to the body.
#[api_key_required(location = json("api_key"))]
#[utoipa::path(request_body = Reading, responses(Caller))]
#[post("/json")]
async fn in_json(key: ApiKey, reading: web::Json<Reading>) -> impl Responder {
    let _ = (&reading.api_key, reading.celsius);
    caller(&key)
}

#[api_key_required(location = form("api_key"))]
#[utoipa::path(
    request_body(content = Reading, content_type = "application/x-www-form-urlencoded"),
    responses(Caller),
)]
#[post("/form")]
async fn in_a_form(key: ApiKey, reading: web::Form<Reading>) -> impl Responder {
    let _ = (&reading.api_key, reading.celsius);
    caller(&key)
}

#[api_key_required(locations = [bearer, header("X-API-Key"), query("api_key")])]
#[utoipa::path(params(Page), responses(Caller))]
#[get("/anywhere")]
async fn anywhere(key: ApiKey, _page: web::Query<Page>) -> impl Responder {
    caller(&key)
}

#[api_key_required(optional)]
#[utoipa::path(responses(Caller))]
#[get("/optional")]
async fn with_or_without(key: Option<ApiKey>) -> impl Responder {
    let label = key.map(|key| key.label().to_owned());
    web::Json(Caller { label })
}

#[api_key_required(fresh)]
#[utoipa::path(responses(Caller))]
#[get("/fresh")]
async fn fresh(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(require_https)]
#[utoipa::path(responses(Caller))]
#[get("/https")]
async fn over_https(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(rate_limit = "2/day", cost = 2)]
#[utoipa::path(responses(Caller))]
#[get("/once")]
async fn once_a_day(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(environment = "live")]
#[utoipa::path(responses(Caller))]
#[get("/live")]
async fn live(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(prefix = "adm")]
#[utoipa::path(responses(Caller))]
#[get("/family")]
async fn of_a_family(key: ApiKey) -> impl Responder {
    caller(&key)
}

/// The route has two methods, and keys are accepted for one of them.
#[api_key_required(methods(POST))]
#[utoipa::path(method(post), path = "/posted", responses(Caller))]
#[route("/posted", method = "POST", method = "PUT")]
async fn posted(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[api_key_required(manager = second_manager)]
#[utoipa::path(responses(Caller))]
#[get("/second-manager")]
async fn of_a_second_manager(key: ApiKey) -> impl Responder {
    caller(&key)
}

/// The response that the author wrote stays.
#[api_key_required(on_error = refuse)]
#[utoipa::path(responses(
    Caller,
    (status = 401, description = "Refused.", body = Refusal),
))]
#[get("/own-answer")]
async fn own_answer(key: ApiKey) -> impl Responder {
    caller(&key)
}

/// The security that the author wrote stays.
#[api_key_required]
#[utoipa::path(security(("mine" = ["a"])), responses(Caller))]
#[get("/own-security")]
async fn own_security(key: ApiKey) -> impl Responder {
    caller(&key)
}

/// Two guards, one location: both scopes.
#[api_key_required(scope = "orders:read")]
#[api_key_required(scope = "reports:read")]
#[utoipa::path(responses(Caller))]
#[get("/two-scopes")]
async fn two_scopes(key: ApiKey) -> impl Responder {
    caller(&key)
}

/// Two guards, two locations: both keys.
#[api_key_required(location = header("X-Partner-Key"))]
#[api_key_required(scope = "orders:read")]
#[utoipa::path(responses(Caller))]
#[get("/two-keys")]
async fn two_keys(key: ApiKey) -> impl Responder {
    caller(&key)
}

/// Guarded by the middleware of its scope.
#[utoipa::path(responses(Caller))]
#[get("/users")]
async fn users(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[utoipa::path(responses((status = 200, description = "Open to all.", body = str)))]
#[get("/open")]
async fn open() -> impl Responder {
    "open"
}
