//! The gate: a handler's only extractor, which decides before it starts the handler's own.
//!
//! actix polls all extractors of a handler together, and the first error wins. A guard that is one
//! argument among others is no gate: while it waits for the store, the others read the body.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use pin_project_lite::pin_project;

use super::answer::refuse;
use super::extractor::Verified;
use super::install;
use super::locate::{Found, locate};
use super::path::RoutePath;
use super::route::{RoutePolicy, Rules, RulesOf};
use crate::api_key::ApiKey;
use crate::denied::{Denied, DenyReason};
use crate::manager::ApiKeyManager;
use crate::verify::{Now, Question};

/// The arguments `T` of a handler, behind the check that `P` demands.
///
/// The attribute writes this type into a handler's signature. Write it yourself where a macro
/// cannot stand:
///
/// ```
/// use actix_web::web;
/// use apikey_runtime::{ApiKey, Guarded, PlainPolicy};
///
/// async fn handler(Guarded((key, body), ..): Guarded<PlainPolicy, (ApiKey, web::Bytes)>) -> String {
///     format!("{} sent {} bytes", key.label(), body.len())
/// }
/// ```
#[derive(Debug)]
pub struct Guarded<P, T>(pub T, #[doc(hidden)] pub Rest<P>);

impl<P, T> Guarded<P, T> {
    /// Arguments that no check stood before, for a unit test that calls the handler itself.
    ///
    /// ```
    /// # use apikey_runtime::{Guarded, PlainPolicy};
    /// async fn double(Guarded((n,), ..): Guarded<PlainPolicy, (u32,)>) -> String {
    ///     (n * 2).to_string()
    /// }
    /// # actix_web::rt::System::new().block_on(async {
    /// assert_eq!(double(Guarded::for_test((21,))).await, "42");
    /// # });
    /// ```
    pub fn for_test(arguments: T) -> Self {
        Self(arguments, Rest::new(None))
    }
}

/// What is left of the request's body, kept until the handler ends: without a reader, actix would
/// close the connection.
#[doc(hidden)]
pub struct Rest<P> {
    _payload: Option<Payload>,
    policy: PhantomData<fn() -> P>,
}

impl<P> Rest<P> {
    fn new(payload: Option<Payload>) -> Self {
        Self {
            _payload: payload,
            policy: PhantomData,
        }
    }
}

impl<P> std::fmt::Debug for Rest<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rest")
    }
}

/// What the gate says.
enum Gate {
    Open,
    Shut(actix_web::Error),
    /// The store has to be asked.
    Wait(Pin<Box<dyn Future<Output = Result<(), actix_web::Error>>>>),
}

impl<P: RoutePolicy, T: FromRequest> FromRequest for Guarded<P, T> {
    type Error = actix_web::Error;
    type Future = GuardedFuture<P, T>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let state = match gate(request, RulesOf::<P>::RULES) {
            Gate::Open => State::Extract {
                future: T::from_request(request, payload),
                payload: None,
            },
            Gate::Shut(error) => State::Shut { error: Some(error) },
            Gate::Wait(verdict) => State::Wait {
                verdict,
                request: request.clone(),
                payload: payload.take(),
            },
        };
        GuardedFuture {
            state,
            policy: PhantomData,
        }
    }
}

pin_project! {
    /// The future of [`Guarded`].
    #[doc(hidden)]
    pub struct GuardedFuture<P, T: FromRequest> {
        #[pin]
        state: State<T>,
        policy: PhantomData<fn() -> P>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<T: FromRequest> {
        Shut { error: Option<actix_web::Error> },
        Wait {
            verdict: Pin<Box<dyn Future<Output = Result<(), actix_web::Error>>>>,
            request: HttpRequest,
            payload: Payload,
        },
        Extract {
            #[pin]
            future: T::Future,
            payload: Option<Payload>,
        },
    }
}

// Written by hand and not as an `async` block, which the compiler would work on anew for every
// handler.
impl<P: RoutePolicy, T: FromRequest> Future for GuardedFuture<P, T> {
    type Output = Result<Guarded<P, T>, actix_web::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Shut { error } => {
                    let polled_again =
                        || actix_web::error::ErrorInternalServerError("polled after its end");
                    return Poll::Ready(Err(error.take().unwrap_or_else(polled_again)));
                }
                StateProjection::Wait {
                    verdict,
                    request,
                    payload,
                } => {
                    ready!(verdict.as_mut().poll(context))?;
                    // Only now is anything of the handler's touched.
                    let mut payload = payload.take();
                    let future = T::from_request(request, &mut payload);
                    State::Extract {
                        future,
                        payload: Some(payload),
                    }
                }
                StateProjection::Extract { future, payload } => {
                    let arguments = ready!(future.poll(context)).map_err(Into::into)?;
                    return Poll::Ready(Ok(Guarded(arguments, Rest::new(payload.take()))));
                }
            };
            state.set(next);
        }
    }
}

