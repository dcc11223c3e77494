//! One route under different guards, alone in an app.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::Service;
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::test::{TestRequest, init_service};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, Responder, rt};
use apikey_runtime::{
    ApiKey, ApiKeyManager, Limit, MemoryStore, Policy, RequireApiKey, ScopeExpr, api_key_required,
};

use super::handwritten::{Keys, Lean, Shared};
use super::measure::Work;
use super::poll::at_once;
use super::{Outcome, clock, keys};

/// Longer than a push takes to arrive.
const SETTLED: Duration = Duration::from_millis(20);

/// The client's address.
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 40_000);

/// The guard of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    Open,
    Plain,
    WithKey,
    WithScope,
    /// A scope that is filled from the path, and an `ApiKey` argument.
    WithTemplate,
    /// Middleware around a handler with a guard of its own and an `ApiKey` argument, each with a scope.
    TwoGuards,
    WithRate,
    HandWrittenLean,
    HandWrittenShared,
}

/// What a request presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presented {
    RightKey,
    Nothing,
    /// A key with a wrong checksum.
    Typo,
    RevokedKey,
}

impl Presented {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::RightKey => StatusCode::OK,
            Self::Nothing | Self::Typo | Self::RevokedKey => StatusCode::UNAUTHORIZED,
        }
    }
}

async fn open() -> impl Responder {
    "{}"
}

#[api_key_required]
async fn plain() -> impl Responder {
    "{}"
}

#[api_key_required]
async fn with_key(key: ApiKey) -> impl Responder {
    black_box(key.label());
    "{}"
}

#[api_key_required(scope = "orders:read")]
async fn with_scope() -> impl Responder {
    "{}"
}

#[api_key_required(scope = "orders:{right}")]
async fn with_template(key: ApiKey) -> impl Responder {
    black_box(key.label());
    "{}"
}

#[api_key_required(scope = "orders:read")]
async fn with_scope_and_key(key: ApiKey) -> impl Responder {
    black_box(key.label());
    "{}"
}

const WRITERS: Policy = Policy::new().scopes(ScopeExpr::One("orders:write"));

#[api_key_required(rate_limit = "1000000/second")]
async fn with_rate() -> impl Responder {
    "{}"
}

async fn lean(caller: Lean) -> impl Responder {
    black_box(&caller.0.name);
    "{}"
}

async fn shared(caller: Shared) -> impl Responder {
    black_box(&caller.0.name);
    "{}"
}

/// A manager with one cached key, and the same key for the extractors that do not use the manager.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) manager: ApiKeyManager,
    pub(crate) key: String,
    keys: web::Data<Keys>,
}

impl Bench {
    /// Uses a store in memory.
    pub(crate) async fn start() -> Outcome<Self> {
        let store = MemoryStore::new().with_lease(keys::LEASE);
        let manager = ApiKeyManager::builder().store(store).start().await?;
        let key = manager.create("MY_FIRST_KEY").owner("42");
        let key = key.scopes(["orders:read", "orders:write"]).await?;
        Self::of(manager, key.expose_secret()).await
    }

    /// Uses a manager that knows `key`.
    pub(crate) async fn of(manager: ApiKeyManager, key: &str) -> Outcome<Self> {
        // The poll that learns of a new key evicts it once more.
        for _ in 0..2 {
            manager.verify(key).await?;
            rt::time::sleep(SETTLED).await;
        }
        manager.verify(key).await?;
        let keys = Keys::default();
        keys.add(key);
        Ok(Self {
            manager,
            key: key.to_owned(),
            keys: web::Data::new(keys),
        })
    }

    /// Returns the same with a key that has these limits.
    pub(crate) async fn limited(&self, limits: impl IntoIterator<Item = Limit>) -> Outcome<Self> {
        let key = self.manager.create("LIMITED").limits(limits).await?;
        Self::of(self.manager.clone(), key.expose_secret()).await
    }

