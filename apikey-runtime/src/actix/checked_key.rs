//! The headers of answers to checks by callers that are not routes.

use actix_web::http::header::HeaderMap;

use super::key_notice::KeyNotice;
use super::rate_limit_fields::write_headers;
use super::response::denial_headers;
use crate::denied::Denied;
use crate::manager::{ApiKeyManager, CheckedKey};
use crate::policy::Policy;

impl CheckedKey {
    /// Returns the headers that [`KeyHeaders`](crate::KeyHeaders) adds to the response of a route,
    /// without `Vary`: the status of limits, and what is to be said of the [end of the
    /// key](crate::guide::end_of_a_key). They do not contain the label or other texts of the key,
    /// except the names of limits, which are encoded.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        write_headers(&self.limit_status(), &mut headers);
        if let Some(notice) = KeyNotice::of(self.allowed(), self.manager().config()) {
            notice.write(&mut headers);
        }
        headers
    }
}

impl Denied {
    /// Returns the headers of the response of a route with this policy: `WWW-Authenticate`,
    /// `Retry-After`, `RateLimit`, `RateLimit-Policy`, `Cache-Control` and `Vary`, as far as the denial
    /// has them. For a caller that is not a route; see [`ApiKeyManager::check`].
    #[must_use]
    pub fn headers(&self, manager: &ApiKeyManager, policy: &Policy) -> HeaderMap {
        denial_headers(self, manager, policy)
    }
}
