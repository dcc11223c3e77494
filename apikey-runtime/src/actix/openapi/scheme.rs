//! Security schemes: how a location of the key is written in a document.

use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};

use crate::policy::KeyLocation;

/// The scheme of the location that the manager's configuration sets.
pub(super) const DEFAULT_SCHEME: &str = "api_key";

/// Returns the name of the scheme of a location; `None` if the key is in the body, for which OpenAPI
/// does not have a scheme. The attribute writes the same names.
pub(super) fn scheme_name(location: &KeyLocation<'_>) -> Option<String> {
    let name = match location {
        KeyLocation::Header { name, scheme } => match scheme {
            Some(scheme) if is_bearer(name, scheme) => "bearer".to_owned(),
            Some(scheme) => format!("header_{name}_{}", scheme.to_ascii_lowercase()),
            None => format!("header_{name}"),
        },
        KeyLocation::Basic => "basic".to_owned(),
        KeyLocation::WebSocket => "websocket".to_owned(),
        KeyLocation::Query { name } => format!("query_{name}"),
        KeyLocation::Cookie { name } => format!("cookie_{name}"),
        KeyLocation::Json { .. } | KeyLocation::Form { .. } => return None,
    };
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let name = name.replace(|letter| !is_plain(letter), "_");
    Some(format!("{DEFAULT_SCHEME}_{name}"))
}

/// Returns the scheme of a location; `None` if the key is in the body.
pub(super) fn scheme(location: &KeyLocation<'_>) -> Option<SecurityScheme> {
    let scheme = match location {
        KeyLocation::Header {
            name,
            scheme: Some(scheme),
        } if is_bearer(name, scheme) => {
            http(HttpAuthScheme::Bearer, "An API key as the Bearer token.")
        }
        KeyLocation::Header { name, scheme } => {
            let description = match scheme {
                Some(scheme) => format!("The word `{scheme}`, a space, and an API key."),
                None => "An API key.".to_owned(),
            };
            header(name, description)
        }
        KeyLocation::Basic => {
            let description = "An API key as the user name. The password is ignored.";
            http(HttpAuthScheme::Basic, description)
        }
        KeyLocation::WebSocket => {
            let description = "The subprotocol `bearer`, a comma, and an API key.".to_owned();
            header("sec-websocket-protocol", description)
        }
        KeyLocation::Query { name } => SecurityScheme::ApiKey(ApiKey::Query(value(name))),
        KeyLocation::Cookie { name } => SecurityScheme::ApiKey(ApiKey::Cookie(value(name))),
        KeyLocation::Json { .. } | KeyLocation::Form { .. } => return None,
    };
    Some(scheme)
}

/// Returns whether two schemes, serialized, are for the same place in a request. Their descriptions do not
/// matter.
pub(super) fn is_same_place(one: &impl Serialize, other: &impl Serialize) -> bool {
    let place = |scheme: Result<Value, _>| {
        let scheme = scheme.unwrap_or_default();
        let members = ["type", "scheme", "in", "name"].map(|member| scheme[member].clone());
        let is_header = scheme["in"] == "header";
        members.map(|member| match member {
            Value::String(text) if is_header => text.to_ascii_lowercase().into(),
            member => member,
        })
    };
    place(serde_json::to_value(one)) == place(serde_json::to_value(other))
}

fn http(scheme: HttpAuthScheme, description: &str) -> SecurityScheme {
    let builder = HttpBuilder::new().scheme(scheme);
    SecurityScheme::Http(builder.description(Some(description)).build())
}

fn header(name: &str, description: String) -> SecurityScheme {
    let value = ApiKeyValue::with_description(name.to_owned(), description);
    SecurityScheme::ApiKey(ApiKey::Header(value))
}

fn value(name: &str) -> ApiKeyValue {
    ApiKeyValue::with_description(name, "An API key.")
}

fn is_bearer(name: &str, scheme: &str) -> bool {
    name == "authorization" && scheme.eq_ignore_ascii_case("bearer")
}
