//! The API's document, and what it says of an answer.

use std::sync::LazyLock;

use apikey_runtime::Timestamp;
use serde_json::Value;

use crate::app::Answer;

/// The document, as it is committed.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../apikey-portal/openapi.json")).unwrap()
});

/// An operation of the document.
pub struct Operation {
    pub method: String,
    pub path: &'static str,
    pub value: &'static Value,
}

/// Returns all operations.
pub fn operations() -> Vec<Operation> {
    let document: &'static Value = &DOCUMENT;
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, value)| Operation {
            method: method.to_uppercase(),
            path,
            value,
        })
    });
    operations.collect()
}

/// Returns the operation that answers a path below `/v1`.
pub fn operation(method: &str, path: &str) -> Option<Operation> {
    let path = path.split('?').next().unwrap();
    let fits = |pattern: &str| {
        let (pattern, path) = (pattern.split('/'), path.split('/'));
        pattern.clone().count() == path.clone().count()
            && pattern
                .zip(path)
                .all(|(wanted, found)| wanted.starts_with('{') || wanted == found)
    };
    let method = if method == "HEAD" { "GET" } else { method };
    operations()
        .into_iter()
        .find(|one| one.method == method && fits(one.path))
}

/// Follows a reference.
fn resolve(value: &'static Value) -> &'static Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => DOCUMENT.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}

/// Asserts that the answer, and the body of a request that was accepted, are as the document says.
#[track_caller]
pub fn check(method: &str, path: &str, body: Option<&Value>, answer: &Answer) {
    assert!(!answer.header("x-request-id").is_empty());
    let Some(operation) = operation(method, path) else {
        assert!(
            answer.status.is_client_error(),
            "{method} {path} is not documented"
        );
        return;
    };
    let place = format!("{method} {path}: {}", answer.status);
    let response = &operation.value["responses"][answer.status.as_str()];
    assert!(
        response.is_object(),
        "{place} is not documented: {}",
        answer.text
    );
    let response = resolve(response);
    for name in response["headers"].as_object().into_iter().flatten() {
        let optional = ["retry-after"].contains(&name.0.as_str());
        assert!(
            optional || !answer.header(name.0).is_empty(),
            "{place} lacks {}",
            name.0
        );
    }
    let media_type = answer.header("content-type");
    let content = &response["content"][media_type]["schema"];
    assert!(
        content.is_object(),
        "{place} has another media type: {media_type}"
    );
    if method != "HEAD" {
        let faults = faults(content, &answer.json());
        assert_eq!(faults, [""; 0], "{place}: {}", answer.text);
    }
    if let Some(body) = body.filter(|_| answer.status.is_success()) {
        let schema = &operation.value["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(faults(schema, body), [""; 0], "{place}: {body}");
    }
}

/// Returns why a value does not fit a schema.
pub fn faults(schema: &'static Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(resolve(schema), value, "$", &mut found);
    found
}

fn has_type(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("the type {name} is not known"),
    }
}

fn collect(schema: &'static Value, value: &Value, place: &str, found: &mut Vec<String>) {
    for (keyword, wanted) in schema.as_object().unwrap() {
        let fits = match keyword.as_str() {
            "type" => match wanted {
                Value::String(name) => has_type(name, value),
                names => names
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|name| has_type(name.as_str().unwrap(), value)),
            },
            "enum" => wanted.as_array().unwrap().contains(value),
            "format" => value
                .as_str()
                .is_none_or(|text| text.parse::<Timestamp>().is_ok()),
            "minimum" => value
                .as_i64()
                .is_none_or(|number| number >= wanted.as_i64().unwrap()),
            "maximum" => value
                .as_i64()
                .is_none_or(|number| number <= wanted.as_i64().unwrap()),
            "minItems" => value
                .as_array()
                .is_none_or(|list| list.len() as u64 >= wanted.as_u64().unwrap()),
            "maxItems" => value
                .as_array()
                .is_none_or(|list| list.len() as u64 <= wanted.as_u64().unwrap()),
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    collect(resolve(wanted), item, &format!("{place}[{at}]"), found);
                }
                true
            }
            "properties" | "required" | "additionalProperties" => {
                if keyword == "properties" {
                    members(schema, value, place, found);
                }
                true
            }
            "description" | "pattern" => true,
            _ => panic!("the keyword {keyword} is not known"),
        };
        if !fits {
            found.push(format!("{place}: {keyword}"));
        }
    }
}

fn members(schema: &'static Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let Some(members) = value.as_object() else {
        return;
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(name.as_str().unwrap()) {
            found.push(format!("{place}: {name} is missing"));
        }
    }
    for (name, member) in members {
        let place = format!("{place}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => found.push(format!("{place} is not known")),
            (Value::Null, _) => {}
            (schema, _) => collect(resolve(schema), member, &place, found),
        }
    }
}
