//! `optional` with an `ApiKey` of the application's own, and below another guard.

use std::future::{Ready, ready};

use actix_web::{App, FromRequest, HttpRequest, dev::Payload, web};
use apikey_runtime::{ApiKey as Key, api_key_required};

pub struct ApiKey;

impl FromRequest for ApiKey {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, actix_web::Error>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self))
    }
}

#[api_key_required(optional)]
async fn own(_: self::ApiKey, _: Option<Key>, _: Option<ApiKey>) -> &'static str {
    "ok"
}

#[api_key_required]
#[api_key_required(optional, location = query("k"))]
async fn under_a_guard_that_requires_a_key(_: apikey_runtime::ApiKey) -> &'static str {
    "ok"
}

#[api_key_required]
async fn required(_: Key) -> &'static str {
    "ok"
}

pub(super) fn main() {
    let _ = App::new()
        .route("/0", web::get().to(own))
        .route("/1", web::get().to(under_a_guard_that_requires_a_key))
        .route("/2", web::get().to(required));
}
