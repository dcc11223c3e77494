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

fn main() {}
