//! Middleware that adds the headers of a key to responses.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use pin_project_lite::pin_project;

use super::extension::ApiKeyExt;
use super::rate_limit_fields::write_headers;

/// Middleware that tells clients how their limits stand: `RateLimit` and `RateLimit-Policy` on
/// answers to requests that were let through.
///
/// A guard in an attribute cannot touch its handler's answer, so an app with limits on keys or
/// routes is wrapped in this once. [`RequireApiKey`](crate::RequireApiKey) does the same by itself,
/// and refusals have the headers anyway. Headers that an answer has already stay as they are. A page
/// of another origin sees them where CORS exposes them (`Access-Control-Expose-Headers`).
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

/// Adds the headers to an answer of a request that was let through.
pub(super) fn add_headers<B>(response: &mut ServiceResponse<B>) {
    let limits = response.limit_status();
    write_headers(&limits, response.headers_mut());
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

/// What [`KeyHeaders`] makes of a service.
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
