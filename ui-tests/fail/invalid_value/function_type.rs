//! Functions of the wrong type.

use actix_web::{HttpRequest, HttpResponse};
use apikey_runtime::{ApiKeyManager, Denied, api_key_required};

fn manager(_: &HttpRequest) -> Result<ApiKeyManager, ()> {
    Err(())
}

fn of_all() -> Option<ApiKeyManager> {
    None
}

fn refused(_: &HttpRequest) -> HttpResponse {
    HttpResponse::Ok().finish()
}

async fn refused_later(_: &Denied, _: &HttpRequest) -> HttpResponse {
    HttpResponse::Ok().finish()
}

#[api_key_required(manager = manager)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(on_error = refused)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(on_error = refused_later)]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(on_error = missing::function)]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(manager = of_all)]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(on_error = i32::MAX)]
async fn handler_5() -> &'static str {
    "ok"
}

fn main() {}
