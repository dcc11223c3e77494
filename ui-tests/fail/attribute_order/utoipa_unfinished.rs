//! An attribute that is half written beside `#[utoipa::path]`: one message each, and the handler is
//! still there for the document.

use apikey_runtime::api_key_required;
use utoipa::OpenApi;

#[api_key_required(scope = )]
#[utoipa::path(get, path = "/")]
async fn guard() -> &'static str {
    "ok"
}

#[api_key_required(fresh)]
#[utoipa::path(get, path = )]
async fn path() -> &'static str {
    "ok"
}

#[utoipa::path(get, path = "/below")]
#[api_key_required(scop = "a")]
async fn below() -> &'static str {
    "ok"
}

#[derive(OpenApi)]
#[openapi(paths(guard, below))]
struct Api;

fn main() {
    let _ = Api::openapi();
}
