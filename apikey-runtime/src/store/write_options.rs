//! What a write of a record depends on, and where it comes from.

use crate::audit::ChangeOrigin;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::record::KeyRecord;

/// The conditions of a write of one record, and where the write comes from.
///
/// A store decides the conditions and makes the write in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOptions {
    /// The owner that the record must have. With another owner, or none, the write is
    /// [`StoreError::NotFound`]. `None` accepts any. Not for `insert`.
    pub expected_owner: Option<String>,
    /// The version that the record must have. With another, the write is [`StoreError::Conflict`].
    /// `None` accepts any. Not for `insert`.
    pub expected_version: Option<u64>,
    /// The maximum number of live keys that the owner may have after a write that makes a key
    /// [live](KeyRecord::is_live) for this owner; with more, the write is [`StoreError::TooManyKeys`].
    /// `None` accepts any.
    ///
    /// Such a write is an insert, a change of owner, or a later expiry of an expired key. The store's clock
    /// tells whether a key has expired. The maximum is exact with any number of writers in any number of
    /// processes: the store counts the owner's other live keys under a lock that excludes a second count of
    /// the same owner, until the write is committed.
    ///
    /// A store without [owners](crate::store::KeyStore::owners) need not count live keys. A manager does not
    /// pass a maximum to it: the call is [`Error::Unsupported`](crate::Error::Unsupported). If it gets one,
    /// it counts, or returns [`StoreError::InvalidArgument`]; it does not ignore it.
    pub max_live_keys: Option<u32>,
    /// Where the write comes from. A store with an [audit log](crate::store::AuditStore) keeps all of it; each
    /// store sets [`updated_by`](KeyRecord::updated_by) to the actor, except in `insert`.
    pub origin: ChangeOrigin,
}

impl WriteOptions {
    /// Creates options without conditions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the [owner](Self::expected_owner) that the record must have. By default, any.
    #[must_use]
    pub fn with_expected_owner(mut self, owner: Option<String>) -> Self {
        self.expected_owner = owner;
        self
    }

    /// Sets the [version](Self::expected_version) that the record must have. By default, any.
    #[must_use]
    pub fn with_expected_version(mut self, version: Option<u64>) -> Self {
        self.expected_version = version;
        self
    }

    /// Sets the maximum number of [live keys](Self::max_live_keys). By default, any.
    #[must_use]
    pub fn with_max_live_keys(mut self, keys: Option<u32>) -> Self {
        self.max_live_keys = keys;
        self
    }

    /// Sets where the write comes from. By default, an origin that names nothing.
    #[must_use]
    pub fn with_origin(mut self, origin: ChangeOrigin) -> Self {
        self.origin = origin;
        self
    }

    /// Checks the expected owner, then the expected version, for stores that keep whole records.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] or [`StoreError::Conflict`].
    pub fn check_record(&self, record: &KeyRecord) -> Result<(), StoreError> {
        if self.expected_owner.is_some() && record.owner != self.expected_owner {
            return Err(StoreError::NotFound);
        }
        match self.expected_version {
            Some(version) if version != record.version => Err(StoreError::Conflict),
            _ => Ok(()),
        }
    }

    /// Returns the number of live keys that the owner of `after` may have, if the write from `before`
    /// makes the key live for it, for stores that keep whole records. The store counts the owner's
    /// other live keys.
    #[must_use]
    pub fn live_keys_bound(
        &self,
        before: Option<&KeyRecord>,
        after: &KeyRecord,
        now: Timestamp,
    ) -> Option<u32> {
        let was_live =
            before.is_some_and(|before| before.owner == after.owner && before.is_live(now));
        let comes = after.owner.is_some() && after.is_live(now) && !was_live;
        self.max_live_keys.filter(|_| comes)
    }
}
