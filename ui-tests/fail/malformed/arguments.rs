//! Tokens that are not options.

use apikey_runtime::api_key_required;

#[api_key_required("orders:read")]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(5)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(::scope)]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(=)]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(, fresh)]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(fresh,, optional)]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(fresh optional)]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(scope = "a" scope = "b")]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(scope = "a", "b")]
async fn handler_8() -> &'static str {
    "ok"
}

#[api_key_required(apikey::scope = "a")]
async fn handler_9() -> &'static str {
    "ok"
}

#[api_key_required((fresh))]
async fn handler_10() -> &'static str {
    "ok"
}

#[api_key_required(#[fresh])]
async fn handler_11() -> &'static str {
    "ok"
}

#[api_key_required(fresh; optional)]
async fn handler_12() -> &'static str {
    "ok"
}

#[api_key_required(scope: "a")]
async fn handler_13() -> &'static str {
    "ok"
}

fn main() {}
