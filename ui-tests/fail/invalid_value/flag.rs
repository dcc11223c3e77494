//! Options that take no value.

use apikey_runtime::api_key_required;

#[api_key_required(optional = true)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(optional = false)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(fresh = "yes")]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(optional(true))]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(fresh())]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(optional = TRUE)]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(require_https = true)]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(require_https = false)]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(require_https("all"))]
async fn handler_8() -> &'static str {
    "ok"
}

fn main() {}
