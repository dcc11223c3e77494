//! The capability of the audit log.

use async_trait::async_trait;

use crate::audit::AuditEntry;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;

/// Keeps an entry for each change of a key or an owner, written in the same transaction as the change.
///
/// Nothing in the log can be changed through this library; entries are only removed by age.
///
/// - An insert, an update, a revocation and a removal of a key write one entry each, with the
///   [fields](AuditEntry::fields) that differ. An update that changes none of them writes an entry without
///   fields. So does each key that a step of [`revoke_owner`](super::KeyStore::revoke_owner) or
///   [`purge`](super::KeyStore::purge) changes.
/// - A revocation, a suspension and a resumption of an owner write one entry each. Marking its keys' records
///   and creating an owner's row are not changes.
/// - A write that is refused, or changes nothing (a second revocation), does not write an entry.
/// - An entry has the whole [`ChangeOrigin`](crate::audit::ChangeOrigin) of its call, and nothing of another
///   call's. It does not have a digest in any form.
/// - Of the changes of one key, entries are in the order of the changes.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Returns entries, the newest first: at most the query's limit. A page may hold fewer, or none, and
    /// still have a [`next`](AuditPage::next): a store reads a bounded number of entries. The pages that
    /// follow one another hold each entry once, whatever is written meanwhile.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn read_audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError>;

    /// Removes entries from before `before`: one step, which removes 1,000 at most, the oldest first.
    /// Returns whether more may be left. An entry that was dated in the future, by a clock that was set back
    /// since, may keep those after it.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn prune_audit(&self, before: Timestamp) -> Result<bool, StoreError>;
}

/// The entries to read. If several fields are set, an entry must match all. Texts match whole, with their
/// case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditQuery {
    /// Only entries of this key.
    pub key: Option<KeyId>,
    /// Only entries of this owner and its keys, and of keys that it gave away.
    pub owner: Option<String>,
    /// Only entries of this actor.
    pub actor: Option<String>,
    /// Only entries from this time on.
    pub from: Option<Timestamp>,
    /// Only entries before this time.
    pub to: Option<Timestamp>,
    /// Only entries before this position: [`AuditPage::next`] of the page before.
    pub before: Option<String>,
    /// The maximum number of entries, clamped to 1 to 1000.
    pub limit: u32,
}

/// A page of the audit log.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct AuditPage {
    /// The entries, the newest first.
    pub entries: Vec<AuditEntry>,
    /// The start of the next page, for [`AuditQuery::before`]: a position before which the next page is;
    /// `None` on the last page.
    pub next: Option<String>,
}

impl AuditQuery {
    /// Creates a query for the newest `limit` entries.
    #[must_use]
    pub fn newest(limit: u32) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Returns whether `entry` is one of those to read.
    #[must_use]
    pub fn matches(&self, entry: &AuditEntry) -> bool {
        let has =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        (self.key.is_none() || self.key == entry.key)
            && (has(&self.owner, &entry.owner) || has(&self.owner, &entry.former_owner))
            && has(&self.actor, &entry.origin.actor)
            && self.from.is_none_or(|from| from <= entry.at)
            && self.to.is_none_or(|to| entry.at < to)
            && self
                .before
                .as_ref()
                .is_none_or(|before| entry.position < *before)
    }
}

impl AuditPage {
    /// Creates a page.
    #[must_use]
    pub fn new(entries: Vec<AuditEntry>, next: Option<String>) -> Self {
        Self { entries, next }
    }
}
