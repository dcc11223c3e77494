//! Tests of the checks of answers.

use super::*;
use crate::audit::{AuditAction, AuditEntry, ChangeOrigin};
use crate::clock::Timestamp;
use crate::denied::DenyReason;
use crate::store::{ListCursor, ListQuery, ListRange, Outcome, RecordPage};

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

fn millis(millis: i64) -> Option<Timestamp> {
    Some(Timestamp::from_millis(millis))
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
fn another_record_in_a_batch_makes_all_its_answers_doubtful() {
    let ids = [id(1), id(2)];
    let answer = |second| records_of(&ids, vec![Ok(Some(record(1))), second]);
    assert!(answer(Ok(Some(record(2)))).is_ok());
    assert!(answer(Ok(None)).is_ok());
    // A record that cannot be read concerns its own key.
    let answers = answer(Err(corrupt(&id(2), "a test"))).unwrap();
    assert!(answers[0].is_ok() && answers[1].is_err());
    for wrong in [1, 3] {
        assert!(is_corrupt(answer(Ok(Some(record(wrong))))), "{wrong}");
    }
}

#[test]
fn a_record_that_is_nested_too_deeply_is_not_an_answer() {
    let id = id(1);
    assert!(record_of(&id, Some(nested(MAX_READABLE_DEPTH))).is_ok());
    assert!(is_corrupt(record_of(
        &id,
        Some(nested(MAX_READABLE_DEPTH + 1))
    )));
    let page = RecordPage::new(vec![record(2), nested(200)], Vec::new(), None);
    let page = page_of(&ListQuery::first(2), page).unwrap();
    assert_eq!(
        (page.records, page.unreadable),
        (vec![record(2)], vec![id.to_string()])
    );
}

#[test]
fn only_a_page_that_fits_its_query_is_an_answer() {
    let range = ListRange::Id("0".to_owned());
    let query = ListQuery::of(range, 10).after(Some(id(5).into()));
    let check = |ids: &[u128], next: Option<u128>| {
        let records = ids.iter().map(|number| record(*number)).collect();
        let next = next.map(|next| id(next).into());
        page_of(&query, RecordPage::new(records, Vec::new(), next))
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
        (&[u128::MAX], None),
    ] {
        assert!(is_corrupt(check(ids, next)), "{ids:?} {next:?}");
    }
    let day = |day| Timestamp::from_millis(day * 86_400_000);
    let mut expiring = record(6);
    expiring.expires = Some(day(2));
    let page = || RecordPage::new(vec![expiring.clone()], Vec::new(), None);
    let expires = |from, to| ListRange::Expires {
        from: day(from),
        to: day(to),
    };
    for (range, fits) in [
        (ListRange::All, true),
        (ListRange::Owner("owner".to_owned()), true),
        (ListRange::Owner("Owner".to_owned()), false),
        (ListRange::Label("lab".to_owned()), true),
        (ListRange::Label("abel".to_owned()), false),
        (expires(2, 3), true),
        (expires(1, 2), false),
        (expires(3, 4), false),
    ] {
        let answer = page_of(&ListQuery::of(range.clone(), 10), page());
        assert_eq!(answer.is_ok(), fits, "{range:?}");
    }
    // The newest first, and a cursor of the range's own kind.
    let pair = |created: [i64; 2], next: Option<ListCursor>| {
        let mut records = vec![record(6), record(7)];
        for (record, created) in records.iter_mut().zip(created) {
            record.created = day(created);
        }
        page_of(
            &ListQuery::first(2),
            RecordPage::new(records, Vec::new(), next),
        )
    };
    assert!(pair([2, 1], None).is_ok());
    assert!(is_corrupt(pair([1, 2], None)) && is_corrupt(pair([1, 1], None)));
    assert!(is_corrupt(pair([2, 1], Some(id(7).into()))));
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
fn only_a_count_up_to_the_maximum_is_an_answer() {
    for (max, count, fits) in [(0, 0, true), (3, 3, true), (3, 4, false), (0, 1, false)] {
        assert_eq!(live_keys_of("a", max, count).is_ok(), fits, "{max} {count}");
        assert_eq!(is_corrupt(live_keys_of("a", max, count)), !fits);
    }
}

#[test]
fn only_a_page_of_the_audit_log_that_fits_its_query_is_an_answer() {
    let entry = |position: &str| {
        let (at, origin) = (
            Timestamp::from_millis(10),
            ChangeOrigin::new().with_actor("ann"),
        );
        let mut entry = AuditEntry::new(position, at, AuditAction::Updated, origin);
        (entry.key, entry.owner) = (Some(id(1)), Some("a".to_owned()));
        entry.former_owner = Some("b".to_owned());
        entry
    };
    let page = |positions: &[&str], next: Option<&str>| {
        let entries = positions.iter().map(|position| entry(position)).collect();
        AuditPage::new(entries, next.map(str::to_owned))
    };
    let mut query = AuditQuery::newest(10);
    assert!(audit_page_of(&query, page(&["9", "5"], Some("5"))).is_ok());
    query.before = Some("8".to_owned());
    for (positions, next) in [
        (&["7", "5"][..], None),
        (&["7", "5"], Some("5")),
        (&["7", "5"], Some("3")),
        (&[], Some("7")),
        (&[], None),
    ] {
        let answer = audit_page_of(&query, page(positions, next));
        assert_eq!(answer.unwrap(), page(positions, next));
    }
    for (positions, next) in [
        (&["8"][..], None),
        (&["9"], None),
        (&["5", "7"], None),
        (&["7", "7"], None),
        (&["7", "5"], Some("6")),
        (&["7"], Some("8")),
        (&[], Some("8")),
        (&[], Some("9")),
    ] {
        let answer = audit_page_of(&query, page(positions, next));
        assert!(is_corrupt(answer), "{positions:?} {next:?}");
    }
    let selecting = |select: fn(&mut AuditQuery)| {
        let mut query = AuditQuery::newest(10);
        select(&mut query);
        audit_page_of(&query, page(&["7"], None)).is_ok()
    };
    let right: [fn(&mut AuditQuery); 5] = [
        |query| query.key = Some(id(1)),
        |query| query.owner = Some("a".to_owned()),
        |query| query.owner = Some("b".to_owned()),
        |query| query.actor = Some("ann".to_owned()),
        |query| (query.from, query.to) = (millis(10), millis(11)),
    ];
    assert!(right.into_iter().all(selecting));
    let wrong: [fn(&mut AuditQuery); 5] = [
        |query| query.key = Some(id(2)),
        |query| query.owner = Some("A".to_owned()),
        |query| query.actor = Some("a".to_owned()),
        |query| query.from = millis(11),
        |query| query.to = millis(10),
    ];
    assert!(!wrong.into_iter().any(selecting));
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
    let network = |key, number| {
        let network = format!("192.0.{number}.0/24").parse().unwrap();
        NetworkUse::new(id(key), network, Timestamp::from_millis(number))
    };
    let both = vec![network(1, 1), network(2, 2), network(1, 2)];
    let sorted = vec![network(2, 2), network(1, 2), network(1, 1)];
    assert_eq!(networks_of(&keys, both).unwrap(), sorted);
    assert!(is_corrupt(networks_of(&keys, vec![network(3, 1)])));
    let twice = vec![network(1, 1), network(1, 1)];
    assert!(is_corrupt(networks_of(&keys, twice)));
    let many = (1..=21).map(|number| network(1, number)).collect();
    assert!(is_corrupt(networks_of(&keys, many)));
}
