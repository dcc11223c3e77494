//! Checks of a store's answers: an answer that does not fit its question is an error. A collation
//! that ignores case, or a wrong join, would otherwise keep a revoked key alive under another id.

use std::collections::HashSet;

use super::{LastUsed, ListQuery, OwnerState, RecordPage, UsageQuery, UsageRow};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyRecord, MAX_READABLE_DEPTH, depth, dismantle};
use crate::util::text::quote;

/// Returns the record found for `id`.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if it is the record of another key, or its metadata is nested too
/// deeply.
pub(crate) fn record_of(
    id: &KeyId,
    found: Option<KeyRecord>,
) -> Result<Option<KeyRecord>, StoreError> {
    match found {
        Some(record) if record.id != *id => Err(corrupt(
            id,
            &format!("the store answered with the record of `{}`", record.id),
        )),
        Some(record) => readable(record).map(Some),
        None => Ok(None),
    }
}

/// Returns the page that a store listed. A record whose metadata is nested too deeply becomes
/// unreadable.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if a record does not match the query, or is not listed in order.
pub(crate) fn page_of(query: &ListQuery, page: RecordPage) -> Result<RecordPage, StoreError> {
    let RecordPage {
        records,
        mut unreadable,
        next,
    } = page;
    let (mut last, mut fitting) = (query.after, Vec::with_capacity(records.len()));
    for record in records {
        let id = record.id;
        if last.is_some_and(|last| id <= last) {
            return Err(corrupt(
                &id,
                "the store did not list it in the order of ids",
            ));
        }
        let owned = query.owner.is_none() || record.owner == query.owner;
        if !owned
            || query
                .label
                .as_ref()
                .is_some_and(|label| record.label != *label)
        {
            return Err(corrupt(
                &id,
                "the store listed it for another owner or label",
            ));
        }
        last = Some(id);
        match readable(record) {
            Ok(record) => fitting.push(record),
            Err(_) => unreadable.push(id.to_string()),
        }
    }
    // Otherwise a caller would read the same page for ever.
    match next {
        Some(next) if last.is_some_and(|last| next < last) || query.after == Some(next) => {
            Err(corrupt(&next, "the store would list the same page again"))
        }
        _ => Ok(RecordPage::new(fitting, unreadable, next)),
    }
}

/// Returns the state of an owner after a revocation of all its keys.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if the state does not count a revocation. Such a store would accept
/// the keys again when they are read.
pub(crate) fn revoked_owner_of(owner: &str, state: OwnerState) -> Result<OwnerState, StoreError> {
    match state.revocations {
        0 => Err(corrupt_owner(
            owner,
            "the store revoked its keys and does not count it",
        )),
        _ => Ok(state),
    }
}

/// Returns the state of an owner after a change of `suspended`, and whether the call changed it.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if the state is not as it was set.
pub(crate) fn suspended_owner_of(
    owner: &str,
    suspended: bool,
    answer: (OwnerState, bool),
) -> Result<(OwnerState, bool), StoreError> {
    match answer.0.suspended == suspended {
        true => Ok(answer),
        false => Err(corrupt_owner(
            owner,
            "the store did not set what it answered with",
        )),
    }
}

/// Returns the counts that a store read.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if a row is of another key or hour, or is there twice.
pub(crate) fn usage_of(
    query: &UsageQuery,
    rows: Vec<UsageRow>,
) -> Result<Vec<UsageRow>, StoreError> {
    let keys: HashSet<&KeyId> = query.keys.iter().collect();
    let mut seen = HashSet::with_capacity(rows.len());
    for row in &rows {
        if !keys.contains(&row.key) || !(query.from..query.to).contains(&row.hour) {
            return Err(corrupt(
                &row.key,
                "the store read its usage for another key or hour",
            ));
        }
        if !seen.insert((&row.key, row.hour, row.route.as_str(), row.outcome)) {
            return Err(corrupt(&row.key, "the store read the same usage twice"));
        }
    }
    drop(seen);
    Ok(rows)
}

/// Returns the last uses that a store read.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if one is of another key, or is there twice.
pub(crate) fn last_used_of(
    keys: &[KeyId],
    found: Vec<LastUsed>,
) -> Result<Vec<LastUsed>, StoreError> {
    let mut left: HashSet<&KeyId> = keys.iter().collect();
    match found.iter().find(|used| !left.remove(&used.key)) {
        Some(used) => Err(corrupt(
            &used.key,
            "the store read its last use for another key, or twice",
        )),
        None => Ok(found),
    }
}

/// Rejects a record that could not be printed, compared or dropped on any stack.
fn readable(mut record: KeyRecord) -> Result<KeyRecord, StoreError> {
    if depth(&record.metadata) <= MAX_READABLE_DEPTH {
        return Ok(record);
    }
    dismantle(std::mem::take(&mut record.metadata));
    Err(corrupt(&record.id, "its metadata is nested too deeply"))
}

fn corrupt_owner(owner: &str, reason: &str) -> StoreError {
    StoreError::Corrupt {
        id: format!("the owner {}", quote(owner)),
        reason: reason.to_owned(),
    }
}

