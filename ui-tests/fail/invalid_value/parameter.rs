//! Invalid names of query parameters, cookies, JSON members and form fields.

use apikey_runtime::api_key_required;

#[api_key_required(location = query(""))]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(location = cookie("a b"))]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(location = json("a[0]"))]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(location = form("schlüssel"))]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(location = query("a&b=c"))]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(location = cookie("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(location = json("key\0"))]
async fn handler_6() -> &'static str {
    "ok"
}

fn main() {}
