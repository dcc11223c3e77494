//! API keys for actix-web: put `#[api_key_required]` on a handler, and it runs only for a key that
//! is known, live and allowed.
//!
//! The key is checked before anything else of the request is touched: before the handler's
//! extractors start, and before a byte of the body is read. A warm check asks no store, takes no
//! lock and awaits nothing; and yet a revoked key is refused by the next request.
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
//! # Where to read on
//!
//! - [`api_key_required`]: the attribute and its options.
//! - [`ApiKeyManager`]: creating, listing, changing, rotating and revoking keys; [`Config`]: the
//!   settings.
//! - [`ApiKey`]: what a handler knows of its caller. [`Denied`]: what an error handler is told.
//! - [`RequireApiKey`]: the same check as middleware, for a scope or a whole app.
//! - [`guide`]: where a key should travel, proxies, coming from flask-api-key.
//! - [`KeyStore`]: where records are kept; [`MemoryStore`], `SqliteStore`, or your own.
//!
//! # Revocation, and what it promises
//!
//! When [`revoke`](ApiKeyManager::revoke) returns `Ok`, the revocation is durable in the store, and
//! no check that *starts* from then on with this manager, or a clone of it, accepts the key. Other
//! managers on the same store, in this process or another, refuse it as soon as the store's push
//! reaches them, and at the latest within the store's *lease*: the stretch of time (200 ms by
//! default on SQLite and in memory, 2 s elsewhere) for which a manager may use what it has in memory
//! without asking the store what has changed. With [`confirmed`](RevokeKey::confirmed) the call
//! returns only when no check that starts anywhere accepts the key. A manager that cannot ask, or
//! whose clock jumps, stops believing its memory when its lease ends; where the store does not
//! answer then, requests are answered with 503.
//!
//! This rests on one store that keeps what it acknowledged. A handler that is already running is
//! not stopped. [`guide::consistency`] has it all.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `sqlite` | `SqliteStore`: keys in a file, shared by the processes of one machine | yes |
//! | `postgres` | `PostgresStore`: keys of many machines in PostgreSQL | no |
//! | `redis` | `RedisStore`: keys of many machines in Redis | no |
//! | `tls` | TLS between `PostgresStore` and its server, which its URL then asks for (`sslmode`) | no |
//! | `metrics` | counters, gauges and latencies through the `metrics` facade: see [`guide::observability`] | no |
//! | `conformance` | `conformance`: the test suite that every store passes, for a store of your own | no |
//! | `test-util` | `ActingKey` and `acting_as`: tests of an application without real keys | no |
//!
//! # Logs
//!
//! Every decision is a `tracing` event at `DEBUG`, with the key's public id where there is one;
//! creating, rotating and revoking are events at `INFO`; a store that fails is one at `WARN`; a
//! record that cannot be read, or a route that is set up wrongly, is one at `ERROR`. No event holds
//! a secret or a digest. [`ApiKeyManager::events`] tells a program what happens,
//! [`ApiKeyManager::usage`] who used what; the feature `metrics` tells a dashboard:
//! [`guide::observability`].

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod actix;
mod api_key;
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
pub use clock::Timestamp;
pub use config::{Config, ConfigBuilder};
pub use denied::{Denied, DenyReason};
pub use error::Error;
pub use key_id::KeyId;
pub use limit::{Limit, Quota, Rate};
pub use manager::{ApiKeyManager, ApiKeyManagerBuilder, Health, NewKey};
pub use policy::{KeyLocation, LimiterFallback, Policy, ScopeExpr};
pub use record::{KeyRecord, KeyState, Metadata};
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

/// Tests of an application without real keys.
#[cfg(feature = "test-util")]
pub mod testing {
    pub use crate::actix::{ActingKey, acting_as};
    #[doc(no_inline)]
    pub use crate::clock::ManualClock;
}

/// Pages that answer longer questions.
pub mod guide {
    #[doc = include_str!("../docs/consistency.md")]
    pub mod consistency {}

    #[doc = include_str!("../docs/limits.md")]
    pub mod limits {}

    #[doc = include_str!("../docs/observability.md")]
    pub mod observability {}

    #[doc = include_str!("../docs/where-keys-travel.md")]
    pub mod where_keys_travel {}

    #[doc = include_str!("../docs/proxies.md")]
    pub mod proxies {}

    #[doc = include_str!("../docs/coming-from-flask-api-key.md")]
    pub mod coming_from_flask_api_key {}
}

/// What generated code touches, and nothing else of the crate. No promise is made for it.
#[doc(hidden)]
pub mod __private {
    pub use crate::actix::{DefaultPolicy, Guarded, GuardedFuture, RoutePolicy, UnreadBody};
    pub use crate::denied::Denied;
    pub use crate::limit::Rate;
    pub use crate::manager::ApiKeyManager;
    pub use crate::policy::{KeyLocation, LimiterFallback, Policy, ScopeExpr};
    pub use actix_web::{HttpRequest, HttpResponse};
    pub use core::option::Option;
    pub use core::time::Duration;
}
