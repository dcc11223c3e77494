//! Paths at which the runtime does not exist.

use apikey_runtime::api_key_required;

#[api_key_required(crate = ::keys)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(fresh, crate = crate::missing)]
async fn handler_1() -> &'static str {
    "ok"
}

fn main() {}
