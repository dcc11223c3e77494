//! Templates that are not a whole segment or not an identifier.

use apikey_runtime::api_key_required;

#[api_key_required(scope = "project:{id:read")]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(scope = "project:x{id}")]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(scope = "project:{}")]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(scope = "project:{1}")]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(scope = "project:{a-b}")]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(scope = "{a}{b}")]
async fn handler_5() -> &'static str {
    "ok"
}

fn main() {}
