//! `ApiKey` as an extractor: the key that was checked for this request.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};

use super::answer::refuse;
use super::gate::Verified;
use super::route::{PlainPolicy, Rules};
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
            .map(|verified| verified.admitted.key.clone())
    }
}

impl FromRequest for ApiKey {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Self::of_request(request).ok_or_else(|| {
            tracing::error!(
                path = request.match_pattern(),
                "`ApiKey` was asked for where no key was checked; \
                 write `#[api_key_required]` on the handler, or take `Option<ApiKey>`"
            );
            let denied = Denied::new(DenyReason::Misconfigured);
            refuse(denied, request, &Rules::of::<PlainPolicy>(), None).into()
        }))
    }
}
