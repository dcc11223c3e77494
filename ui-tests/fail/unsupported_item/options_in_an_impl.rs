//! Options in an `impl`, which cannot contain the generated type.

use apikey_runtime::api_key_required;

struct Orders;

impl Orders {
    #[api_key_required(scope = "orders:read")]
    async fn list() -> &'static str {
        "ok"
    }
}

fn main() {}
