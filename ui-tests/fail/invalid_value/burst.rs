//! Invalid bursts.

use apikey_runtime::api_key_required;

#[api_key_required(rate_limit = "100/minute", burst)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute", burst = 0)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute", burst = 1_000_001)]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute", burst = -1)]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute", burst = 2.5)]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute", burst = "20")]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute", burst = 20u32)]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute", burst = BURST)]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute", burst(20))]
async fn handler_8() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "1/366d", burst = 101)]
async fn handler_9() -> &'static str {
    "ok"
}

fn main() {}
