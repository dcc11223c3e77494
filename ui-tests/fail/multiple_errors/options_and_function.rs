//! Errors of the attribute and of the function are reported together.

use actix_web::{Responder, get, web};
use apikey_runtime::api_key_required;

#[api_key_required(scop = "a", fresh = true)]
unsafe extern "C" fn handler(#[cfg(unix)] a: String, #[arg] b: String) {}

#[api_key_required(prefix = "")]
#[get("/")]
async fn still_there() -> impl Responder {
    "ok"
}

fn configure(config: &mut web::ServiceConfig) {
    config.service(still_there);
}

fn main() {}
