//! Scopes that do not match the grammar.

use apikey_runtime::api_key_required;

#[api_key_required(scope = "")]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(scope = ":")]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(scope = "orders:")]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(scope = "orders::read")]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(scope = "orders:*")]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(scope = "a b")]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(scope = "a, b")]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(scope = "größe")]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(scope = "a/b")]
async fn handler_8() -> &'static str {
    "ok"
}

#[api_key_required(scope = "a\nb")]
async fn handler_9() -> &'static str {
    "ok"
}

#[api_key_required(
    scope = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)]
async fn handler_10() -> &'static str {
    "ok"
}

fn main() {}
