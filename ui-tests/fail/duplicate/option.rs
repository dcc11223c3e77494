//! Duplicate options.

use apikey_runtime::api_key_required;

#[api_key_required(scope = "a", scope = "b")]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(optional, optional)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(fresh, prefix = "a", fresh)]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(location = bearer, location = header("X-API-Key"))]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(crate = ::apikey_runtime, crate = ::apikey_runtime)]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(methods(POST), methods(PUT))]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(require_https, require_https)]
async fn handler_6() -> &'static str {
    "ok"
}

fn main() {}
