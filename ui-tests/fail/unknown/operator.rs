//! Unknown operators in scope expressions.

use apikey_runtime::api_key_required;

#[api_key_required(scopes = al("a"))]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(scopes = one_of("a", "b"))]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(scopes = all("a", nto("b")))]
async fn handler_2() -> &'static str {
    "ok"
}

fn main() {}
