//! Guarded handlers under strict lints of clippy: the generated code causes none of them.
//!
//! `cargo clippy` checks this file when `.ci/run` runs it on all targets. The last handler is a
//! control: it causes a lint, so its `expect` fails if the lint is not checked.
#![deny(
    clippy::pedantic,
    clippy::nursery,
    clippy::absolute_paths,
    clippy::default_numeric_fallback,
    clippy::exhaustive_structs,
    clippy::min_ident_chars,
    clippy::missing_docs_in_private_items,
    clippy::missing_inline_in_public_items,
    clippy::pattern_type_mismatch,
    clippy::shadow_unrelated,
    clippy::single_char_lifetime_names
)]

use std::future::ready;

use actix_web::{App, HttpRequest, HttpResponse, web};
use apikey_runtime::{ApiKey, ApiKeyManager, Denied, Rate, api_key_required};

/// A rate in a `const`.
const RATE: Rate = Rate::per_minute(10);

/// A manager of the application's own.
const fn own_manager(_request: &HttpRequest) -> Option<ApiKeyManager> {
    None
}

/// Responses of the application's own.
fn own_error(_denied: &Denied, _request: &HttpRequest) -> HttpResponse {
    HttpResponse::Unauthorized().finish()
}

/// Without options.
#[api_key_required]
async fn plain(_key: ApiKey, body: web::Bytes) -> web::Bytes {
    ready(()).await;
    body
}

/// With every option.
#[api_key_required(
    scopes = all("a", any("b", not("c"))),
    locations = [bearer, header("X-API-Key"), header("Authorization", scheme = "ApiKey")],
    methods(POST, PUT), optional, fresh, require_https, prefix = "adm", environment = "live",
    rate_limit = RATE, burst = 20, cost = 5, on_limiter_down = "local",
    manager = own_manager, on_error = own_error,
)]
async fn every_option(_key: Option<ApiKey>, web::Json(body): web::Json<String>) -> String {
    ready(()).await;
    body
}

/// With a lint attribute on an argument, which becomes a `let`.
#[api_key_required(scope = "orders:read")]
async fn lint_of_an_argument(#[expect(unused_variables)] body: String) -> &'static str {
    ready(()).await;
    "ok"
}

/// With two guards.
#[api_key_required(location = query("k"))]
#[api_key_required(fresh)]
async fn guarded_twice(body: String) -> String {
    ready(()).await;
    body
}

/// Control: a request is not `Send`, with a guard or without.
#[expect(clippy::future_not_send)]
#[api_key_required]
async fn not_send(request: HttpRequest) -> String {
    ready(()).await;
    request.path().to_owned()
}

#[test]
fn the_handlers_can_be_routed() {
    let _app = App::new()
        .route("/1", web::get().to(plain))
        .route("/2", web::get().to(every_option))
        .route("/3", web::get().to(lint_of_an_argument))
        .route("/4", web::get().to(guarded_twice))
        .route("/5", web::get().to(not_send));
}
