//! Costs above the burst, with which every request would be denied.

use apikey_runtime::{Rate, api_key_required};

const RATE: Rate = Rate::per_minute(100);

#[api_key_required(rate_limit = "100/minute", cost = 101)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute burst 20", cost = 21)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute", burst = 20, cost = 21)]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = RATE, burst = 20, cost = 21)]
async fn handler_3() -> &'static str {
    "ok"
}

fn main() {}
