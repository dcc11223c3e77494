//! A const that does not match the grammar of scopes.

use apikey_runtime::api_key_required;

const EMPTY: &str = "";

#[api_key_required(scope = EMPTY)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(scopes = all("a", not(EMPTY)))]
async fn handler_1() -> &'static str {
    "ok"
}

fn main() {}
