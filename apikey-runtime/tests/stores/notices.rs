//! Notices before the end of keys: statements by hand, and files of the release before.

use std::collections::BTreeSet;
use std::time::Instant;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{ExpiryNotice, ExpiryNotices, Membership, NodeId, WriteOptions};
use apikey_runtime::{KeyId, KeyStore, SqliteStore};
use sqlx::SqliteConnection;

use crate::{Place, at, connection, number, record, run};

pub(crate) fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

/// Statements by hand, with the notices that are there after each: the last digit of the key, the expiry, and `*` if
/// the notice was made by this statement.
pub(crate) const STATEMENTS: [(&str, &str); 15] = [
    (
        "INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, expires_at, enabled, version) \
         VALUES ('0000000000000000000001', 'p', 'l', 'a', 'sha256$1', '', '{}', 0, 9000, TRUE, 1), \
                ('0000000000000000000002', 'p', 'l', 'a', 'sha256$2', '', '{}', 0, NULL, TRUE, 1)",
        "1:9000*",
    ),
    ("UPDATE api_keys SET label = 'x'", "1:9000"),
    (
        "UPDATE api_keys SET expires_at = 9000, label = 'y' WHERE id LIKE '%1'",
        "1:9000",
    ),
    (
        "UPDATE api_keys SET expires_at = 9001, owner = 'b' WHERE id LIKE '%1'",
        "1:9001*",
    ),
    (
        "UPDATE api_keys SET expires_at = 5 WHERE id LIKE '%2'",
        "1:9001 2:5*",
    ),
    (
        "UPDATE api_keys SET revoked_at = 5 WHERE id LIKE '%2'",
        "1:9001 2:5",
    ),
    (
        "UPDATE api_key_owners SET revocations = revocations + 1 WHERE owner = 'b'",
        "1:9001 2:5",
    ),
    (
        "UPDATE api_keys SET expires_at = NULL WHERE id LIKE '%2'",
        "1:9001",
    ),
    (
        "BEGIN; UPDATE api_keys SET expires_at = 7; ROLLBACK",
        "1:9001",
    ),
    (
        "UPDATE api_keys SET expires_at = 7 + (id LIKE '%1')::integer",
        "1:8* 2:7*",
    ),
    ("DELETE FROM api_keys WHERE id LIKE '%1'", "2:7"),
    (
        "UPDATE api_keys SET expires_at = 8 WHERE id LIKE '%1'",
        "2:7",
    ),
    (
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, expires_at, enabled, version) \
         VALUES ('0000000000000000000003', 'p', 'l', 'sha256$3', '', '{}', 0, 3, TRUE, 1) \
         ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at",
        "2:7 3:3*",
    ),
    (
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, expires_at, enabled, version) \
         VALUES ('0000000000000000000003', 'p', 'l', 'sha256$3', '', '{}', 0, 4, TRUE, 1) \
         ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at",
        "2:7 3:4*",
    ),
    ("DELETE FROM api_keys", ""),
];

/// An INSERT OR REPLACE deletes a key, and no trigger of a deletion runs.
const REPLACEMENTS: [(&str, &str); 4] = [
    (
        "INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, expires_at, enabled, version) \
         VALUES ('0000000000000000000004', 'p', 'l', 'sha256$4', '', '{}', 0, 4, TRUE, 1)",
        "4:4*",
    ),
    (
        "INSERT OR REPLACE INTO api_keys SELECT * FROM api_keys",
        "4:4*",
    ),
    (
        "PRAGMA recursive_triggers = ON; INSERT OR REPLACE INTO api_keys SELECT * FROM api_keys; \
         PRAGMA recursive_triggers = OFF",
        "4:4*",
    ),
    (
        "INSERT OR REPLACE INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000004', 'p', 'l', 'sha256$4', '', '{}', 0, TRUE, 1)",
        "",
    ),
];

/// Tells the notices as [`STATEMENTS`] does.
pub(crate) const TOLD: &str = "SELECT substr(key, 22) || ':' || expires || CASE WHEN planned < 0 THEN '*' ELSE '' END \
    FROM api_key_expiry_notices WHERE claimed_by IS NULL AND since > 1600000000000 ORDER BY key";

