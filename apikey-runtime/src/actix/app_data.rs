//! Gives an app its manager, and finds the manager of a request.

use std::any::Any;
use std::cell::RefCell;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use actix_web::dev::{AppService, HttpServiceFactory};
use actix_web::{HttpRequest, HttpResponse, web};

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
    /// Keep the status if you can, since clients rely on it. Headers that the handler leaves out,
    /// such as `WWW-Authenticate` and `Retry-After`, are added to its response:
    /// [`Denied::response`] says which, and makes the default response for the handler to edit.
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

/// A service without routes, which detects a second `init_app` on one app when the app starts.
///
/// `init_app` itself sees a part of an app only. The services of an app are registered with its
/// default service, which identifies it.
struct RepeatedInitApp(ApiKeyManager);

thread_local! {
    /// The default service of the last app of this thread that had an `init_app`.
    static LAST_APP: RefCell<Option<Weak<dyn Any>>> = const { RefCell::new(None) };
}

impl HttpServiceFactory for RepeatedInitApp {
    fn register(self, app: &mut AppService) {
        // A scope may have a manager of its own.
        if !app.is_root() {
            return;
        }
        let default: Rc<dyn Any> = app.default_service();
        let default = Rc::downgrade(&default);
        let last = LAST_APP.replace(Some(default.clone()));
        if last.is_some_and(|last| last.ptr_eq(&default)) {
            self.0.warn_once_of_repeated_init(|| {
                tracing::warn!(
                    "`init_app` was called twice on one app, and only the last manager is used; \
                     remove one call, or move it into a `web::scope`"
                );
            });
        }
    }
}

impl ApiKeyManager {
    /// Makes this the manager of an app, or of a scope: `App::new().configure(|app|
    /// manager.init_app(app))`.
    ///
    /// Handlers can take it as `web::Data<ApiKeyManager>`. A second call on the same app replaces
    /// the first, and is logged as a warning.
    pub fn init_app(&self, app: &mut web::ServiceConfig) {
        app.app_data(self.clone())
            .app_data(web::Data::new(self.clone()))
            .app_data(InitAppMarker(self.clone()))
            .service(RepeatedInitApp(self.clone()));
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

/// Finds the route's manager, by the route's own function if it has one.
pub(super) fn find(
    request: &HttpRequest,
    own: Option<fn(&HttpRequest) -> Option<ApiKeyManager>>,
) -> Option<ManagerRef<'_>> {
    match own {
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
                path = request.match_pattern(),
                "this route has two managers, and it is not known which one is nearer; add each with `init_app`"
            );
            None
        }
    }
}
