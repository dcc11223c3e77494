//! Scopes that are neither a string nor a path.

use apikey_runtime::api_key_required;

#[api_key_required(scope = 5)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(scope = true)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(scope = 'a')]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(scope = b"a")]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(scope = ["a", "b"])]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(scope = all("a", "b"))]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(scope = concat!("a", "b"))]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(scope = -1)]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(scope = function())]
async fn handler_8() -> &'static str {
    "ok"
}

fn main() {}
