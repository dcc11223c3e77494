//! Unknown options: the error suggests the most similar one, or lists all.

use apikey_runtime::api_key_required;

#[api_key_required(scop = "a")]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(Optional)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(premissions = "a")]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(querty)]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(crat = ::apikey_runtime)]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(r#fresh)]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(method(POST))]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(require_http)]
async fn handler_7() -> &'static str {
    "ok"
}

fn main() {}
