//! Invalid scope expressions.

use apikey_runtime::api_key_required;

#[api_key_required(scopes = all())]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(scopes = any())]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(scopes = not())]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(scopes = not("a", "b"))]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(scopes = all("a", any()))]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(scopes = ["a", "b"])]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(scopes = all("a", 5))]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(scopes = all("*", "b c"))]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(scopes = "a" + "b")]
async fn handler_8() -> &'static str {
    "ok"
}

#[api_key_required(scopes = all("a" "b"))]
async fn handler_9() -> &'static str {
    "ok"
}

#[api_key_required(scopes = all["a"])]
async fn handler_10() -> &'static str {
    "ok"
}

fn main() {}
