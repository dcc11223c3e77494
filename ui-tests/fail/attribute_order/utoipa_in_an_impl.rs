//! `#[utoipa::path]` adds a type beside the handler, which an `impl` cannot contain.

use apikey_runtime::api_key_required;

struct Orders;

impl Orders {
    #[api_key_required]
    #[utoipa::path(get, path = "/")]
    async fn list() -> &'static str {
        "ok"
    }
}

fn main() {}
