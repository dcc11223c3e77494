//! `#[cfg]` on an argument.

use apikey_runtime::api_key_required;

#[api_key_required]
async fn with_cfg(#[cfg(all())] _body: String) -> &'static str {
    "ok"
}

#[api_key_required]
async fn with_cfg_attr(
    #[cfg_attr(all(), cfg(all()), allow(unused))] _body: String,
) -> &'static str {
    "ok"
}

fn main() {}
