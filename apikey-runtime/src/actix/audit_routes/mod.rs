//! An audit of the routes of an app: each has to refuse a request without a key.
//!
//! actix-web's introspection lists the patterns of an app, and adds up the methods and guards of all
//! routes with one pattern. So the audit does not rely on what it lists: it sends requests with every
//! method, and requires that each listed method was refused by a guard of this crate.

mod defaults;
mod guards;
mod place;
mod probe;
mod report;
mod routes;
mod sample;

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use actix_http::Request;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::introspection::{IntrospectionTree, ResourceType};
use actix_web::{Error, http::Method, web};

use self::defaults::{AppDefault, audit_default};
use self::place::Place;
use self::probe::{Probe, send};
pub use self::report::{OpenRoute, OpenRoutes};
use self::routes::audit_route;

/// Sends each route of an app requests without a key, and fails with the list of those that a guard
/// of this crate does not refuse, except for those that are [named](RouteAudit::open) as open.
///
/// `app` is the app under test, as `actix_web::test::init_service` makes it, with a manager. The guard may be the
/// attribute, [`Guarded`](crate::Guarded) or [`RequireApiKey`](crate::RequireApiKey). A handler's own
/// 401 does not count as a refusal, nor does that of other middleware.
///
/// Path parameters get values that fit their patterns. `Host`, `Header` and `Acceptable` guards of
/// actix-web are met, in each combination. A route with another guard, such as `fn_guard`, is
/// reported, unless middleware around the app refuses before routes are matched. The default
/// services of the app and of its scopes are audited too, and may answer with 404 or 405; their names
/// are `/{default}*` and, in a scope, `/api/{default}*`.
///
/// **An open route runs.** If it is not named, its handler gets requests of every method, so give
/// the app a database for tests. A named route gets none.
///
/// ```
/// use actix_web::{App, get, test};
/// use apikey_runtime::testing::audit_routes;
/// use apikey_runtime::{ApiKeyManager, MemoryStore, api_key_required};
///
/// #[get("/orders/{id}")]
/// #[api_key_required(scope = "orders:read")]
/// async fn order() -> &'static str {
///     "an order"
/// }
///
/// #[get("/health")]
/// async fn health() -> &'static str {
///     "up"
/// }
///
/// # actix_web::rt::System::new().block_on(async {
/// let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
/// let app = App::new().configure(|app| manager.init_app(app)).service(order).service(health);
/// let app = test::init_service(app).await;
///
/// audit_routes(&app).open(["GET /health"]).await.unwrap();
///
/// let found = audit_routes(&app).await.unwrap_err();
/// assert_eq!(found.routes()[0].name(), "GET /health");
/// # Ok::<(), apikey_runtime::Error>(())
/// # }).unwrap();
/// ```
pub fn audit_routes<S, B>(app: &S) -> RouteAudit<'_, S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    RouteAudit {
        app,
        open: OpenNames::default(),
    }
}

/// An audit of an app's routes; await it. [`audit_routes`] makes one.
#[must_use = "an audit does nothing until it is awaited"]
pub struct RouteAudit<'a, S> {
    app: &'a S,
    open: OpenNames,
}

impl<S> std::fmt::Debug for RouteAudit<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.open.names.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl<S> RouteAudit<'_, S> {
    /// Names routes that may be open, or that the audit cannot reach: by their full pattern, exactly
    /// as the audit reports it, alone (`"/health"`) or after one method (`"GET /orders/{id}"`).
    ///
    /// A name is not a pattern for others: with `"/{page}"` as a name, an open `/admin` is reported.
    /// A name that the app does not have is reported too.
    pub fn open<I>(mut self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let names = names.into_iter().map(|name| (name.into(), false));
        self.open.names.extend(names);
        self
    }
}

impl<'a, S, B> IntoFuture for RouteAudit<'a, S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'a,
{
    type Output = Result<(), OpenRoutes>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(run(self.app, self.open))
    }
}

async fn run<S, B>(app: &S, mut open: OpenNames) -> Result<(), OpenRoutes>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let Some(tree) = tree(app).await else {
        let problem = "the app does not answer with its list of routes; audit one that `init_service` made, \
                       without middleware around it that returns errors";
        return Err(OpenRoutes::new(vec![OpenRoute::new("/", problem)]));
    };
    let (mut found, mut of_app) = (Vec::new(), AppDefault::default());
    let mut places = vec![Place::root(&tree.root)];
    while let Some(place) = places.pop() {
        places.extend(place.inside());
        let is_route = matches!(place.node.kind, ResourceType::Resource);
        let is_named = is_route && open.has(&place.node.full_path);
        if is_route && !is_named {
            audit_route(app, &place, &mut open, &mut found).await;
        }
        if !is_named || place.may_be_scope() {
            audit_default(app, &place, &mut open, &mut of_app, &mut found).await;
        }
    }
    let unused = open.names.into_iter().filter(|(_, is_used)| !is_used);
    let unused = unused
        .map(|(name, _)| OpenRoute::new(name, "is named as open, and the app does not have it"));
    found.extend(unused);
    match found.is_empty() {
        true => Ok(()),
        false => Err(OpenRoutes::new(found)),
    }
}

/// Reads the list of routes from the app data of a request, if the app answers one.
async fn tree<S, B>(app: &S) -> Option<web::Data<IntrospectionTree>>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    for (method, path) in [(Method::OPTIONS, "/audit-routes"), (Method::GET, "/")] {
        let sent = send(app, &Probe::new(method, path.to_owned(), Vec::new())).await;
        if let Some(tree) = sent.tree {
            return Some(tree);
        }
    }
    None
}

/// The names of open routes, and whether the app has them.
#[derive(Default)]
struct OpenNames {
    names: Vec<(String, bool)>,
}

impl OpenNames {
    fn has(&mut self, name: &str) -> bool {
        let known = self.names.iter_mut().filter(|(known, _)| known == name);
        known.map(|(_, is_used)| *is_used = true).count() > 0
    }

    /// Returns whether a route is named, or its method at the route.
    fn have(&mut self, method: &Method, pattern: &str) -> bool {
        let of_method = self.has(&format!("{method} {pattern}"));
        self.has(pattern) || of_method
    }
}
