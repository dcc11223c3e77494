//! Gives an app its manager, and finds the manager of a request.

use std::ops::Deref;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};

use super::policy::RouteRules;
use crate::denied::Denied;
use crate::manager::{ApiKeyManager, ApiKeyManagerBuilder, installed};

/// Makes the response to a denied request.
pub(super) struct ErrorHandler(Box<Answer>);

type Answer = dyn Fn(&Denied, &HttpRequest) -> HttpResponse + Send + Sync;

impl ErrorHandler {
    pub(super) fn answer(&self, denied: &Denied, request: &HttpRequest) -> HttpResponse {
        (self.0)(denied, request)
    }
}

impl ApiKeyManagerBuilder {
    /// Sets the handler that makes the responses to denied requests, on all routes without their
    /// own `on_error`. By default, responses are problem details (RFC 9457).
    ///
    /// Keep the status and the `WWW-Authenticate` header if you can, since clients rely on them.
    ///
    /// ```
    /// use actix_web::{HttpResponse, http::StatusCode};
    /// use apikey_runtime::ApiKeyManager;
    ///
    /// let builder = ApiKeyManager::builder().error_handler(|denied, _request| {
    ///     let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    ///     HttpResponse::build(status).body(denied.reason().title())
    /// });
    /// ```
    #[must_use]
    pub fn error_handler<F>(self, handler: F) -> Self
    where
        F: Fn(&Denied, &HttpRequest) -> HttpResponse + Send + Sync + 'static,
    {
        self.web_extension(Arc::new(ErrorHandler(Box::new(handler))))
    }
}

/// Marks a manager that `init_app` added, to determine which of two managers is nearer to a route.
struct InitAppMarker(ApiKeyManager);

impl ApiKeyManager {
    /// Makes this the manager of an app, or of a scope: `App::new().configure(|app|
    /// manager.init_app(app))`.
    ///
    /// Handlers can take it as `web::Data<ApiKeyManager>`.
    pub fn init_app(&self, app: &mut web::ServiceConfig) {
        app.app_data(self.clone())
            .app_data(web::Data::new(self.clone()))
            .app_data(InitAppMarker(self.clone()));
    }

    pub(super) fn own_error_handler(&self) -> Option<&ErrorHandler> {
        self.web_extension()?.downcast_ref()
    }
}

/// A manager borrowed from the request's app data, or returned by the route's function.
pub(super) enum ManagerRef<'r> {
    Borrowed(&'r ApiKeyManager),
    Owned(ApiKeyManager),
}

impl Deref for ManagerRef<'_> {
    type Target = ApiKeyManager;

    fn deref(&self) -> &ApiKeyManager {
        match self {
            Self::Borrowed(manager) => manager,
            Self::Owned(manager) => manager,
        }
    }
}

/// Finds the route's manager.
pub(super) fn find<'r>(request: &'r HttpRequest, rules: &RouteRules) -> Option<ManagerRef<'r>> {
    match rules.manager {
        Some(find) => find(request).map(ManagerRef::Owned),
        None => nearest(request).map(ManagerRef::Borrowed),
    }
}

/// Finds the manager in the nearest app data, plain or as `web::Data`; otherwise, returns the
/// installed one.
pub(super) fn nearest(request: &HttpRequest) -> Option<&ApiKeyManager> {
    let plain = request.app_data::<ApiKeyManager>();
    let data = request
        .app_data::<web::Data<ApiKeyManager>>()
        .map(|data| data.get_ref());
    match (plain, data) {
        (Some(plain), Some(data)) if !plain.is(data) => nearer(request, plain, data),
        (Some(manager), _) | (None, Some(manager)) => Some(manager),
        (None, None) => installed(),
    }
}

/// Returns the nearer of two managers.
///
/// actix finds the nearest value of a type, and does not tell how near it is. `init_app` adds both
/// types and a marker at one level. So a manager that differs from the nearest marker was added by
/// itself, further inside. Without a marker, the order is unknown, and a guess could allow the keys
/// of one tenant at another tenant's routes.
fn nearer<'r>(
    request: &'r HttpRequest,
    plain: &'r ApiKeyManager,
    data: &'r ApiKeyManager,
) -> Option<&'r ApiKeyManager> {
    let mark = request.app_data::<InitAppMarker>().map(|mark| &mark.0);
    match mark {
        Some(mark) if mark.is(plain) => Some(data),
        Some(mark) if mark.is(data) => Some(plain),
        _ => {
            tracing::error!(
                "this route has two managers, and it is not known which one is nearer; add each with `init_app`"
            );
            None
        }
    }
}
