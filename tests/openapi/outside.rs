//! Other people's tools read the document: a validator, a tester of servers, and a generated client.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::{ApiKeyManager, Config};
use apikey_test_support::http::Server;
use apikey_test_support::store::GateStore;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::faulty;
use crate::serving::{document, serve, services};
use crate::tools::{Bench, Report};

/// The application, its store, and keys: `full` with all scopes, `bare` without scopes, `live` of an
/// environment, `adm` of another prefix.
struct Running {
    server: Server,
    store: Arc<GateStore>,
    keys: Value,
    manager: ApiKeyManager,
}

async fn running(services: fn(&mut ServiceConfig)) -> Running {
    let store = GateStore::new();
    let config = Config::builder()
        .prefixes(["my_api", "adm"])
        // Tools send many requests without a key, or with a wrong one.
        .failed_attempts("off")
        .build();
    let manager = ApiKeyManager::builder()
        .config(config.unwrap())
        .shared_store(Arc::clone(&store) as _)
        .start()
        .await
        .unwrap();
    let scopes = "orders:read orders:write reports:read region:eu project:7:read admin";
    let full = manager.create("full").scopes(scopes.split(' ')).await;
    let bare = manager.create("bare").await;
    let live = manager.create("live").environment("live").await;
    let adm = manager.create("adm").prefix("adm").await;
    let [full, bare, live, adm] = [full, bare, live, adm].map(Result::unwrap);
    let keys = json!({
        "full": full.expose_secret(),
        "bare": bare.expose_secret(),
        "live": live.expose_secret(),
        "adm": adm.expose_secret(),
    });
    Running {
        server: serve(&manager, services),
        store,
        keys,
        manager,
    }
}

/// Removes what the attribute and `ApiKeySecurity` say about keys.
fn without_security(document: &Value) -> Value {
    let mut document = document.clone();
    let paths = document["paths"].as_object_mut().unwrap().values_mut();
    for operation in paths.flat_map(|path| path.as_object_mut().unwrap().values_mut()) {
        operation.as_object_mut().unwrap().remove("security");
    }
    document
}

async fn validate(document: &Value) -> Option<Report> {
    let bench = Bench::of(document)?;
    bench.copy("tests/openapi/tools");
    let arguments = "lint --config redocly.yaml --format stylish openapi.json";
    Some(bench.run("redocly", arguments, &[]).await)
}

#[actix_web::test]
async fn a_validator_accepts_the_document() {
    if let Some(report) = validate(&document()).await {
        report.finds_nothing();
    }
}

/// Negative control.
#[actix_web::test]
async fn a_validator_finds_a_scheme_that_is_not_there_and_an_operation_without_security() {
    let mut broken = document();
    broken["components"]["securitySchemes"] = json!({});
    if let Some(report) = validate(&broken).await {
        report.finds(&["There is no `"]);
    }
    if let Some(report) = validate(&without_security(&document())).await {
        report.finds(&["security-defined"]);
    }
}

/// Generates a client, compiles it together with `client/calls.ts`, and returns the bench.
async fn client(document: &Value) -> Option<Bench> {
    let bench = Bench::of(document)?;
    bench.copy("tests/openapi/client");
    bench.run("openapi-ts", "", &[]).await.finds_nothing();
    bench.run("tsc", "", &[]).await.finds_nothing();
    Some(bench)
}

async fn call(bench: &Bench, running: &Running, store: &str) -> Report {
    let url = format!("http://{}", running.server.address);
    let keys = running.keys.to_string();
    let variables = [("API_URL", &*url), ("API_KEYS", &*keys), ("STORE", store)];
    bench.run("node", "built/calls.js", &variables).await
}

#[actix_web::test]
async fn a_generated_client_gets_what_the_document_says() {
    let Some(bench) = client(&document()).await else {
        return;
    };
    let running = running(services).await;
    call(&bench, &running, "up").await.finds_nothing();
    running.store.go_down();
    // Until the lease has ended, keys are checked without the store.
    while running.manager.health().lease_remaining.is_some() {
        actix_web::rt::time::sleep(Duration::from_millis(10)).await;
    }
    call(&bench, &running, "down").await.finds_nothing();
    // Negative control: the store is available.
    running.store.heal();
    let faults = ["list_orders, without the store: 200 instead of 503"];
    call(&bench, &running, "down").await.finds(&faults);
}

/// Negative control: the client sends keys only because the document says where.
#[actix_web::test]
async fn a_client_of_a_document_without_security_is_denied() {
    if let Some(bench) = client(&without_security(&document())).await {
        let running = running(services).await;
        let faults = [
            "list_orders, with a key in its place: 401 instead of 200",
            "below_header, with a key in its place: 401 instead of 200",
            "users, with a key in its place: 401 instead of 200",
        ];
        call(&bench, &running, "up").await.finds(&faults);
    }
}

/// Returns the settings of schemathesis: a credential for each scheme of the document.
fn credentials(document: &Value, key: &str) -> String {
    let schemes = document["components"]["securitySchemes"].as_object();
    let credential = |scheme: &Value| {
        let text = |member: &str| scheme[member].as_str().unwrap_or_default().to_lowercase();
        match (&*text("scheme"), &*text("name")) {
            ("bearer", _) => format!("bearer = {key:?}"),
            ("basic", _) => format!("username = {key:?}\npassword = \"\""),
            (_, "authorization") => format!("api_key = \"ApiKey {key}\""),
            (_, "sec-websocket-protocol") => format!("api_key = \"bearer, {key}\""),
            _ => format!("api_key = {key:?}"),
        }
    };
    let schemes = schemes.into_iter().flatten();
    schemes
        .map(|(name, scheme)| format!("[auth.openapi.{name:?}]\n{}\n", credential(scheme)))
        .collect()
}

/// Has schemathesis send requests that the document allows, and others, and compare the responses
/// with the document.
async fn try_out(document: &Value, running: &Running) -> Option<Report> {
    let bench = Bench::of(document)?;
    let key = running.keys["full"].as_str().unwrap();
    bench.write("schemathesis.toml", &credentials(document, key));
    let arguments = format!(
        "--config-file schemathesis.toml run openapi.json --url http://{} \
         --checks status_code_conformance,response_schema_conformance,\
         content_type_conformance,response_headers_conformance,ignored_auth \
         --phases examples,coverage,fuzzing --max-examples 5 --generation-deterministic \
         --no-color",
        running.server.address
    );
    Some(bench.run("schemathesis", &arguments, &[]).await)
}

#[actix_web::test]
async fn schemathesis_finds_nothing() {
    let running = running(services).await;
    if let Some(report) = try_out(&document(), &running).await {
        report.finds_nothing();
    }
}

/// Negative control.
#[actix_web::test]
async fn schemathesis_finds_what_is_not_as_the_document_says() {
    let running = running(faulty::services).await;
    let document = serde_json::to_value(faulty::Api::openapi()).unwrap();
    if let Some(report) = try_out(&document, &running).await {
        report.finds(&[
            "GET /teapot",
            "Undocumented status code",
            "Received: 418",
            "GET /number",
            "Response violates schema",
            "GET /unguarded",
            "API accepts requests without authentication",
        ]);
        assert!(!report.text.contains("GET /sound"), "{}", report.text);
    }
}
