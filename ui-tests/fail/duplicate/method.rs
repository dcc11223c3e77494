//! Duplicate methods.

use apikey_runtime::api_key_required;

#[api_key_required(methods(POST, PUT, POST))]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(methods(POST, "POST"))]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(methods(PROPFIND, r#PROPFIND))]
async fn handler_2() -> &'static str {
    "ok"
}

fn main() {}
