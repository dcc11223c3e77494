//! Responses to denied requests: status, headers and body.

use std::fmt::Write as _;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use once_cell::sync::Lazy;

use super::policy::RouteRules;
use super::rate_limit_fields::write_headers;
use crate::denied::{Denied, DenyReason};
use crate::manager::ApiKeyManager;
use crate::policy::KeyLocation;

/// The scheme in a challenge if the key is not sent after a scheme.
const OWN_SCHEME: &str = "ApiKey";

/// The bodies, created once. They do not contain any part of a request.
static BODIES: Lazy<Vec<(DenyReason, Bytes)>> = Lazy::new(|| {
    DenyReason::ALL
        .iter()
        .map(|reason| (*reason, Bytes::from(problem(*reason))))
        .collect()
});

/// A denial and its response.
pub(super) struct DeniedResponse {
    pub(super) denied: Denied,
    pub(super) response: HttpResponse<BoxBody>,
}

impl From<DeniedResponse> for actix_web::Error {
    fn from(denied: DeniedResponse) -> Self {
        InternalError::from_response(denied.denied, denied.response).into()
    }
}

/// Makes the response to a denial: by the route's `on_error`, else by the manager's handler, else
/// as problem details.
pub(super) fn deny(
    denied: Denied,
    request: &HttpRequest,
    rules: &RouteRules,
    manager: Option<&ApiKeyManager>,
) -> DeniedResponse {
    let response = respond(&denied, request, rules, manager);
    DeniedResponse { denied, response }
}

fn respond(
    denied: &Denied,
    request: &HttpRequest,
    rules: &RouteRules,
    manager: Option<&ApiKeyManager>,
) -> HttpResponse<BoxBody> {
    if let Some(own) = rules.on_error {
        return own(denied, request);
    }
    match manager.and_then(ApiKeyManager::own_error_handler) {
        Some(handler) => handler.answer(denied, request),
        None => problem_details(denied, rules, manager),
    }
}

fn problem_details(
    denied: &Denied,
    rules: &RouteRules,
    manager: Option<&ApiKeyManager>,
) -> HttpResponse {
    let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let mut response = HttpResponse::build(status);
    response.insert_header((
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    ));
    response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    if let Some(challenge) = challenge(denied, rules, manager) {
        response.insert_header((header::WWW_AUTHENTICATE, challenge));
    }
    if let Some(after) = denied.retry_after() {
        response.insert_header((header::RETRY_AFTER, HeaderValue::from(whole_seconds(after))));
    }
    let body = BODIES
        .iter()
        .find(|(reason, _)| *reason == denied.reason())
        .map(|(_, body)| body.clone());
    let mut response = response.body(body.unwrap_or_default());
    write_headers(denied.limits(), response.headers_mut());
    response
}

/// Rounds up to whole seconds, so that a client that waits for this time does not retry too early.
fn whole_seconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

/// Returns the problem details of a reason (RFC 9457 section 3).
fn problem(reason: DenyReason) -> String {
    serde_json::json!({
        "type": format!("urn:problem-type:api-key:{}", reason.code()),
        "title": reason.title(),
        "status": reason.status(),
        "detail": reason.detail(),
    })
    .to_string()
}

/// Returns the `WWW-Authenticate` header (RFC 6750 section 3): for each 401, and for the other
/// denials that are due to the credential. Without a credential, it does not contain an error code.
fn challenge(
    denied: &Denied,
    rules: &RouteRules,
    manager: Option<&ApiKeyManager>,
) -> Option<HeaderValue> {
    let error = match denied.status() {
        400 => Some("invalid_request"),
        401 if denied.reason() == DenyReason::MissingKey => None,
        401 => Some("invalid_token"),
        403 if denied.reason() == DenyReason::InsufficientScope => Some("insufficient_scope"),
        _ => return None,
    };
    let default = manager.map_or(KeyLocation::BEARER, |manager| manager.config().location());
    let first = rules
        .policy
        .locations
        .and_then(|locations| locations.first().copied());
    let location = first.unwrap_or(default);
    let mut text = scheme_of(location).to_owned();
    let mut separator = ' ';
    let mut add = |name: &str, value: &str| {
        // Writing to a `String` cannot fail.
        let _ = write!(
            text,
            "{separator}{}{name}=\"{value}\"",
            if separator == ',' { " " } else { "" }
        );
        separator = ',';
    };
    let realm = manager.and_then(|manager| manager.config().realm());
    // Basic requires a realm (RFC 7617 section 2).
    if let Some(realm) = realm.or((location == KeyLocation::Basic).then_some("api")) {
        add("realm", realm);
    }
    if let Some(error) = error {
        add("error", error);
    }
    let wanted = denied.required_scopes();
    if !wanted.is_empty() {
        add("scope", &wanted.join(" "));
    }
    HeaderValue::try_from(text).ok()
}

/// Returns the scheme in a challenge for a key at this location.
fn scheme_of(location: KeyLocation<'_>) -> &str {
    match location {
        KeyLocation::Header {
            scheme: Some(scheme),
            ..
        } => scheme,
        KeyLocation::Basic => "Basic",
        _ => OWN_SCHEME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_body_of_its_own_status() {
        for (reason, body) in BODIES.iter() {
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert_eq!(body["status"], reason.status());
            assert!(body["type"].as_str().unwrap().ends_with(reason.code()));
            assert!(
                !body["title"].as_str().unwrap().is_empty()
                    && !body["detail"].as_str().unwrap().is_empty()
            );
        }
    }
}
