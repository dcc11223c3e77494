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
use actix_web::{FromRequest, HttpRequest};
use pin_project_lite::pin_project;

use super::check::{GuardDecision, PendingDecision, check};
use super::policy::{RoutePolicy, RouteRules};

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
pub struct Guarded<P, T>(pub T, #[doc(hidden)] pub UnreadBody<P>);

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
        Self(arguments, UnreadBody::new(None))
    }
}

/// The unread rest of the request's body. It is kept until the handler ends, since actix would
/// close the connection if it were dropped.
#[doc(hidden)]
pub struct UnreadBody<P> {
    _payload: Option<Payload>,
    policy: PhantomData<fn() -> P>,
}

impl<P> UnreadBody<P> {
    fn new(payload: Option<Payload>) -> Self {
        Self {
            _payload: payload,
            policy: PhantomData,
        }
    }
}

impl<P> std::fmt::Debug for UnreadBody<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnreadBody")
    }
}

impl<P: RoutePolicy, T: FromRequest> FromRequest for Guarded<P, T> {
    type Error = actix_web::Error;
    type Future = GuardedFuture<P, T>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        GuardedFuture {
            state: start(request, payload, const { &RouteRules::of::<P>() }),
            policy: PhantomData,
        }
    }
}

/// Starts the check. This is compiled once for each type of arguments, and not again for each
/// policy.
fn start<T: FromRequest>(
    request: &HttpRequest,
    payload: &mut Payload,
    rules: &RouteRules,
) -> GuardState<T> {
    match check(request, payload, rules) {
        GuardDecision::Allow => GuardState::Extract {
            future: T::from_request(request, payload),
            payload: None,
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
        Poll::Ready(done.map(|(arguments, payload)| Guarded(arguments, UnreadBody::new(payload))))
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
            payload: Option<Payload>,
        },
    }
}

// Written by hand, since an `async` block would be compiled again for each handler.
impl<T: FromRequest> Future for GuardState<T> {
    type Output = Result<(T, Option<Payload>), actix_web::Error>;

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
                    GuardState::Extract {
                        future,
                        payload: Some(payload),
                    }
                }
                GuardStateProjection::Extract { future, payload } => {
                    let arguments = ready!(future.poll(context)).map_err(Into::into)?;
                    return Poll::Ready(Ok((arguments, payload.take())));
                }
            };
            self.set(next);
        }
    }
}
