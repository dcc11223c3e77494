//! The guard: the only extractor of a handler, which decides before it starts the handler's own.
//!
//! actix polls all extractors of a handler together, and returns the first error. So a guard that
//! is one argument among others would not protect them: while it waits for the store, they read the
//! body.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use pin_project_lite::pin_project;

use super::check::{GuardDecision, PendingDecision, check};
use super::policy::{KeptRules, RoutePolicy, RouteRules};

/// The arguments `T` of a handler, extracted only after the check of the policy `P`.
///
/// The attribute adds this type to a handler's signature. Write it yourself if you cannot use the
/// attribute:
///
/// ```
/// use actix_web::web;
/// use apikey_runtime::{ApiKey, Guarded, DefaultPolicy};
///
/// async fn handler(Guarded((key, body), ..): Guarded<DefaultPolicy, (ApiKey, web::Bytes)>) -> String {
///     format!("{} sent {} bytes", key.label(), body.len())
/// }
/// ```
#[derive(Debug)]
pub struct Guarded<P, T>(pub T, #[doc(hidden)] pub PolicyMarker<P>);

impl<P, T> Guarded<P, T> {
    /// Wraps arguments without a check, for a unit test that calls the handler directly.
    ///
    /// ```
    /// # use apikey_runtime::{Guarded, DefaultPolicy};
    /// async fn double(Guarded((n,), ..): Guarded<DefaultPolicy, (u32,)>) -> String {
    ///     (n * 2).to_string()
    /// }
    /// # actix_web::rt::System::new().block_on(async {
    /// assert_eq!(double(Guarded::for_test((21,))).await, "42");
    /// # });
    /// ```
    pub fn for_test(arguments: T) -> Self {
        Self(arguments, PolicyMarker(PhantomData))
    }
}

/// Marks arguments with the policy that was checked.
#[doc(hidden)]
pub struct PolicyMarker<P>(PhantomData<fn() -> P>);

impl<P> std::fmt::Debug for PolicyMarker<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PolicyMarker")
    }
}

/// The unread rests of the request's body. They are kept in the request's extensions until the
/// handler ends, since actix would close the connection if they were dropped. As an argument of the
/// handler they would keep the handler's future from being `Send`.
///
/// If a handler has several guards, one has the body, and another may have an empty one. They end in
/// any order, so all are kept.
///
/// The request owns its extensions. If middleware replaced the payload by a stream that holds a
/// clone of the `HttpRequest`, this is a cycle, and the request is not freed.
struct UnreadBodies(Vec<Payload>);

impl<P: RoutePolicy, T: FromRequest> FromRequest for Guarded<P, T> {
    type Error = actix_web::Error;
    type Future = GuardedFuture<P, T>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        GuardedFuture {
            state: start(
                request,
                payload,
                &KeptRules::OfType(const { &RouteRules::of::<P>() }),
            ),
            policy: PhantomData,
        }
    }
}

/// Starts the check. This is compiled once for each type of arguments, and not again for each
/// policy.
fn start<T: FromRequest>(
    request: &HttpRequest,
    payload: &mut Payload,
    rules: &KeptRules,
) -> GuardState<T> {
    match check(request, payload, rules) {
        GuardDecision::Allow => GuardState::Extract {
            future: T::from_request(request, payload),
            unread: None,
        },
        GuardDecision::Deny(denied) => GuardState::Deny {
            error: Some(denied.into()),
        },
        GuardDecision::Pending(decision) => GuardState::Pending {
            decision,
            request: request.clone(),
        },
    }
}

pin_project! {
    /// The future of [`Guarded`].
    #[doc(hidden)]
    pub struct GuardedFuture<P, T: FromRequest> {
        #[pin]
        state: GuardState<T>,
        policy: PhantomData<fn() -> P>,
    }
}

impl<P: RoutePolicy, T: FromRequest> Future for GuardedFuture<P, T> {
    type Output = Result<Guarded<P, T>, actix_web::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(self.project().state.poll(context));
        Poll::Ready(done.map(|arguments| Guarded(arguments, PolicyMarker(PhantomData))))
    }
}

pin_project! {
    #[project = GuardStateProjection]
    enum GuardState<T: FromRequest> {
        Deny { error: Option<actix_web::Error> },
        Pending { decision: PendingDecision, request: HttpRequest },
        Extract {
            #[pin]
            future: T::Future,
            unread: Option<(HttpRequest, Payload)>,
        },
    }
}

// Written by hand, since an `async` block would be compiled again for each handler.
impl<T: FromRequest> Future for GuardState<T> {
    type Output = Result<T, actix_web::Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project() {
                GuardStateProjection::Deny { error } => {
                    let polled_again =
                        || actix_web::error::ErrorInternalServerError("polled after its end");
                    return Poll::Ready(Err(error.take().unwrap_or_else(polled_again)));
                }
                GuardStateProjection::Pending { decision, request } => {
                    let (decision, mut payload) = ready!(decision.as_mut().poll(context));
                    decision?;
                    // Only now does the handler's extraction start.
                    let future = T::from_request(request, &mut payload);
                    let unread = Some((request.clone(), payload));
                    GuardState::Extract { future, unread }
                }
                GuardStateProjection::Extract { future, unread } => {
                    let arguments = ready!(future.poll(context)).map_err(Into::into)?;
                    if let Some((request, payload)) = unread.take() {
                        keep(&request, payload);
                    }
                    return Poll::Ready(Ok(arguments));
                }
            };
            self.set(next);
        }
    }
}

/// Keeps the unread rest of a body. If a guard below has taken the body, it keeps the rest.
fn keep(request: &HttpRequest, payload: Payload) {
    if !matches!(payload, Payload::None) {
        let mut extensions = request.extensions_mut();
        let unread = extensions.get_or_insert_with(|| UnreadBodies(Vec::new()));
        unread.0.push(payload);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;
    use actix_web::web::Bytes;
    use futures_core::Stream;

    use super::*;
    use crate::actix::payload::replay;

    /// A body that has not come. It holds a token while it exists.
    struct Unread {
        _token: Arc<()>,
    }

    impl Stream for Unread {
        type Item = Result<Bytes, PayloadError>;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Pending
        }
    }

    /// A second guard of a handler, which searches the body, hands on an empty one.
    #[test]
    fn the_empty_body_of_another_guard_does_not_replace_the_body() {
        for first in [true, false] {
            let request = TestRequest::default().to_http_request();
            let token = Arc::new(());
            let mut bodies: Vec<Payload> = vec![
                Payload::Stream {
                    payload: Box::pin(Unread {
                        _token: Arc::clone(&token),
                    }),
                },
                replay(Bytes::new()),
            ];
            if !first {
                bodies.reverse();
            }
            for body in bodies {
                keep(&request, body);
            }
            assert_eq!(Arc::strong_count(&token), 2, "{first}");
            drop(request);
            assert_eq!(Arc::strong_count(&token), 1, "{first}");
        }
    }
}
