//! The policy type exists exactly when its handler does.

#![deny(warnings)]

use actix_web::{App, web};
use apikey_runtime::api_key_required;

#[api_key_required(scope = "one")]
#[cfg(all())]
async fn handler() -> &'static str {
    "one"
}

#[api_key_required(scope = "one")]
#[cfg(any())]
async fn handler() -> &'static str {
    "two"
}

#[cfg(any())]
#[api_key_required(scope = "one")]
async fn handler() -> &'static str {
    "three"
}

#[api_key_required(scope = "one")]
#[cfg_attr(all(), cfg(any()), doc = "Docs.")]
async fn handler(nothing: Missing) -> &'static str {
    "four"
}

#[cfg_attr(all(), api_key_required(scope = "one"), allow(unused))]
async fn by_cfg_attr(body: String) -> &'static str {
    "five"
}

pub(super) fn main() {
    let _ = App::new()
        .route("/", web::get().to(handler))
        .route("/5", web::get().to(by_cfg_attr));
}
