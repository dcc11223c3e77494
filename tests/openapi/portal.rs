//! Other people's tools read the document of the portal's API.

use actix_web::{HttpRequest, web};
use apikey_portal::{BoxError, Person, Portal, PortalAuth};
use apikey_runtime::{ApiKeyManager, Config, MemoryStore};
use apikey_test_support::http::Server;
use serde_json::{Value, json};

use crate::tools::{Bench, Report};

/// Nobody signs in: keys alone call the API.
struct SignedOut;

impl PortalAuth for SignedOut {
    async fn person(&self, _: &HttpRequest) -> Result<Option<Person>, BoxError> {
        Ok(None)
    }
}

fn document() -> Value {
    serde_json::from_str(include_str!("../../apikey-portal/openapi.json")).unwrap()
}

async fn validate(document: &Value) -> Option<Report> {
    let bench = Bench::of(document)?;
    bench.copy("tests/openapi/tools");
    let arguments = "lint --config redocly.yaml --format stylish openapi.json";
    Some(bench.run("redocly", arguments, &[]).await)
}

#[actix_web::test]
async fn a_validator_accepts_the_portals_document() {
    if let Some(report) = validate(&document()).await {
        report.finds_nothing();
    }
}

/// Negative control.
#[actix_web::test]
async fn a_validator_finds_what_the_portals_document_lacks() {
    let mut broken = document();
    broken["components"]["schemas"]["Key"] = json!({ "type": "text" });
    broken["paths"]["/keys/{id}"]["get"]["parameters"] = json!([]);
    if let Some(report) = validate(&broken).await {
        report.finds(&["path-parameters-defined"]);
    }
}

/// Has schemathesis send requests that the document allows, and others, with a key that may do all.
async fn try_out(mut document: Value, more: &str) -> Option<Report> {
    let config = Config::builder().failed_attempts("off").build();
    let manager = ApiKeyManager::builder().config(config.unwrap());
    let manager = manager.store(MemoryStore::new()).start().await.unwrap();
    let scopes = ["apikeys:read", "apikeys:create", "apikeys:manage"];
    let key = manager
        .create("all")
        .owner("acme")
        .scopes(scopes)
        .await
        .unwrap();
    let other = manager.create("other").owner("acme").await.unwrap();
    // A key that is there.
    document["components"]["parameters"]["Id"]["schema"] = json!({ "enum": [other.id()] });
    // People do not sign in, and the key is not to end itself.
    document["security"] = json!([{ "key": [] }]);
    document["components"]["securitySchemes"]
        .as_object_mut()
        .unwrap()
        .remove("session");
    document["paths"]
        .as_object_mut()
        .unwrap()
        .remove("/self/revoke");
    let bench = Bench::of(&document)?;
    let server = Server::start(move |app: &mut web::ServiceConfig| {
        app.service(Portal::new(manager.clone(), SignedOut).mount("/keys"));
    });
    let key = format!("[auth.openapi.key]\nbearer = {:?}\n", key.expose_secret());
    bench.write("schemathesis.toml", &key);
    let arguments = format!(
        "--config-file schemathesis.toml run openapi.json --url http://{}/keys/v1 \
         --checks status_code_conformance,response_schema_conformance,\
         content_type_conformance,response_headers_conformance,ignored_auth,not_a_server_error \
         --phases examples,coverage,fuzzing --max-examples 5 --generation-deterministic \
         --no-color {more}",
        server.address
    );
    Some(bench.run("schemathesis", &arguments, &[]).await)
}

#[actix_web::test]
async fn schemathesis_finds_nothing_in_the_portals_api() {
    if let Some(report) = try_out(document(), "").await {
        report.finds_nothing();
    }
}

/// Negative control.
#[actix_web::test]
async fn schemathesis_finds_what_the_portals_api_does_not_do() {
    let mut wrong = document();
    let page = &mut wrong["components"]["schemas"]["KeyPage"];
    page["properties"]["keys"] = json!({ "type": "string" });
    let one = "--include-path /keys --include-method GET";
    if let Some(report) = try_out(wrong, one).await {
        report.finds(&["Response violates schema"]);
    }
}
