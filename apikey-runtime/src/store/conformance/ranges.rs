//! Checks of the ranges of `list`: what each has, its order, and its cursors.

use std::sync::Arc;

use super::fields::labelled;
use super::records::add;
use super::samples::{at, id, owned, plain};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord};
use crate::store::{
    KeyStore, ListCursor, ListQuery, ListRange, RecordPage, SortValue, WriteOptions, fold_label,
};

/// Labels that differ in case, in normalization, by a character with a meaning in LIKE, or after 64
/// characters.
const LABELS: [&str; 24] = [
    "",
    "ab",
    "AB%",
    "ab_c",
    "aB\\",
    "ab\\%",
    "abc",
    "a",
    "%",
    "_",
    "\\",
    "Zo\u{eb}",
    "ZO\u{cb}",
    "zoe\u{308}",
    "stra\u{df}e",
    "STRASSE",
    "\u{3a3}\u{391}\u{3a3}",
    "\u{3c3}\u{3b1}\u{3c2}",
    "\u{130}stanbul",
    "\u{212a}elvin",
    "\u{d7ff}",
    "\u{e000}",
    "\u{10ffff}",
    "\u{1f511} ''\"",
];

/// Returns the ids of all pages of `query`. Each page must hold complete records.
pub(super) async fn follow(
    store: &dyn KeyStore,
    query: &ListQuery,
) -> Result<Vec<KeyId>, Violation> {
    let mut query = query.clone();
    let mut ids = Vec::new();
    for _ in 0..10_000 {
        let page = page(store, &query).await?;
        ids.extend(page.records.iter().map(|record| record.id));
        if page.next.is_none() {
            return Ok(ids);
        }
        query.after = page.next;
    }
    Err(Violation("the pages of a list must end".to_owned()))
}

/// Reads a page, whose `next` must be after the page before, and of the range's kind.
pub(super) async fn page(store: &dyn KeyStore, query: &ListQuery) -> Result<RecordPage, Violation> {
    let page = store.list(query).await;
    let page = page.or_violation(&format!("`list` fails for {query:?}"))?;
    ensure!(
        page.records.len() <= query.limit.clamp(1, 1_000) as usize && page.unreadable.is_empty(),
        "a page of {} must not hold {} records, or unreadable ones; got {:?}",
        query.limit,
        page.records.len(),
        page.unreadable
    );
    let positions = &page.positions;
    let ids = positions.iter().map(|position| position.id);
    ensure!(
        positions.is_empty() || ids.eq(page.records.iter().map(|record| record.id)),
        "a page must have the position of each record, or none at all; got {page:?}"
    );
    if let Some(next) = &page.next {
        let moves = query
            .after
            .as_ref()
            .is_none_or(|after| query.range.compare(after, next).is_lt());
        let last = page.records.last().map(|last| query.range.cursor_of(last));
        let skips = last.is_none_or(|last| query.range.compare(&last, next).is_le());
        ensure!(
            query.range.fits(next) && moves && skips,
            "the `next` of {query:?} must be of its range, and not before its last record; got {next:?}"
        );
    }
    Ok(page)
}

/// Checks that `range` has what it has of `records`, in its order, after `after`.
pub(super) async fn ensure_listed(
    store: &dyn KeyStore,
    records: &[KeyRecord],
    range: &ListRange,
    after: Option<&ListCursor>,
) -> Result<(), Violation> {
    let mut expected: Vec<_> = records
        .iter()
        .filter(|record| range.contains(record))
        .map(|record| range.cursor_of(record))
        .filter(|cursor| after.is_none_or(|after| range.compare(after, cursor).is_lt()))
        .collect();
    expected.sort_by(|one, other| range.compare(one, other));
    let expected: Vec<_> = expected.into_iter().map(|cursor| cursor.id).collect();
    for limit in [1, 1_000] {
        let query = ListQuery::of(range.clone(), limit).after(after.cloned());
        let ids = follow(store, &query).await?;
        ensure!(
            ids == expected,
            "pages of {limit} of {range:?} after {after:?} must list {expected:?}; got {ids:?}"
        );
    }
    Ok(())
}

