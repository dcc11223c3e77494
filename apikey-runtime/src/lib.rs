//! API keys for actix-web: a handler with `#[api_key_required]` runs only if the request has a key
//! that is known, active and allowed.
//!
//! The key is checked before any other part of the request is touched: before the handler's
//! extractors start, and before the body is read. With a warm cache, a check neither calls the store
//! nor awaits; and yet the manager that revokes a key denies it from the next request on, and every
//! other manager within the store's lease.
//!
//! ```
//! use actix_web::{App, Responder, get, test};
//! use apikey_runtime::{ApiKey, ApiKeyManager, MemoryStore, api_key_required};
//!
//! #[get("/orders")]
//! #[api_key_required(scope = "orders:read")]
//! async fn orders(key: ApiKey) -> impl Responder {
//!     format!("hello, {}", key.label())
//! }
//!
//! # actix_web::rt::System::new().block_on(async {
//! // Once, at start-up. `SqliteStore::new("apikeys.db")` keeps keys in a file.
//! let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
//! let key = manager.create("MY_FIRST_KEY").scopes(["orders:read"]).await?;
//!
//! // In a server: `HttpServer::new(move || App::new().configure(|app| manager.init_app(app)).service(orders))`.
//! let app = App::new().configure(|app| manager.init_app(app)).service(orders);
//! let app = test::init_service(app).await;
//!
//! let request = test::TestRequest::get()
//!     .uri("/orders")
//!     .insert_header(("Authorization", format!("Bearer {}", key.expose_secret())))
//!     .to_request();
//! assert_eq!(test::call_service(&app, request).await.status(), 200);
//!
//! let without = test::TestRequest::get().uri("/orders").to_request();
//! assert_eq!(test::call_service(&app, without).await.status(), 401);
//! # Ok::<(), apikey_runtime::Error>(())
//! # }).unwrap();
//! ```
//!
//! # Start here
//!
//! - [`api_key_required`]: the attribute and its options.
//! - [`RequireApiKey`]: the same check as middleware, for a scope or a whole app.
//! - [`ApiKeyManager`]: creates, lists, changes, rotates and revokes keys.
//! - [`Config`]: the manager's settings.
//! - [`ApiKey`]: the checked key, as a handler's argument. [`ApiKeyExt`]: the same from a request.
//! - [`Denied`]: why a request was denied, for an error handler.
//! - [`KeyStore`]: keeps the records. Use [`MemoryStore`], `SqliteStore`, `PostgresStore` or
//!   `RedisStore`, or implement your own.
//!
//! # Modules
//!
//! The crate root has the names of daily use; the modules have the rest.
//!
//! | module | holds |
//! |---|---|
//! | [`audit`] | what an audit log's entry says, and where a change comes from |
//! | [`clock`] | the clocks of a manager, and one that a test sets |
//! | [`config`] | the settings, and where they come from: code, environment, serde |
//! | [`events`] | the events of a manager: what happened to its keys, and what it denied |
//! | [`key`] | the hashers that make and verify digests |
//! | [`limit`] | rates and quotas, and the pure functions that count them |
//! | [`manager`] | the types of the manager's calls |
//! | `routes` | the guarded handlers and what they demand (feature `routes`) |
//! | [`store`] | what a store implements, and the stores |
//! | [`usage`] | reports: who used what, and when |
//! | `openapi` | documents of guarded routes, for utoipa (feature `openapi`) |
//! | `testing` | keys for an application's tests (feature `test-util`), an audit of its routes (feature `audit-routes`) |
//! | `conformance` | the test suite that every store passes (feature `conformance`) |
//! | [`guide`] | pages on the audit log, coming from flask-api-key, consistency, the end of a key, fields of a key, gateways, leak scanners, limits, observability, OpenAPI, routes, streams, tests of an application, key locations, proxies and backups |
//!
//! # Revocation, and what it promises
//!
//! When [`revoke`](ApiKeyManager::revoke) returns `Ok`, the revocation is durable in the store. No
//! check that *starts* later with this manager, or with a clone of it, accepts the key.
//!
//! Other managers on the same store, in this process or in another, deny the key when the store's
//! push reaches them, and at the latest when their *lease* ends. A lease is the time for which a
//! manager may trust its cache without polling the store for changes: 200 ms by default on SQLite
//! and in memory, 2 s on the other stores.
//!
//! The same holds for all keys of an owner, in one change whatever their number:
//! [`revoke_all`](ApiKeyManager::revoke_all) and [`suspend_owner`](ApiKeyManager::suspend_owner).
//!
//! With [`confirmed`](manager::RevokeKey::confirmed), the call returns only when no check that
//! starts anywhere accepts the key.
//!
//! If a manager cannot poll the store, or if its clock steps, it stops trusting its cache when the
//! lease ends. If the store does not answer then either, requests are denied with 503.
//!
//! This assumes one store that keeps what it acknowledged. A handler that is already running is not
//! stopped. [`guide::consistency`] has the details.
//!
//! A stream or a WebSocket ends with its key if it [watches](ApiKey::watch) the key: see
//! [`guide::streams`].
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `sqlite` | `SqliteStore`: keys in a file, shared by the processes of one machine | yes |
//! | `postgres` | `PostgresStore`: keys of many machines in PostgreSQL | no |
//! | `redis` | `RedisStore`: keys of many machines in Redis | no |
//! | `tls` | TLS between `PostgresStore` and its server, if the URL asks for it (`sslmode`) | no |
//! | `metrics` | counters, gauges and histograms through the `metrics` facade: see [`guide::observability`] | no |
//! | `conformance` | `conformance`: the test suite that every store passes, for a store of your own | no |
//! | `openapi` | `openapi`: what guarded routes demand, in a document of utoipa 6 | no |
//! | `test-util` | `testing`: tests of an application without real keys | no |
//! | `routes` | `routes()`: the guarded handlers of the program, and what they demand | no |
//! | `audit-routes` | `testing::audit_routes`: a test that finds open routes; for `[dev-dependencies]` | no |
//!
//! # Logs
//!
//! Each decision is a `tracing` event at `DEBUG`, with the key's public id if it is known. Created,
//! rotated and revoked keys are logged at `INFO`, store failures at `WARN`, and unreadable records
//! and misconfigured routes at `ERROR`. The logs never contain a secret or a digest.
//!
//! [`ApiKeyManager::events`] reports to a program what happens, [`ApiKeyManager::usage`] who used
//! what, and the feature `metrics` feeds dashboards: see [`guide::observability`].

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod actix;
mod api_key;
pub mod audit;
mod cache;
pub mod clock;
mod cluster;
pub mod config;
mod denied;
mod error;
pub mod events;
mod failed_attempts;
#[cfg(apikey_faults)]
mod faults;
pub mod key;
mod key_id;
pub mod limit;
mod limiter;
pub mod manager;
mod metrics;
mod policy;
mod record;
#[cfg(feature = "routes")]
pub mod routes;
mod scope;
mod shared;
pub mod store;
pub mod usage;
mod util;
mod verify;

