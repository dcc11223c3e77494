//! Stores: they keep records and do not decide anything.
//!
//! A store implements [`KeyStore`], and returns the capabilities that it has: [`BatchReads`], [`ChangeLog`],
//! [`Membership`], [`OwnerStore`], [`AuditStore`], [`ExpiryNotices`], [`LimitStore`], [`UsageStore`],
//! [`SharedSecretStore`], [`StoreCopy`].

pub(crate) mod answer;
mod audit_store;
mod batch_reads;
mod bulk_step;
mod change_log;
mod charge;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod columns;
#[cfg(feature = "conformance")]
pub mod conformance;
mod copied_values;
mod copy_rules;
pub(crate) mod expiry_notices;
mod key_store;
mod lease;
mod limit_store;
mod member;
mod membership;
mod memory;
mod notify;
mod owner_store;
mod paging;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod schema;
mod shared_secret_store;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store_copy;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod trim_schedule;
mod usage;
mod usage_store;
mod write_options;

pub use self::audit_store::{AuditPage, AuditQuery, AuditStore};
pub(crate) use self::batch_reads::MAX_BATCH;
pub use self::batch_reads::{BatchReads, FindResult};
pub use self::bulk_step::BulkStep;
pub(crate) use self::change_log::PROTOCOL;
pub use self::change_log::{ChangeLog, ChangeSet, ChangedItem, Changes, Cursor};
pub use self::charge::{Charge, ChargeOutcome, LimitCounter, LimitSupport};
pub use self::expiry_notices::{ExpiryNotice, ExpiryNotices};
pub use self::key_store::KeyStore;
pub(crate) use self::lease::{MAX as MAX_LEASE, outlasts};
pub use self::limit_store::LimitStore;
pub use self::member::{MemberList, Node, NodeId};
pub use self::membership::Membership;
pub use self::memory::MemoryStore;
pub use self::notify::{ChangeListener, ChangeNotifier};
pub use self::owner_store::{ListedOwner, OwnerPage, OwnerQuery, OwnerStore};
pub(crate) use self::paging::MAX_PAGE_SIZE;
pub use self::paging::{ListCursor, ListQuery, ListRange, RecordPage, SortValue, fold_label};
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
pub use self::shared_secret_store::SharedSecretStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
pub use self::store_copy::{
    CopiedCounter, CopiedEntry, CopiedSecret, CopyItems, CopyOutcome, CopyPage, CopySection,
    StoreCopy,
};
pub use self::usage::{
    LastUsed, MAX_NETWORKS, NetworkUse, Outcome, SecretUse, UsageBatch, UsageQuery, UsageRow,
};
pub use self::usage_store::UsageStore;
pub use self::write_options::WriteOptions;
pub use crate::error::{BoxError, FoundSchema, StoreError};
pub use crate::record::{KeyPatch, OwnerRevocation, OwnerState, PreviousDigest, Revocation};