/// Decides, where that can be done at once. Compiled once, for all routes.
fn gate(request: &HttpRequest, rules: &'static Rules) -> Gate {
    let shut = |denied, manager: Option<&ApiKeyManager>| {
        Gate::Shut(refuse(denied, request, rules, manager))
    };
    #[cfg(feature = "test-util")]
    if let Some(decision) = super::testing::acting(request, rules) {
        return match decision {
            Ok(key) => admit(request, key),
            Err(denied) => shut(denied, None),
        };
    }
    let Some(manager) = install::find(request, rules) else {
        tracing::error!(
            path = request.match_pattern(),
            "a guarded handler was reached and there is no manager; write `App::new().configure(|app| manager.init_app(app))`"
        );
        return shut(Denied::new(DenyReason::NoManager), None);
    };
    let path = RoutePath(request);
    match ask(request, &path, rules, &manager) {
        Asked::Anonymous => Gate::Open,
        Asked::Refused(denied) => shut(denied, Some(&manager)),
        Asked::Question(question) => match manager.verifier().decide_now(question) {
            Now::Decided(Ok(key)) => admit(request, key),
            Now::Decided(Err(denied)) => shut(denied, Some(&manager)),
            Now::Ask => Gate::Wait(Box::pin(wait(
                request.clone(),
                rules,
                ApiKeyManager::clone(&manager),
            ))),
        },
    }
}

/// Decides with the store's help.
async fn wait(
    request: HttpRequest,
    rules: &'static Rules,
    manager: ApiKeyManager,
) -> Result<(), actix_web::Error> {
    let path = RoutePath(&request);
    let decision = match ask(&request, &path, rules, &manager) {
        Asked::Question(question) => manager.verifier().decide_late(question).await,
        Asked::Refused(denied) => Err(denied),
        Asked::Anonymous => return Ok(()),
    };
    match decision {
        Ok(key) => {
            admit(&request, key);
            Ok(())
        }
        Err(denied) => Err(refuse(denied, &request, rules, Some(&manager))),
    }
}

/// Leaves the key where extractors find it.
fn admit(request: &HttpRequest, key: ApiKey) -> Gate {
    request.extensions_mut().insert(Verified(key));
    Gate::Open
}

/// What a request asks of the manager.
enum Asked<'r> {
    Question(Question<'r>),
    Anonymous,
    Refused(Denied),
}

/// Finds the credential and reads it: no I/O, no hashing.
fn ask<'r>(
    request: &'r HttpRequest,
    path: &'r RoutePath<'r>,
    rules: &'r Rules,
    manager: &ApiKeyManager,
) -> Asked<'r> {
    let policy = &rules.policy;
    let found = match policy.locations {
        Some(locations) => locate(request, locations),
        None => locate(request, &[manager.config().location()]),
    };
    let refused = |reason| {
        tracing::debug!(reason = DenyReason::code(reason), "refused");
        Asked::Refused(Denied::new(reason))
    };
    match found {
        Found::Nothing if policy.optional => Asked::Anonymous,
        Found::Nothing => refused(DenyReason::MissingKey),
        Found::Several => refused(DenyReason::SeveralKeys),
        Found::One(text) => match manager.verifier().screen(text, policy) {
            Ok(key) => Asked::Question(Question { key, policy, path }),
            Err(denied) => Asked::Refused(denied),
        },
    }
}
