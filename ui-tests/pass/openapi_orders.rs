//! The guard above `#[utoipa::path]`, below it, and on both sides.

use actix_web::{App, get, web};
use apikey_runtime::{ApiKey, api_key_required, openapi::ApiKeySecurity};
use serde_json::{Value, json};
use utoipa::OpenApi;

#[api_key_required(scope = "orders:read")]
#[utoipa::path(responses((status = 200, body = String)))]
#[get("/above/{id}")]
async fn above(_key: ApiKey, _id: web::Path<u64>) -> &'static str {
    "ok"
}

#[utoipa::path(responses((status = 200, body = String)))]
#[get("/below/{id}")]
#[api_key_required(scope = "orders:read")]
async fn below(_key: ApiKey, _id: web::Path<u64>) -> &'static str {
    "ok"
}

#[api_key_required(scope = "a")]
#[utoipa::path]
#[get("/both")]
#[api_key_required(scopes = any("b", "c"))]
async fn both(_body: String) -> &'static str {
    "ok"
}

#[api_key_required(scope = "a")]
#[api_key_required(scope = "b")]
#[utoipa::path]
#[get("/stacked")]
async fn stacked(_body: String) -> &'static str {
    "ok"
}

#[api_key_required]
#[utoipa::path(get, path = "/routed")]
async fn routed() -> &'static str {
    "ok"
}

#[utoipa::path]
#[api_key_required(optional)]
#[get("/between")]
async fn between() -> &'static str {
    "ok"
}

static API_KEYS: ApiKeySecurity = ApiKeySecurity::new().strict();

#[derive(OpenApi)]
#[openapi(paths(above, below, both, stacked, routed, between), modifiers(&API_KEYS))]
struct Api;

fn main() {
    let _ = App::new()
        .service(above)
        .service(below)
        .service(both)
        .service(stacked)
        .service(between)
        .route("/routed", web::get().to(routed));
    let document = serde_json::to_value(Api::openapi()).unwrap();
    let operation = |path: &str| document["paths"][path]["get"].clone();
    for (path, security) in [
        ("/above/{id}", json!([{ "api_key": ["orders:read"] }])),
        ("/below/{id}", json!([{ "api_key": ["orders:read"] }])),
        (
            "/both",
            json!([{ "api_key": ["a", "b"] }, { "api_key": ["a", "c"] }]),
        ),
        ("/stacked", json!([{ "api_key": ["a", "b"] }])),
        ("/routed", json!([{ "api_key": [] }])),
        ("/between", json!([{ "api_key": [] }, {}])),
    ] {
        let operation = operation(path);
        assert_eq!(operation["security"], security, "{path}");
        for status in ["400", "401", "403", "429", "503"] {
            let content = &operation["responses"][status]["content"];
            assert_ne!(
                content["application/problem+json"],
                Value::Null,
                "{path} {status}"
            );
        }
    }
    for path in ["/above/{id}", "/below/{id}"] {
        assert_eq!(operation(path)["parameters"][0]["name"], "id");
        assert_ne!(operation(path)["responses"]["200"], Value::Null);
    }
    assert_eq!(
        operation("/above/{id}")["responses"],
        operation("/below/{id}")["responses"]
    );
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes.as_object().unwrap().len(), 1, "{schemes}");
    assert_eq!(schemes["api_key"]["scheme"], "bearer");
}
