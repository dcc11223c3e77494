//! All errors of an attribute are reported together.

use apikey_runtime::api_key_required;

#[api_key_required(scop = "a", optional = true, prefix = "a-b", locations = [heder("X-API-Key"), header("A B", shceme = "C D")], scopes = all("*", nto("b"), any()), environment)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(scope = "*", scopes = all())]
async fn handler_1() -> &'static str {
    "ok"
}

fn main() {}
