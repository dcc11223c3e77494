//! Duplicate locations, and locations that read the same header.

use apikey_runtime::api_key_required;

#[api_key_required(locations = [bearer, bearer])]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(locations = [header("X-API-Key"), header("x-api-key")])]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(locations = [bearer, header("authorization", scheme = "BEARER")])]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(locations = [bearer, header("Authorization")])]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(locations = [basic, bearer, basic])]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(locations = [basic, header("Authorization")])]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(locations = [header("Authorization", scheme = "Basic"), basic])]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(locations = [query("k"), cookie("k"), query("k")])]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(locations = [json("a"), form("a"), json("b"), form("a")])]
async fn handler_8() -> &'static str {
    "ok"
}

fn main() {}
