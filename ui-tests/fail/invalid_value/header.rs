//! Invalid header names and schemes (RFC 9110 section 5.6.2).

use apikey_runtime::api_key_required;

#[api_key_required(location = header(""))]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(location = header("X API Key"))]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(location = header("X-API-Key:"))]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(location = header("X-API\r\nKey"))]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(location = header("Schlüssel"))]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(location = header("Authorization", scheme = ""))]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(location = header("Authorization", scheme = "Api Key"))]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(location = header("a b", scheme = "c d"))]
async fn handler_7() -> &'static str {
    "ok"
}

fn main() {}