#[tokio::test]
async fn a_statement_by_hand_replaces_the_notice_of_each_key_whose_expiry_it_changes() {
    let place = Place::new();
    let _store = place.store().await;
    let mut tool = place.tool().await;
    for (sql, expected) in STATEMENTS.into_iter().chain(REPLACEMENTS) {
        let planned = "UPDATE api_key_expiry_notices SET planned = 77, claimed_by = 'other'";
        run(&mut tool, planned).await.unwrap();
        let sql = sql.replace("::integer", "");
        let statement = sqlx::raw_sql(sqlx::AssertSqlSafe(&*sql));
        statement.execute(&mut tool).await.expect(&sql);
        // What was replaced is not claimed any more.
        let kept = "UPDATE api_key_expiry_notices SET claimed_by = NULL WHERE planned = 77";
        run(&mut tool, kept).await.unwrap();
        let told: Vec<String> = sqlx::query_scalar(TOLD).fetch_all(&mut tool).await.unwrap();
        assert_eq!(told.join(" "), expected, "{sql}");
    }
}

/// Epochs, entries of the audit log, and versions of records.
const CHANGES: &str = "SELECT (SELECT count(*) FROM api_key_changes WHERE kind = 'key') * 1000000 \
    + (SELECT count(*) FROM api_key_audit) * 1000 + (SELECT sum(version) FROM api_keys)";

