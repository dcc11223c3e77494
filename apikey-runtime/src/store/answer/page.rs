//! The check of a page of records.

use std::collections::HashSet;

use super::{corrupt, readable};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::KeyRecord;
use crate::store::{ListCursor, ListQuery, ListRange, RecordPage, SortValue};

/// Returns the page that a store listed, with the position of each record. A record whose metadata is
/// nested too deeply becomes unreadable.
///
/// The store's own positions in a range of labels are in any order: the text by which it sorts may be
/// compared in another encoding than UTF-8.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if a record does not match the query, or is not listed in order.
pub(crate) fn page_of(query: &ListQuery, mut page: RecordPage) -> Result<RecordPage, StoreError> {
    let mut order = PageOrder::of(query, &page);
    let positions = positions_of(&query.range, &mut page)?;
    let records = std::mem::take(&mut page.records);
    for (record, position) in records.into_iter().zip(positions) {
        let id = record.id;
        if !order.continues_with(&position) {
            return Err(corrupt(&id, "the store did not list it in order"));
        }
        if !is_within(&query.range, &record, &position) {
            let reason = "the store listed it for another owner or range";
            return Err(corrupt(&id, reason));
        }
        match readable(record) {
            Ok(record) => {
                page.records.push(record);
                page.positions.push(position);
            }
            Err(_) => page.unreadable.push(id.to_string()),
        }
    }
    match &page.next {
        Some(next) if !order.may_go_on_after(next) => {
            let reason = "the store would list the same page again";
            Err(corrupt(&next.id, reason))
        }
        _ => Ok(page),
    }
}

/// Takes the positions of the page's records: the store's own, or those that follow from the records.
fn positions_of(range: &ListRange, page: &mut RecordPage) -> Result<Vec<ListCursor>, StoreError> {
    let positions = std::mem::take(&mut page.positions);
    match positions.first() {
        None => Ok(page.records.iter().map(|it| range.cursor_of(it)).collect()),
        Some(first) if positions.len() != page.records.len() => {
            let reason = "the store did not list one position for each record";
            Err(corrupt(&first.id, reason))
        }
        Some(_) => Ok(positions),
    }
}

/// Returns whether a record and its position are of the range.
fn is_within(range: &ListRange, record: &KeyRecord, position: &ListCursor) -> bool {
    let is_of_range = match (range, &position.sort) {
        (ListRange::Label(beginning), SortValue::Label(label)) => label.starts_with(beginning),
        _ => range.fits(position) && range.contains(record),
    };
    position.id == record.id && is_of_range
}

/// What a page has listed so far.
struct PageOrder<'q> {
    query: &'q ListQuery,
    in_any_order: bool,
    last: Option<ListCursor>,
    /// The keys so far, if the positions are in any order.
    seen: HashSet<KeyId>,
}

impl<'q> PageOrder<'q> {
    fn of(query: &'q ListQuery, page: &RecordPage) -> Self {
        let is_by_label = matches!(query.range, ListRange::Label(_));
        Self {
            query,
            in_any_order: is_by_label && (!page.positions.is_empty() || page.records.is_empty()),
            last: query.after.clone(),
            seen: HashSet::new(),
        }
    }

    /// Returns whether the record at `position` may be the next one.
    fn continues_with(&mut self, position: &ListCursor) -> bool {
        let last = self.last.replace(position.clone());
        if self.in_any_order {
            return self.query.after.as_ref() != Some(position) && self.seen.insert(position.id);
        }
        last.is_none_or(|last| self.query.range.compare(&last, position).is_lt())
    }

    /// Returns whether a page after `next` is another one. Otherwise, a caller would read the same page
    /// for ever.
    fn may_go_on_after(&self, next: &ListCursor) -> bool {
        let range = &self.query.range;
        let is_behind = |last| range.compare(next, last).is_lt();
        range.fits(next)
            && self.query.after.as_ref() != Some(next)
            && (self.in_any_order || !self.last.as_ref().is_some_and(is_behind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn id(number: u128) -> KeyId {
        KeyId::from_u128(number)
    }

    fn at(label: &str, number: u128) -> ListCursor {
        ListCursor::new(SortValue::Label(label.to_owned()), id(number))
    }

    /// A page after `m`, of keys that are labelled `MÜLLER`, which an older release folded otherwise.
    fn page(
        positions: &[ListCursor],
        keys: &[u128],
        next: Option<ListCursor>,
    ) -> Result<RecordPage, StoreError> {
        let records = keys.iter().map(|number| {
            KeyRecord::new(id(*number), "a", "M\u{dc}LLER", "digest", Timestamp::MIN)
        });
        let range = ListRange::Label("m".to_owned());
        let query = ListQuery::of(range, 10).after(Some(at("m", 1)));
        let mut page = RecordPage::new(records.collect(), Vec::new(), next);
        page.positions = positions.to_vec();
        page_of(&query, page)
    }

    #[test]
    fn a_store_may_say_where_it_lists_a_record() {
        let own = [at("m\u{dc}ller", 2), at("ma", 3)];
        let listed = page(&own, &[2, 3], Some(at("ma", 3))).unwrap();
        assert_eq!(listed.positions, own);
        assert_eq!(listed.next, Some(at("ma", 3)));
        // Without positions, they follow from the records.
        let listed = page(&[], &[2, 3], None).unwrap();
        let folded = [at("m\u{fc}ller", 2), at("m\u{fc}ller", 3)];
        assert_eq!(listed.positions, folded);
    }

    #[test]
    fn positions_that_do_not_fit_their_records_are_not_an_answer() {
        for (positions, keys, next) in [
            // One position is missing, or of another key.
            (vec![at("ma", 2)], &[2, 3][..], None),
            (vec![at("ma", 3)], &[2], None),
            // Outside of the range, in another order than that of labels, and without a label.
            (vec![at("n", 2)], &[2], None),
            (vec![ListCursor::from(id(2))], &[2], None),
            // A key is listed twice, or once more.
            (vec![at("ma", 2), at("mb", 2)], &[2, 2], None),
            (vec![at("m", 1)], &[1], None),
            // The same page again.
            (vec![at("ma", 2)], &[2], Some(at("m", 1))),
            (vec![at("ma", 2)], &[2], Some(id(2).into())),
            // Without positions, the order counts.
            (vec![], &[3, 2], None),
        ] {
            let answer = page(&positions, keys, next.clone());
            let is_corrupt = matches!(answer, Err(StoreError::Corrupt { .. }));
            assert!(is_corrupt, "{positions:?} {keys:?} {next:?}");
        }
    }
}
