//! A required key on a route that allows requests without one.

use actix_web::get;
use apikey_runtime::{ApiKey, api_key_required};

#[get("/0")]
#[api_key_required(optional)]
async fn handler_0(key: ApiKey) -> String {
    key.label().to_owned()
}

#[api_key_required(optional)]
async fn handler_1(_body: String, (key, _): (apikey_runtime::ApiKey, String)) -> String {
    key.label().to_owned()
}

#[api_key_required(optional, crate = ::apikey_runtime)]
async fn handler_2(key: ::apikey_runtime::ApiKey) -> String {
    key.label().to_owned()
}

/// The lower guard has a key of another location. The upper one decides last, and has none.
#[api_key_required(optional, location = header("X-API-Key"))]
#[get("/3")]
#[api_key_required]
async fn handler_3(key: ApiKey) -> String {
    key.label().to_owned()
}

/// A key under the upper guard is one under both.
#[api_key_required]
#[api_key_required(optional)]
async fn required_above(key: ApiKey) -> String {
    key.label().to_owned()
}

fn main() {}
