//! Stores: they keep records and judge nothing.

mod charge;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod columns;
#[cfg(feature = "conformance")]
pub mod conformance;
mod lease;
mod member;
mod memory;
mod notify;
mod paging;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod schema;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod usage;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::record::KeyRecord;

pub use self::charge::{Charge, ChargeOutcome, LimitCounter, LimitSupport};
pub(crate) use self::lease::{MAX as MAX_LEASE, outlasts};
pub use self::member::{MemberList, Node, NodeId};
pub use self::memory::MemoryStore;
pub use self::notify::{ChangeListener, ChangeNotifier};
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
pub use self::usage::{LastUsed, Outcome, UsageBatch, UsageQuery, UsageRow};
pub use crate::error::{BoxError, StoreError};
pub use crate::record::{KeyPatch, PreviousDigest, Revocation};

/// Keeps the records of keys.
///
/// Every method is called on the manager's own thread and runtime, so a connection that a method
/// opens is driven there. The manager sets a deadline on every call. `insert` and `update` are no
/// upserts, and writes touch only the columns that change.
///
/// A store that also answers [`changes`](KeyStore::changes) lets the manager keep records in memory
/// and still learn of each change in time; one that does not is asked anew for every request. One
/// that keeps a list of nodes too ([`join`](KeyStore::join) and what follows it) lets the manager
/// tell when a change has reached all others, without waiting out a lease. One that
/// [counts](KeyStore::limit_support) lets keys have quotas, and one that
/// [keeps usage](KeyStore::supports_usage) tells who used what.
///
/// The suite in `conformance` (feature of that name) tells whether a store keeps all this.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// Gets ready: connects, makes or migrates tables. Called once, before anything else. By
    /// default, does nothing.
    ///
    /// # Errors
    ///
    /// Any; the manager then does not start.
    async fn start(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Adds a record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] where the id is taken; nothing is changed then.
    async fn insert(&self, record: &KeyRecord) -> Result<(), StoreError>;

    /// The record of `id`, as of a moment after the call.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] where it is there and cannot be read.
    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError>;

    /// Records in the order of their ids.
    ///
    /// # Errors
    ///
    /// Only where none can be read; a record that cannot be read is named in [`RecordPage::unreadable`].
    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError>;

    /// Changes columns of a record and counts its version up, in one step. It can not change
    /// `revoked`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] without such a record; [`StoreError::Conflict`] where
    /// [`expected_version`](KeyPatch::expected_version) is another than the record's. Nothing is
    /// changed then.
    async fn update(&self, id: &KeyId, patch: &KeyPatch) -> Result<(), StoreError>;

    /// Revokes a key for good. `true` where this call did it; `false` where it was revoked before,
    /// and then the first time and reason stay.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] without such a record.
    async fn revoke(&self, id: &KeyId, revocation: &Revocation) -> Result<bool, StoreError>;

    /// Revokes all keys of an owner that are not yet revoked, all or none; returns which.
    ///
    /// # Errors
    ///
    /// None of its own.
    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
    ) -> Result<Vec<KeyId>, StoreError>;

    /// Removes the records that were revoked, or expired, before `before`, all or none; returns
    /// which.
    ///
    /// # Errors
    ///
    /// None of its own.
    async fn purge(&self, before: Timestamp) -> Result<Vec<KeyId>, StoreError>;

    /// What changed since `since`; with `None`, where the history stands, and [`ChangeSet::Resync`].
    /// `Ok(None)` from a store that keeps no history, which is the default.
    ///
    /// Every insert, change, revocation and removal takes the next epoch and logs its key's id, in
    /// one step with the change and in the order of the commits. Counter, log, leases and whether
    /// `node` is a [member](Changes::member) are read in one snapshot, of a moment after the call.
    ///
    /// # Errors
    ///
    /// Any; the manager then asks the store for every request, until an answer comes.
    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Option<Changes>, StoreError> {
        let _ = (since, node);
        Ok(None)
    }

    /// Puts `node` on the list of nodes, with a random beat, or, where it stands there, counts its
    /// beat up and takes the suspicion from it. Takes the next epoch, with no key's id, so that a history that has lost
    /// this is told from one that has not. Durable when it returns. `Ok(false)` from a store that
    /// keeps no list, which is the default.
    ///
    /// # Errors
    ///
    /// Any; the node then takes no lease.
    async fn join(&self, node: &NodeId) -> Result<bool, StoreError> {
        let _ = node;
        Ok(false)
    }

    /// Notes that `node` has dropped from its memory all that changed up to `cursor`, and counts
    /// its beat up. The epoch is noted only where the history has the cursor's change, tag and all;
    /// a suspicion stays. Does nothing where the node is not listed. May be forgotten in a crash.
    ///
    /// # Errors
    ///
    /// Any; others then wait for the node's lease to end.
    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
        let _ = (node, cursor);
        Ok(())
    }

    /// The nodes. `Ok(None)` from a store that keeps no list, which is the default.
    ///
    /// # Errors
    ///
    /// Any.
    async fn members(&self) -> Result<Option<MemberList>, StoreError> {
        Ok(None)
    }

    /// Suspects a node of being gone, where it has still the beat that was `seen`.
    ///
    /// # Errors
    ///
    /// Any.
    async fn suspect(&self, seen: &Node) -> Result<(), StoreError> {
        let _ = seen;
        Ok(())
    }

    /// Takes a suspected node off the list, where it has still the beat that was `seen` and is
    /// still suspected.
    ///
    /// # Errors
    ///
    /// Any.
    async fn remove_node(&self, seen: &Node) -> Result<(), StoreError> {
        let _ = seen;
        Ok(())
    }

    /// Takes a node off the list that holds no lease any more, and says so itself.
    ///
    /// # Errors
    ///
    /// Any.
    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        let _ = node;
        Ok(())
    }

    /// Which limits the store counts. By default, none: then keys can have no quotas, and rates are
    /// counted in the process.
    fn limit_support(&self) -> LimitSupport {
        LimitSupport::Nothing
    }

    /// Charges all limits of a request, or none, in one step, at the time of the store's own clock;
    /// see [`Charge::apply`]. A charge of a quota that was admitted outlives a crash of the store; of
    /// one of rates alone, the last moments may be lost in it. One of a key that the store does not
    /// have may be counted or not. Asked only for what
    /// [`counting`](KeyStore::limit_support) names.
    ///
    /// # Errors
    ///
    /// Any; whether it was counted is then not known, and the request is refused.
    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        let _ = charge;
        Err(StoreError::unavailable("it counts no limits"))
    }

    /// Gives back up to `amount` of what the key used of a limit, in one step; see
    /// [`CounterState::refill`](crate::limit::CounterState::refill).
    ///
    /// # Errors
    ///
    /// Any; whether it was given back is then not known.
    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        let _ = (key, counter, amount);
        Err(StoreError::unavailable("it counts no limits"))
    }

    /// Whether the store keeps usage. By default, it does not.
    fn supports_usage(&self) -> bool {
        false
    }

    /// Adds what a node counted, all or none, unless a batch of that node with this number or a
    /// higher one was added before. Takes no epoch. Counts of keys that are gone may be kept or
    /// not. It may take ten times as long as other calls: no request waits for it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] where it may go well later: the same batch is then offered again
    /// until it does. Any other where it never will: after five in a row, an interval apart, the
    /// batch is dropped, so that newer ones do not wait for it.
    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let _ = batch;
        Ok(())
    }

    /// The counts of some keys, in any order; no two of one key, route, hour and outcome. Those with
    /// an outcome that is not known are left out.
    ///
    /// # Errors
    ///
    /// Any.
    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        let _ = query;
        Ok(Vec::new())
    }

    /// When these keys, at most 1000, were last let through, in any order; those that never were
    /// are left out.
    ///
    /// # Errors
    ///
    /// Any.
    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        let _ = keys;
        Ok(Vec::new())
    }

    /// Removes the counts of hours before `hour`, and may forget the numbers of batches of nodes
    /// that added none since. Does nothing where the store does so by itself.
    ///
    /// # Errors
    ///
    /// Any.
    async fn prune_usage(&self, hour: i64) -> Result<(), StoreError> {
        let _ = hour;
        Ok(())
    }

    /// Listens to the store's push, if it has one: to news that something changed. By default,
    /// there is none.
    fn subscribe(&self) -> Option<ChangeListener> {
        None
    }

    /// Lets go of connections. Called once, after everything else. By default, does nothing.
    async fn stop(&self) {}
}

