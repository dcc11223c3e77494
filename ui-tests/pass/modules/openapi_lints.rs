//! A documented guard causes no warnings, and no unsafe code that an application forbids.

#![forbid(unsafe_code)]
#![deny(
    warnings,
    single_use_lifetimes,
    trivial_casts,
    unnameable_types,
    unused_lifetimes,
    unused_qualifications
)]

use actix_web::{App, get, web};
use apikey_runtime::{ApiKey, api_key_required};

mod documented {
    use super::*;

    #[utoipa::path]
    #[get("/below")]
    #[api_key_required(scope = "a")]
    pub(super) async fn below(#[allow(unused_variables)] key: ApiKey) -> &'static str {
        "below"
    }

    #[api_key_required(scope = "a")]
    #[utoipa::path]
    #[get("/above")]
    pub(super) async fn above(#[expect(unused_variables)] key: ApiKey) -> &'static str {
        #![allow(unused_mut)]
        let mut text = "above";
        text
    }

    #[utoipa::path(get, path = "/generic/{id}")]
    #[api_key_required]
    pub(super) async fn generic<T>(_id: web::Path<T>) -> &'static str
    where
        T: serde::de::DeserializeOwned + 'static,
    {
        "generic"
    }

    #[api_key_required]
    #[utoipa::path(get, path = "/future")]
    pub(super) fn future() -> impl Future<Output = &'static str> {
        std::future::ready("future")
    }
}

pub(super) fn main() {
    let _ = App::new()
        .service(documented::below)
        .service(documented::above)
        .route("/generic/{id}", web::get().to(documented::generic::<u64>))
        .route("/future", web::get().to(documented::future));
}
