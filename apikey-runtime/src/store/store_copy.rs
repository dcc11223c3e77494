//! The capability of copying: a store's content in pages, as absolute values.

use std::fmt;

use async_trait::async_trait;

use super::{ListedOwner, NetworkUse, SecretUse, UsageRow};
use crate::audit::AuditEntry;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::limit::CounterState;
use crate::record::KeyRecord;

/// Reads and writes all that a store keeps for good, so that it can be copied to another store.
///
/// Copy while no manager uses either store: [`Membership::members`](super::Membership::members) lists those that do. A page is
/// read after the one before, and not in one snapshot with it.
///
/// A manager that uses the target before the cutover may deny a copied key as unknown for up to 1 s, and a copied secret until it
/// follows the [resync](super::ChangeSet::Resync).
///
/// Write the [sections](CopySection) in the order of [`CopySection::ALL`], and each page as it was read. Values are absolute
/// and have an identity, so a repeated page does not change anything, and a copy that was ended early is begun again.
///
/// ```
/// use apikey_runtime::store::{CopySection, KeyStore, MemoryStore};
///
/// # actix_web::rt::System::new().block_on(async {
/// let (from, to) = (MemoryStore::new(), MemoryStore::new());
/// let (Some(source), Some(target)) = (from.copying(), to.copying()) else {
///     panic!("both stores can be copied");
/// };
/// for section in CopySection::ALL {
///     let mut after = None;
///     loop {
///         let page = source.read_copy(section, after.as_deref(), 1_000).await?;
///         target.write_copy(&page.items).await?;
///         after = page.next;
///         if after.is_none() {
///             break;
///         }
///     }
/// }
/// # Ok::<(), apikey_runtime::store::StoreError>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait StoreCopy: Send + Sync {
    /// Returns a page of a section, in the section's order: at most `limit` items (clamped to 1 to 1,000), and about
    /// [`CopyPage::MAX_BYTES`] of memory. A page may hold fewer items, or none, and still have a [`next`](CopyPage::next).
    ///
    /// `after` is the `next` of the page before; `None` starts with the first item.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::InvalidArgument`] if `after` is not the `next` of a page of this section. An item that cannot be
    /// read is not an error: [`CopyPage::unreadable`] has its name.
    async fn read_copy(
        &self,
        section: CopySection,
        after: Option<&str>,
        limit: u32,
    ) -> Result<CopyPage, StoreError>;

    /// Writes items, at most 1,000. Each item is written completely or not at all; after an error, some may be written and
    /// others not. An item that the store has already gets the value of the given one, or stays
    /// as it is if it was [changed here, or is later or larger](CopyOutcome::kept). Items are not removed. A key that is revoked in either store
    /// [is revoked](CopyOutcome::revoked) here afterwards.
    ///
    /// The change of a key or an owner is not audited: the log is copied too. If a key or an owner is written, the change log gets
    /// an entry after which each node that follows it [reads everything again](super::ChangeSet::Resync).
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::InvalidArgument`] if an item cannot be kept by this store: nothing is written then. Otherwise
    /// returns any backend error, after which the same items are written again.
    async fn write_copy(&self, items: &CopyItems) -> Result<CopyOutcome, StoreError>;
}

/// A part of a store's content. Texts are sorted byte by byte.
///
/// Limit counters, usage and last uses are those of keys that have a record: what is left of a removed key is not copied.
/// Neither are the notices before the end of keys, which a manager plans again, nor what belongs to running managers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CopySection {
    /// Owners, by name.
    Owners,
    /// Records with their digests, also that of a secret in its grace; by id.
    Keys,
    /// Secrets that all managers share, by name.
    SharedSecrets,
    /// Limit counters of quotas, and of rates if the store keeps them; by key and name. Those without a use are left out.
    LimitCounters,
    /// Counts of requests, by key, hour, route and [code](super::Outcome::code) of the outcome.
    Usage,
    /// The last use of each secret, by key and number of rotations.
    SecretUses,
    /// The last use from each network, by key and the network's text.
    Networks,
    /// The audit log, the oldest entry first.
    Audit,
}

/// Items of one section.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum CopyItems {
    /// See [`CopySection::Owners`].
    Owners(Vec<ListedOwner>),
    /// See [`CopySection::Keys`]. A key that its owner's state revokes is revoked itself. `owner_state` is `None`; all other fields
    /// are kept as they are, also those that [`insert`](super::KeyStore::insert) sets.
    Keys(Vec<KeyRecord>),
    /// See [`CopySection::SharedSecrets`].
    SharedSecrets(Vec<CopiedSecret>),
    /// See [`CopySection::LimitCounters`].
    LimitCounters(Vec<CopiedCounter>),
    /// See [`CopySection::Usage`].
    Usage(Vec<UsageRow>),
    /// See [`CopySection::SecretUses`].
    SecretUses(Vec<SecretUse>),
    /// See [`CopySection::Networks`].
    Networks(Vec<NetworkUse>),
    /// See [`CopySection::Audit`].
    Audit(Vec<CopiedEntry>),
}

/// A secret that all managers share. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopiedSecret {
    /// The name.
    pub name: String,
    /// The secret.
    pub secret: [u8; 32],
}

/// A limit counter of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopiedCounter {
    /// The key.
    pub key: KeyId,
    /// The [name](super::LimitCounter::name) under which the limit is counted, which ends in `/` and the rule's kind.
    pub name: String,
    /// What was used of the limit.
    pub state: CounterState,
}

/// An entry of the audit log. Its time and number identify it in each store.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CopiedEntry {
    /// The number of entries of the same millisecond that come before this one.
    pub number: u64,
    /// The entry. Its `position` is empty, since it differs from store to store.
    pub entry: AuditEntry,
}

/// A page of a section.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CopyPage {
    /// The items.
    pub items: CopyItems,
    /// The names of items that exist and cannot be read.
    pub unreadable: Vec<String>,
    /// The start of the next page, for the next [`StoreCopy::read_copy`]; `None` on the last page.
    pub next: Option<String>,
}

/// What [`StoreCopy::write_copy`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyOutcome {
    /// The number of items that were added or changed, with those that were [revoked](Self::revoked).
    pub written: u64,
    /// The number of items that the store had already, with the same value.
    pub unchanged: u64,
    /// The names of items that differ and were left as they are: a record or an owner whose version here is the same or a higher one,
    /// a key that is revoked here alone, an owner whose keys were revoked more often here, and another audit entry of the same time
    /// and number. A limit counter, a count of usage and a last use are kept unless the given one is later or larger: the counter has a
    /// later `tat`, period or part of its window, or else more units; the count has more requests, or as many and a higher cost. So is a
    /// use of a secret or from a network that comes before all uses of its key that the store keeps.
    pub kept: Vec<String>,
    /// The names of items that were changed here, and were revoked in the other store alone. They get the revocation, a version that
    /// is later than both, and are otherwise left as they are: a record, and an owner whose keys were revoked more often there. They
    /// still differ, so a repeated copy has them among [`kept`](Self::kept).
    pub revoked: Vec<String>,
    /// The number of counts of usage that are older than this store keeps such, and were not written: Redis has to know when each
    /// count expires, and gets that from `RedisStore::copied_usage_retention`.
    pub outdated: u64,
}

impl CopySection {
    /// All sections, in the order in which to copy them: owners before the keys that they may revoke or suspend.
    pub const ALL: [Self; 8] = [
        Self::Owners,
        Self::Keys,
        Self::SharedSecrets,
        Self::LimitCounters,
        Self::Usage,
        Self::SecretUses,
        Self::Networks,
        Self::Audit,
    ];

    /// Returns the section's name in reports, such as `limit_counters`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Owners => "owners",
            Self::Keys => "keys",
            Self::SharedSecrets => "shared_secrets",
            Self::LimitCounters => "limit_counters",
            Self::Usage => "usage",
            Self::SecretUses => "secret_uses",
            Self::Networks => "networks",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for CopySection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl CopyItems {
    /// Returns the section of the items.
    #[must_use]
    pub fn section(&self) -> CopySection {
        match self {
            Self::Owners(_) => CopySection::Owners,
            Self::Keys(_) => CopySection::Keys,
            Self::SharedSecrets(_) => CopySection::SharedSecrets,
            Self::LimitCounters(_) => CopySection::LimitCounters,
            Self::Usage(_) => CopySection::Usage,
            Self::SecretUses(_) => CopySection::SecretUses,
            Self::Networks(_) => CopySection::Networks,
            Self::Audit(_) => CopySection::Audit,
        }
    }

    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Owners(items) => items.len(),
            Self::Keys(items) => items.len(),
            Self::SharedSecrets(items) => items.len(),
            Self::LimitCounters(items) => items.len(),
            Self::Usage(items) => items.len(),
            Self::SecretUses(items) => items.len(),
            Self::Networks(items) => items.len(),
            Self::Audit(items) => items.len(),
        }
    }

    /// Returns whether it does not have an item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl CopiedSecret {
    /// Creates a secret.
    #[must_use]
    pub fn new(name: impl Into<String>, secret: [u8; 32]) -> Self {
        Self {
            name: name.into(),
            secret,
        }
    }
}

impl fmt::Debug for CopiedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopiedSecret")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl CopiedCounter {
    /// Creates a counter.
    #[must_use]
    pub fn new(key: KeyId, name: impl Into<String>, state: CounterState) -> Self {
        Self {
            key,
            name: name.into(),
            state,
        }
    }
}

impl CopiedEntry {
    /// Creates an entry, without its position.
    #[must_use]
    pub fn new(number: u64, mut entry: AuditEntry) -> Self {
        entry.position.clear();
        Self { number, entry }
    }
}

impl CopyPage {
    /// The number of bytes after which a page ends, as far as a store can tell: 4 MiB. One item may exceed it.
    pub const MAX_BYTES: usize = 4 * 1024 * 1024;

    /// Creates a page on which all items could be read.
    #[must_use]
    pub fn new(items: CopyItems, next: Option<String>) -> Self {
        Self {
            items,
            unreadable: Vec::new(),
            next,
        }
    }
}

impl CopyOutcome {
    /// Adds what another call did.
    pub fn add(&mut self, other: Self) {
        self.written += other.written;
        self.unchanged += other.unchanged;
        self.kept.extend(other.kept);
        self.revoked.extend(other.revoked);
        self.outdated += other.outdated;
    }
}
