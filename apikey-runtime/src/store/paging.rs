//! Page sizes of lists.

use super::ListQuery;

/// The maximum number of records in a page.
const LARGEST_PAGE: u32 = 1_000;

/// Returns the maximum number of records for `query`: its limit, clamped to 1 to 1000. An empty
/// page would look like the last.
pub(super) fn page_size(query: &ListQuery) -> usize {
    usize::try_from(query.limit.clamp(1, LARGEST_PAGE)).unwrap_or(usize::MAX)
}
