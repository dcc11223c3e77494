//! API keys for actix-web.
#![forbid(unsafe_code)]

mod actix;
mod api_key;
mod cache;
mod clock;
mod config;
mod denied;
mod error;
mod key;
mod manager;
mod policy;
mod record;
mod scope;
mod store;
mod verify;

#[doc(inline)]
pub use apikey_macros::api_key_required;

pub use actix::{Guarded, PlainPolicy, RoutePolicy};
#[cfg(feature = "test-util")]
pub use actix::{ActingKey, acting_as};
pub use api_key::ApiKey;
pub use clock::{Clock, ManualClock, Reading, SystemClock, Timestamp};
pub use config::{Config, ConfigBuilder};
pub use denied::{Denied, DenyReason};
pub use error::{BoxError, Error, StoreError};
pub use key::{Charset, FastHasher, KeyHasher, KeyId, Pepper, PreparedDigest};
pub use manager::{
    ApiKeyManager, ApiKeyManagerBuilder, CreateKey, KeyExport, KeyPage, ListKeys, NewKey, RevokeKey,
    RevokeOwner, RotateKey, UpdateKey,
};
pub use policy::{Location, Policy, ScopeExpr};
pub use record::{KeyPatch, KeyRecord, KeyState, Metadata, PreviousDigest, Revocation};
pub use scope::Scopes;
pub use store::{Changes, Cursor, History, KeyStore, ListQuery, MemoryStore, Page};
#[cfg(feature = "conformance")]
pub use store::conformance;
#[cfg(feature = "sqlite")]
pub use store::SqliteStore;

/// What generated code touches, and nothing else of the crate. No promise is made for it.
#[doc(hidden)]
pub mod __private {
    pub use crate::actix::{Guarded, GuardedFuture, PlainPolicy, Rest, RoutePolicy};
    pub use crate::denied::Denied;
    pub use crate::manager::ApiKeyManager;
    pub use crate::policy::{Location, Policy, ScopeExpr};
    pub use actix_web::{HttpRequest, HttpResponse};
    pub use core::option::Option;
}
