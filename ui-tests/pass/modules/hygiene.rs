//! Names in the user's code do not affect the expansion: M-07.

#![allow(non_camel_case_types, dead_code, unused)]

use apikey_runtime::api_key_required;

mod actix_web {}
mod std {}
mod core {}
mod apikey_runtime_shadow {}

struct Result;
struct Option;
struct Some;
struct None;
struct Ok;
struct Err;
struct Box;
struct String;
struct Send;
struct Sized;
struct Guarded;
struct Policy;
struct RoutePolicy;
struct DefaultPolicy;
struct Location;
struct ScopeExpr;
struct Default;
struct Fn;
struct From;
struct Into;
struct Rate;
struct Duration;
struct LimiterFallback;
struct str;
struct u32;
struct u64;
struct u8;
struct bool;

macro_rules! panic {
    () => {
        compile_error!("shadowed")
    };
}

macro_rules! concat {
    ($($any:tt)*) => {
        compile_error!("shadowed")
    };
}

macro_rules! module_path {
    () => {
        compile_error!("shadowed")
    };
}

#[api_key_required]
async fn plain(key: ::apikey_runtime::ApiKey) -> &'static ::core::primitive::str {
    "plain"
}

#[api_key_required(
    scopes = all("a", not("b"), READ),
    locations = [bearer, header("X-API-Key")],
    rate_limit = "100/minute", burst = 20, cost = 5, on_limiter_down = "local",
    optional, fresh, prefix = "adm", environment = "live", manager = manager, on_error = on_error,
)]
async fn every_option(
    key: ::core::option::Option<::apikey_runtime::ApiKey>,
    #[allow(unused)] __apikey_argument_1: ::std::string::String,
) -> ::std::string::String {
    __apikey_argument_1
}

const READ: &::core::primitive::str = "read";

fn manager(
    _: &::actix_web::HttpRequest,
) -> ::core::option::Option<::apikey_runtime::ApiKeyManager> {
    ::core::option::Option::None
}

fn on_error(
    _: &::apikey_runtime::Denied,
    _: &::actix_web::HttpRequest,
) -> ::actix_web::HttpResponse {
    ::actix_web::HttpResponse::Ok().finish()
}

mod inside {
    #[::apikey_runtime::api_key_required(scope = super::READ)]
    pub(super) async fn handler() -> &'static ::core::primitive::str {
        "inside"
    }
}

pub(super) fn main() {
    let _ = ::actix_web::App::new()
        .route("/1", ::actix_web::web::get().to(plain))
        .route("/2", ::actix_web::web::get().to(every_option))
        .route("/3", ::actix_web::web::get().to(inside::handler));
}