/// Adds records with equal and different times of creation, owners, labels and expiries.
pub(super) async fn add_mixed(store: &dyn KeyStore) -> Result<Vec<KeyRecord>, Violation> {
    let times = [i64::MIN, -1, 0, 1, 1_700_000_000_000, i64::MAX];
    let mut records = Vec::new();
    for (place, number) in (0_usize..24).zip([7, 1 << 64, 36, u128::MAX - 99].into_iter().cycle()) {
        let mut record = plain(number + place as u128);
        record.created = at(times[place * 5 % times.len()]);
        let owner = ["a", "A", "b"].get(place % 4);
        record.owner = owner.map(|owner| (*owner).to_owned());
        record.label = LABELS[place % 10].to_owned();
        let end = times.get(place % 7);
        // Later than the time before which `remove` purges.
        record.expires = end.map(|end| at((*end).max(-5)));
        add(store, &record).await?;
        records.push(record);
    }
    Ok(records)
}

/// Returns a range of each kind, and two positions outside of it: before its first record and after its last.
pub(super) fn ranges() -> Vec<(ListRange, [ListCursor; 2])> {
    let cursor = |sort: SortValue, number| ListCursor::new(sort, id(number));
    let time = |millis| SortValue::Time(at(millis));
    let label = |text: &str| SortValue::Label(text.to_owned());
    let newest = [cursor(time(i64::MAX), u128::MAX), cursor(time(i64::MIN), 0)];
    let ids = [
        cursor(SortValue::None, 0),
        cursor(SortValue::None, u128::MAX),
    ];
    let (first, last) = (cursor(time(i64::MIN), 0), cursor(time(i64::MAX), u128::MAX));
    let expires = |from, to| ListRange::Expires {
        from: at(from),
        to: at(to),
    };
    let labels = [
        cursor(label(""), 0),
        cursor(label("\u{10ffff}\u{10ffff}"), u128::MAX),
    ];
    vec![
        (ListRange::All, newest.clone()),
        (ListRange::Owner("a".to_owned()), newest),
        (ListRange::Label("ab".to_owned()), labels.clone()),
        (ListRange::Label(String::new()), labels),
        (ListRange::Id("0".to_owned()), ids.clone()),
        (ListRange::Id(String::new()), ids),
        (expires(-1, 2), [first.clone(), last.clone()]),
        (expires(i64::MIN, i64::MAX), [first, last]),
    ]
}

