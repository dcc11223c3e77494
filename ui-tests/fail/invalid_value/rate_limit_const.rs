//! Consts that do not exist or are not of type `Rate`.

use apikey_runtime::api_key_required;

const TEXT: &str = "100/minute";
const NUMBER: u32 = 100;

#[api_key_required(rate_limit = MISSING)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = TEXT)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(rate_limit = NUMBER, burst = 20)]
async fn handler_2() -> &'static str {
    "ok"
}

fn main() {}
