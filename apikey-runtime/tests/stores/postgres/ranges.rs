//! What ranges of keys, the count of live keys and the audit log cost the server, whatever the number of keys.

use apikey_runtime::KeyStore;
use apikey_runtime::store::{
    AuditQuery, AuditStore, ListCursor, ListQuery, ListRange, OwnerStore, SortValue, WriteOptions,
};
use sqlx::PgConnection;

use super::bulk::add;
use super::marking::rows_read;
use super::owners::to_owner;
use super::{place, run};
use crate::{at, id, owned};

const KEYS: u64 = 12_000;

/// The most rows that a page of 100 may read: each with its owner, and one that tells whether others follow. The server
/// counts the entries of an index too.
const MOST: i64 = 400;

/// Ranges with a page in their midst, of keys that are made by [`fill`].
fn pages() -> Vec<(ListRange, ListCursor)> {
    let middle = format!("{:0>22}", KEYS / 2).parse().unwrap();
    let cursor = |sort| ListCursor::new(sort, middle);
    let time = cursor(SortValue::Time(at(KEYS as i64 / 2)));
    vec![
        (ListRange::All, time.clone()),
        (ListRange::Owner("a".to_owned()), time.clone()),
        (
            ListRange::Label("label ".to_owned()),
            cursor(SortValue::Label(format!("label {:0>6}", KEYS / 2))),
        ),
        (ListRange::Id("000".to_owned()), cursor(SortValue::None)),
        (
            ListRange::Expires {
                from: at(0),
                to: at(i64::MAX),
            },
            cursor(SortValue::Time(at(KEYS as i64 / 2 + 4_000_000_000_000))),
        ),
    ]
}

async fn fill(tool: &mut PgConnection) {
    add(tool, 1, KEYS, "'a'", "4000000000000 + i").await;
    let spread = "UPDATE api_keys SET created_at = id::numeric, label = 'Label ' || right(id, 6)";
    run(tool, spread).await.unwrap();
    // Otherwise the server would look at the tables by itself meanwhile.
    let alone = "ALTER TABLE api_keys SET (autovacuum_enabled = off)";
    run(tool, alone).await.unwrap();
}

/// The server counts what it reads. Its statistics are of empty tables.
#[tokio::test]
async fn a_page_in_the_midst_of_any_range_reads_no_more_than_itself() {
    let place = place!();
    let mut tool = place.tool().await;
    place.started().await.stop().await;
    run(&mut tool, "ANALYZE").await.unwrap();
    fill(&mut tool).await;
    for (range, cursor) in pages() {
        for after in [None, Some(cursor)] {
            let before = rows_read(&mut tool).await;
            let store = place.started().await;
            let query = ListQuery::of(range.clone(), 100).after(after.clone());
            let page = store.list(&query).await.unwrap();
            assert_eq!(page.records.len(), 100, "{query:?}");
            store.stop().await;
            let count = rows_read(&mut tool).await - before;
            assert!(count < MOST, "{query:?} reads {count} rows");
        }
    }
    // Negative control.
    let before = rows_read(&mut tool).await;
    run(&mut tool, "DROP INDEX api_keys_label").await.unwrap();
    let store = place.started().await;
    let (range, cursor) = pages().swap_remove(2);
    let query = ListQuery::of(range, 100).after(Some(cursor));
    store.list(&query).await.unwrap();
    store.stop().await;
    assert!(rows_read(&mut tool).await - before > MOST);
}

#[tokio::test]
async fn counting_live_keys_and_reading_the_log_read_no_more_than_they_are_asked_for() {
    let place = place!();
    let mut tool = place.tool().await;
    place.started().await.stop().await;
    run(&mut tool, "ANALYZE").await.unwrap();
    fill(&mut tool).await;
    // Most of the owner's keys are not live: revoked one by one, expired, or revoked all at once.
    let ended = "UPDATE api_keys SET revoked_at = 5 WHERE id LIKE '%1'; \
        UPDATE api_keys SET expires_at = 5 WHERE id LIKE '%2' OR id LIKE '%3'; \
        UPDATE api_key_owners SET revocations = 1";
    run(&mut tool, ended).await.unwrap();
    add(&mut tool, KEYS + 1, KEYS + 50, "'a'", "NULL").await;
    add(&mut tool, KEYS + 51, KEYS + 60, "'a'", "1").await;
    add(&mut tool, KEYS + 61, KEYS + 61, "'b'", "NULL").await;
    let max = |max| WriteOptions::new().with_max_live_keys(Some(max));
    let mut filtered = vec![AuditQuery::newest(50); 5];
    filtered[1].key = Some(id(1 << 100));
    filtered[2].owner = Some("a".to_owned());
    filtered[3].actor = Some("keeper".to_owned());
    (filtered[4].from, filtered[4].to) = (Some(at(0)), Some(at(i64::MAX)));
    for step in 0..9 {
        let before = rows_read(&mut tool).await;
        let store = place.started().await;
        match step {
            0 => assert_eq!(store.count_live_keys("a", 40).await.unwrap(), 40),
            1 => assert_eq!(store.count_live_keys("a", 1_000).await.unwrap(), 50),
            2 => store.insert(&owned(1 << 100, "a"), &max(51)).await.unwrap(),
            3 => {
                let last = format!("{:0>22}", KEYS + 61).parse().unwrap();
                store.update(&last, &to_owner("a"), &max(52)).await.unwrap();
            }
            _ => drop(store.read_audit(&filtered[step - 4]).await.unwrap()),
        }
        store.stop().await;
        let count = rows_read(&mut tool).await - before;
        assert!(count < MOST, "{step} reads {count} rows");
    }
}