pub(super) async fn each_range_lists_its_records_in_order(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    for (range, _) in ranges() {
        let page = page(store, &ListQuery::of(range, 10)).await?;
        ensure!(
            page.records.is_empty() && page.next.is_none(),
            "an empty store must list nothing; got {page:?}"
        );
    }
    let records = add_mixed(store).await?;
    for (range, outside) in ranges() {
        ensure_listed(store, &records, &range, None).await?;
        for cursor in &outside {
            ensure_listed(store, &records, &range, Some(cursor)).await?;
        }
        // After each record of the store, whether the range has it or not.
        for record in &records {
            let cursor = range.cursor_of(record);
            let query = ListQuery::of(range.clone(), 3).after(Some(cursor.clone()));
            let page = page(store, &query).await?;
            let follows = |record: &KeyRecord| {
                range.contains(record) && range.compare(&cursor, &range.cursor_of(record)).is_lt()
            };
            ensure!(
                page.records.iter().all(follows),
                "a page of {query:?} must list what follows; got {page:?}"
            );
        }
    }
    let page = page(store, &ListQuery::first(1_000)).await?;
    for record in page.records {
        let found = store.find(&record.id).await.or_violation("`find` fails")?;
        ensure!(
            found.as_ref() == Some(&record),
            "a list must return a record as `find` does; got {record:?}, found {found:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn labels_are_found_by_their_folded_beginning(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let long = ["x".repeat(64), "X".repeat(63), "\u{c4}".repeat(64)];
    let longer = long.iter().flat_map(|label| {
        ["", "a", "B", "%", "\u{130}"].map(|end| format!("{label}{end}{}", "z".repeat(200)))
    });
    let mut records = Vec::new();
    let labels = LABELS.map(str::to_owned);
    for (number, label) in (1..).zip(labels.into_iter().chain(long.clone()).chain(longer)) {
        let mut record = plain(number);
        record.label = label;
        add(store, &record).await?;
        records.push(record);
    }
    let beginnings = LABELS.into_iter().chain(long.iter().map(String::as_str));
    for beginning in beginnings.flat_map(|text| [fold_label(text), text.to_owned()]) {
        ensure_listed(store, &records, &ListRange::Label(beginning), None).await?;
    }
    for beginning in ["x".repeat(65), "i\u{307}s".to_owned(), "no such".to_owned()] {
        ensure_listed(store, &records, &ListRange::Label(beginning), None).await?;
    }
    // A change of the label, and one of something else, with the range.
    for (record, label) in records.iter_mut().zip(["NEW a", "new B", "neW"]) {
        let patch = labelled(label);
        let update = store.update(&record.id, &patch, &WriteOptions::new()).await;
        update.or_violation("`update` fails")?;
        patch.apply(record, None);
    }
    let update = store
        .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
        .await;
    update.or_violation("`update` fails")?;
    for beginning in ["new", "NEW", "ab", ""] {
        let range = ListRange::Label(beginning.to_owned());
        ensure_listed(store, &records, &range, None).await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn ids_are_found_by_their_beginning(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let mut records = Vec::new();
    for number in [
        0,
        1,
        10,
        36,
        61,
        62,
        1 << 100,
        (1 << 100) + 1,
        u128::MAX - 1,
        u128::MAX,
    ] {
        let record = plain(number);
        add(store, &record).await?;
        records.push(record);
    }
    let texts: Vec<String> = records.iter().map(|record| record.id.to_string()).collect();
    for text in &texts {
        for length in 0..=text.len() {
            let range = ListRange::Id(text[..length].to_owned());
            ensure_listed(store, &records, &range, None).await?;
        }
    }
    let largest = &texts[texts.len() - 1];
    for odd in [
        "zz",
        "8",
        "7n42DGM5Tflk9n8mt7Fhc8",
        "7N",
        "7n42dgm5tflk9n8mt7fhc7",
        &format!("{largest}0"),
        &format!("{largest}{largest}"),
        "\u{e9}",
        "0\u{e9}",
        "%",
        "0%",
        "_",
        "000000000000000000000_",
        "0*",
        "[0]",
        "'",
        "0\\",
        " ",
        "0 ",
        "-1",
        "(0",
    ] {
        ensure_listed(store, &records, &ListRange::Id(odd.to_owned()), None).await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn expiries_are_found_up_to_their_end(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let times = [
        i64::MIN,
        i64::MIN + 1,
        -(1 << 53) - 1,
        -1,
        0,
        1,
        9,
        10,
        (1 << 53) + 1,
        (1 << 53) + 2,
        i64::MAX - 1,
        i64::MAX,
    ];
    let mut records = vec![plain(1_000), owned(1_001, "a")];
    // Two of each time.
    for (number, end) in (1..).zip(times.into_iter().chain(times)) {
        let mut record = plain(number);
        record.expires = Some(at(end));
        records.push(record);
    }
    for record in &records {
        add(store, record).await?;
    }
    for from in times {
        for to in times {
            let (from, to) = (at(from), at(to));
            let range = ListRange::Expires { from, to };
            ensure_listed(store, &records, &range, None).await?;
        }
    }
    Ok(CheckVerdict::Passed)
}
