//! An attribute that documents arguments, and would see only the guard.

use actix_web::web;
use apikey_runtime::api_key_required;

#[api_key_required]
#[utoipa::path(get, path = "/")]
async fn handler(_id: web::Path<u64>) -> &'static str {
    "ok"
}

fn main() {}
