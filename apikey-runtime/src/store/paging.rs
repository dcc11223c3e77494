//! Lists of records, page by page.

use crate::key::KeyId;
use crate::record::KeyRecord;

/// The maximum number of records in a page.
pub(crate) const MAX_PAGE_SIZE: u32 = 1_000;

/// The records to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListQuery {
    /// Only keys of this owner.
    pub owner: Option<String>,
    /// Only keys with exactly this label.
    pub label: Option<String>,
    /// Only keys whose id is greater than this one.
    pub after: Option<KeyId>,
    /// The maximum number of records, clamped to 1 to 1000.
    pub limit: u32,
}

impl ListQuery {
    /// Creates a query for the first `limit` records of all.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }
}

/// A page of records, in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct RecordPage {
    /// The records.
    pub records: Vec<KeyRecord>,
    /// The ids of records that exist and cannot be read.
    pub unreadable: Vec<String>,
    /// The start of the next page, for [`ListQuery::after`]; `None` on the last page.
    pub next: Option<KeyId>,
}

impl RecordPage {
    /// Creates a page of these records.
    #[must_use]
    pub fn new(records: Vec<KeyRecord>, unreadable: Vec<String>, next: Option<KeyId>) -> Self {
        Self {
            records,
            unreadable,
            next,
        }
    }
}

/// Returns the maximum number of records for `query`: its limit, clamped to 1 to 1000. An empty
/// page would look like the last.
pub(super) fn page_size(query: &ListQuery) -> usize {
    usize::try_from(query.limit.clamp(1, MAX_PAGE_SIZE)).unwrap_or(usize::MAX)
}
