//! Every option in every form.

use actix_web::{App, HttpRequest, HttpResponse, web};
use apikey_runtime::{ApiKeyManager, Denied, Rate, api_key_required};

mod permissions {
    pub const READ: &str = "orders:read";
    pub struct Orders;
    impl Orders {
        pub const WRITE: &'static str = "orders:write";
    }
    pub trait Named {
        const NAME: &'static str;
    }
    impl Named for Orders {
        const NAME: &'static str = "orders:{id}:name";
    }
}

const LOCAL: &str = concat!("a", ":", "b");

#[api_key_required(scope = "orders:read")]
async fn scope() -> &'static str {
    "ok"
}

#[api_key_required(scope = r#"project:{project_id}:read"#)]
async fn template(_id: web::Path<String>) -> &'static str {
    "ok"
}

#[api_key_required(scope = permissions::READ)]
async fn scope_const() -> &'static str {
    "ok"
}

#[api_key_required(scope = <permissions::Orders as permissions::Named>::NAME)]
async fn scope_of_a_trait() -> &'static str {
    "ok"
}

#[api_key_required(scopes = all("a", any("b", permissions::Orders::WRITE, LOCAL), not(any("c", "d"))))]
async fn scopes() -> &'static str {
    "ok"
}

#[api_key_required(scopes = "a")]
async fn scopes_of_one() -> &'static str {
    "ok"
}

#[api_key_required(scopes = not(LOCAL))]
async fn scopes_not() -> &'static str {
    "ok"
}

#[api_key_required(scopes = all("a",), locations = [bearer,], fresh,)]
async fn trailing_commas() -> &'static str {
    "ok"
}

#[api_key_required(location = bearer)]
async fn bearer() -> &'static str {
    "ok"
}

#[api_key_required(location = header("X-API-Key"))]
async fn header() -> &'static str {
    "ok"
}

#[api_key_required(location = header("Authorization", scheme = "ApiKey"))]
async fn header_with_scheme() -> &'static str {
    "ok"
}

#[api_key_required(
    locations = [bearer, header("X-API-Key"), header("Authorization", scheme = "ApiKey")],
)]
async fn locations() -> &'static str {
    "ok"
}

#[api_key_required(location = basic)]
async fn basic() -> &'static str {
    "ok"
}

#[api_key_required(location = query("api_key"))]
async fn query() -> &'static str {
    "ok"
}

#[api_key_required(location = cookie("__Host-key.1"))]
async fn cookie() -> &'static str {
    "ok"
}

#[api_key_required(location = json("apiKey"))]
async fn json() -> &'static str {
    "ok"
}

#[api_key_required(location = form("api-key"))]
async fn form() -> &'static str {
    "ok"
}

#[api_key_required(
    locations = [
        bearer, basic, websocket, header("Authorization", scheme = "ApiKey"), header("X-API-Key"),
        query("k"), query("K"), cookie("k"), json("k"), form("k"), json("key"), form("key"),
    ],
)]
async fn every_location() -> &'static str {
    "ok"
}

#[api_key_required(methods(POST))]
async fn method() -> &'static str {
    "ok"
}

#[api_key_required(methods(GET, "PUT", PROPFIND, "M-SEARCH", "PSOT",))]
async fn methods() -> &'static str {
    "ok"
}

#[api_key_required(require_https)]
async fn https() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute")]
async fn rate() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "5/10s burst 7", on_limiter_down = "deny")]
async fn rate_with_burst() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "1000000/366d", burst = 1_000_000, cost = 1_000_000, on_limiter_down = "local")]
async fn largest_rate() -> &'static str {
    "ok"
}

mod rates {
    use super::Rate;

    pub const SEARCH: Rate = Rate::per_minute(100);
    pub struct Rates;
    impl Rates {
        pub const SLOW: Rate = Rate::per_hour(5).with_burst(2);
    }
}

#[api_key_required(rate_limit = rates::SEARCH)]
async fn rate_const() -> &'static str {
    "ok"
}

#[api_key_required(cost = 2, burst = 0x20, rate_limit = <rates::Rates>::SLOW)]
async fn rate_const_with_burst() -> &'static str {
    "ok"
}

#[api_key_required(cost = 0)]
async fn free() -> &'static str {
    "ok"
}

#[api_key_required(on_limiter_down = "local")]
async fn local() -> &'static str {
    "ok"
}

#[api_key_required(optional, fresh, prefix = "my_api", environment = "eu-west_1")]
async fn families() -> &'static str {
    "ok"
}

fn manager(request: &HttpRequest) -> Option<ApiKeyManager> {
    request.app_data::<ApiKeyManager>().cloned()
}

fn generic_manager<A, B>(_: &HttpRequest) -> Option<ApiKeyManager> {
    None
}

#[api_key_required(manager = manager)]
async fn with_manager() -> &'static str {
    "ok"
}

#[api_key_required(manager = self::generic_manager::<Vec<u8>, Option<str_alias::S>>, fresh)]
async fn with_generic_manager() -> &'static str {
    "ok"
}

mod str_alias {
    pub type S = String;
}

mod answers {
    use super::*;

    pub struct Answers;

    impl Answers {
        pub fn refused(_: &Denied, _: &HttpRequest) -> HttpResponse {
            HttpResponse::ImATeapot().finish()
        }
    }

    pub fn of_one_lifetime<'a>(_: &'a Denied, _: &'a HttpRequest) -> HttpResponse {
        HttpResponse::ImATeapot().finish()
    }
}

#[api_key_required(on_error = answers::Answers::refused)]
async fn with_on_error() -> &'static str {
    "ok"
}

fn manager_of<'a>(request: &'a HttpRequest) -> Option<ApiKeyManager>
{
    manager(request)
}

#[api_key_required(on_error = answers::of_one_lifetime, manager = manager_of)]
async fn with_lifetimes() -> &'static str {
    "ok"
}

pub(super) fn main() {
    let _ = App::new()
        .route("/1", web::get().to(scope))
        .route("/2", web::get().to(template))
        .route("/3", web::get().to(scope_const))
        .route("/4", web::get().to(scope_of_a_trait))
        .route("/5", web::get().to(scopes))
        .route("/6", web::get().to(scopes_of_one))
        .route("/7", web::get().to(scopes_not))
        .route("/8", web::get().to(trailing_commas))
        .route("/9", web::get().to(bearer))
        .route("/10", web::get().to(header))
        .route("/11", web::get().to(header_with_scheme))
        .route("/12", web::get().to(locations))
        .route("/13", web::get().to(families))
        .route("/14", web::get().to(with_manager))
        .route("/15", web::get().to(with_generic_manager))
        .route("/16", web::get().to(with_on_error))
        .route("/with_lifetimes", web::get().to(with_lifetimes))
        .route("/17", web::get().to(basic))
        .route("/18", web::get().to(query))
        .route("/19", web::get().to(cookie))
        .route("/20", web::get().to(json))
        .route("/21", web::get().to(form))
        .route("/22", web::get().to(every_location))
        .route("/23", web::get().to(method))
        .route("/24", web::get().to(methods))
        .route("/25", web::get().to(https))
        .route("/26", web::get().to(rate))
        .route("/27", web::get().to(rate_with_burst))
        .route("/28", web::get().to(largest_rate))
        .route("/29", web::get().to(rate_const))
        .route("/30", web::get().to(rate_const_with_burst))
        .route("/31", web::get().to(free))
        .route("/32", web::get().to(local));
}