#[doc(inline)]
pub use apikey_macros::api_key_required;

pub use actix::{ApiKeyExt, DefaultPolicy, Guarded, KeyHeaders, RequireApiKey, RoutePolicy};
pub use api_key::ApiKey;
pub use cache::{KeyWatch, WatchEnd};
pub use clock::Timestamp;
pub use config::{Config, ConfigBuilder};
pub use denied::{Denied, DenyReason};
pub use error::Error;
pub use key_id::KeyId;
pub use limit::{Limit, Quota, Rate};
pub use manager::{ApiKeyManager, ApiKeyManagerBuilder, Health, NewKey};
pub use policy::{KeyLocation, LimiterFallback, Policy, ScopeExpr};
pub use record::{KeyRecord, KeyState, KeyView, Metadata};
#[cfg(feature = "routes")]
pub use routes::routes;
pub use scope::Scopes;
#[cfg(feature = "postgres")]
pub use store::PostgresStore;
#[cfg(feature = "redis")]
pub use store::RedisStore;
#[cfg(feature = "sqlite")]
pub use store::SqliteStore;
#[cfg(feature = "conformance")]
pub use store::conformance;
pub use store::{KeyStore, MemoryStore};

/// Keys for an application's tests, a clock that a test sets, and an audit of the routes.
#[cfg(any(feature = "test-util", feature = "audit-routes"))]
pub mod testing {
    #[cfg(feature = "test-util")]
    pub use crate::actix::{ActingKey, acting_as};
    #[cfg(feature = "audit-routes")]
    pub use crate::actix::{OpenRoute, OpenRoutes, RouteAudit, audit_routes};
    #[cfg(feature = "test-util")]
    #[doc(no_inline)]
    pub use crate::clock::ManualClock;
}

