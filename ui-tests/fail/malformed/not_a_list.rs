//! Brackets of another kind are rustc's to accept, `=` is not.

use apikey_runtime::api_key_required;

#[api_key_required = "orders:read"]
async fn handler() -> &'static str {
    "ok"
}

fn main() {}
