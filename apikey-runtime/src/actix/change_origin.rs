//! Where a change comes from, by the request that asked for it.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;

use super::app_data;
use super::request_info::ActixRequestInfo;
use crate::audit::ChangeOrigin;
use crate::manager::ApiKeyManager;
use crate::policy::RequestInfo as _;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The maximum length of a request's id.
const MAX_REQUEST_ID: usize = 64;

impl ChangeOrigin {
    /// Returns the origin of a change that a request asks for: the client's address, and the id of the
    /// request.
    ///
    /// The address is the peer's, or the one that [trusted proxies](crate::guide::proxies) state, as
    /// the nearest manager of the request is configured. The id is that of `X-Request-Id`, if the
    /// header is there once and consists of 1 to 64 ASCII letters, digits, `.`, `_` and `-`; a client
    /// can choose it, unless a proxy sets it. An actor is not named, and the channel is
    /// [`ChangeChannel::Code`](crate::audit::ChangeChannel::Code).
    ///
    /// ```
    /// use actix_web::{HttpRequest, HttpResponse, web};
    /// use apikey_runtime::audit::{ChangeChannel, ChangeOrigin};
    /// use apikey_runtime::{ApiKey, ApiKeyManager, Error, KeyId, api_key_required};
    ///
    /// #[api_key_required(scope = "keys:revoke")]
    /// async fn revoke(
    ///     key: ApiKey,
    ///     id: web::Path<KeyId>,
    ///     manager: web::Data<ApiKeyManager>,
    ///     request: HttpRequest,
    /// ) -> Result<HttpResponse, Error> {
    ///     let origin = ChangeOrigin::of_request(&request)
    ///         .with_actor(format!("key {}", key.id()))
    ///         .with_channel(ChangeChannel::Api);
    ///     manager.revoke(*id).origin(origin).await?;
    ///     Ok(HttpResponse::NoContent().finish())
    /// }
    /// ```
    #[must_use]
    pub fn of_request(request: &HttpRequest) -> Self {
        let config = app_data::nearest(request).map(ApiKeyManager::config);
        let mut origin = Self::new();
        origin.address = ActixRequestInfo { request, config }.address();
        origin.request_id = request_id(request);
        origin
    }
}

/// Returns the id of the request; `None` if it is not stated once, or is not plain.
fn request_id(request: &HttpRequest) -> Option<String> {
    let mut stated = request.headers().get_all(REQUEST_ID);
    let id = stated.next()?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(plain);
    (fits && stated.next().is_none()).then(|| id.to_owned())
}
