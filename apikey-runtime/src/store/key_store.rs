//! The trait of stores.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    AuditStore, BatchReads, BulkStep, ChangeLog, ExpiryNotices, LimitStore, ListCursor, ListQuery,
    ListRange, Membership, OwnerStore, RecordPage, SharedSecretStore, StoreCopy, UsageStore,
    WriteOptions,
};
use crate::audit::ChangeOrigin;
use crate::clock::{Clock, Timestamp};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};

/// The number of keys that one step of the default [`KeyStore::revoke_owner`] revokes, one after
/// another.
const REVOKE_STEP: u32 = 50;

/// Stores the records of keys.
///
/// A store implements the methods for records, and returns the capabilities that it has:
///
/// | capability | without it |
/// |---|---|
/// | [`batch_reads`](Self::batch_reads): many records by one statement | each record is read by itself |
/// | [`change_log`](Self::change_log): what changed since a poll | managers read the store for each request |
/// | [`membership`](Self::membership): which managers use the store | a confirmed change waits until every lease has ended |
/// | [`owners`](Self::owners): a row for each owner | all keys of an owner are revoked in batches, and cannot be suspended; live keys cannot be bounded |
/// | [`audit`](Self::audit): what was changed, by whom and why | changes are not logged durably |
/// | [`expiry_notices`](Self::expiry_notices): which notices of ends are due | `ExpiringSoon` events are not sent |
/// | [`limits`](Self::limits): limit counters | each process counts rates by itself, and quotas are an error |
/// | [`usage`](Self::usage): how often keys were used | usage is not counted |
/// | [`shared_secrets`](Self::shared_secrets): random bytes that all managers share | each node has to be configured with its secrets |
/// | [`copying`](Self::copying): all content in pages | it cannot be copied to another store |
///
/// A capability is usually implemented by the store's own type, and its accessor returns
/// `Some(self)`. A manager expects each accessor to return the same answer at all times, even
/// before [`start`](Self::start).
///
/// Every method is called on the manager's own thread and runtime, which also drives the
/// connections that a method opens. The manager sets a deadline for every call. Neither `insert`
/// nor `update` upserts, and a write touches only the columns that change.
///
/// A write decides its [conditions](WriteOptions) and makes its change in one transaction. The first reason
/// to refuse it counts, in this order: the record does not exist or has another owner
/// ([`StoreError::NotFound`]); its version differs, or the id of an insert is taken
/// ([`StoreError::Conflict`]); the owner has too many live keys ([`StoreError::TooManyKeys`]). A refused write
/// changes nothing: neither an owner's row nor a log.
///
/// A manager uses an answer only if it fits the question. A record of another id, owner or label than
/// was asked for is [`StoreError::Corrupt`]. So are a record or an audit entry out of order, and usage of
/// another key or hour.
///
/// [`Debug`](fmt::Debug) of a manager shows the store's, which must not show records: they hold
/// digests.
///
/// The suite in `conformance` (feature of that name) checks whether a store keeps this contract.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// Offers the clock that the manager's builder was given, before [`start`](Self::start), so that an
    /// application's test sets one clock for both. A store that counts by a clock of its process uses
    /// this one, unless it was given its own. By default, does nothing: a server has its own clock.
    fn offer_clock(&self, clock: &Arc<dyn Clock>) {
        let _ = clock;
    }

    /// Prepares the store: connects, and creates or migrates tables. Called once, before any other
    /// method that accesses the store. By default, does nothing.
    ///
    /// # Errors
    ///
    /// Returns any backend error; the manager then does not start.
    async fn start(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Adds a record, with the actors that it names. It sets what the record has of its owner.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Conflict`] if the id is taken, and [`StoreError::TooManyKeys`] if the
    /// owner has as many [live keys](WriteOptions::max_live_keys) as it may have. Nothing is changed then.
    async fn insert(&self, record: &KeyRecord, options: &WriteOptions) -> Result<(), StoreError>;

    /// Returns the record of `id`, as of a moment after the call.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Corrupt`] if the record exists and cannot be read.
    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError>;

    /// Returns the records of a [range](ListRange), in its order. A page may hold fewer than the query's limit, or
    /// none, and still have a [`next`](RecordPage::next): a store reads a bounded number of records
    /// to find those that the query selects.
    ///
    /// A page starts with the first record of the range that follows [`ListQuery::after`] in the range's order.
    /// The cursor is a position and not a record: the record may have been changed or removed since, and the
    /// position may be outside of the range. A manager passes only a cursor that [fits](ListRange::fits).
    /// A store that sorts a record elsewhere than [`ListRange::cursor_of`] says, because an older release or a statement by
    /// hand wrote what it sorts by, returns [`RecordPage::positions`].
    ///
    /// A record whose position changes between two pages may be listed twice, or not at all; others are
    /// listed once.
    ///
    /// # Errors
    ///
    /// Returns an error only if no record can be read. [`RecordPage::unreadable`] lists the records
    /// that cannot be read.
    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError>;

    /// Changes columns of a record, increments its version and sets
    /// [`updated_by`](KeyRecord::updated_by) to the origin's actor, in one step. It cannot change
    /// `revoked`. If the digest differs from the present one, increments
    /// [`rotations`](KeyRecord::rotations).
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the record does not exist or belongs to
    /// [another owner](WriteOptions::expected_owner) than expected, [`StoreError::Conflict`] if its
    /// version is not the [expected one](WriteOptions::expected_version), and
    /// [`StoreError::TooManyKeys`] as [`insert`](Self::insert) does. Nothing is changed then.
    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError>;

    /// Revokes a key permanently, increments its version and sets
    /// [`updated_by`](KeyRecord::updated_by) to the origin's actor. Returns `true` if this call revoked it, and
    /// `false` if it was revoked before; the record then stays as it is. Not bounded by live keys.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] and [`StoreError::Conflict`] as [`update`](Self::update) does.
    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<bool, StoreError>;

    /// Revokes keys of an owner that are not yet revoked: one [bounded step](BulkStep), which
    /// continues after `after`.
    ///
    /// When the last step returns, each key that the owner had when the first one was called is
    /// revoked, as by [`revoke`](Self::revoke). Not called if the store keeps [owners](Self::owners). By default, lists a few keys and
    /// revokes each.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        let range = ListRange::Owner(owner.to_owned());
        let query = ListQuery::of(range, REVOKE_STEP).after(after.cloned());
        let page = self.list(&query).await?;
        let mut step = BulkStep::new(Vec::new(), page.next);
        let options = WriteOptions::new()
            .with_expected_owner(Some(owner.to_owned()))
            .with_origin(origin.clone());
        for record in page.records {
            match self.revoke(&record.id, revocation, &options).await {
                Ok(true) => step.keys.push(record.id),
                // It was revoked, purged or given to another owner meanwhile.
                Ok(false) | Err(StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(step)
    }

    /// Removes records that were revoked, or expired, before `before`: one
    /// [bounded step](BulkStep), which continues after `after`.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn purge(
        &self,
        before: Timestamp,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError>;

    /// Returns whether [`start`](Self::start) is bringing what an older release wrote up to date, which takes longer the
    /// more keys there are. A manager's [`start_timeout`](crate::Config::start_timeout) does not end that, and counts from
    /// its end. By default, `false`.
    fn is_upgrading(&self) -> bool {
        false
    }

    /// Returns the reads of many records at once. By default, `None`: each record is read by itself.
    fn batch_reads(&self) -> Option<&dyn BatchReads> {
        None
    }

    /// Returns the change log, with which managers can cache records and still learn of every
    /// change in time. By default, `None`: managers read the store for each request.
    fn change_log(&self) -> Option<&dyn ChangeLog> {
        None
    }

    /// Returns the membership, with which a manager can tell that a change has reached all other
    /// managers before their leases end. Requires a [change log](Self::change_log). By default,
    /// `None`: a confirmed change waits until every lease has ended.
    fn membership(&self) -> Option<&dyn Membership> {
        None
    }

    /// Returns the store of owners. By default, `None`: all keys of an owner are revoked in
    /// [batches](Self::revoke_owner), and an owner cannot be suspended.
    fn owners(&self) -> Option<&dyn OwnerStore> {
        None
    }

    /// Returns the audit log. By default, `None`: changes are not logged durably.
    fn audit(&self) -> Option<&dyn AuditStore> {
        None
    }

    /// Returns the notices before the end of keys. By default, `None`: no
    /// [`ExpiringSoon`](crate::events::EventKind::ExpiringSoon) event is sent.
    fn expiry_notices(&self) -> Option<&dyn ExpiryNotices> {
        None
    }

    /// Returns the limit counters. By default, `None`: keys cannot have quotas, and each process
    /// counts rates by itself.
    fn limits(&self) -> Option<&dyn LimitStore> {
        None
    }

    /// Returns the store of usage. By default, `None`: usage is not counted.
    fn usage(&self) -> Option<&dyn UsageStore> {
        None
    }

    /// Returns the store of shared secrets. By default, `None`:
    /// [`ApiKeyManager::shared_secret`](crate::ApiKeyManager::shared_secret) is an error.
    fn shared_secrets(&self) -> Option<&dyn SharedSecretStore> {
        None
    }

    /// Returns what copies the content to another store, and from one. By default, `None`: the store cannot be copied.
    fn copying(&self) -> Option<&dyn StoreCopy> {
        None
    }

    /// Closes connections. Called once, after all other calls. By default, does nothing.
    async fn stop(&self) {}
}

/// The answer of a store to each call after its `stop`.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
pub(super) const STOPPED: &str = "the store was stopped, by a call of `stop` or by a manager that was shut down, and managers that \
    share a store lose it with the first of them; give each its own, or call `start` again";
