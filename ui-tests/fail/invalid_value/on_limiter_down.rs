//! Unknown values of `on_limiter_down`.

use apikey_runtime::api_key_required;

#[api_key_required(on_limiter_down)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(on_limiter_down = local)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(on_limiter_down = "")]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(on_limiter_down = "locally")]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(on_limiter_down = "Local")]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(on_limiter_down = "allow")]
async fn handler_5() -> &'static str {
    "ok"
}

fn main() {}
