//! Invalid prefixes.

use apikey_runtime::api_key_required;

#[api_key_required(prefix = "")]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(prefix = "1a")]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(prefix = "_a")]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(prefix = "a_")]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(prefix = "my-api")]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(prefix = "ä")]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(prefix = 5)]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(prefix = ADM)]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(prefix = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
async fn handler_8() -> &'static str {
    "ok"
}

fn main() {}
