//! Access to the result of a check, for handlers and middleware: [`ApiKeyExt`], and `ApiKey` as an
//! extractor.

use std::fmt;
use std::future::{Ready, ready};

use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError};

use super::app_data::nearest;
use super::policy::{DefaultPolicy, RouteRules};
use super::response::deny;
use super::verified::Verified;
use crate::api_key::ApiKey;
use crate::denied::{Denied, DenyReason};
use crate::limit::LimitStatus;
use crate::manager::ApiKeyManager;
use crate::verify::limit_statuses;

/// Access to the result of a request's check, for handlers and middleware.
///
/// In middleware, the key is available after the inner service was called:
/// `response.request().api_key()`.
///
/// ```
/// use actix_web::HttpRequest;
/// use apikey_runtime::ApiKeyExt;
///
/// async fn who(request: HttpRequest) -> String {
///     request.api_key().map_or("anonymous".to_owned(), |key| key.label().to_owned())
/// }
/// ```
pub trait ApiKeyExt {
    /// Returns the key that was checked for this request; `None` if no check ran, if a guard denied the
    /// request, whatever guards before it allowed, or if a route with an optional key found none.
    fn api_key(&self) -> Option<ApiKey>;

    /// Returns the status of the limits that this request was charged against: those of its key and
    /// of its route. Empty without limits, or if [`api_key`](Self::api_key) is `None`.
    fn limit_status(&self) -> Vec<LimitStatus>;

    /// Returns the manager that a guarded route of this request uses: flask-api-key's
    /// `get_api_key_manager()`.
    fn api_key_manager(&self) -> Option<ApiKeyManager>;
}

impl ApiKeyExt for HttpRequest {
    fn api_key(&self) -> Option<ApiKey> {
        let extensions = self.extensions();
        let verified = extensions.get::<Verified>()?;
        Some(verified.api_key())
    }

    fn limit_status(&self) -> Vec<LimitStatus> {
        let extensions = self.extensions();
        let verified = extensions.get::<Verified>();
        verified.map_or_else(Vec::new, |verified| limit_statuses(&verified.allowed))
    }

    fn api_key_manager(&self) -> Option<ApiKeyManager> {
        nearest(self).cloned()
    }
}

impl ApiKeyExt for ServiceRequest {
    fn api_key(&self) -> Option<ApiKey> {
        self.request().api_key()
    }

    fn limit_status(&self) -> Vec<LimitStatus> {
        self.request().limit_status()
    }

    fn api_key_manager(&self) -> Option<ApiKeyManager> {
        self.request().api_key_manager()
    }
}

impl<B> ApiKeyExt for ServiceResponse<B> {
    fn api_key(&self) -> Option<ApiKey> {
        self.request().api_key()
    }

    fn limit_status(&self) -> Vec<LimitStatus> {
        self.request().limit_status()
    }

    fn api_key_manager(&self) -> Option<ApiKeyManager> {
        self.request().api_key_manager()
    }
}

impl FromRequest for ApiKey {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(
            request
                .api_key()
                .ok_or_else(|| Unchecked(request.clone()).into()),
        )
    }
}

/// The error that no key was checked. It is logged only when it becomes a response:
/// `Option<ApiKey>` drops it, for each anonymous request of an optional route.
struct Unchecked(HttpRequest);

impl ResponseError for Unchecked {
    fn status_code(&self) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }

    fn error_response(&self) -> HttpResponse {
        tracing::error!(
            path = self.0.match_pattern(),
            "`ApiKey` was extracted from a request whose key was not checked; \
             write `#[api_key_required]` on the handler, or take `Option<ApiKey>`"
        );
        let denied = Denied::new(DenyReason::Misconfigured);
        let rules = const { &RouteRules::of::<DefaultPolicy>() };
        deny(denied, &self.0, rules, nearest(&self.0)).response
    }
}

impl fmt::Display for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no key was checked for this request")
    }
}

impl fmt::Debug for Unchecked {
    /// Omits the request, which may contain a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unchecked")
    }
}
