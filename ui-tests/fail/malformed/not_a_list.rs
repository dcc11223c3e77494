//! Arguments after `=`. (rustc accepts any kind of brackets.)

use apikey_runtime::api_key_required;

#[api_key_required = "orders:read"]
async fn handler() -> &'static str {
    "ok"
}

fn main() {}
