//! An attribute that adds an argument outside the guard.

use actix_web::get;
use apikey_runtime::api_key_required;

// Replaces the crate, because the macro sees only the name.
mod actix_web_grants {
    pub use apikey_runtime::api_key_required as protect;
}

use actix_web_grants::protect;

#[api_key_required]
#[protect]
async fn handler() -> &'static str {
    "ok"
}

#[api_key_required]
#[get("/")]
#[actix_web_grants::protect(scope = "a")]
async fn qualified() -> &'static str {
    "ok"
}

#[api_key_required]
#[cfg_attr(all(), allow(unused), protect)]
async fn conditional() -> &'static str {
    "ok"
}

fn main() {}
