//! Options that this version does not have.

use apikey_runtime::api_key_required;

#[api_key_required(rate_limit = "100/minute")]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(burst = 20)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(cost = 5)]
async fn handler_2() -> &'static str {
    "ok"
}

fn main() {}
