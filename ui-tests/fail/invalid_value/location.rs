//! Invalid locations.

use apikey_runtime::api_key_required;

#[api_key_required(location = header)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(location = header())]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(location = header("A", "B"))]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(location = header(X_API_KEY))]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(location = header(5))]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(location = header("A", scheme))]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(location = bearer("a"))]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(location = "X-API-Key")]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(location = [bearer])]
async fn handler_8() -> &'static str {
    "ok"
}

#[api_key_required(location = 5)]
async fn handler_9() -> &'static str {
    "ok"
}

#[api_key_required(location = header["A"])]
async fn handler_10() -> &'static str {
    "ok"
}

#[api_key_required(location = basic("a"))]
async fn handler_11() -> &'static str {
    "ok"
}

#[api_key_required(location = query)]
async fn handler_12() -> &'static str {
    "ok"
}

#[api_key_required(location = cookie())]
async fn handler_13() -> &'static str {
    "ok"
}

#[api_key_required(location = json("a", "b"))]
async fn handler_14() -> &'static str {
    "ok"
}

#[api_key_required(location = form("a", scheme = "b"))]
async fn handler_15() -> &'static str {
    "ok"
}

#[api_key_required(location = query(api_key))]
async fn handler_16() -> &'static str {
    "ok"
}

#[api_key_required(location = websocket("bearer"))]
async fn handler_17() -> &'static str {
    "ok"
}

fn main() {}
