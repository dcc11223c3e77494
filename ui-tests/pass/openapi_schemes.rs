//! Locations, scopes that a list cannot say, what the application wrote, and middleware.

#![allow(dead_code)]

use actix_web::get;
use apikey_runtime::openapi::{ApiKeyResponses, ApiKeySecurity};
use apikey_runtime::{KeyLocation, Policy, ScopeExpr, api_key_required};
use serde_json::{Value, json};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Document};
use utoipa::{Modify, OpenApi};

const READ: &str = "read";

/// Makes a handler with the guard above, and one with the guard below.
macro_rules! both {
    ($above:ident, $below:ident, $path:literal, ($($option:tt)*)) => {
        #[api_key_required($($option)*)]
        #[utoipa::path(get, path = concat!("/above", $path))]
        async fn $above() -> &'static str {
            "ok"
        }

        #[utoipa::path(get, path = concat!("/below", $path))]
        #[api_key_required($($option)*)]
        async fn $below() -> &'static str {
            "ok"
        }
    };
}

both!(plain_1, plain_2, "/plain", ());
both!(
    any_1,
    any_2,
    "/any",
    (scopes = all("a", any("b", READ), any("a", "b")))
);
both!(
    not_1,
    not_2,
    "/not",
    (scopes = all("a", not("b"), "p:{id}:read"), optional)
);
both!(
    many_1,
    many_2,
    "/many",
    (scopes = all(any("a", "b", "c", "d", "e"), any("f", "g", "h", "i")))
);
both!(
    places_1,
    places_2,
    "/places",
    (
        scope = READ,
        locations = [
            bearer,
            basic,
            websocket,
            header("X-Api!Key"),
            header("X-Auth", scheme = "Token"),
            query("k"),
            cookie("c"),
        ]
    )
);
both!(body_1, body_2, "/body", (locations = [json("key"), bearer]));
both!(
    only_1,
    only_2,
    "/only",
    (locations = [json("key"), form("key2")], scope = "a")
);

#[utoipa::path(
    get,
    path = "/own/above",
    security(("own" = [])),
    responses((status = 200), (status = 401, description = "own"))
)]
#[api_key_required(scope = "a")]
async fn own_1() -> &'static str {
    "ok"
}

#[api_key_required(scope = "a")]
#[utoipa::path(
    get,
    path = "/own/below",
    security(("own" = [])),
    responses((status = 200), (status = 401, description = "own"))
)]
async fn own_2() -> &'static str {
    "ok"
}

// A client that sends the key of one guard shows it to the other one too.
#[api_key_required(scope = "a", optional)]
#[utoipa::path(get, path = "/above/two")]
#[api_key_required(scope = "b", optional)]
async fn two_1() -> &'static str {
    "ok"
}

#[utoipa::path(get, path = "/below/two")]
#[api_key_required(scope = "a", optional)]
#[api_key_required(scope = "b", optional)]
async fn two_2() -> &'static str {
    "ok"
}

#[utoipa::path(get, path = "/admin/open")]
async fn open() -> &'static str {
    "ok"
}

#[utoipa::path]
#[get("/admin/guarded")]
#[api_key_required(scope = "a", location = bearer)]
async fn guarded() -> &'static str {
    "ok"
}

#[api_key_required(scope = "a")]
#[utoipa::path(get, path = "/admin/written")]
async fn written() -> &'static str {
    "ok"
}

#[utoipa::path(get, path = "/administration", responses(ApiKeyResponses))]
async fn outside() -> &'static str {
    "ok"
}

struct Own;

impl Modify for Own {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_with(Components::new);
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Basic)
            .description(Some("own"))
            .build();
        components.add_security_scheme("api_key_basic", SecurityScheme::Http(scheme));
    }
}

static API_KEYS: ApiKeySecurity = ApiKeySecurity::new()
    .strict()
    .location(KeyLocation::Header {
        name: "x-api-key",
        scheme: None,
    })
    .middleware(&[("/admin/", Policy::new().scopes(ScopeExpr::One("admin")))]);

#[derive(OpenApi)]
#[openapi(
    paths(
        plain_1, plain_2, any_1, any_2, not_1, not_2, many_1, many_2, places_1, places_2, body_1, body_2, only_1,
        only_2, two_1, two_2, own_1, own_2, open, guarded, written, outside
    ),
    modifiers(&Own, &API_KEYS)
)]
struct Api;

fn main() {
    let document = serde_json::to_value(Api::openapi()).unwrap();
    let operation = |path: &str| {
        let mut operation = document["paths"][path]["get"].clone();
        operation["operationId"].take();
        operation
    };
    for path in [
        "plain", "any", "not", "many", "places", "body", "only", "own", "two",
    ] {
        let (above, below) = (format!("/above/{path}"), format!("/below/{path}"));
        let (above, below) = match path {
            "own" => ("/own/above".to_owned(), "/own/below".to_owned()),
            _ => (above, below),
        };
        assert_eq!(operation(&above), operation(&below), "{path}");
    }
    let security = |path: &str| operation(path)["security"].clone();
    assert_eq!(security("/above/plain"), json!([{ "api_key": [] }]));
    assert_eq!(
        security("/above/any"),
        json!([{ "api_key": ["a", "b"] }, { "api_key": ["a", "read"] }])
    );
    assert_eq!(security("/above/not"), json!([{ "api_key": ["a"] }, {}]));
    assert_eq!(
        operation("/above/not")["x-required-scopes"],
        json!({ "all": ["a", { "not": "b" }, "p:{id}:read"] })
    );
    assert_eq!(security("/above/many"), json!([{ "api_key": [] }]));
    assert_eq!(security("/above/places").as_array().unwrap().len(), 7);
    assert_eq!(security("/above/body"), json!([{ "api_key_bearer": [] }]));
    assert_eq!(
        operation("/above/body")["x-api-key-in-body"],
        json!(["key"])
    );
    assert_ne!(operation("/above/body")["responses"]["413"], Value::Null);
    assert_eq!(security("/above/only"), Value::Null);
    assert_eq!(
        security("/above/two"),
        json!([{ "api_key": ["a", "b"] }, {}])
    );
    assert_eq!(security("/own/above"), json!([{ "own": [] }]));
    assert_eq!(
        operation("/own/above")["responses"]["401"]["description"],
        "own"
    );
    assert_eq!(security("/admin/open"), json!([{ "api_key": ["admin"] }]));
    assert_eq!(
        security("/admin/guarded"),
        json!([{ "api_key": ["admin"], "api_key_bearer": ["a"] }])
    );
    assert_eq!(
        security("/admin/written"),
        json!([{ "api_key": ["a", "admin"] }])
    );
    assert_eq!(security("/administration"), Value::Null);
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["api_key"]["name"], "x-api-key");
    assert_eq!(schemes["api_key_basic"]["description"], "own");
    assert_eq!(schemes["api_key_header_x-api_key"]["name"], "x-api!key");
    assert_eq!(schemes["api_key_query_k"]["in"], "query");
    assert_eq!(schemes["api_key_cookie_c"]["in"], "cookie");
    assert_eq!(schemes.as_object().unwrap().len(), 8, "{schemes}");
}
