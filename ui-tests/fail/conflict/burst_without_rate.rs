//! A burst without a rate.

use apikey_runtime::api_key_required;

#[api_key_required(burst = 20)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(cost = 5, burst = 20, fresh)]
async fn handler_1() -> &'static str {
    "ok"
}

fn main() {}
