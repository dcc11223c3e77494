//! Ranges of lists in a file: equal to those of the store in memory.

use apikey_runtime::store::{KeyPatch, ListQuery, ListRange, RecordPage, WriteOptions, fold_label};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, MemoryStore};
use sqlx::SqliteConnection;

use crate::{Place, at, connection, id, number, run};

/// Labels that differ by case, by bytes, and by the characters that are the greatest in some encoding.
const LABELS: [&str; 16] = [
    "",
    "a",
    "A",
    "ab",
    "a\u{1}",
    "a'%_",
    "ZO\u{cb}",
    "zo\u{eb}",
    "zoo",
    "zo\u{d7ff}",
    "zo\u{e000}",
    "zo\u{fefe}",
    "zo\u{fffd}",
    "zo\u{10ffff}",
    "zo\u{10ffff}\u{10ffff}",
    "\u{130}stanbul",
];

fn records() -> Vec<KeyRecord> {
    let mut records = Vec::new();
    for (number, label) in (1_u128..).zip(LABELS.into_iter().cycle().take(60)) {
        // Ids of which some share a beginning.
        let spread = number * 0x1234_5678_9abc_def0_1234_5678_9abc % (1 << 127);
        let mut record = KeyRecord::new(
            KeyId::from_u128(if number % 3 == 0 { number } else { spread }),
            "p",
            label,
            "sha256$00",
            at(i64::try_from(number % 7).unwrap()),
        );
        record.owner = [None, Some("a"), Some("A")][number as usize % 3].map(str::to_owned);
        record.expires = (number % 4 > 0).then(|| at(i64::try_from(number % 5).unwrap()));
        records.push(record);
    }
    records
}

fn ranges(records: &[KeyRecord]) -> Vec<ListRange> {
    let mut ranges = vec![ListRange::All];
    for owner in ["a", "A", "b", ""] {
        ranges.push(ListRange::Owner(owner.to_owned()));
    }
    for label in LABELS.into_iter().chain(["z", "zo", "i", "b"]) {
        ranges.push(ListRange::Label(fold_label(label)));
    }
    let ids = records.iter().step_by(7);
    for id in ids.map(|record| record.id.to_string()) {
        ranges.extend([0, 1, 2, 21, 22].map(|len| ListRange::Id(id[..len].to_owned())));
    }
    for beginning in ["z", "\u{e9}", "00000000000000000000000", "%", "_"] {
        ranges.push(ListRange::Id(beginning.to_owned()));
    }
    for (from, to) in [(0, 9), (1, 3), (2, 2), (3, 1), (i64::MIN, i64::MAX)] {
        let (from, to) = (at(from), at(to));
        ranges.push(ListRange::Expires { from, to });
    }
    ranges
}

/// Returns the ids of a list, read in pages of `limit`.
async fn ids(store: &dyn KeyStore, range: &ListRange, limit: u32) -> Vec<KeyId> {
    let mut query = ListQuery::of(range.clone(), limit);
    let mut ids = Vec::new();
    loop {
        let page = store.list(&query).await.unwrap();
        assert!(page.records.len() <= limit as usize);
        ids.extend(page.records.iter().map(|record| record.id));
        if let Some(next) = &page.next {
            assert!(range.fits(next));
            // As it comes back in a URL.
            assert_eq!(next.to_string().parse().as_ref().ok(), Some(next));
        }
        query.after = page.next;
        if query.after.is_none() {
            return ids;
        }
        assert!(ids.len() < 1_000, "{range:?} does not end");
    }
}

async fn filled(store: &dyn KeyStore, records: &[KeyRecord]) {
    for record in records {
        store.insert(record, &WriteOptions::new()).await.unwrap();
    }
}

#[tokio::test]
async fn ranges_in_a_file_are_those_in_memory() {
    let records = records();
    let place = Place::new();
    let (store, memory) = (place.store().await, MemoryStore::new());
    filled(&store, &records).await;
    filled(&memory, &records).await;
    for range in ranges(&records) {
        let expected = ids(&memory, &range, 1_000).await;
        for limit in [1, 2, 7, 1_000] {
            assert_eq!(ids(&store, &range, limit).await, expected, "{range:?}");
        }
    }
}

/// Texts are compared by the bytes of the file's encoding, so labels have another order.
#[tokio::test]
async fn a_file_in_utf16_has_the_same_ranges() {
    for encoding in [
        "PRAGMA encoding = 'UTF-16le'",
        "PRAGMA encoding = 'UTF-16be'",
    ] {
        let place = Place::new();
        std::fs::File::create_new(place.file()).unwrap();
        let mut tool = connection(&place.file()).await;
        run(&mut tool, encoding).await.unwrap();
        run(&mut tool, "CREATE TABLE another (n)").await.unwrap();
        let records = records();
        let (store, memory) = (place.store().await, MemoryStore::new());
        filled(&store, &records).await;
        filled(&memory, &records).await;
        for range in ranges(&records) {
            let mut expected = ids(&memory, &range, 1_000).await;
            for limit in [1, 7, 1_000] {
                let mut found = ids(&store, &range, limit).await;
                if matches!(range, ListRange::Label(_)) {
                    expected.sort_unstable();
                    found.sort_unstable();
                }
                assert_eq!(found, expected, "{encoding}: {range:?}");
            }
        }
        let label = "SELECT count(*) FROM api_keys WHERE label_key <> 'zo' || char(235) AND label = 'ZO' || char(203)";
        assert_eq!(number(&mut tool, label).await, 0);
    }
}

