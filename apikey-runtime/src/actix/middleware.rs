//! The guard as middleware, for a scope or a whole app.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::{Error, HttpRequest, HttpResponse};
use pin_project_lite::pin_project;

use super::app_data;
use super::check::{GuardDecision, check};
use super::credential::strip;
use super::key_headers::add_headers;
use super::open_paths::OpenPaths;
use super::policy::{KeptRules, RoutePolicy, RouteRules};
use super::request_info::is_preflight;
use super::response::DeniedResponse;
use super::vary::GuardLocations;
use crate::config::Config;
use crate::denied::Denied;
use crate::manager::ApiKeyManager;
use crate::policy::{KeyLocation, Policy};

/// Middleware that requires a key: the attribute's check, for a scope or a whole app, with
/// [routes that stay open](Self::open) if you name them.
///
/// A denied request gets a response, never an error, so middleware around this one (CORS, logging)
/// handles it like any other response. Every response that comes from inside names the headers that
/// may carry a key in `Vary`, so that a cache does not serve one client's response to another. This
/// includes the errors of handlers, which actix turns into responses. It does not include an error
/// that middleware inside returns instead of a response: actix turns it into a response later. The
/// status of limits, and the [end of the key](crate::guide::end_of_a_key) if it is near, are added in the
/// same way. If a
/// handler inside has its own guard, both policies apply, and the store is queried once.
///
/// ```
/// use actix_web::{App, web};
/// use apikey_runtime::{Policy, RequireApiKey, ScopeExpr};
///
/// const ADMIN: Policy = Policy::new().scopes(ScopeExpr::One("admin"));
///
/// let app = App::new().service(
///     web::scope("/admin")
///         .wrap(RequireApiKey::with(ADMIN).strip_credential())
///         .route("/users", web::get().to(|| async { "users" })),
/// );
/// ```
#[derive(Clone)]
#[must_use = "middleware does nothing until an app or a scope is wrapped in it"]
pub struct RequireApiKey {
    rules: RouteRules,
    preflight: bool,
    open: OpenPaths,
}

impl RequireApiKey {
    /// Requires a key with the manager's defaults, as the plain attribute does.
    pub fn new() -> Self {
        Self::with(Policy::new())
    }

    /// Requires a key that meets `policy`.
    pub fn with(policy: Policy) -> Self {
        Self::of_rules(RouteRules {
            policy,
            on_error: None,
            manager: None,
            strip: false,
        })
    }

    /// Requires a key that meets a policy type, and uses its `on_error` and `manager`.
    pub fn of<P: RoutePolicy>() -> Self {
        Self::of_rules(RouteRules::of::<P>())
    }

    fn of_rules(rules: RouteRules) -> Self {
        Self {
            rules,
            preflight: false,
            open: OpenPaths::default(),
        }
    }

    /// Sets the function that makes responses to denied requests. By default, the manager makes
    /// them.
    pub fn on_error(mut self, answer: fn(&Denied, &HttpRequest) -> HttpResponse) -> Self {
        self.rules.on_error = Some(answer);
        self
    }

    /// Sets the function that finds the manager. By default, the nearest one in the app data is
    /// used, else the installed one.
    pub fn manager(mut self, find: fn(&HttpRequest) -> Option<ApiKeyManager>) -> Self {
        self.rules.manager = Some(find);
        self
    }

    /// Strips the credential from the request, valid or not: the header, the query parameter, the
    /// cookie, the JSON member or the form field. So services inside, and middleware around this
    /// one after the response is made, can neither log nor forward it. By default, it is kept.
    ///
    /// It does not reach copies that middleware around this one made before. `request.cookies()` makes one, which
    /// actix keeps with the request: a key in a cookie stays readable by it for services inside.
    ///
    /// Middleware around this one must then not hold a clone of the `HttpRequest` while it calls
    /// the inner service: actix cannot change a shared request, and panics.
    pub fn strip_credential(mut self) -> Self {
        self.rules.strip = true;
        self
    }

