//! How an app gets its manager, and a request finds it.

use std::ops::Deref;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};

use super::policy::RouteRules;
use crate::denied::Denied;
use crate::manager::{ApiKeyManager, ApiKeyManagerBuilder, installed};

/// Makes the answer to a refusal.
pub(super) struct ErrorHandler(Box<Answer>);

type Answer = dyn Fn(&Denied, &HttpRequest) -> HttpResponse + Send + Sync;

impl ErrorHandler {
    pub(super) fn answer(&self, denied: &Denied, request: &HttpRequest) -> HttpResponse {
        (self.0)(denied, request)
    }
}

impl ApiKeyManagerBuilder {
    /// Makes the answers to refusals, on every route without an `on_error` of its own. By default,
    /// problem details (RFC 9457).
    ///
    /// Keep the status and the `WWW-Authenticate` header where you can: clients go by them.
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
        self.face(Arc::new(ErrorHandler(Box::new(handler))))
    }
}

/// That a manager was put there by `init_app`: tells apart which of two managers is nearer to a
/// route.
struct InitAppMarker(ApiKeyManager);

impl ApiKeyManager {
    /// Makes this the manager of an app, or of a scope: `App::new().configure(|app|
    /// manager.init_app(app))`.
    ///
    /// Handlers can also take it as `web::Data<ApiKeyManager>`.
    pub fn init_app(&self, app: &mut web::ServiceConfig) {
        app.app_data(self.clone())
            .app_data(web::Data::new(self.clone()))
            .app_data(InitAppMarker(self.clone()));
    }

    pub(super) fn own_error_handler(&self) -> Option<&ErrorHandler> {
        self.face()?.downcast_ref()
    }
}

/// A manager that the request holds, or that a function of the route's handed out.
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

/// The route's manager.
pub(super) fn find<'r>(request: &'r HttpRequest, rules: &RouteRules) -> Option<ManagerRef<'r>> {
    match rules.manager {
        Some(find) => find(request).map(ManagerRef::Owned),
        None => nearest(request).map(ManagerRef::Borrowed),
    }
}

/// The manager in the nearest app data, plain or as `web::Data`, else the installed one.
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

/// actix finds the nearest value of a type, and does not tell how near. `init_app` puts both kinds
/// and a mark at one place, so the one that differs from the nearest mark was put in by itself,
/// further inside. WithoutMember a mark there is no telling, and a guess could let the keys of one tenant
/// in at another's.
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
                "two managers are in reach of this route, and which is nearer cannot be told; put each in with `init_app`"
            );
            None
        }
    }
}