#[cfg(all(
    feature = "audit-routes",
    not(any(debug_assertions, feature = "test-util"))
))]
compile_error!(
    "the feature `audit-routes` is for tests, and this is a build without debug assertions; \
     enable it under `[dev-dependencies]`, and for tests in release mode `test-util` too"
);

/// Documents of guarded routes, for utoipa: see [`guide::openapi`].
#[cfg(feature = "openapi")]
pub mod openapi {
    pub use crate::actix::openapi::{ApiKeyResponses, ApiKeySecurity};
}

/// Pages that answer longer questions.
pub mod guide {
    #[doc = include_str!("../docs/audit.md")]
    pub mod audit {}

    #[doc = include_str!("../docs/consistency.md")]
    pub mod consistency {}

    #[doc = include_str!("../docs/end-of-a-key.md")]
    pub mod end_of_a_key {}

    #[doc = include_str!("../docs/fields.md")]
    pub mod fields {}

    #[doc = include_str!("../docs/gateways.md")]
    pub mod gateways {}

    #[doc = include_str!("../docs/leak-scanners.md")]
    pub mod leak_scanners {}

    #[doc = include_str!("../docs/limits.md")]
    pub mod limits {}

    #[doc = include_str!("../docs/observability.md")]
    pub mod observability {}

    #[cfg(all(feature = "routes", feature = "audit-routes"))]
    #[doc = include_str!("../docs/routes.md")]
    pub mod routes {}

    #[doc = include_str!("../docs/streams.md")]
    pub mod streams {}

    #[cfg(feature = "openapi")]
    #[doc = include_str!("../docs/openapi.md")]
    pub mod openapi {}

    #[cfg(feature = "test-util")]
    #[doc = include_str!("../docs/testing.md")]
    pub mod testing {}

    #[doc = include_str!("../docs/where-keys-travel.md")]
    pub mod where_keys_travel {}

    #[doc = include_str!("../docs/proxies.md")]
    pub mod proxies {}

    #[doc = include_str!("../docs/backups.md")]
    pub mod backups {}

    #[doc = include_str!("../docs/coming-from-flask-api-key.md")]
    pub mod coming_from_flask_api_key {}
}

/// The items that generated code uses. They may change in any release.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "openapi")]
    pub use crate::actix::openapi::{
        ApiKeyResponses, Author, DocumentedPath, GuardEntry, GuardResponses,
    };
    pub use crate::actix::{
        DefaultPolicy, Guarded, GuardedFuture, PolicyMarker, RoutePolicy, manager, on_error,
    };
    pub use crate::denied::Denied;
    pub use crate::limit::Rate;
    pub use crate::manager::ApiKeyManager;
    pub use crate::policy::{KeyLocation, LimiterFallback, Policy, ScopeExpr};
    #[cfg(feature = "routes")]
    pub use crate::routes::RouteRegistration;
    pub use actix_web::{HttpRequest, HttpResponse};
    #[cfg(feature = "openapi")]
    pub use apikey_macros::api_key_required;
    pub use core::option::Option;
    pub use core::time::Duration;
    #[cfg(any(feature = "openapi", feature = "routes"))]
    pub use inventory;
}
