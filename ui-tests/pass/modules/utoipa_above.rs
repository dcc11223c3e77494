//! `#[utoipa::path]` above the attribute documents the handler's own arguments.

use actix_web::{App, get, web};
use apikey_runtime::{ApiKey, api_key_required};
use utoipa::{IntoParams, OpenApi, ToSchema};

#[derive(serde::Deserialize, IntoParams)]
#[allow(dead_code)]
struct Page {
    number: u32,
}

#[derive(serde::Deserialize, ToSchema)]
#[allow(dead_code)]
struct Order {
    item: String,
}

#[utoipa::path(params(Page), responses((status = 200, body = String)))]
#[get("/orders/{id}")]
#[api_key_required(scope = "orders:read")]
async fn orders(
    _key: ApiKey,
    _id: web::Path<u64>,
    _page: web::Query<Page>,
    _body: web::Json<Order>,
) -> &'static str {
    "orders"
}

#[derive(OpenApi)]
#[openapi(paths(orders))]
struct Api;

pub(super) fn main() {
    let _ = App::new().service(orders);
    let document = Api::openapi().to_json().unwrap();
    for part in ["/orders/{id}", "number", "Order"] {
        assert!(document.contains(part), "no `{part}` in {document}");
    }
    assert!(!document.contains("Guarded"), "{document}");
}
