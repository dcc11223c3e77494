//! Pages of lists.

use super::row::{KeyRow, id, record};
use crate::clock::Timestamp;
use crate::store::{ListCursor, ListRange, RecordPage, SortValue};

/// Reads the page of `size` records at the beginning of `rows`, which a statement of `range` found when
/// it looked for `limit` rows, more than `size`. `None` if the page does not end in `rows`: look for
/// twice as many.
///
/// The statement selects `label_key` beside the columns of a record: the position of a row is by
/// what the database sorted it, and not by what the record says.
///
/// The next page starts after a position, so this one ends with a row that has a valid one. A row
/// that was written by hand may not.
pub(in crate::store) fn read_page<R: KeyRow>(
    mut rows: Vec<R>,
    size: usize,
    limit: usize,
    range: &ListRange,
) -> Option<RecordPage> {
    let mut next = None;
    if rows.len() > size {
        let is_position = |row: &R| position(row, range).is_some();
        let last = rows[..size].iter().rposition(is_position);
        let last = last.or_else(|| (size..rows.len() - 1).find(|at| is_position(&rows[*at])));
        match last {
            Some(last) => {
                rows.truncate(last + 1);
                next = position(&rows[last], range);
            }
            // Otherwise these rows are the last ones, and all of them are in this page.
            None if rows.len() >= limit => return None,
            None => {}
        }
    }
    let mut page = RecordPage::new(Vec::new(), Vec::new(), next);
    for row in &rows {
        match record(row) {
            Ok(record) if matches!(range, ListRange::Label(_)) => match position(row, range) {
                Some(position) => {
                    page.records.push(record);
                    page.positions.push(position);
                }
                // Its `label_key` is not a text: a list by label cannot continue after it.
                None => page.unreadable.push(record.id.to_string()),
            },
            Ok(record) => page.records.push(record),
            Err(broken) => page.unreadable.push(broken.id),
        }
    }
    Some(page)
}

/// Returns where `row` stands in `range`, if a cursor can say it.
fn position(row: &impl KeyRow, range: &ListRange) -> Option<ListCursor> {
    let time = |name| {
        let millis = row.number(name).ok().flatten()?;
        Some(SortValue::Time(Timestamp::from_millis(millis)))
    };
    let sort = match range {
        ListRange::All | ListRange::Owner(_) => time("created_at")?,
        ListRange::Label(_) => SortValue::Label(row.text("label_key").ok().flatten()?.to_owned()),
        ListRange::Id(_) => SortValue::None,
        ListRange::Expires { .. } => time("expires_at")?,
    };
    Some(ListCursor::new(sort, id(row)?))
}
