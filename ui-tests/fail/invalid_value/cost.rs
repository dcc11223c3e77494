//! Invalid costs.

use apikey_runtime::api_key_required;

#[api_key_required(cost)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(cost = 1_000_001)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(cost = -1)]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(cost = "5")]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(cost = 5u8)]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(cost = 99999999999999999999)]
async fn handler_5() -> &'static str {
    "ok"
}

fn main() {}
