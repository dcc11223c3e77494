//! The integration with actix-web: the only module that knows it.

mod app_data;
mod audit_export;
#[cfg(feature = "audit-routes")]
mod audit_routes;
mod challenge;
mod change_origin;
mod check;
mod check_headers;
mod checked_key;
mod credential;
mod error_response;
mod extension;
mod forwarded;
mod guard;
mod key_headers;
mod key_notice;
mod middleware;
mod open_paths;
#[cfg(feature = "openapi")]
pub(crate) mod openapi;
mod payload;
mod policy;
mod rate_limit_fields;
mod request_facts;
mod request_info;
mod response;
mod route_pattern;
#[cfg(feature = "test-util")]
mod testing;
mod vary;
mod verified;

#[cfg(feature = "audit-routes")]
pub use audit_routes::{OpenRoute, OpenRoutes, RouteAudit, audit_routes};
pub use extension::ApiKeyExt;
pub use guard::{Guarded, GuardedFuture, PolicyMarker};
pub use key_headers::KeyHeaders;
pub use middleware::RequireApiKey;
pub use policy::{DefaultPolicy, RoutePolicy, manager, on_error};
#[cfg(feature = "test-util")]
pub use testing::{ActingKey, acting_as};
