//! Middleware that adds the headers of keys and guards to responses.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use pin_project_lite::pin_project;

use super::extension::ApiKeyExt;
use super::rate_limit_fields::write_headers;
use super::verified::Verified;

/// Middleware that adds headers to the responses to allowed requests: the status of limits
/// (`RateLimit` and `RateLimit-Policy`), what is to be said of the [end of a
/// key](crate::guide::end_of_a_key), and the headers that may carry a key, in `Vary`.
///
/// The attribute's guard cannot change the response of its handler, so wrap an app in this once if
/// keys have limits or end, if routes have limits, or if a cache may stand before it. [`RequireApiKey`](crate::RequireApiKey) adds the headers by itself,
/// and responses to denied requests have them anyway. An error that middleware inside returns instead
/// of a response does not get them. What a response already has of these headers is kept. A page of another origin sees them only if CORS exposes them
/// (`Access-Control-Expose-Headers`).
///
/// ```
/// use actix_web::App;
/// use apikey_runtime::KeyHeaders;
///
/// let app = App::new().wrap(KeyHeaders);
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use = "middleware does nothing until an app or a scope is wrapped in it"]
pub struct KeyHeaders;

/// Adds the headers to the response to an allowed request.
pub(super) fn add_headers<B>(response: &mut ServiceResponse<B>) {
    let limits = response.limit_status();
    write_headers(&limits, response.headers_mut());
    if let Some(notice) = Verified::notice(response.request()) {
        notice.write(response.headers_mut());
    }
    if let Some(guards) = Verified::passed_guards(response.request()) {
        for guard in guards.iter() {
            guard.vary(response.headers_mut());
        }
    }
}

impl<S, B> Transform<S, ServiceRequest> for KeyHeaders
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type InitError = ();
    type Transform = KeyHeadersService<S>;
    type Future = Ready<Result<Self::Transform, Self::InitError>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(KeyHeadersService { service }))
    }
}

/// A service wrapped in [`KeyHeaders`].
#[doc(hidden)]
#[derive(Debug)]
pub struct KeyHeadersService<S> {
    service: S,
}

impl<S, B> Service<ServiceRequest> for KeyHeadersService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = KeyHeadersFuture<S::Future>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        KeyHeadersFuture {
            next: self.service.call(request),
        }
    }
}

pin_project! {
    /// The future of [`KeyHeadersService`].
    #[doc(hidden)]
    pub struct KeyHeadersFuture<F> {
        #[pin]
        next: F,
    }
}

impl<F, B> Future for KeyHeadersFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().next.poll(context).map_ok(|mut response| {
            add_headers(&mut response);
            response
        })
    }
}
