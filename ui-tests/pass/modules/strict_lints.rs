//! The expansion causes no warnings.
//!
//! `unreachable_pub` is tested in `../forbidden_lints.rs`, because the routing attributes of actix-web
//! cause it on every `pub` handler.

#![deny(
    warnings,
    dead_code,
    missing_copy_implementations,
    missing_debug_implementations,
    missing_docs,
    single_use_lifetimes,
    trivial_casts,
    unnameable_types,
    unused_lifetimes,
    unused_qualifications
)]

use actix_web::{App, Responder, get, web};
use apikey_runtime::{ApiKey, api_key_required};

/// A handler.
#[get("/")]
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

pub(super) fn main() {
    let _ = App::new()
        .service(routed)
        .route("/open", web::get().to(open))
        .route("/public", web::get().to(inside::public))
        .route("/crate", web::get().to(inside::crate_wide))
        .route("/upward", web::get().to(inside::upward));
}
