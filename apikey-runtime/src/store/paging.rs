//! How much one page of a list holds.

use super::ListQuery;

/// The most records of one page.
const LARGEST_PAGE: u32 = 1_000;

/// How many records answer `query` at most: its limit, counted as 1 to 1000. A page of none would
/// look like the last.
pub(super) fn page_size(query: &ListQuery) -> usize {
    usize::try_from(query.limit.clamp(1, LARGEST_PAGE)).unwrap_or(usize::MAX)
}
