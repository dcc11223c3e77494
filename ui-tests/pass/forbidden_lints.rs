//! The expansion sets no lint levels, which would be an error under `forbid`.
//!
//! The routing attributes of actix-web do, so they are tested in `modules/strict_lints.rs`.

#![deny(warnings)]
#![forbid(
    dead_code,
    missing_copy_implementations,
    missing_debug_implementations,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    private_interfaces,
    single_use_lifetimes,
    trivial_casts,
    unnameable_types,
    unreachable_pub,
    unsafe_code,
    unused_lifetimes,
    unused_qualifications
)]

use actix_web::{App, Responder, web};
use apikey_runtime::{ApiKey, api_key_required};

/// A handler.
#[api_key_required(scope = "orders:read")]
pub async fn routed(key: ApiKey) -> impl Responder {
    let _ = key;
    "routed"
}

/// A handler.
#[api_key_required(scopes = any("a", "b"), location = header("X-API-Key"), optional)]
pub async fn open(_key: Option<ApiKey>) -> impl Responder {
    "open"
}

/// A module.
pub mod inside {
    use super::*;

    /// A handler.
    #[api_key_required(fresh)]
    pub async fn public(_body: String) -> String {
        String::new()
    }

    #[api_key_required(fresh)]
    pub(crate) async fn crate_wide() -> String {
        String::new()
    }

    #[api_key_required(fresh)]
    pub(super) async fn upward(body: String) -> impl Responder {
        #[api_key_required(fresh)]
        async fn local() -> impl Responder {
            "local"
        }
        drop(web::get().to(local));
        body
    }
}

fn main() {
    let _ = App::new()
        .route("/routed", web::get().to(routed))
        .route("/open", web::get().to(open))
        .route("/public", web::get().to(inside::public))
        .route("/crate", web::get().to(inside::crate_wide))
        .route("/upward", web::get().to(inside::upward));
}
