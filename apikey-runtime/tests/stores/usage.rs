//! Usage: what is kept, and for how long.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::ManualClock;
use apikey_runtime::store::{NodeId, UsageStore};
use apikey_runtime::usage::{Outcome, UsageBatch, UsageQuery, UsageRow};
use apikey_runtime::{KeyStore, MemoryStore, SqliteStore};

use crate::{Place, at, id, record, run};

const HOUR_MILLIS: i64 = 3_600_000;

/// The hour at which the clock of these tests starts.
const NOW: i64 = 475_000;

/// Creates both kinds of store that keep usage in Rust, with one key.
async fn clocked(place: &Place, clock: &Arc<ManualClock>) -> [Arc<dyn KeyStore>; 2] {
    let file = SqliteStore::new(place.file()).clock(clock.clone());
    file.start().await.unwrap();
    let memory = MemoryStore::new().with_clock(clock.clone());
    let stores: [Arc<dyn KeyStore>; 2] = [Arc::new(file), Arc::new(memory)];
    for store in &stores {
        store.insert(&record(1)).await.unwrap();
    }
    stores
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(at(NOW * HOUR_MILLIS)))
}

fn row(route: &str, hour: i64, requests: u64) -> UsageRow {
    let mut row = UsageRow::new(id(1), route, hour, Outcome::Allowed);
    (row.requests, row.cost) = (requests, requests);
    row
}

fn batch(node: u128, number: u64, rows: Vec<UsageRow>) -> UsageBatch {
    let mut batch = UsageBatch::new(NodeId::from_u128(node), number, Duration::from_secs(60));
    batch.rows = rows;
    batch
}

async fn all(store: &dyn KeyStore) -> Vec<UsageRow> {
    let query = UsageQuery::new(vec![id(1)], i64::MIN, i64::MAX);
    store.usage().unwrap().read_usage(&query).await.unwrap()
}

#[tokio::test]
async fn what_is_forgotten_is_gone_however_much_it_is() {
    let (place, clock) = (Place::new(), clock());
    for store in clocked(&place, &clock).await {
        let usage = store.usage().unwrap();
        let old = (0..12_000).map(|number| row(&format!("/{number}"), NOW - 1, 1));
        let rows = old.chain([row("/", NOW, 7)]).collect();
        usage.add_usage(&batch(1, 1, rows)).await.unwrap();
        assert_eq!(all(&*store).await.len(), 12_001);
        usage.prune_usage(NOW).await.unwrap();
        assert_eq!(all(&*store).await, [row("/", NOW, 7)]);
        usage.prune_usage(i64::MAX).await.unwrap();
        assert_eq!(all(&*store).await, []);
        usage.prune_usage(i64::MIN).await.unwrap();
    }
}

/// If they were kept, their list would grow with each start of a process.
#[tokio::test]
async fn the_numbers_of_nodes_that_fell_silent_are_forgotten_after_a_day_at_the_earliest() {
    let (place, clock) = (Place::new(), clock());
    let stores = clocked(&place, &clock).await;
    for store in &stores {
        let usage = store.usage().unwrap();
        for node in [1, 2] {
            let first = batch(node, 1, vec![row("/", NOW, 1)]);
            usage.add_usage(&first).await.unwrap();
        }
    }
    let counted = async |store: &Arc<dyn KeyStore>| {
        let rows = all(&**store).await;
        rows.iter().map(|row| row.requests).sum::<u64>()
    };
    clock.advance(Duration::from_secs(23 * 3_600));
    for store in &stores {
        let usage = store.usage().unwrap();
        usage.prune_usage(NOW - 1).await.unwrap();
        usage.prune_usage(NOW).await.unwrap();
        let (again, next) = (
            batch(1, 1, vec![row("/", NOW, 1)]),
            batch(2, 2, vec![row("/", NOW, 1)]),
        );
        usage.add_usage(&again).await.unwrap();
        usage.add_usage(&next).await.unwrap();
        assert_eq!(counted(store).await, 3, "the first is still known");
    }
    clock.advance(Duration::from_secs(2 * 3_600));
    for store in &stores {
        let usage = store.usage().unwrap();
        // They are kept for as long as usage is, too.
        usage.prune_usage(NOW).await.unwrap();
        usage
            .add_usage(&batch(1, 1, vec![row("/", NOW, 1)]))
            .await
            .unwrap();
        assert_eq!(counted(store).await, 3);
        usage.prune_usage(NOW + 1).await.unwrap();
        usage
            .add_usage(&batch(1, 1, vec![row("/", NOW, 1)]))
            .await
            .unwrap();
        usage
            .add_usage(&batch(2, 2, vec![row("/", NOW, 1)]))
            .await
            .unwrap();
        assert_eq!(
            counted(store).await,
            1,
            "only that of node 1, which was silent"
        );
    }
}

#[tokio::test]
async fn sums_stay_at_the_largest() {
    let (place, clock) = (Place::new(), clock());
    for (store, most) in clocked(&place, &clock)
        .await
        .iter()
        .zip([i64::MAX as u64, u64::MAX])
    {
        let usage = store.usage().unwrap();
        for number in 1..=3 {
            let rows = vec![row("/", NOW, u64::MAX - number)];
            usage.add_usage(&batch(1, number, rows)).await.unwrap();
        }
        assert_eq!(all(&**store).await, [row("/", NOW, most)]);
        usage
            .add_usage(&batch(1, u64::MAX, Vec::new()))
            .await
            .unwrap();
    }
}

/// As a later release may have written it, or an operator by hand.
#[tokio::test]
async fn what_is_not_known_is_left_out() {
    let place = Place::new();
    let (store, mut tool) = (place.store().await, place.tool().await);
    store.insert(&record(1)).await.unwrap();
    store
        .add_usage(&batch(1, 1, vec![row("/", NOW, 1)]))
        .await
        .unwrap();
    run(
        &mut tool,
        "INSERT INTO api_key_usage SELECT key, route, hour, 'later', 5, 5 FROM api_key_usage; \
         INSERT INTO api_key_usage SELECT 'none', route, hour, outcome, 5, 5 FROM api_key_usage; \
         INSERT INTO api_key_last_used VALUES ('0000000000000000000001', 5, 'nowhere')",
    )
    .await
    .unwrap();
    assert_eq!(all(&store).await, [row("/", NOW, 1)]);
    let used = store.last_used(&[id(1)]).await.unwrap();
    assert_eq!((used[0].at, used[0].network), (at(5), None));
}
