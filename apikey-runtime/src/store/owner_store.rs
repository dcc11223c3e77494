//! The capability of owners: a change of all keys of an owner is a change of one row.

use std::ops::Bound;

use async_trait::async_trait;

use super::paging::MAX_PAGE_SIZE;
use crate::audit::ChangeOrigin;
use crate::error::StoreError;
use crate::record::{OwnerRevocation, OwnerState};

/// Keeps a row for each owner, so that all keys of an owner are revoked or suspended in one step,
/// whatever their number.
///
/// The row is created with the owner's first key, and never removed. A key keeps its owner's
/// [`revocations`](OwnerState::revocations) of the moment when it was inserted or came to this
/// owner: the store sets [`KeyRecord::owner_revocations`], in the same transaction and under a lock
/// that excludes a change of the owner. Each record that is read carries
/// [its owner's state](crate::KeyRecord::owner_state) of the same snapshot. A record whose number is lower
/// than its owner's reads as revoked, with the time and the reason of the owner's first revocation
/// after its number.
///
/// A key that is revoked by its owner's state does not change its owner any more: the update revokes
/// it permanently instead, with the same time and reason.
///
/// Each method below is one transaction. A change of the state increments its version, takes the
/// next epoch and logs [`ChangedItem::Owner`](super::ChangedItem::Owner).
///
/// [`KeyRecord::owner_revocations`]: crate::KeyRecord::owner_revocations
#[async_trait]
pub trait OwnerStore: Send + Sync {
    /// Returns the state of an owner, or `None` if it has never had a key.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn find_owner(&self, owner: &str) -> Result<Option<OwnerState>, StoreError>;

    /// Revokes all keys that the owner has now: increments
    /// [`revocations`](OwnerState::revocations), and keeps when, why and by whom until the keys'
    /// records are [marked](Self::mark_revoked_keys). Returns the state after it.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the owner has never had a key.
    async fn revoke_owner_keys(
        &self,
        owner: &str,
        revocation: &OwnerRevocation,
        origin: &ChangeOrigin,
    ) -> Result<OwnerState, StoreError>;

    /// Sets whether all keys of the owner are suspended. Returns the state after it, and whether
    /// this call changed it. If not, nothing is logged.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the owner has never had a key.
    async fn set_owner_suspended(
        &self,
        owner: &str,
        suspended: bool,
        origin: &ChangeOrigin,
    ) -> Result<(OwnerState, bool), StoreError>;

    /// Returns how many [live](crate::KeyRecord::is_live) keys the owner has by the store's clock, counted
    /// up to `max`; 0 for an owner that is not known. Those that
    /// [`WriteOptions::max_live_keys`](super::WriteOptions::max_live_keys) bounds.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn count_live_keys(&self, owner: &str, max: u32) -> Result<u32, StoreError>;

    /// Returns owners, in the order of their names, byte by byte: at most the query's limit. An owner is listed from its
    /// first key on, also without keys. A page is read by an index: its cost does not grow with the number of owners.
    ///
    /// A page starts with the first owner after [`OwnerQuery::after`], which is a position and not an owner: an owner
    /// with this name need not exist, and the name may be outside of those that are listed. `SqliteStore`
    /// lists the names of a file in UTF-16 in the order of that encoding.
    ///
    /// # Errors
    ///
    /// Returns any backend error. [`OwnerPage::unreadable`] lists the owners whose state cannot be read.
    async fn list_owners(&self, query: &OwnerQuery) -> Result<OwnerPage, StoreError>;

    /// Writes the revocation of an owner's keys into their own records: one bounded step, which
    /// reads and changes 1,000 records at most. Returns whether more may be left to do.
    ///
    /// Records read the same before and after it, so it does not take an epoch or increment a
    /// version. Several nodes may call it at once, and each continues what another left.
    ///
    /// # Errors
    ///
    /// Returns any backend error.
    async fn mark_revoked_keys(&self) -> Result<bool, StoreError>;
}

/// The owners to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerQuery {
    /// Only owners whose name begins with this text, byte by byte. No character of it has a meaning, such as that of `%` in
    /// SQL.
    pub starting_with: String,
    /// Only owners after this name: [`OwnerPage::next`] of the page before.
    pub after: Option<String>,
    /// The maximum number of owners, clamped to 1 to 1000.
    pub limit: u32,
}

/// A page of owners, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerPage {
    /// The owners.
    pub owners: Vec<ListedOwner>,
    /// The names of owners whose state cannot be read. Their keys are always denied.
    /// The next page may have a name again that is not valid UTF-8.
    pub unreadable: Vec<String>,
    /// The start of the next page, for [`OwnerQuery::after`]: a name after which the next page is; `None` on the last
    /// page.
    pub next: Option<String>,
}

/// An owner in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedOwner {
    /// The name.
    pub name: String,
    /// The state.
    pub state: OwnerState,
}

impl OwnerQuery {
    /// Creates a query for the first `limit` owners.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Selects owners whose name begins with this text. By default, all.
    #[must_use]
    pub fn starting_with(mut self, beginning: impl Into<String>) -> Self {
        self.starting_with = beginning.into();
        self
    }

    /// Continues after this name. By default, the page starts at the first owner.
    #[must_use]
    pub fn after(mut self, name: Option<String>) -> Self {
        self.after = name;
        self
    }

    /// Returns the maximum number of owners of the page.
    pub(crate) fn page_size(&self) -> usize {
        usize::try_from(self.limit.clamp(1, MAX_PAGE_SIZE)).unwrap_or(usize::MAX)
    }

    /// Returns the first name of the page, inclusive or not. `None` if the page starts after all names that are selected.
    pub(super) fn start(&self) -> Option<Bound<&str>> {
        let beginning = self.starting_with.as_str();
        match self.after.as_deref() {
            Some(after) if after.starts_with(beginning) => Some(Bound::Excluded(after)),
            Some(after) if after > beginning => None,
            _ => Some(Bound::Included(beginning)),
        }
    }
}

impl OwnerPage {
    /// Creates a page.
    #[must_use]
    pub fn new(owners: Vec<ListedOwner>, next: Option<String>) -> Self {
        Self {
            owners,
            unreadable: Vec::new(),
            next,
        }
    }

    /// Creates the page of these rows, of which the store reads one more than the page has. A row has a name, and its state
    /// if that can be read.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Corrupt`] if no name of a page with a next one is valid UTF-8.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
    pub(super) fn of_rows(
        rows: Vec<(Vec<u8>, Option<OwnerState>)>,
        size: usize,
    ) -> Result<Self, StoreError> {
        let (mut page, mut last) = (Self::default(), None);
        let has_next = rows.len() > size;
        for (name, state) in rows.into_iter().take(size) {
            let name = match String::from_utf8(name) {
                Ok(name) => name,
                Err(error) => {
                    let name = String::from_utf8_lossy(error.as_bytes()).into_owned();
                    page.unreadable.push(name);
                    continue;
                }
            };
            last = Some(name.clone());
            match state {
                Some(state) => page.owners.push(ListedOwner { name, state }),
                None => page.unreadable.push(name),
            }
        }
        if has_next && last.is_none() {
            return Err(StoreError::Corrupt {
                id: "a page of owners".to_owned(),
                reason: "their names are not valid UTF-8".to_owned(),
            });
        }
        page.next = last.filter(|_| has_next);
        Ok(page)
    }
}

impl ListedOwner {
    /// Creates an owner.
    #[must_use]
    pub fn new(name: impl Into<String>, state: OwnerState) -> Self {
        Self {
            name: name.into(),
            state,
        }
    }
}
