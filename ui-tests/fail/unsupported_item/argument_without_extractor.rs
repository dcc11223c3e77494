//! An argument that does not implement `FromRequest`.

use actix_web::web;
use apikey_runtime::api_key_required;

struct NoExtractor;

#[api_key_required]
async fn handler(_: NoExtractor) -> &'static str {
    "ok"
}

pub fn configure(config: &mut web::ServiceConfig) {
    config.route("/", web::get().to(handler));
}

fn main() {}
