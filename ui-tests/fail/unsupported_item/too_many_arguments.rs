//! One more argument than actix's largest tuple of extractors.

use actix_web::HttpRequest;
use apikey_runtime::api_key_required;

#[api_key_required]
async fn handler(
    _0: HttpRequest,
    _1: HttpRequest,
    _2: HttpRequest,
    _3: HttpRequest,
    _4: HttpRequest,
    _5: HttpRequest,
    _6: HttpRequest,
    _7: HttpRequest,
    _8: HttpRequest,
    _9: HttpRequest,
    _10: HttpRequest,
    _11: HttpRequest,
    _12: HttpRequest,
    _13: HttpRequest,
    _14: HttpRequest,
    _15: HttpRequest,
    _16: HttpRequest,
) -> &'static str {
    "ok"
}

fn main() {}
