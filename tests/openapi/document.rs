//! What the attribute and `ApiKeySecurity` write into the document.

use std::collections::BTreeMap;

use apikey_runtime::KeyLocation;
use expect_test::expect_file;
use serde_json::{Value, json};
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::serving::{API_KEYS, Api, document};

/// Returns the operations with their paths and methods, by their ids.
fn operations(document: &Value) -> BTreeMap<String, (String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| {
            let id = operation["operationId"].as_str().unwrap();
            let place = format!("{} {path}", method.to_uppercase());
            (id.to_owned(), (place, operation))
        })
    });
    operations.collect()
}

/// Returns the document as a text, in which responses that are those of `whoami` are only named.
fn text(document: &Value) -> String {
    let operations = operations(document);
    let denials = &operations["whoami"].1["responses"];
    let mut text = format!("{} {}\n", document["openapi"], document["info"]);
    for (id, (place, operation)) in &operations {
        text += &format!("\n{place} {id}\n");
        for (name, value) in operation.as_object().unwrap() {
            if name == "responses" {
                let mut same = Vec::new();
                for (status, response) in value.as_object().unwrap() {
                    if id != "whoami" && *response == denials[status] {
                        same.push(status.as_str());
                    } else {
                        text += &format!("  {status}: {response}\n");
                    }
                }
                if !same.is_empty() {
                    text += &format!("  as `whoami`: {}\n", same.join(" "));
                }
            } else if name != "operationId" {
                text += &format!("  {name}: {value}\n");
            }
        }
    }
    for (kind, components) in document["components"].as_object().unwrap() {
        text += &format!("\n{kind}\n");
        for (name, component) in components.as_object().unwrap() {
            text += &format!("  {name}: {component}\n");
        }
    }
    text
}

/// `UPDATE_EXPECT=1 cargo test --test openapi` rewrites the snapshot.
#[test]
fn the_document_of_each_kind_of_option() {
    expect_file!["document.txt"].assert_eq(&text(&document()));
}

/// utoipa-actix-web and `derive(OpenApi)` differ in tags only.
#[test]
fn a_derived_document_says_the_same() {
    let mut derived = serde_json::to_value(Api::openapi()).unwrap();
    let items = derived["paths"].as_object_mut().unwrap().values_mut();
    for operation in items.flat_map(|item| item.as_object_mut().unwrap().values_mut()) {
        operation.as_object_mut().unwrap().remove("tags");
    }
    assert_eq!(text(&derived), text(&document()));
}

/// What a guard demands does not depend on the side of `#[utoipa::path]` on which it stands.
#[test]
fn guards_above_and_below_say_the_same() {
    let document = document();
    let operations = operations(&document);
    for (below, above) in [
        ("below_scope", "list_orders"),
        ("below_header", "in_a_header"),
        ("below_optional", "with_or_without"),
        ("below_two", "two_keys"),
        ("both_sides", "two_keys"),
    ] {
        let (below, above) = (operations[below].1, operations[above].1);
        assert_eq!(below["security"], above["security"], "{below}");
        for status in ["400", "401", "403", "429", "503"] {
            assert_eq!(below["responses"][status], above["responses"][status]);
            assert!(above["responses"][status].is_object(), "{above}");
        }
    }
}

/// The requirements, in words of OpenAPI: a list is "or", members of an object are "and".
#[test]
fn the_security_of_each_kind_of_option() {
    let document = document();
    let operations = operations(&document);
    let security = |id: &str| &operations[id].1["security"];
    assert_eq!(
        security("list_orders"),
        &json!([{ "api_key": ["orders:read"] }])
    );
    assert_eq!(
        security("search"),
        &json!([{ "api_key": ["orders:read"] }, { "api_key": ["orders:search"] }])
    );
    assert_eq!(
        security("two_scopes"),
        &json!([{ "api_key": ["orders:read", "reports:read"] }])
    );
    assert_eq!(security("with_or_without"), &json!([{ "api_key": [] }, {}]));
    assert_eq!(security("users"), &json!([{ "api_key": ["admin"] }]));
    assert_eq!(security("own_security"), &json!([{ "mine": ["a"] }]));
    for open in ["open", "in_json", "in_a_form"] {
        assert_eq!(security(open), &Value::Null, "{open}");
    }
    assert_eq!(security("anywhere").as_array().unwrap().len(), 3);
    assert_eq!(security("two_keys")[0].as_object().unwrap().len(), 2);
}

/// An application often has a scheme `api_key` for keys of another kind.
struct OtherKeys(&'static str);

impl Modify for OtherKeys {
    fn modify(&self, document: &mut Document) {
        let header = ApiKey::Header(ApiKeyValue::new(self.0));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(header));
    }
}

#[test]
#[should_panic = "the application's scheme `api_key` is not for the place"]
fn a_scheme_of_the_application_for_another_place_is_not_taken_for_that_of_guards() {
    let mut document = Api::openapi();
    OtherKeys("X-Legacy-Key").modify(&mut document);
    API_KEYS.modify(&mut document);
}

/// Negative control, and the description that an application wrote stays.
#[test]
fn a_scheme_of_the_application_for_the_same_place_is_kept() {
    let mut document = Api::openapi();
    OtherKeys("X-Legacy-Key").modify(&mut document);
    let place = KeyLocation::Header {
        name: "x-legacy-key",
        scheme: None,
    };
    API_KEYS.location(place).modify(&mut document);
    let document = serde_json::to_value(document).unwrap();
    let scheme = &document["components"]["securitySchemes"]["api_key"];
    assert_eq!(scheme["name"], "X-Legacy-Key");
}
