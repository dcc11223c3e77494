//! Methods that are one typo away from a standard method.

use apikey_runtime::api_key_required;

#[api_key_required(methods(PSOT))]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(methods(POST, PUTT, gte))]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(methods(PATH, PSOT))]
async fn handler_2() -> &'static str {
    "ok"
}

fn main() {}