    /// Adds the route `/` under this guard.
    pub(crate) fn route(&self, guard: Guard, app: &mut ServiceConfig) {
        let at = web::get();
        let route = match guard {
            Guard::WithTemplate => at.to(with_template),
            Guard::TwoGuards => at.to(with_scope_and_key),
            Guard::Open => at.to(open),
            Guard::Plain => at.to(plain),
            Guard::WithKey => at.to(with_key),
            Guard::WithScope => at.to(with_scope),
            Guard::WithRate => at.to(with_rate),
            Guard::HandWrittenLean => at.to(lean),
            Guard::HandWrittenShared => at.to(shared),
        };
        match guard {
            Guard::HandWrittenLean | Guard::HandWrittenShared => {
                app.app_data(self.keys.clone());
            }
            _ => self.manager.init_app(app),
        }
        match guard {
            Guard::WithTemplate => app.route("/{right}", route),
            Guard::TwoGuards => {
                let outer = RequireApiKey::with(WRITERS);
                app.service(web::resource("/").wrap(outer).route(route))
            }
            _ => app.route("/", route),
        };
    }

    /// Returns requests to the route, passed to it in process and answered with `status`. Only the
    /// service call is timed: the requests are built ahead.
    pub(crate) async fn requests(
        &self,
        guard: Guard,
        authorization: Option<&str>,
        status: StatusCode,
    ) -> Outcome<Work<'static>> {
        let app = init_service(App::new().configure(|app| self.route(guard, app))).await;
        let authorization = authorization.map(HeaderValue::from_str).transpose()?;
        let path = match guard {
            Guard::WithTemplate => "/read",
            _ => "/",
        };
        Ok(Box::new(move |count| {
            let request = || {
                let request = TestRequest::get().uri(path).peer_addr(CLIENT);
                match &authorization {
                    None => request.to_request(),
                    Some(value) => {
                        let header = (AUTHORIZATION, value.clone());
                        request.insert_header(header).to_request()
                    }
                }
            };
            let requests: Vec<_> = (0..count).map(|_| request()).collect();
            let start = clock::thread();
            for request in requests {
                match at_once(app.call(request)) {
                    Ok(response) => assert_eq!(response.status(), status),
                    Err(error) => panic!("the service failed: {error}"),
                }
            }
            clock::thread() - start
        }))
    }

    /// Returns bursts of requests to the plain route: one request for each key, answered with a status, all
    /// concurrently and each a task. A burst returns the CPU time of the whole process that it takes, in
    /// nanoseconds.
    pub(crate) async fn bursts(&self) -> impl AsyncFn(&[String], StatusCode) -> Outcome<u64> {
        let app = App::new().configure(|app| self.route(Guard::Plain, app));
        let app = Rc::new(init_service(app).await);
        async move |keys, status| {
            let requests: Vec<_> = keys
                .iter()
                .map(|key| {
                    TestRequest::get().insert_header((AUTHORIZATION, format!("Bearer {key}")))
                })
                .map(TestRequest::to_request)
                .collect();
            let start = clock::process();
            let calls = requests.into_iter().map(|request| {
                let app = Rc::clone(&app);
                async move {
                    let response = app.call(request).await?;
                    assert_eq!(response.status(), status);
                    Ok::<(), CallError>(())
                }
            });
            keys::together(calls).await?;
            Ok(clock::process() - start)
        }
    }

    /// Returns the `Authorization` value of the key.
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.key)
    }

    /// Returns the `Authorization` value of a request.
    pub(crate) async fn presenting(&self, presented: Presented) -> Outcome<Option<String>> {
        let mut value = self.authorization();
        match presented {
            Presented::RightKey => {}
            Presented::Nothing => return Ok(None),
            Presented::Typo => {
                let last = value.pop();
                value.push(if last == Some('0') { '1' } else { '0' });
            }
            Presented::RevokedKey => {
                let revoked = self.manager.create("revoked").await?;
                self.manager.revoke(revoked.id()).await?;
                // The revocation triggers a poll, which evicts the key once more. Then a read caches it
                // again, so that the cache denies the revoked key.
                rt::time::sleep(2 * SETTLED).await;
                let _ = self.manager.verify(revoked.expose_secret()).await;
                value = format!("Bearer {}", revoked.expose_secret());
            }
        }
        Ok(Some(value))
    }
}

/// A failure of the service, in a form that can leave a task.
#[derive(Debug)]
struct CallError(String);

impl From<actix_web::Error> for CallError {
    fn from(error: actix_web::Error) -> Self {
        Self(error.to_string())
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CallError {}
