//! Usage is rolled up from hours to days, in steps each of which leaves the sums as they are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use apikey_runtime::store::{NodeId, WriteOptions};
use apikey_runtime::usage::{Outcome, UsageBatch, UsageQuery, UsageRow};
use apikey_runtime::{DenyReason, KeyId, KeyStore, MemoryStore};

use crate::{Place, id, record, run};

const KEYS: u128 = 60;

const HOURS: i64 = 12;

/// The most rows that a step takes from their hours: Redis looks at 50 keys.
const OF_A_STEP: usize = 50 * 3 * 11;

const REFUSED: Outcome = Outcome::Denied(DenyReason::RateLimited);

/// Returns today, in days since 1970: a store may drop old usage at once.
pub(crate) fn today() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_secs() / 86_400).unwrap()
}

pub(crate) fn row(key: u128, route: &str, hour: i64, requests: u64) -> UsageRow {
    let mut row = UsageRow::new(id(key), route, hour, Outcome::Allowed);
    (row.requests, row.cost) = (requests, requests.saturating_mul(2));
    row
}

/// Adds rows in a batch.
pub(crate) async fn add(store: &dyn KeyStore, rows: &[UsageRow]) {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let keep = Duration::from_secs(30 * 86_400);
    let mut batch = UsageBatch::new(NodeId::from_u128(7), number, keep);
    batch.rows = rows.to_vec();
    store.usage().unwrap().add_usage(&batch).await.unwrap();
}

/// Returns all rows of the keys, sorted.
pub(crate) async fn all(store: &dyn KeyStore) -> Vec<UsageRow> {
    let keys = (1..=KEYS).map(id).collect();
    let query = UsageQuery::new(keys, i64::MIN, i64::MAX);
    let mut rows = store.usage().unwrap().read_usage(&query).await.unwrap();
    let place = |row: &UsageRow| (row.key, row.hour, row.route.clone(), row.outcome.code());
    rows.sort_by_key(place);
    rows
}

/// Sums of requests and costs, by key, day, route and outcome.
type DaySums = BTreeMap<(KeyId, i64, String, &'static str), (u64, u64)>;

fn by_day(rows: &[UsageRow]) -> DaySums {
    let mut sums = DaySums::new();
    for row in rows {
        let day = row.hour.div_euclid(24);
        let sum = sums
            .entry((row.key, day, row.route.clone(), row.outcome.code()))
            .or_default();
        *sum = (sum.0 + row.requests, sum.1 + row.cost);
    }
    sums
}

/// Adds keys, and usage on these days.
async fn fill(store: &dyn KeyStore, days: [i64; 3]) -> Vec<UsageRow> {
    for number in 1..=KEYS {
        let added = store.insert(&record(number), &WriteOptions::new()).await;
        added.unwrap();
    }
    let mut rows = Vec::new();
    for day in days {
        for (key, hour) in (1..=KEYS).flat_map(|key| (0..HOURS).map(move |hour| (key, hour))) {
            // Each second key is not used in the first hour.
            let hour = 24 * day + 2 * hour + i64::from(key % 2 == 0);
            rows.push(row(key, "/orders/{id}", hour, 1 + key as u64));
            rows.push(row(key, "/", hour, 3));
            let mut refused = UsageRow::new(id(key), "/", hour, REFUSED);
            refused.requests = 1;
            rows.push(refused);
        }
    }
    for rows in rows.chunks(1_000) {
        add(store, rows).await;
    }
    rows
}

/// Checks a store without usage: two days are rolled up, and another one is not.
pub(crate) async fn check_roll_up(store: &dyn KeyStore) {
    let today = today();
    let rows = fill(store, [today - 4, today - 2, today - 1]).await;
    let (usage, before) = (store.usage().unwrap(), by_day(&rows));
    let (mut left, mut steps) = (rows.len(), 0);
    while usage.roll_up_usage(today - 1).await.unwrap() {
        steps += 1;
        assert!(steps < 200, "it ends");
        // A process that is killed after any step has done no harm.
        let found = all(store).await;
        assert_eq!(by_day(&found), before, "after step {steps}");
        assert!(left - found.len() <= OF_A_STEP, "after step {steps}");
        left = found.len();
    }
    assert!(steps >= 3, "{steps}");
    let found = all(store).await;
    assert_eq!(by_day(&found), before);
    let is_rolled = |row: &&UsageRow| row.hour < 24 * (today - 1);
    let rolled: Vec<_> = found.iter().filter(is_rolled).collect();
    assert_eq!(rolled.len(), 2 * 3 * KEYS as usize, "one row for a day");
    assert!(rolled.iter().all(|row| row.hour % 24 == 0));
    let hours = 3 * KEYS as usize * HOURS as usize;
    assert_eq!(
        found.len() - rolled.len(),
        hours,
        "the last day is as it was"
    );
    for day in [today - 1, i64::MIN] {
        while usage.roll_up_usage(day).await.unwrap() {}
        assert_eq!(all(store).await, found, "nothing is left");
    }
}

#[tokio::test]
async fn a_store_in_memory_rolls_up() {
    check_roll_up(&MemoryStore::new()).await;
}

#[tokio::test]
async fn a_file_rolls_up() {
    let place = Place::new();
    check_roll_up(&place.store().await).await;
}

/// Sums stay at the largest, a row of a later release counts too, and an hour before 1970 does not.
#[tokio::test]
async fn no_row_of_a_file_ends_the_roll_up() {
    let place = Place::new();
    let (store, mut tool) = (place.store().await, place.tool().await);
    let rows = [
        row(1, "/", 50, u64::MAX / 2),
        row(1, "/", 51, u64::MAX / 2),
        row(1, "/", i64::MIN, 1),
        row(1, "/", -1, 1),
        row(1, "/", 0, 1),
    ];
    add(&store, &rows).await;
    run(
        &mut tool,
        "INSERT INTO api_key_usage SELECT key, route, hour, 'later', 5, 5 FROM api_key_usage WHERE hour > 0",
    )
    .await
    .unwrap();
    let usage = store.usage().unwrap();
    while usage.roll_up_usage(i64::MAX).await.unwrap() {}
    let most = i64::MAX.unsigned_abs();
    let found: Vec<_> = all(&store)
        .await
        .iter()
        .map(|row| (row.hour, row.requests))
        .collect();
    assert_eq!(found, [(i64::MIN, 1), (-1, 1), (0, 1), (48, most)]);
    let later = "SELECT requests FROM api_key_usage WHERE outcome = 'later' AND hour = 48";
    let later: i64 = sqlx::query_scalar(later)
        .fetch_one(&mut tool)
        .await
        .unwrap();
    assert_eq!(later, 10);
}
