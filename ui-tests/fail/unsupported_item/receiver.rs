//! Methods with a receiver.

use apikey_runtime::api_key_required;

struct Orders;

impl Orders {
    #[api_key_required]
    async fn by_reference(&self) -> &'static str {
        "ok"
    }

    #[api_key_required]
    async fn by_value(mut self: Box<Self>, _body: String) -> &'static str {
        "ok"
    }
}

fn main() {}
