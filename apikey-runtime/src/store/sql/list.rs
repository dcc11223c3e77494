//! Listing, whose statement depends on its filters.

use super::row::{KeyRow, id, record};
#[cfg(feature = "sqlite")]
use crate::store::ListQuery;
use crate::store::RecordPage;

/// Returns the statement for `query`, which begins with `select`: `$1` is the owner, `$2` the label, `$3` the id after which the
/// page starts, `$4` how many records it reads, and `$5` the last id that it reads. A filter that is
/// not used is left out, so that an index can be used for the others.
#[cfg(feature = "sqlite")]
pub(in crate::store) fn list_sql(
    select: &str,
    query: &ListQuery,
    after: bool,
    until: bool,
) -> String {
    let mut sql = format!("{select} WHERE TRUE");
    if query.owner.is_some() {
        sql.push_str(" AND owner = $1");
    }
    if query.label.is_some() {
        sql.push_str(" AND label = $2");
    }
    if after {
        sql.push_str(" AND id > CAST($3 AS TEXT)");
    }
    if until {
        sql.push_str(" AND id <= $5");
    }
    sql.push_str(" ORDER BY id LIMIT $4");
    sql
}

/// Adds `rows` to `page`, which takes `size` of them; one row more tells that others follow. If the
/// page has to go on, returns the id of the last row, which may not be valid.
pub(in crate::store) fn read_page<R: KeyRow>(
    mut rows: Vec<R>,
    size: usize,
    page: &mut RecordPage,
) -> Option<Vec<u8>> {
    let mut after = None;
    if rows.len() > size {
        rows.truncate(size);
        // The next page starts after an id, so this one ends with a row that has a valid one.
        match rows.iter().rposition(|row| id(row).is_some()) {
            Some(last) => {
                rows.truncate(last + 1);
                page.next = id(&rows[last]);
            }
            None => after = rows.last().map(|row| row.id_bytes().to_vec()),
        }
    }
    for row in &rows {
        match record(row) {
            Ok(record) => page.records.push(record),
            Err(broken) => page.unreadable.push(broken.id),
        }
    }
    after
}