/// A place in a store's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// How many changes came before.
    pub epoch: u64,
    /// A random mark of that change: a store that was restored from a dump counts alike and marks
    /// otherwise.
    pub tag: Vec<u8>,
}

/// What happened in a store since a [`Cursor`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// The changes.
    pub history: ChangeSet,
    /// Where the history stands now.
    pub cursor: Cursor,
    /// How long, from when this was asked, a record that was read may be used without being read
    /// again. The same for all that use the store.
    pub lease: Duration,
    /// Whether the node that asked is on the list of nodes, and not suspected. One that is not takes
    /// no lease, unless the store keeps no list.
    pub member: bool,
}

impl Changes {
    /// An answer to nobody in particular.
    #[must_use]
    pub fn new(history: ChangeSet, cursor: Cursor, lease: Duration) -> Self {
        Self {
            history,
            cursor,
            lease,
            member: false,
        }
    }

    /// The same answer to a node that is a [member](Changes::member), or not.
    #[must_use]
    pub fn for_member(mut self, member: bool) -> Self {
        self.member = member;
        self
    }
}

/// Which records changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeSet {
    /// These, and no other.
    Entries(Vec<KeyId>),
    /// Perhaps any: the store does not know the cursor (it was restored, failed over, or has
    /// forgotten that far back).
    Resync,
}

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListQuery {
    /// Only keys of this owner.
    pub owner: Option<String>,
    /// Only keys with exactly this label.
    pub label: Option<String>,
    /// Only keys whose id comes after this one.
    pub after: Option<KeyId>,
    /// At most this many records, counted as 1 to 1000: a page of none would look like the last.
    pub limit: u32,
}

impl ListQuery {
    /// The first `limit` records of all.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }
}

/// Some records, in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct RecordPage {
    /// The records.
    pub records: Vec<KeyRecord>,
    /// The ids of records that are there and cannot be read.
    pub unreadable: Vec<String>,
    /// Where the next page starts, for [`ListQuery::after`]; `None` on the last.
    pub next: Option<KeyId>,
}

impl RecordPage {
    /// A page of these.
    #[must_use]
    pub fn new(records: Vec<KeyRecord>, unreadable: Vec<String>, next: Option<KeyId>) -> Self {
        Self {
            records,
            unreadable,
            next,
        }
    }
}
