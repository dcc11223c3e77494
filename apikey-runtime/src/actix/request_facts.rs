//! The facts of a request, for a check by a caller that found the key by itself.

use actix_web::HttpRequest;

use super::app_data;
use super::request_info::ActixRequestInfo;
use crate::manager::ApiKeyManager;
use crate::policy::{RequestFacts, RequestInfo as _};

impl<'a> RequestFacts<'a> {
    /// Returns the facts of a request: the client's address, the method, and whether it came over TLS. The address and the
    /// use of TLS are those of the connection, or those that [trusted proxies](crate::guide::proxies) state, as the nearest
    /// manager of the request is configured. The route is unknown.
    ///
    /// ```
    /// use actix_web::{HttpRequest, web};
    /// use apikey_runtime::manager::RequestFacts;
    /// use apikey_runtime::{ApiKeyManager, Policy};
    ///
    /// // A key in a place that locations do not know.
    /// async fn hook(request: HttpRequest, key: web::Path<String>, manager: web::Data<ApiKeyManager>) -> &'static str {
    ///     let facts = RequestFacts::of_request(&request).with_route("/hooks/{key}");
    ///     match manager.check(&key, &Policy::new(), &facts).await {
    ///         Ok(_) => "accepted",
    ///         Err(_) => "denied",
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn of_request(request: &'a HttpRequest) -> Self {
        let config = app_data::nearest(request).map(ApiKeyManager::config);
        let info = ActixRequestInfo { request, config };
        let facts = Self::new()
            .with_method(request.method().as_str())
            .with_https(info.is_encrypted());
        match info.address() {
            Some(address) => facts.with_address(address),
            None => facts,
        }
    }

    /// Returns the facts of the request that a gateway asks about: the client's address, its use of TLS, and the method.
    ///
    /// The address and the use of TLS are those that [trusted proxies](crate::guide::proxies) state, as the nearest manager
    /// of the request is configured, and the gateway has to be one of them. The method is that of `X-Forwarded-Method` or
    /// `X-Original-Method`. It is unknown if both are there and differ: a gateway writes one, and passes on the other as its
    /// client wrote it. So a gateway **must** write one of them.
    ///
    /// From other callers, all facts are unknown: such a caller is not the client. Failed attempts are counted
    /// against the caller then, and never against a trusted proxy. The route is unknown.
    #[must_use]
    pub fn of_original(request: &'a HttpRequest) -> Self {
        let config = app_data::nearest(request).map(ApiKeyManager::config);
        ActixRequestInfo { request, config }.original()
    }
}
