//! Functions that are not `async` and do not return a future.

use actix_web::{HttpResponse, Responder, http::StatusCode};
use apikey_runtime::api_key_required;

#[api_key_required]
fn response() -> HttpResponse {
    HttpResponse::Ok().finish()
}

#[api_key_required]
fn result() -> actix_web::Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}

#[api_key_required]
fn responder() -> impl Responder {
    "ok"
}

#[api_key_required]
fn text() -> &'static str {
    "ok"
}

#[api_key_required]
fn string() -> String {
    String::new()
}

#[api_key_required]
fn unit() -> () {}

#[api_key_required]
fn tuple() -> (String, StatusCode) {
    (String::new(), StatusCode::OK)
}

fn main() {}
