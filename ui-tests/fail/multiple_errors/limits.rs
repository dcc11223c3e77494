//! All errors of all limits are reported together.

use apikey_runtime::api_key_required;

#[api_key_required(rate_limit = "100/minutes", burst = 0, cost = -1, on_limiter_down = "open")]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "1/1s burst 2", burst = 3, cost = 4, rate_limits = "1/s")]
async fn handler_1() -> &'static str {
    "ok"
}

fn main() {}
