//! Invalid methods.

use apikey_runtime::api_key_required;

#[api_key_required(methods())]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(methods(post))]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(methods("post", Put))]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(methods(""))]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(methods(GET, P0ST))]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(methods("PO ST"))]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(methods("*"))]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(methods(M-SEARCH))]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(methods(5))]
async fn handler_8() -> &'static str {
    "ok"
}

#[api_key_required(methods(POST PUT))]
async fn handler_9() -> &'static str {
    "ok"
}

#[api_key_required(methods([POST, PUT]))]
async fn handler_10() -> &'static str {
    "ok"
}

#[api_key_required(methods(Method::POST))]
async fn handler_11() -> &'static str {
    "ok"
}

#[api_key_required(methods("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))]
async fn handler_12() -> &'static str {
    "ok"
}

fn main() {}
