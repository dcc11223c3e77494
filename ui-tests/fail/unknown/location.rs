//! Unknown locations.

use apikey_runtime::api_key_required;

#[api_key_required(location = beare)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(location = heder("X-API-Key"))]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(location = body)]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(location = qeury("api_key"))]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(location = cookies("key"))]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(location = Basic)]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(locations = [jsno("api_key"), from("api_key")])]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(location = path("key"))]
async fn handler_7() -> &'static str {
    "ok"
}

fn main() {}