fn corrupt(id: &KeyId, reason: &str) -> StoreError {
    StoreError::Corrupt {
        id: id.to_string(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::denied::DenyReason;
    use crate::store::Outcome;

    fn id(number: u128) -> KeyId {
        KeyId::from_u128(number)
    }

    fn record(number: u128) -> KeyRecord {
        let mut record = KeyRecord::new(id(number), "a", "label", "digest", Timestamp::MIN);
        record.owner = Some("owner".to_owned());
        record
    }

    fn nested(levels: usize) -> KeyRecord {
        let mut record = record(1);
        let value = (1..levels).fold(serde_json::Value::Null, |inner, _| vec![inner].into());
        record.metadata.insert("a".to_owned(), value);
        record
    }

    fn is_corrupt<T>(answer: Result<T, StoreError>) -> bool {
        matches!(answer, Err(StoreError::Corrupt { .. }))
    }

    #[test]
    fn only_the_record_that_was_asked_for_is_an_answer() {
        assert_eq!(record_of(&id(1), Some(record(1))).unwrap(), Some(record(1)));
        assert_eq!(record_of(&id(1), None).unwrap(), None);
        assert!(is_corrupt(record_of(&id(1), Some(record(2)))));
    }

    #[test]
    fn a_record_that_is_nested_too_deeply_is_not_an_answer() {
        let id = id(1);
        assert!(record_of(&id, Some(nested(MAX_READABLE_DEPTH))).is_ok());
        assert!(is_corrupt(record_of(
            &id,
            Some(nested(MAX_READABLE_DEPTH + 1))
        )));
        let page = RecordPage::new(vec![nested(200), record(2)], Vec::new(), None);
        let page = page_of(&ListQuery::first(2), page).unwrap();
        assert_eq!(
            (page.records, page.unreadable),
            (vec![record(2)], vec![id.to_string()])
        );
    }

    #[test]
    fn only_a_page_that_fits_its_query_is_an_answer() {
        let mut query = ListQuery::first(10);
        query.after = Some(id(5));
        query.owner = Some("owner".to_owned());
        query.label = Some("label".to_owned());
        let check = |ids: &[u128], next: Option<u128>| {
            let records = ids.iter().map(|number| record(*number)).collect();
            page_of(&query, RecordPage::new(records, Vec::new(), next.map(id)))
        };
        for (ids, next) in [
            (&[6, 7][..], None),
            (&[6, 7], Some(7)),
            (&[6], Some(9)),
            (&[], Some(6)),
            (&[], None),
        ] {
            assert!(check(ids, next).is_ok(), "{ids:?} {next:?}");
        }
        for (ids, next) in [
            (&[5, 6][..], None),
            (&[7, 6], None),
            (&[6, 6], None),
            (&[6, 7], Some(6)),
            (&[], Some(5)),
        ] {
            assert!(is_corrupt(check(ids, next)), "{ids:?} {next:?}");
        }
        for (owner, label) in [("Owner", "label"), ("owner", "Label")] {
            let (mut owned, mut of_label) = (query.clone(), query.clone());
            owned.owner = Some(owner.to_owned());
            of_label.label = Some(label.to_owned());
            let page = || RecordPage::new(vec![record(6)], Vec::new(), None);
            let both = [page_of(&owned, page()), page_of(&of_label, page())];
            assert_eq!(both.into_iter().filter(|page| page.is_err()).count(), 1);
        }
    }

    #[test]
    fn only_the_state_that_was_set_is_an_answer() {
        let state = OwnerState::new().with_version(2);
        assert!(is_corrupt(revoked_owner_of("a", state)));
        let revoked = state.with_revocations(1);
        assert_eq!(revoked_owner_of("a", revoked).unwrap(), revoked);
        for (suspended, changed) in [(true, true), (true, false), (false, true), (false, false)] {
            let answer = (state.with_suspended(suspended), changed);
            assert_eq!(suspended_owner_of("a", suspended, answer).unwrap(), answer);
            assert!(is_corrupt(suspended_owner_of("a", !suspended, answer)));
        }
    }

    #[test]
    fn only_the_usage_that_was_asked_for_is_an_answer() {
        let query = UsageQuery::new(vec![id(1), id(2)], 10, 20);
        let row = |key, hour, route: &str, outcome| UsageRow::new(id(key), route, hour, outcome);
        let first = row(1, 10, "/", Outcome::Allowed);
        for other in [
            row(2, 10, "/", Outcome::Allowed),
            row(1, 19, "/", Outcome::Allowed),
            row(1, 10, "/a", Outcome::Allowed),
            row(1, 10, "/", Outcome::Denied(DenyReason::Expired)),
        ] {
            assert_eq!(
                usage_of(&query, vec![other, first.clone()]).unwrap().len(),
                2
            );
        }
        for wrong in [
            first.clone(),
            row(3, 10, "/", Outcome::Allowed),
            row(1, 9, "/", Outcome::Allowed),
            row(1, 20, "/", Outcome::Allowed),
        ] {
            assert!(is_corrupt(usage_of(&query, vec![first.clone(), wrong])));
        }
        let used = |key| LastUsed::new(id(key), Timestamp::MIN, None);
        let keys = [id(1), id(2)];
        assert_eq!(
            last_used_of(&keys, vec![used(2), used(1)]).unwrap().len(),
            2
        );
        assert!(is_corrupt(last_used_of(&keys, vec![used(3)])));
        assert!(is_corrupt(last_used_of(&keys, vec![used(1), used(1)])));
    }
}
