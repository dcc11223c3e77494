//! Checks the key in the headers of a request, by facts that its caller knows.

use actix_web::http::header::HeaderMap;

use super::credential::{Extracted, Locations, find_in_headers};
use crate::denied::{Denied, DenyReason};
use crate::manager::{ApiKeyManager, CheckedKey};
use crate::policy::{KeyLocation, Policy, RequestFacts};

impl ApiKeyManager {
    /// Finds the key in the headers of a request, and [checks](Self::check) it.
    ///
    /// The key is searched at the policy's [locations](Policy::locations), else at the configured one, as far as they
    /// are headers: neither cookies, nor the query, nor the body is read. As at a route, several keys are denied. Whether a key is
    /// [optional](Policy::optional) is not considered.
    ///
    /// ```
    /// use actix_web::{HttpRequest, HttpResponse, web};
    /// use apikey_runtime::manager::RequestFacts;
    /// use apikey_runtime::{ApiKeyManager, Policy, ScopeExpr};
    ///
    /// const ORDERS: Policy = Policy::new().scopes(ScopeExpr::One("orders:read"));
    ///
    /// // What a gateway asks for each request.
    /// async fn authorize(request: HttpRequest, manager: web::Data<ApiKeyManager>) -> HttpResponse {
    ///     let facts = RequestFacts::of_original(&request).with_route("/orders/{id}");
    ///     match manager.check_headers(request.headers(), &ORDERS, &facts).await {
    ///         Ok(_) => HttpResponse::Ok().finish(),
    ///         Err(denied) => denied.response(&request),
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the reason for the denial. [`Denied::headers`] returns the headers of an answer to it.
    pub async fn check_headers(
        &self,
        headers: &HeaderMap,
        policy: &Policy,
        facts: &RequestFacts<'_>,
    ) -> Result<CheckedKey, Denied> {
        let locations = Locations::of(policy, self.config());
        let mut found = Extracted::Nothing;
        for location in locations.list() {
            found = found.and(find_in_headers(headers, location));
        }
        let reason = match found {
            Extracted::One(key) => return self.check_presented(&key, policy, facts).await,
            Extracted::Multiple => DenyReason::MultipleKeys,
            Extracted::Malformed => DenyReason::MalformedRequest,
            Extracted::Nothing if locations.list().iter().any(is_header) => DenyReason::MissingKey,
            Extracted::Nothing => {
                tracing::error!(
                    "a check has no location that is a header; write `Policy::locations`, such as `KeyLocation::BEARER`"
                );
                DenyReason::Misconfigured
            }
        };
        Err(self.verifier().record_denial(reason, policy, || None))
    }
}

fn is_header(location: &KeyLocation<'_>) -> bool {
    use KeyLocation::{Basic, Header, WebSocket};
    matches!(location, Header { .. } | Basic | WebSocket)
}
