//! Negative control: an application that does not do what its document says.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, Responder, get, web};
use apikey_runtime::{ApiKey, api_key_required, openapi::ApiKeySecurity};
use serde_json::json;
use utoipa::OpenApi;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::app::{Caller, caller};

static API_KEYS: ApiKeySecurity = ApiKeySecurity::new().strict();

/// Responds with a status that the document does not have.
#[api_key_required]
#[utoipa::path(responses(Caller))]
#[get("/teapot")]
async fn teapot() -> impl Responder {
    HttpResponse::build(StatusCode::IM_A_TEAPOT)
}

/// Responds with a body that the document does not have.
#[api_key_required]
#[utoipa::path(responses(Caller))]
#[get("/number")]
async fn number() -> impl Responder {
    web::Json(json!({ "label": 7 }))
}

/// Has a guard in the document only.
#[utoipa::path(responses(Caller), security(("api_key" = [])))]
#[get("/unguarded")]
async fn unguarded() -> impl Responder {
    let label = None;
    web::Json(Caller { label })
}

/// Does what the document says.
#[api_key_required]
#[utoipa::path(responses(Caller))]
#[get("/sound")]
async fn sound(key: ApiKey) -> impl Responder {
    caller(&key)
}

pub(crate) fn services(config: &mut ServiceConfig) {
    config
        .service(teapot)
        .service(number)
        .service(unguarded)
        .service(sound);
}

#[derive(OpenApi)]
#[openapi(paths(teapot, number, unguarded, sound), modifiers(&API_KEYS))]
pub(crate) struct Api;
