//! `scope` and `scopes` together.

use apikey_runtime::api_key_required;

#[api_key_required(scope = "a", scopes = all("b", "c"))]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(scopes = any("b", "c"), fresh, scope = "a")]
async fn handler_1() -> &'static str {
    "ok"
}

fn main() {}
