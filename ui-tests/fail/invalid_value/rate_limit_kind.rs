//! Rates that are neither a string nor a path.

use apikey_runtime::api_key_required;

#[api_key_required(rate_limit)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = 100)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit(100, minute))]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = Rate::per_minute(100))]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = concat!("100", "/minute"))]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = b"100/minute")]
async fn handler_5() -> &'static str {
    "ok"
}

fn main() {}
