//! Invalid rates.

use apikey_runtime::api_key_required;

#[api_key_required(rate_limit = "")]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100")]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100 / minute")]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "0/minute")]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "1000001/day")]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minutes")]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/month")]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/0s")]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "1/367d")]
async fn handler_8() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "2000/1ms")]
async fn handler_9() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute burst 0")]
async fn handler_10() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/minute burst many")]
async fn handler_11() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = "100/s")]
async fn handler_12() -> &'static str {
    "ok"
}

fn main() {}
