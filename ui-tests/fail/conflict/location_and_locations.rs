//! `location` and `locations` together.

use apikey_runtime::api_key_required;

#[api_key_required(location = bearer, locations = [header("X-API-Key")])]
async fn handler_0() -> &'static str {
    "ok"
}

fn main() {}
