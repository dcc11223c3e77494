//! Responses to denied requests: status, headers and body.

use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use once_cell::sync::Lazy;

use super::app_data;
use super::challenge;
use super::credential::Locations;
use super::policy::{DefaultPolicy, RouteRules};
use super::rate_limit_fields::{retry_seconds, write_headers as write_limits};
use super::vary;
use crate::config::Config;
use crate::denied::{Denied, DenyReason};
use crate::manager::ApiKeyManager;
use crate::policy::Policy;

/// The bodies, created once, by the numbers of their reasons. They do not contain any part of a request.
static BODIES: Lazy<Vec<Bytes>> = Lazy::new(|| {
    let bodies = DenyReason::ALL.into_iter().map(problem);
    bodies.map(Bytes::from).collect()
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
    mut denied: Denied,
    request: &HttpRequest,
    rules: &RouteRules,
    manager: Option<&ApiKeyManager>,
) -> DeniedResponse {
    let context = Context::new(&rules.policy, manager);
    let of_manager = || manager.and_then(ApiKeyManager::own_error_handler);
    let response = if let Some(own) = rules.on_error {
        context.complete(&mut denied, |denied| own(denied, request))
    } else if let Some(handler) = of_manager() {
        context.complete(&mut denied, |denied| handler.answer(denied, request))
    } else {
        problem_details(&denied, |headers| context.write_headers(&denied, headers))
    };
    #[cfg(feature = "audit-routes")]
    let response = mark_refused(response, denied.reason());
    DeniedResponse { denied, response }
}

/// Marks a response as one to a denied request. Other code cannot make the mark, so an audit tells the
/// guard's 401 from that of a handler.
#[cfg(feature = "audit-routes")]
pub(super) struct RefusedMark(pub(super) DenyReason);

#[cfg(feature = "audit-routes")]
fn mark_refused(mut response: HttpResponse, reason: DenyReason) -> HttpResponse {
    response.extensions_mut().insert(RefusedMark(reason));
    response
}

/// Returns the headers of the default response to a denial.
pub(super) fn denial_headers(
    denied: &Denied,
    manager: &ApiKeyManager,
    policy: &Policy,
) -> HeaderMap {
    Context::new(policy, Some(manager)).headers(denied)
}

impl Denied {
    /// Returns the default response, for an error handler to edit: problem details (RFC 9457) with
    /// all headers of the denial.
    ///
    /// Whatever a handler returns, the headers that it leaves out are added to its response:
    /// `WWW-Authenticate`, `Retry-After`, `RateLimit`, `RateLimit-Policy` and `Cache-Control`. A
    /// header that the handler set is kept, and `Vary` is extended. If the handler changes the
    /// status, `WWW-Authenticate` is added only to a 401, which must have it (RFC 9110 section
    /// 15.5.2): a handler that hides a route behind 404 would otherwise reveal it.
    ///
    /// Outside a handler, for the denial of [`ApiKeyManager::verify`], the challenges are those of
    /// the nearest manager's configuration.
    ///
    /// ```
    /// use actix_web::http::header::{self, HeaderValue};
    /// use actix_web::{HttpRequest, HttpResponse};
    /// use apikey_runtime::{Denied, api_key_required};
    ///
    /// fn with_help(denied: &Denied, request: &HttpRequest) -> HttpResponse {
    ///     let mut response = denied.response(request);
    ///     let help = HeaderValue::from_static("</docs/keys>; rel=\"help\"");
    ///     response.headers_mut().insert(header::LINK, help);
    ///     response
    /// }
    ///
    /// #[api_key_required(on_error = with_help)]
    /// async fn orders() -> &'static str {
    ///     "orders"
    /// }
    /// ```
    #[must_use]
    pub fn response(&self, request: &HttpRequest) -> HttpResponse {
        match self.web_extension::<DenialHeaders>() {
            Some(DenialHeaders(defaults)) => problem_details(self, |headers| {
                for (name, value) in defaults {
                    headers.append(name.clone(), value.clone());
                }
            }),
            None => {
                let rules = const { &RouteRules::of::<DefaultPolicy>() };
                let context = Context::new(&rules.policy, app_data::nearest(request));
                problem_details(self, |headers| context.write_headers(self, headers))
            }
        }
    }
}

/// The headers of a denial's default response, without those of its body.
struct DenialHeaders(HeaderMap);

/// What the headers of a denial depend on beside the denial.
struct Context<'m> {
    locations: Locations<'m>,
    realm: Option<&'m str>,
}

impl<'m> Context<'m> {
    fn new(policy: &Policy, manager: Option<&'m ApiKeyManager>) -> Self {
        let config = manager.map(ApiKeyManager::config);
        Self {
            locations: Locations::of(policy, config),
            realm: config.and_then(Config::realm),
        }
    }

    fn headers(&self, denied: &Denied) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.write_headers(denied, &mut headers);
        headers
    }

    /// Writes the headers into a map that has none of them.
    fn write_headers(&self, denied: &Denied, headers: &mut HeaderMap) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        challenge::add(headers, denied, self.locations.list(), self.realm);
        if let Some(after) = denied.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_seconds(after)));
        }
        write_limits(denied.limits(), headers);
        vary::add(headers, self.locations.list());
    }

    /// Calls an error handler, and adds the headers that its response leaves out.
    fn complete(
        &self,
        denied: &mut Denied,
        handler: impl FnOnce(&Denied) -> HttpResponse,
    ) -> HttpResponse {
        let defaults = Arc::new(DenialHeaders(self.headers(denied)));
        denied.set_web_extension(Arc::clone(&defaults) as _);
        let mut response = handler(denied);
        let status = response.status();
        let challenged = status == StatusCode::UNAUTHORIZED || status.as_u16() == denied.status();
        let headers = response.headers_mut();
        vary::add_all(headers, defaults.0.get_all(header::VARY));
        for name in defaults.0.keys() {
            let is_challenge = name == header::WWW_AUTHENTICATE;
            if headers.contains_key(name) || (is_challenge && !challenged) {
                continue;
            }
            for value in defaults.0.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if status == StatusCode::UNAUTHORIZED && !headers.contains_key(header::WWW_AUTHENTICATE) {
            challenge::add_bare(headers, self.locations.list(), self.realm);
        }
        response
    }
}

fn problem_details(denied: &Denied, write_headers: impl FnOnce(&mut HeaderMap)) -> HttpResponse {
    let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let body = BODIES.get(denied.reason() as usize).cloned();
    let mut response = HttpResponse::build(status)
        .insert_header((
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        ))
        .body(body.unwrap_or_default());
    write_headers(response.headers_mut());
    response
}

/// Returns the problem details of a reason (RFC 9457 section 3).
fn problem(reason: DenyReason) -> String {
    serde_json::json!({
        "type": problem_type(reason),
        "title": reason.title(),
        "status": reason.status(),
        "detail": reason.detail(),
    })
    .to_string()
}

/// Returns the URI that names a reason.
pub(super) fn problem_type(reason: DenyReason) -> String {
    format!("urn:problem-type:api-key:{}", reason.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_body_of_its_own_status() {
        for reason in DenyReason::ALL {
            let body = &BODIES[reason as usize];
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