/// The position of a page stays valid while records come, go and change.
#[tokio::test]
async fn a_cursor_stays_valid_when_its_record_is_changed_or_removed() {
    let place = Place::new();
    let store = place.store().await;
    let records = records();
    filled(&store, &records).await;
    let mut tool = place.tool().await;
    for range in ranges(&records) {
        let all = ids(&store, &range, 1_000).await;
        if all.len() < 4 {
            continue;
        }
        let query = ListQuery::of(range.clone(), 2);
        let first = store.list(&query).await.unwrap();
        let last = first.records[1].clone();
        run(&mut tool, "BEGIN IMMEDIATE").await.unwrap();
        let delete = sqlx::query("DELETE FROM api_keys WHERE id = ?").bind(last.id.as_str());
        delete.execute(&mut tool).await.unwrap();
        run(&mut tool, "COMMIT").await.unwrap();
        let mut rest = query.clone().after(first.next);
        rest.limit = 1_000;
        let page = store.list(&rest).await.unwrap();
        let found = page.records.iter().map(|record| record.id);
        assert!(found.eq(all[2..].iter().copied()), "{range:?}");
        store.insert(&last, &WriteOptions::new()).await.unwrap();
    }
}

/// A label that a statement by hand changes is found by ASCII's lower case; one that a call changes, by
/// Unicode's.
#[tokio::test]
async fn a_label_is_found_after_each_kind_of_change() {
    let place = Place::new();
    let store = place.store().await;
    let mut record = KeyRecord::new(id(1), "p", "ZO\u{cb}", "sha256$00", at(1));
    store.insert(&record, &WriteOptions::new()).await.unwrap();
    let mut tool = place.tool().await;
    let key = async |tool: &mut SqliteConnection| -> String {
        let key = sqlx::query_scalar("SELECT label_key FROM api_keys");
        key.fetch_one(tool).await.unwrap()
    };
    assert_eq!(key(&mut tool).await, "zo\u{eb}");
    // Only the case changes.
    for label in ["zo\u{cb}", "ZO\u{eb}", "\u{130}x"] {
        let mut patch = KeyPatch::new();
        patch.label = Some(label.to_owned());
        let options = WriteOptions::new();
        store.update(&id(1), &patch, &options).await.unwrap();
        assert_eq!(key(&mut tool).await, fold_label(label));
    }
    for (sql, expected) in [
        ("UPDATE api_keys SET label = 'ZO' || char(203)", "zo\u{cb}"),
        ("UPDATE api_keys SET enabled = 0", "zo\u{cb}"),
        (
            "UPDATE api_keys SET label = 'X', label_key = 'mine'",
            "mine",
        ),
        ("UPDATE api_keys SET label_key = NULL", "x"),
    ] {
        run(&mut tool, sql).await.unwrap();
        assert_eq!(key(&mut tool).await, expected, "{sql}");
    }
    let long = "UPDATE api_keys SET label = replace(printf('%0200d', 0), '0', 'A' || char(128273))";
    run(&mut tool, long).await.unwrap();
    assert_eq!(key(&mut tool).await, "a\u{1f511}".repeat(32));
    record.label = "A\u{1f511}".repeat(200);
    let range = ListRange::Label(fold_label(&record.label));
    assert_eq!(ids(&store, &range, 1).await, [id(1)]);
}

/// Rows that cannot be read, or that no cursor can name, are listed once, and end no list.
#[tokio::test]
async fn broken_rows_do_not_end_a_range_or_hide_a_record() {
    let place = Place::new();
    let store = place.store().await;
    let mut tool = place.tool().await;
    let bad = "PRAGMA ignore_check_constraints = ON; \
        WITH bad (id, label) AS (VALUES ('!', 'a'), ('00', 'a'), (CAST(x'30ff' AS TEXT), 'a'), \
        ('0000000000000000000021', CAST(x'61ff' AS TEXT)), ('0000000000000000000022', CAST(x'61fe' AS TEXT)), \
        ('0000000000000000000023', CAST(x'61ff62' AS TEXT)), (CAST(x'ffff' AS TEXT), CAST(x'6161ff' AS TEXT))) \
        INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, expires_at, enabled, version) \
        SELECT id, 'p', label, 'acme', 'd', '', '{}', 5, 5, 1, 1 FROM bad";
    run(&mut tool, bad).await.unwrap();
    let mut good = Vec::new();
    for number in 1..=4 {
        let mut record = KeyRecord::new(id(number), "p", "a label", "sha256$00", at(5));
        record.owner = Some("acme".to_owned());
        record.expires = Some(at(5));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
        good.push(id(number));
    }
    for range in [
        ListRange::All,
        ListRange::Owner("acme".to_owned()),
        ListRange::Label("a".to_owned()),
        ListRange::Id(String::new()),
        ListRange::Expires {
            from: at(0),
            to: at(9),
        },
    ] {
        for limit in [1, 2, 3, 5, 100] {
            let mut query = ListQuery::of(range.clone(), limit);
            let (mut found, mut unreadable) = (Vec::new(), Vec::new());
            loop {
                let RecordPage {
                    records,
                    unreadable: broken,
                    next,
                    ..
                } = store.list(&query).await.unwrap();
                found.extend(records.iter().map(|record| record.id));
                unreadable.extend(broken);
                query.after = next;
                if query.after.is_none() {
                    break;
                }
            }
            found.sort_unstable();
            assert_eq!(found, good, "{range:?} in pages of {limit}");
            assert_eq!(unreadable.len(), 7, "{range:?} in pages of {limit}");
        }
    }
}
