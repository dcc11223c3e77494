//! The answers of the endpoints.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use apikey_runtime::manager::CheckedKey;
use apikey_runtime::{ApiKeyManager, Denied, DenyReason, Policy};

use crate::pages::text::encode_value;

const ID: HeaderName = HeaderName::from_static("x-apikey-id");
const OWNER: HeaderName = HeaderName::from_static("x-apikey-owner");
const SCOPES: HeaderName = HeaderName::from_static("x-apikey-scopes");
const STATUS: HeaderName = HeaderName::from_static("x-apikey-status");

/// Returns the answer to a request whose key is accepted. A gateway copies its headers to the service.
///
/// Each of them is written, even if it is empty: a gateway that replaces what the client sent leaves a header that it does
/// not get.
pub(super) fn accepted(checked: &CheckedKey) -> HttpResponse {
    let key = checked.key();
    let mut response = HttpResponse::Ok().finish();
    let headers = response.headers_mut();
    headers.insert(ID, text(key.id().as_str().to_owned()));
    headers.insert(
        OWNER,
        text(key.owner().map(encode_value).unwrap_or_default()),
    );
    headers.insert(SCOPES, text(key.scopes().to_string()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in checked.headers() {
        headers.insert(name, value);
    }
    response
}

/// Returns a text of ASCII characters as a header's value.
fn text(text: String) -> HeaderValue {
    // Ids, scopes and what is percent-encoded do not have other characters.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// Returns the answer of a guarded route to a denial.
pub(super) fn denied(
    request: &HttpRequest,
    denied: &Denied,
    manager: &ApiKeyManager,
    policy: &Policy,
) -> HttpResponse {
    let mut response = denied.response(request);
    replace(response.headers_mut(), denied.headers(manager, policy));
    response
}

/// Replaces the headers by `headers`, of which some may have several values.
fn replace(all: &mut HeaderMap, headers: HeaderMap) {
    for name in headers.keys() {
        all.remove(name);
    }
    for (name, value) in headers {
        all.append(name, value);
    }
}

/// Folds a denial into the statuses that nginx passes on: it answers a subrequest of another status with 500. The body,
/// which states the real status, is left out: nginx does not use it.
pub(super) fn fold_for_nginx(
    response: HttpResponse,
    manager: &ApiKeyManager,
    policy: &Policy,
) -> HttpResponse {
    let status = response.status();
    let folded = match status.as_u16() {
        400 | 408 | 413 | 415 => StatusCode::UNAUTHORIZED,
        429 => StatusCode::FORBIDDEN,
        _ => status,
    };
    let mut response = response.drop_body().map_into_boxed_body();
    *response.status_mut() = folded;
    response.headers_mut().remove(header::CONTENT_TYPE);
    let headers = response.headers_mut();
    headers.insert(STATUS, HeaderValue::from(status.as_u16()));
    // Each 401 has a challenge (RFC 9110 section 15.5.2).
    if folded == StatusCode::UNAUTHORIZED && !headers.contains_key(header::WWW_AUTHENTICATE) {
        let bare = Denied::from(DenyReason::MissingKey).headers(manager, policy);
        for challenge in bare.get_all(header::WWW_AUTHENTICATE) {
            headers.append(header::WWW_AUTHENTICATE, challenge.clone());
        }
    }
    response
}

/// Returns the answer to a request that the configuration cannot mean. The log says what to fix.
pub(super) fn misconfigured(request: &HttpRequest) -> HttpResponse {
    Denied::from(DenyReason::Misconfigured).response(request)
}
