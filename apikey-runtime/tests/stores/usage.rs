//! Usage: what is kept, and for how long.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::ManualClock;
use apikey_runtime::store::{KeyPatch, NodeId, UsageStore, WriteOptions};
use apikey_runtime::usage::{NetworkUse, Outcome, SecretUse, UsageBatch, UsageQuery, UsageRow};
use apikey_runtime::{KeyStore, MemoryStore, SqliteStore, Timestamp};

use crate::{InSteps, Place, at, connection, id, record, run};

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
        store
            .insert(&record(1), &WriteOptions::new())
            .await
            .unwrap();
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
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    store
        .add_usage(&batch(1, 1, vec![row("/", NOW, 1)]))
        .await
        .unwrap();
    run(
        &mut tool,
        "INSERT INTO api_key_usage SELECT key, route, hour, 'later', 5, 5 FROM api_key_usage; \
         INSERT INTO api_key_usage SELECT 'none', route, hour, outcome, 5, 5 FROM api_key_usage; \
         INSERT INTO api_key_secret_uses VALUES ('0000000000000000000001', 0, 5, 'nowhere'); \
         INSERT INTO api_key_secret_uses VALUES ('none', 0, 5, NULL); \
         INSERT INTO api_key_networks VALUES ('0000000000000000000001', 'nowhere', 5, 0)",
    )
    .await
    .unwrap();
    assert_eq!(all(&store).await, [row("/", NOW, 1)]);
    let used = store.last_used(&[id(1)]).await.unwrap();
    assert_eq!((used[0].at, used[0].network), (at(5), None));
    assert_eq!(store.read_networks(&[id(1)]).await.unwrap(), []);
}

/// Checks uses of the key 1 of a store of an older release, which has a use at 5. `older` writes one at
/// another time, as a process of that release does.
pub(crate) async fn check_uses_beside_an_older_release(
    store: &dyn KeyStore,
    mut older: impl AsyncFnMut(i64),
) {
    let usage = store.usage().unwrap();
    let read = async || {
        let used = usage.last_used(&[id(1)]).await.unwrap()[0];
        let millis = |at: Timestamp| at.as_millis();
        let secrets = (used.current_at.map(millis), used.superseded_at.map(millis));
        (used.at.as_millis(), secrets.0, secrets.1)
    };
    let mut number = 0;
    let mut add = async |rotations, millis| {
        number += 1;
        let mut batch = batch(1, number, Vec::new());
        batch.last_used = vec![SecretUse::new(id(1), rotations, at(millis), None)];
        usage.add_usage(&batch).await.unwrap();
    };
    assert_eq!(read().await, (5, Some(5), None));
    add(0, 3).await;
    assert_eq!(read().await, (5, Some(5), None));
    add(0, 9).await;
    assert_eq!(read().await, (9, Some(9), None));
    older(12).await;
    assert_eq!(read().await, (12, Some(12), None));
    let mut patch = KeyPatch::new();
    patch.digest = Some("sha256$01".to_owned());
    let options = WriteOptions::new();
    store.update(&id(1), &patch, &options).await.unwrap();
    assert_eq!(read().await, (12, None, Some(12)));
    add(1, 20).await;
    assert_eq!(read().await, (20, Some(20), Some(12)));
    // It does not know which secret was used. That it was the old one is the careful answer.
    older(30).await;
    let (last, _, superseded) = read().await;
    assert_eq!((last, superseded), (30, Some(30)));
    add(1, 40).await;
    assert_eq!(read().await, (40, Some(40), Some(30)));
}

/// The statement with which a release before 105 writes a use.
const OLDER_USE: &str = "INSERT INTO api_key_last_used (key, at, network) VALUES ('0000000000000000000001', ?, NULL) \
     ON CONFLICT (key) DO UPDATE SET at = excluded.at, network = excluded.network WHERE excluded.at > at";

#[tokio::test]
async fn uses_in_a_file_of_an_older_release_are_those_of_the_first_secret() {
    let place = Place::new();
    std::fs::File::create_new(place.file()).unwrap();
    let mut tool = connection(&place.file()).await;
    for statements in [
        "PRAGMA journal_mode = WAL",
        include_str!("../../src/store/sqlite/migrations/0100_initial.sql"),
        include_str!("../../src/store/sqlite/migrations/0102_change_log.sql"),
        include_str!("../../src/store/sqlite/migrations/0103_owners.sql"),
        "UPDATE api_key_meta SET schema_version = 103; \
         INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000001', 'my_api', 'a', 'sha256$00', '', '{}', 0, 1, 1); \
         INSERT INTO api_key_last_used VALUES ('0000000000000000000001', 5, NULL)",
    ] {
        run(&mut tool, statements).await.unwrap();
    }
    let store = place.store().await;
    let older = async |millis: i64| {
        let written = sqlx::query(OLDER_USE).bind(millis).execute(&mut tool).await;
        written.unwrap();
    };
    check_uses_beside_an_older_release(&store, older).await;
    store.purge_all(at(i64::MAX)).await.unwrap();
}

/// Old networks go, by whole days; in any number.
#[tokio::test]
async fn networks_that_were_not_used_for_long_are_forgotten() {
    let (place, clock) = (Place::new(), clock());
    for store in clocked(&place, &clock).await {
        let usage = store.usage().unwrap();
        let day = NOW / 24;
        let used = |number: u8, hour: i64| {
            let network = format!("192.0.{number}.0/24").parse().unwrap();
            NetworkUse::new(id(1), network, at(hour * HOUR_MILLIS))
        };
        let mut batch = batch(1, 1, Vec::new());
        batch.networks = vec![
            used(1, 24 * day - 1),
            used(2, 24 * day),
            used(3, 24 * day + 5),
        ];
        usage.add_usage(&batch).await.unwrap();
        let left = async || {
            let mut left = usage.read_networks(&[id(1)]).await.unwrap();
            left.sort_by_key(|used| used.network);
            left
        };
        usage.prune_usage(24 * day - 1).await.unwrap();
        assert_eq!(left().await, batch.networks);
        usage.prune_usage(24 * day).await.unwrap();
        assert_eq!(left().await, batch.networks[1..]);
        usage.prune_usage(24 * (day + 1)).await.unwrap();
        assert_eq!(left().await, []);
    }
}
