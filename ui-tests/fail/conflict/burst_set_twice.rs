//! A burst in both `burst` and `rate_limit`.

use apikey_runtime::api_key_required;

#[api_key_required(rate_limit = "100/minute burst 20", burst = 30)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(burst = 20, rate_limit = "100/minute burst 20")]
async fn handler_1() -> &'static str {
    "ok"
}

fn main() {}
