//! A duplicate scheme.

use apikey_runtime::api_key_required;

#[api_key_required(location = header("Authorization", scheme = "A", scheme = "B"))]
async fn handler_0() -> &'static str {
    "ok"
}

fn main() {}