#[tokio::test]
async fn claiming_and_finishing_change_no_record() {
    let place = Place::new();
    let store = place.store().await;
    let mut tool = place.tool().await;
    for key in 1..=3 {
        let mut record = record(key);
        record.expires = Some(at(9_000 + key as i64));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
    let before = number(&mut tool, CHANGES).await;
    let claimed = store.claim_notices(&node(1), at(0), 10).await.unwrap();
    assert_eq!(claimed.len(), 3);
    let plans = [Some(at(5)), None, Some(at(4))];
    let finished: Vec<_> = claimed.into_iter().zip(plans).collect();
    store.finish_notices(&node(1), &finished).await.unwrap();
    let claimed = store.claim_notices(&node(1), at(5), 10).await.unwrap();
    let planned: Vec<_> = claimed.iter().map(|notice| notice.planned).collect();
    assert_eq!(planned, [Some(at(4)), Some(at(5))]);
    assert_eq!(number(&mut tool, CHANGES).await, before);
    // Negative control.
    run(&mut tool, "UPDATE api_keys SET label = 'x'")
        .await
        .unwrap();
    assert_ne!(number(&mut tool, CHANGES).await, before);
}

const KEYS: i64 = 1_200;

/// Makes a file with the tables of the release before, and keys of which two have no end before them.
async fn old_file(place: &Place) -> SqliteConnection {
    std::fs::File::create_new(place.file()).unwrap();
    let mut tool = connection(&place.file()).await;
    for migration in [
        "PRAGMA journal_mode = WAL",
        include_str!("../../src/store/sqlite/migrations/0100_initial.sql"),
        include_str!("../../src/store/sqlite/migrations/0102_change_log.sql"),
        include_str!("../../src/store/sqlite/migrations/0103_owners.sql"),
        include_str!("../../src/store/sqlite/migrations/0104_audit.sql"),
        include_str!("../../src/store/sqlite/migrations/0105_last_used.sql"),
        "UPDATE api_key_meta SET schema_version = 105",
        "WITH RECURSIVE n (i) AS (VALUES (-1) UNION ALL SELECT i + 1 FROM n WHERE i < 1200) \
         INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, expires_at, enabled, version) \
         SELECT printf('%022d', 2000 + i), 'p', 'l', 'd', '', '{}', 1000, iif(i > 0, 4000000000000 + i / 3, i + 1), 1, 1 \
         FROM n; UPDATE api_keys SET expires_at = NULL WHERE expires_at = 1",
    ] {
        run(&mut tool, migration).await.unwrap();
    }
    tool
}

/// Finishes notices for good, and returns their keys.
async fn finish(store: &SqliteStore, claimed: &[ExpiryNotice]) -> Vec<KeyId> {
    for notice in claimed {
        assert_eq!((notice.planned, notice.since), (None, at(1_000)));
        assert!(notice.expires > at(4_000_000_000_000 - 1));
    }
    let finished: Vec<_> = claimed.iter().map(|notice| (*notice, None)).collect();
    store.finish_notices(&node(1), &finished).await.unwrap();
    claimed.iter().map(|notice| notice.key).collect()
}

/// Step by step, while keys change, each once; also if the node that began has ended.
#[tokio::test]
async fn keys_of_the_release_before_get_their_notices_from_claims() {
    let place = Place::new();
    let mut tool = old_file(&place).await;
    let store = place.store().await;
    let count = "SELECT count(*) FROM api_key_expiry_notices";
    assert_eq!(number(&mut tool, count).await, 0, "the start takes no time");
    // A statement of the release before, whose notice is finished before the backfill comes to the key.
    let last = "UPDATE api_keys SET expires_at = 4000000001000 WHERE id LIKE '%3200'";
    run(&mut tool, last).await.unwrap();
    let claimed = store.claim_notices(&node(1), at(0), 1).await.unwrap();
    assert!(claimed[0].since > at(1_000) && claimed[0].expires == at(4_000_000_001_000));
    store
        .finish_notices(&node(1), &[(claimed[0], None)])
        .await
        .unwrap();
    // Of these, one is removed, one has no end any more, and one is revoked.
    let changed = "DELETE FROM api_keys WHERE id LIKE '%3100'; UPDATE api_keys SET expires_at = NULL WHERE id LIKE '%3101'; \
        UPDATE api_keys SET revoked_at = 5 WHERE id LIKE '%3102'";
    run(&mut tool, changed).await.unwrap();
    let (mut keys, mut calls) = (Vec::new(), 0);
    loop {
        let claimed = store.claim_notices(&node(1), at(0), 1_000).await.unwrap();
        assert!(claimed.len() <= 500, "a bounded step");
        if claimed.is_empty() {
            break;
        }
        keys.extend(finish(&store, &claimed).await);
        calls += 1;
    }
    assert_eq!(calls, 3);
    let unique: BTreeSet<_> = keys.iter().collect();
    assert_eq!(
        (unique.len(), keys.len()),
        (KEYS as usize - 3, KEYS as usize - 3)
    );
    assert_eq!(
        number(&mut tool, "SELECT count(*) FROM api_key_notice_backfill").await,
        0
    );
    let later = at(i64::MAX);
    assert_eq!(store.claim_notices(&node(1), later, 10).await.unwrap(), []);

    // Negative control: a notice that is gone would be added again.
    let again = "DELETE FROM api_key_expiry_notices WHERE key LIKE '%3200'; \
        INSERT INTO api_key_notice_backfill VALUES (1, 0, '')";
    run(&mut tool, again).await.unwrap();
    let mut added = Vec::new();
    for _ in 0..4 {
        added.extend(store.claim_notices(&node(1), at(0), 10).await.unwrap());
    }
    assert!(
        added
            .iter()
            .any(|notice| notice.key.as_str().ends_with("3200"))
    );
    store.stop().await;
    place.store().await;
}

/// What another process has claimed, and the order of what is due, are as of the moment of the claim.
#[tokio::test]
async fn two_processes_claim_each_notice_once() {
    let place = Place::new();
    let stores = [place.store().await, place.store().await];
    let nodes = [node(1), node(2)];
    for (store, node) in stores.iter().zip(&nodes) {
        store.join(node).await.unwrap();
    }
    for key in 1..=60 {
        let mut record = record(key);
        record.expires = Some(at(9_000));
        stores[0]
            .insert(&record, &WriteOptions::new())
            .await
            .unwrap();
    }
    let claim = async |which: usize| {
        let mut claimed = Vec::new();
        loop {
            let notices = stores[which].claim_notices(&nodes[which], at(0), 7);
            let notices = notices.await.unwrap();
            if notices.is_empty() {
                return claimed;
            }
            claimed.extend(notices.iter().map(|notice| notice.key));
            let later = notices.into_iter().map(|notice| (notice, Some(at(5))));
            let later: Vec<_> = later.collect();
            stores[which]
                .finish_notices(&nodes[which], &later)
                .await
                .unwrap();
        }
    };
    let (first, second) = tokio::join!(claim(0), claim(1));
    let all: BTreeSet<_> = first.iter().chain(&second).collect();
    assert_eq!((all.len(), first.len() + second.len()), (60, 60));
    // A claim outlives its node until that is no member any more.
    assert_eq!(
        stores[0]
            .claim_notices(&node(1), at(5), 60)
            .await
            .unwrap()
            .len(),
        60
    );
    let other = || stores[1].claim_notices(&nodes[1], at(5), 60);
    assert_eq!(other().await.unwrap(), []);
    stores[0].leave(&node(1)).await.unwrap();
    let taken = other().await.unwrap();
    assert_eq!(taken.len(), 60);
    let late: Vec<_> = taken.iter().map(|notice| (*notice, None)).collect();
    stores[0].finish_notices(&node(1), &late).await.unwrap();
    assert_eq!(
        other().await.unwrap(),
        taken,
        "it is not that node's claim any more"
    );
    stores[1]
        .purge(at(i64::MAX), None, &ChangeOrigin::new())
        .await
        .unwrap();
    assert_eq!(other().await.unwrap(), []);
}

/// Prints the medians of inserts with an expiry into a store that keeps notices, and into one that does not, in turns.
pub(crate) async fn print_insert_costs(stores: [&dyn KeyStore; 2]) {
    let mut times = [Vec::new(), Vec::new()];
    for key in 0..3_000 {
        for (store, times) in stores.iter().zip(&mut times) {
            let mut record = record(key);
            record.expires = Some(at(4_000_000_000_000 + key as i64));
            let began = Instant::now();
            store.insert(&record, &WriteOptions::new()).await.unwrap();
            times.push(began.elapsed());
        }
    }
    let [with, without] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!("an insert with an expiry: {with:?}, without its notice {without:?}: {ratio:.3}");
}

/// `cargo test --workspace --all-features --test stores notices::the_cost -- --ignored --nocapture`
#[tokio::test]
#[ignore = "prints what a notice adds to an insert"]
async fn the_cost_of_an_insert_with_an_expiry() {
    let places = [Place::new(), Place::new()];
    let stores = [places[0].store().await, places[1].store().await];
    let off = "DROP TRIGGER api_keys_expiry_set";
    run(&mut places[1].tool().await, off).await.unwrap();
    print_insert_costs([&stores[0], &stores[1]]).await;
}

/// `cargo test --workspace --all-features --test stores notices::a_million -- --ignored --nocapture`
#[tokio::test]
#[ignore = "takes minutes: it makes 1,000,000 keys, and prints what their upgrade costs"]
async fn a_million_keys_of_the_release_before() {
    let place = Place::new();
    let mut tool = old_file(&place).await;
    let triggers: Vec<String> = sqlx::query_scalar(
        "SELECT 'DROP TRIGGER ' || name FROM sqlite_schema WHERE type = 'trigger' AND sql LIKE '% INSERT ON api_keys%'",
    )
    .fetch_all(&mut tool)
    .await
    .unwrap();
    // They are made again by the upgrade, but for one that this file does not need.
    let keys = "WITH RECURSIVE n (i) AS (VALUES (10001) UNION ALL SELECT i + 1 FROM n WHERE i < 1010000) \
        INSERT INTO api_keys (id, prefix, label, label_key, digest, scopes, metadata, created_at, expires_at, enabled, version) \
        SELECT printf('%022d', i), 'p', 'l', 'l', 'd', '', '{}', 1000, 4000000000000 + i * 7919 % 1000000, 1, 1 FROM n";
    let restore = "CREATE TRIGGER api_keys_inserted AFTER INSERT ON api_keys BEGIN SELECT 1; END; \
        CREATE TRIGGER api_keys_replaced AFTER INSERT ON api_keys BEGIN SELECT 1; END";
    let sql = format!("BEGIN; {}; {keys}; {restore}; COMMIT", triggers.join("; "));
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut tool)
        .await
        .unwrap();
    let began = Instant::now();
    let store = place.store().await;
    println!("started in {:?}", began.elapsed());
    let (mut times, mut claimed) = (Vec::new(), 0);
    let began = Instant::now();
    loop {
        let one = Instant::now();
        let notices = store.claim_notices(&node(1), at(0), 500).await.unwrap();
        times.push(one.elapsed());
        if notices.is_empty() {
            break;
        }
        claimed += notices.len();
        let later = notices
            .into_iter()
            .map(|notice| (notice, Some(at(1 << 50))));
        let later: Vec<_> = later.collect();
        store.finish_notices(&node(1), &later).await.unwrap();
    }
    println!("{claimed} notices in {:?}", began.elapsed());
    times.sort_unstable();
    let (middle, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!("a claim with its step of the backfill: {middle:?}, at most {last:?}");
    store.stop().await;
}
