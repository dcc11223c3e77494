//! With options the attribute adds a type, and an `impl` holds none.

use apikey_runtime::api_key_required;

struct Orders;

impl Orders {
    #[api_key_required(scope = "orders:read")]
    async fn list() -> &'static str {
        "ok"
    }
}

fn main() {}
