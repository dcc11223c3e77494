//! Invalid lists of locations.

use apikey_runtime::api_key_required;

#[api_key_required(locations = [])]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(locations = bearer)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(locations = (bearer))]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(locations = [bearer header("A")])]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(locations = ["X-API-Key"])]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(locations = [bearer, 5])]
async fn handler_5() -> &'static str {
    "ok"
}

fn main() {}
