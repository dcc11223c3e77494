//! Consts that do not exist or are not of type `&str`.

use apikey_runtime::api_key_required;

const NUMBER: u32 = 5;
const OWNED: String = String::new();

#[api_key_required(scope = MISSING)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(scope = NUMBER)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(scopes = all("a", OWNED))]
async fn handler_2() -> &'static str {
    "ok"
}

fn main() {}
