//! `#[tracing::instrument]` above and below the attribute sees the handler's own arguments.

use actix_web::{App, get, web};
use apikey_runtime::api_key_required;
use tracing::instrument;

#[get("/above")]
#[instrument(skip(body), fields(length = body.len(), number = *number))]
#[api_key_required(fresh)]
async fn above(body: String, number: web::Path<u64>) -> String {
    format!("{body} {number}")
}

#[get("/below")]
#[api_key_required(fresh)]
#[instrument(skip(body), fields(length = body.len(), number = *number), ret)]
async fn below(body: String, number: web::Path<u64>) -> String {
    format!("{body} {number}")
}

pub(super) fn main() {
    let _ = App::new().service(above).service(below);
}
