//! Arguments that the location does not take.

use apikey_runtime::api_key_required;

#[api_key_required(location = header("Authorization", shceme = "ApiKey"))]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(location = header("Authorization", realm = "a"))]
async fn handler_1() -> &'static str {
    "ok"
}

fn main() {}