    /// Allows CORS preflights without a key, for a CORS middleware inside this one: `OPTIONS` with
    /// `Origin` and `Access-Control-Request-Method`, which browsers send without credentials. By
    /// default, they need a key like other requests.
    pub fn allow_preflight(mut self) -> Self {
        self.preflight = true;
        self
    }

    /// Adds routes that pass without a check, with a key or without: patterns of actix-web, from the
    /// root of the app, alone (`"/health"`) or after a method (`"GET /docs/{tail}*"`; `GET` includes
    /// `HEAD`). Every other request is checked, also one to a path that does not exist.
    ///
    /// A path passes only if it is written plainly. A path with an empty segment (`//`), with `.` or
    /// `..` as a segment, with `\`, or with an encoded `/`, `\` or `%` is checked, whatever the
    /// patterns. A path that ends with `/` passes only if the path without it passes too. So an open
    /// pattern does not open what middleware or a handler inside makes of another spelling.
    ///
    /// One exception: `NormalizePath::new(TrailingSlash::Always)` inside this middleware adds a slash, so that
    /// `/{page}` opens a route `/admin/` to `GET /admin`. Wrap it around this middleware instead.
    ///
    /// A guard inside still checks what passes. With [`strip_credential`](Self::strip_credential), it
    /// does not find a key there.
    ///
    /// ```
    /// use actix_web::{App, get};
    /// use apikey_runtime::RequireApiKey;
    ///
    /// #[get("/health")]
    /// async fn health() -> &'static str {
    ///     "up"
    /// }
    ///
    /// let app = App::new()
    ///     .wrap(RequireApiKey::new().open(["GET /health", "/docs/{tail}*"]))
    ///     .service(health);
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if a pattern is malformed, as the routes of actix-web do.
    pub fn open<I>(mut self, routes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.open = self.open.with(routes);
        self
    }
}

impl Default for RequireApiKey {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for RequireApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequireApiKey")
            .field("policy", &self.rules.policy)
            .field("strip_credential", &self.rules.strip)
            .field("allow_preflight", &self.preflight)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl<S, B> Transform<S, ServiceRequest> for RequireApiKey
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type InitError = ();
    type Transform = RequireApiKeyService<S>;
    type Future = Ready<Result<Self::Transform, Self::InitError>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(RequireApiKeyService {
            service: Rc::new(service),
            guard: self.clone(),
            rules: KeptRules::Shared(Rc::new(self.rules)),
        }))
    }
}

/// A service wrapped in [`RequireApiKey`].
#[doc(hidden)]
pub struct RequireApiKeyService<S> {
    service: Rc<S>,
    guard: RequireApiKey,
    /// The guard's rules, for checks that wait.
    rules: KeptRules,
}

impl<S> std::fmt::Debug for RequireApiKeyService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.guard.fmt(f)
    }
}

impl<S: Service<ServiceRequest>> RequireApiKeyService<S> {
    fn allow<B>(&self, request: ServiceRequest) -> RequireApiKeyFuture<S, B> {
        RequireApiKeyFuture::Allow {
            next: self.service.call(request),
            unchecked: None,
        }
    }

    /// Calls the inner service without a check. The response does not depend on a key then.
    fn pass<B>(&self, mut request: ServiceRequest) -> RequireApiKeyFuture<S, B> {
        strip_if_enabled(&mut request, &self.guard.rules);
        self.allow(request)
    }

    /// Calls the inner service without a check of a preflight. Other requests to the same path depend on a key.
    fn pass_preflight<B>(&self, mut request: ServiceRequest) -> RequireApiKeyFuture<S, B> {
        let rules = &self.guard.rules;
        let manager = app_data::find(request.request(), rules.manager);
        let locations = GuardLocations::of(&rules.policy, manager.as_deref());
        drop(manager);
        strip_if_enabled(&mut request, rules);
        RequireApiKeyFuture::Allow {
            next: self.service.call(request),
            unchecked: Some(locations),
        }
    }
}

