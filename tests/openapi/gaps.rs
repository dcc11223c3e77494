//! What the attribute cannot see, or the document cannot tell, and `ApiKeySecurity` completes or
//! reports.

use apikey_runtime::openapi::ApiKeySecurity;
use apikey_runtime::{Policy, ScopeExpr};
use serde_json::{Value, json};
use utoipa::openapi::{Info, OpenApi as Document, Paths};
use utoipa::{Modify, OpenApi};

const TENANT: &str = "tenant:{tenant}:read";
const ADMIN: Policy = Policy::new().scopes(ScopeExpr::One("admin"));

// Handlers that are documented and not served.
#[expect(dead_code, reason = "the document alone counts")]
mod constants {
    use apikey_runtime::api_key_required;

    #[api_key_required(scope = super::TENANT)]
    #[utoipa::path(get, path = "/tenants/{tenant}", params(("tenant" = String, Path)))]
    pub(super) async fn of_a_tenant() -> &'static str {
        "tenant"
    }
}

/// Two handlers that a document cannot tell apart.
#[expect(dead_code, reason = "the document alone counts")]
mod first {
    use apikey_runtime::api_key_required;

    #[utoipa::path(get, path = "/twins", operation_id = "twin")]
    #[api_key_required(scope = "first")]
    pub(super) async fn twin() -> &'static str {
        "first"
    }
}

#[expect(dead_code, reason = "the document alone counts")]
mod second {
    use apikey_runtime::api_key_required;

    #[utoipa::path(get, path = "/twins", operation_id = "twin")]
    #[api_key_required(scope = "second")]
    pub(super) async fn twin() -> &'static str {
        "second"
    }
}

#[derive(OpenApi)]
#[openapi(paths(constants::of_a_tenant))]
struct Constants;

/// Without the tag of the module, as another tag of the application replaces it.
#[derive(OpenApi)]
#[openapi(paths(first::twin))]
struct Twins;

fn modified(mut document: Document, keys: ApiKeySecurity) -> Value {
    let items = document.paths.paths.values_mut();
    for operation in items.filter_map(|item| item.get.as_mut()) {
        operation.tags = None;
    }
    keys.modify(&mut document);
    serde_json::to_value(document).unwrap()
}

#[test]
fn a_template_in_a_constant_is_not_a_plain_scope() {
    let document = modified(Constants::openapi(), ApiKeySecurity::new().strict());
    let operation = &document["paths"]["/tenants/{tenant}"]["get"];
    assert_eq!(operation["security"], json!([{ "api_key": [] }]));
    assert_eq!(operation["x-required-scopes"], json!(TENANT));
}

#[test]
fn an_operation_of_one_of_several_handlers_has_the_demand_of_middleware() {
    let keys = ApiKeySecurity::new();
    let document = modified(Twins::openapi(), keys);
    let twin = &document["paths"]["/twins"]["get"];
    assert_eq!(twin["security"], Value::Null, "negative control: {twin}");
    let document = modified(Twins::openapi(), keys.middleware(&[("/twins", ADMIN)]));
    let twin = &document["paths"]["/twins"]["get"];
    assert_eq!(twin["security"], json!([{ "api_key": ["admin"] }]));
    assert!(twin["responses"].get("401").is_some(), "{twin}");
}

#[test]
#[should_panic = "the prefix `/tenant` of `ApiKeySecurity::middleware` does not contain a path"]
fn a_prefix_without_a_path_is_reported() {
    let prefixes = &[("/tenants", ADMIN), ("/tenant", ADMIN)];
    let keys = ApiKeySecurity::new().strict().middleware(prefixes);
    modified(Constants::openapi(), keys);
}

/// An application with utoipa-actix-web modifies the document before it has its paths, too.
#[test]
fn a_document_without_paths_is_not_missing_a_prefix() {
    let keys = ApiKeySecurity::new().strict();
    let document = Document::new(Info::new("", ""), Paths::new());
    modified(document, keys.middleware(&[("/tenants", ADMIN)]));
}
