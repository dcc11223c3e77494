//! `ApiKey` as an extractor: the key that was checked for this request.

use std::fmt;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError};

use super::policy::{DefaultPolicy, RouteRules};
use super::response::deny;
use super::verified::Verified;
use crate::api_key::ApiKey;
use crate::denied::{Denied, DenyReason};

impl ApiKey {
    /// The key that was checked for this request; `None` where no check ran, or an optional one
    /// found no key.
    ///
    /// For middleware: before the handler is called there is none, after it there is
    /// (`ApiKey::of_request(response.request())`).
    #[must_use]
    pub fn of_request(request: &impl HttpMessage) -> Option<Self> {
        request
            .extensions()
            .get::<Verified>()
            .map(|verified| verified.allowed.key.clone())
    }
}

impl FromRequest for ApiKey {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Self::of_request(request).ok_or_else(|| Unchecked(request.clone()).into()))
    }
}

/// No key was checked. Said only where this becomes an answer: `Option<ApiKey>` drops it, for each
/// anonymous request of an optional route.
struct Unchecked(HttpRequest);

impl ResponseError for Unchecked {
    fn status_code(&self) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }

    fn error_response(&self) -> HttpResponse {
        tracing::error!(
            path = self.0.match_pattern(),
            "`ApiKey` was asked for where no key was checked; \
             write `#[api_key_required]` on the handler, or take `Option<ApiKey>`"
        );
        let denied = Denied::new(DenyReason::Misconfigured);
        deny(denied, &self.0, &RouteRules::of::<DefaultPolicy>(), None).response
    }
}

impl fmt::Display for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no key was checked for this request")
    }
}

impl fmt::Debug for Unchecked {
    /// WithoutMember the request, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unchecked")
    }
}