impl<S, B> Service<ServiceRequest> for RequireApiKeyService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = RequireApiKeyFuture<S, B>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        if self.guard.open.contain(&request) {
            return self.pass(request);
        }
        if self.guard.preflight && is_preflight(request.request()) {
            return self.pass_preflight(request);
        }
        let rules = &self.rules;
        let (head, payload) = request.parts_mut();
        match check(head, payload, rules) {
            GuardDecision::Allow => {
                strip_if_enabled(&mut request, rules);
                self.allow(request)
            }
            GuardDecision::Deny(denied) => {
                strip_if_enabled(&mut request, rules);
                RequireApiKeyFuture::Deny {
                    response: Some(respond(request, denied, &self.guard.open)),
                }
            }
            GuardDecision::Pending(pending) => {
                let service = Rc::clone(&self.service);
                let (open, rules) = (self.guard.open.clone(), rules.clone());
                let late = async move {
                    // The pending check holds the request too, and must release it before the inner
                    // service is called.
                    let (decision, payload) = pending.await;
                    request.set_payload(payload);
                    strip_if_enabled(&mut request, &rules);
                    match decision {
                        Ok(()) => {
                            let mut response = service.call(request).await?;
                            add_headers(&mut response);
                            Ok(response.map_into_left_body())
                        }
                        Err(denied) => Ok(respond(request, denied, &open)),
                    }
                };
                RequireApiKeyFuture::Pending {
                    late: Box::pin(late),
                }
            }
        }
    }
}

#[cfg_attr(not(feature = "audit-routes"), expect(unused_variables, unused_mut))]
fn respond<B>(
    request: ServiceRequest,
    mut denied: DeniedResponse,
    open: &OpenPaths,
) -> ServiceResponse<EitherBody<B>> {
    // The audit tries what the middleware leaves open.
    #[cfg(feature = "audit-routes")]
    denied.response.extensions_mut().insert(open.clone());
    request.into_response(denied.response).map_into_right_body()
}

fn strip_if_enabled(request: &mut ServiceRequest, rules: &RouteRules) {
    if !rules.strip {
        return;
    }
    match rules.policy.locations {
        Some(locations) => strip::request(request, locations),
        None => {
            // The configuration is borrowed from the request, which is changed next, so the manager
            // is cloned.
            let manager =
                app_data::find(request.request(), rules.manager).map(|manager| manager.clone());
            let config = manager.as_ref().map(ApiKeyManager::config);
            strip::request(
                request,
                &[config.map_or(KeyLocation::BEARER, Config::location)],
            );
        }
    }
}

type Late<B> = Pin<Box<dyn Future<Output = Result<ServiceResponse<EitherBody<B>>, Error>>>>;

pin_project! {
    /// The future of [`RequireApiKeyService`].
    #[doc(hidden)]
    #[project = RequireApiKeyProjection]
    pub enum RequireApiKeyFuture<S: Service<ServiceRequest>, B> {
        Allow { #[pin] next: S::Future, unchecked: Option<GuardLocations> },
        Deny { response: Option<ServiceResponse<EitherBody<B>>> },
        Pending { late: Late<B> },
    }
}

impl<S, B> Future for RequireApiKeyFuture<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<EitherBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            RequireApiKeyProjection::Allow { next, unchecked } => {
                next.poll(context).map_ok(|mut response| {
                    add_headers(&mut response);
                    if let Some(locations) = unchecked {
                        locations.vary(response.headers_mut());
                    }
                    response.map_into_left_body()
                })
            }
            RequireApiKeyProjection::Pending { late } => late.as_mut().poll(context),
            RequireApiKeyProjection::Deny { response } => {
                Poll::Ready(response.take().ok_or_else(|| {
                    actix_web::error::ErrorInternalServerError("polled after its end")
                }))
            }
        }
    }
}
