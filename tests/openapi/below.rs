//! Guards below `#[utoipa::path]`, which sees neither them nor their options.

use actix_web::{Responder, get, web};
use apikey_runtime::{ApiKey, api_key_required};

use crate::app::{Caller, caller};

#[utoipa::path(responses(Caller))]
#[get("/below/scope")]
#[api_key_required(scope = "orders:read")]
async fn below_scope(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[utoipa::path(responses(Caller))]
#[get("/below/header")]
#[api_key_required(location = header("X-API-Key"))]
async fn below_header(key: ApiKey) -> impl Responder {
    caller(&key)
}

#[utoipa::path(responses(Caller))]
#[get("/below/optional")]
#[api_key_required(optional)]
async fn below_optional(key: Option<ApiKey>) -> impl Responder {
    let label = key.map(|key| key.label().to_owned());
    web::Json(Caller { label })
}

#[utoipa::path(responses(Caller))]
#[get("/below/two")]
#[api_key_required(scope = "orders:read")]
#[api_key_required(location = header("X-Partner-Key"))]
async fn below_two(key: ApiKey) -> impl Responder {
    caller(&key)
}

/// One guard on each side.
#[api_key_required(scope = "orders:read")]
#[utoipa::path(responses(Caller))]
#[get("/below/both")]
#[api_key_required(location = header("X-Partner-Key"))]
async fn both_sides(key: ApiKey) -> impl Responder {
    caller(&key)
}
