//! Invalid environments.

use apikey_runtime::api_key_required;

#[api_key_required(environment = "")]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(environment = "live test")]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(environment = "live.eu")]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(environment = live)]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(environment = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
async fn handler_4() -> &'static str {
    "ok"
}

fn main() {}
