//! The attribute without options on associated functions.

use actix_web::{App, web};
use apikey_runtime::{ApiKey, api_key_required};

struct Orders;

impl Orders {
    #[api_key_required]
    async fn list(_key: ApiKey, body: String) -> String {
        body
    }

    #[apikey_runtime::api_key_required(crate = ::apikey_runtime)]
    pub async fn count() -> &'static str {
        "0"
    }
}

trait Handlers {
    #[api_key_required]
    async fn provided() -> &'static str {
        "provided"
    }
}

impl Handlers for Orders {}

pub(super) fn main() {
    let _ = App::new()
        .route("/list", web::get().to(Orders::list))
        .route("/count", web::get().to(Orders::count))
        .route("/provided", web::get().to(<Orders as Handlers>::provided));
}
