//! Usage, as far as it is specific to PostgreSQL; the suite has the rest.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::store::{CopyItems, NodeId, StoreCopy, UsageStore, WriteOptions};
use apikey_runtime::usage::{
    LastUsed, NetworkUse, Outcome, SecretUse, UsageBatch, UsageQuery, UsageRow,
};
use apikey_runtime::{KeyStore, PostgresStore};
use apikey_test_support::{PATIENCE, within};
use tokio::task::JoinSet;

use super::{Place, cursor, number, place, run, until_waiting};
use crate::roll_up::{add, all, check_roll_up};
use crate::usage::check_uses_beside_an_older_release;
use crate::{at, id, record};

const KEEP: Duration = Duration::from_secs(3_600);

fn node(number: u32) -> NodeId {
    format!("{number:022}").parse().unwrap()
}

fn row(key: u128, route: &str, hour: i64, requests: u64) -> UsageRow {
    let mut row = UsageRow::new(id(key), route, hour, Outcome::Allowed);
    row.requests = requests;
    row.cost = requests.saturating_mul(2);
    row
}

fn batch(by: u32, number: u64, rows: Vec<UsageRow>) -> UsageBatch {
    let mut batch = UsageBatch::new(node(by), number, KEEP);
    batch.rows = rows;
    batch
}

async fn requests(store: &PostgresStore, key: u128) -> u64 {
    let all = UsageQuery::new(vec![id(key)], i64::MIN, i64::MAX);
    let rows = store.read_usage(&all).await.unwrap();
    rows.iter().map(|row| row.requests).sum()
}

#[tokio::test]
async fn a_batch_that_is_offered_twice_counts_once_and_takes_no_epoch() {
    let place = place!();
    let store = Arc::new(place.started().await);
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let since = cursor(&*store).await;
    let mut first = batch(1, 7, vec![row(1, "/a", 5, 3)]);
    first
        .last_used
        .push(SecretUse::new(id(1), 0, at(50), "10.0.0.0/8".parse().ok()));
    let mut offers = JoinSet::new();
    for _ in 0..8 {
        let (store, first) = (Arc::clone(&store), first.clone());
        offers.spawn(async move { store.add_usage(&first).await });
    }
    for offer in offers.join_all().await {
        offer.unwrap();
    }
    store
        .add_usage(&batch(1, 6, vec![row(1, "/a", 5, 100)]))
        .await
        .unwrap();
    assert_eq!(requests(&store, 1).await, 3);
    store
        .add_usage(&batch(2, 1, vec![row(1, "/a", 5, 10)]))
        .await
        .unwrap();
    assert_eq!(requests(&store, 1).await, 13);
    // Moves forward only.
    let mut late = batch(2, 2, Vec::new());
    late.last_used.push(SecretUse::new(id(1), 0, at(49), None));
    store.add_usage(&late).await.unwrap();
    let last = store.last_used(&[id(1), id(2)]).await.unwrap();
    assert_eq!(
        last,
        LastUsed::of_secrets(id(1), 0, first.last_used).as_slice()
    );
    store.prune_usage(6).await.unwrap();
    assert_eq!(requests(&store, 1).await, 0);
    assert_eq!(cursor(&*store).await, since);
}

/// A part of a batch that cannot be stored must not cause endless retries.
#[tokio::test]
async fn no_batch_is_refused_for_what_is_in_it() {
    let place = place!();
    let store = place.started().await;
    let mut rows = vec![
        row(1, "/a", 5, u64::MAX),
        row(1, "/\0'; DROP TABLE api_keys; --", i64::MIN, 1),
    ];
    for number in 1..=2 {
        let mut batch = batch(1, number, rows.clone());
        // Of an unknown key.
        batch
            .last_used
            .push(SecretUse::new(id(1), u64::MAX, at(i64::MAX), None));
        let network = "::/0".parse().unwrap();
        batch.networks = vec![
            NetworkUse::new(id(1), network, at(i64::MIN)),
            NetworkUse::new(id(2), network, at(i64::MAX)),
        ];
        store.add_usage(&batch).await.unwrap();
    }
    store
        .add_usage(&batch(1, u64::MAX, Vec::new()))
        .await
        .unwrap();
    let all = UsageQuery::new(vec![id(1)], i64::MIN, i64::MAX);
    let mut kept = store.read_usage(&all).await.unwrap();
    kept.sort_by_key(|row| std::cmp::Reverse(row.hour));
    rows[0].requests = i64::MAX.unsigned_abs();
    rows[0].cost = i64::MAX.unsigned_abs();
    rows[1].requests = 2;
    rows[1].cost = 4;
    rows[1].route = rows[1].route.replace('\0', "\u{fffd}");
    assert_eq!(kept, rows);
    assert_eq!(store.last_used(&[id(1)]).await.unwrap(), []);
}

#[tokio::test]
async fn an_outcome_of_a_later_release_is_left_out() {
    let place = place!();
    let store = place.started().await;
    store
        .add_usage(&batch(1, 1, vec![row(1, "/a", 5, 3)]))
        .await
        .unwrap();
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "INSERT INTO api_key_usage SELECT key, hour, route, 'bored', 9, 9 FROM api_key_usage",
    )
    .await
    .unwrap();
    assert_eq!(requests(&store, 1).await, 3);
}

/// More rows than one statement removes, while others add to them.
#[tokio::test]
async fn what_is_old_goes_in_pieces_and_what_is_not_stays() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    let many = "INSERT INTO api_key_usage \
         SELECT lpad(n::text, 22, '0'), n % 20, '/a', 'allowed', 1, 1 FROM generate_series(1, 24000) AS n";
    run(&mut tool, many).await.unwrap();
    store
        .add_usage(&batch(1, 1, vec![row(1, "/b", 12, 1)]))
        .await
        .unwrap();
    // A row that another session adds to is left for the next time.
    run(
        &mut tool,
        "BEGIN; SELECT * FROM api_key_usage WHERE key LIKE '%0020' FOR UPDATE",
    )
    .await
    .unwrap();
    store.prune_usage(10).await.unwrap();
    run(&mut tool, "COMMIT").await.unwrap();
    let old = "SELECT count(*) FROM api_key_usage WHERE hour < 10";
    assert_eq!(number(&mut tool, old).await, 3);
    let kept = "SELECT count(*) FROM api_key_usage WHERE hour >= 10";
    assert_eq!(number(&mut tool, kept).await, 12_001);
    store.prune_usage(10).await.unwrap();
    assert_eq!(number(&mut tool, old).await, 0);
    let batches = "SELECT count(*) FROM api_key_usage_batches";
    assert_eq!(number(&mut tool, batches).await, 1);
    for (age, left) in [("23 hours", 1), ("25 hours", 0)] {
        let silent = format!(
            "UPDATE api_key_usage_batches SET at = extract(epoch FROM now() - interval '{age}') * 1000"
        );
        run(&mut tool, &silent).await.unwrap();
        store.prune_usage(i64::MAX).await.unwrap();
        assert_eq!(number(&mut tool, batches).await, left, "{age}");
    }
}

#[tokio::test]
async fn a_key_takes_with_it_when_it_was_last_used_and_leaves_its_usage() {
    let place = place!();
    let store = Arc::new(place.started().await);
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&record(2), &WriteOptions::new())
        .await
        .unwrap();
    let mut batch = batch(1, 1, vec![row(1, "/a", 5, 3)]);
    for key in 1..=2 {
        batch
            .last_used
            .push(SecretUse::new(id(key), 0, at(50), None));
        let network = "192.0.2.0/24".parse().unwrap();
        batch
            .networks
            .push(NetworkUse::new(id(key), network, at(50)));
    }
    store.add_usage(&batch).await.unwrap();
    let mut tool = place.tool().await;
    run(&mut tool, "DELETE FROM api_keys WHERE id LIKE '%1'")
        .await
        .unwrap();
    let left = store.last_used(&[id(1), id(2)]).await.unwrap();
    let used = |key, at| LastUsed::of_secrets(id(key), 0, [SecretUse::new(id(key), 0, at, None)]);
    assert_eq!(left, used(2, at(50)).as_slice());
    let left = store.read_networks(&[id(1), id(2)]).await.unwrap();
    assert_eq!(left, [batch.networks[1]]);
    assert_eq!(requests(&store, 1).await, 3);
    // A row written while its key was removed is deleted with the old usage.
    let orphan =
        "INSERT INTO api_key_secret_uses VALUES ('0000000000000000000009', 0, 50, 'no network')";
    run(&mut tool, orphan).await.unwrap();
    let found = store.last_used(&[id(9)]).await.unwrap();
    assert_eq!(found, used(9, at(50)).as_slice());
    // A node begins its search at any key.
    for _ in 0..2 {
        store.prune_usage(1).await.unwrap();
    }
    assert_eq!(store.last_used(&[id(9)]).await.unwrap(), []);
    assert_eq!(store.last_used(&[id(2)]).await.unwrap().len(), 1);
    run(&mut tool, "TRUNCATE api_keys").await.unwrap();
    assert_eq!(store.last_used(&[id(2)]).await.unwrap(), []);
    assert_eq!(store.read_networks(&[id(2)]).await.unwrap(), []);
}

/// More last uses than are looked at in one call, of which all but two are of keys that are there. The control is one
/// statement that looks at all.
#[tokio::test]
async fn last_uses_of_keys_that_are_gone_are_found_in_pieces() {
    const ORPHANS: &str = "INSERT INTO api_key_secret_uses \
         VALUES ('0000000000000000000002x', 0, 50, NULL), ('0000000000000000011999x', 0, 50, NULL)";
    let place = place!();
    let store = PostgresStore::new(format!("{}&application_name=pruning", place.url()));
    store.start().await.unwrap();
    let mut tool = place.tool().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    for prepared in [
        "INSERT INTO api_keys SELECT (jsonb_populate_record(key, \
         jsonb_build_object('id', lpad(n::text, 22, '0')))).* \
         FROM api_keys AS key, generate_series(2, 12000) AS n",
        "INSERT INTO api_key_secret_uses SELECT id, n, 50, NULL FROM api_keys, generate_series(0, 1) AS n",
        ORPHANS,
        "ANALYZE api_keys, api_key_secret_uses",
        // For what this test reads itself.
        "SET enable_seqscan = off",
    ] {
        run(&mut tool, prepared).await.unwrap();
    }
    let scans = async |tool: &mut _| {
        const SCANS: &str = "SELECT sum(seq_scan)::bigint FROM pg_stat_user_tables \
             WHERE relname IN ('api_keys', 'api_key_secret_uses') AND schemaname = current_schema()";
        run(tool, "SELECT pg_stat_force_next_flush()")
            .await
            .unwrap();
        number(tool, SCANS).await
    };
    let left = "SELECT count(*) FROM api_key_secret_uses WHERE key LIKE '%x'";
    let before = scans(&mut tool).await;
    // It begins at any key: here, behind all others.
    store.prune_usage(1).await.unwrap();
    for call in 1..=5 {
        assert!(number(&mut tool, left).await > 0, "call {call}");
        store.prune_usage(1).await.unwrap();
    }
    assert_eq!(number(&mut tool, left).await, 0, "5 pieces of 5,000 rows");
    let all = "SELECT count(*) FROM api_key_secret_uses";
    assert_eq!(number(&mut tool, all).await, 24_000);
    // Then from the beginning.
    run(&mut tool, ORPHANS).await.unwrap();
    store.prune_usage(1).await.unwrap();
    assert_eq!(number(&mut tool, left).await, 1);
    store.stop().await;
    // A session tells of its scans at its end.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pruning'";
    let ended = within(PATIENCE, async || number(&mut tool, sessions).await == 0);
    assert!(ended.await.is_some());
    assert_eq!(scans(&mut tool).await, before);
    run(&mut tool, "SET enable_seqscan = on").await.unwrap();
    let at_once = "SELECT count(*) FROM (SELECT FROM api_key_secret_uses AS used WHERE used.at < 3600000 \
         AND NOT EXISTS (SELECT FROM api_keys WHERE id = used.key) LIMIT 5000) AS gone";
    assert_eq!(number(&mut tool, at_once).await, 1);
    assert!(scans(&mut tool).await > before);
}

/// Two concurrent writers wait for each other, and their usage is not lost.
#[tokio::test]
async fn what_many_add_at_once_is_all_there() {
    let place = place!();
    let store = Arc::new(place.started().await);
    let mut tool = place.tool().await;
    store
        .add_usage(&batch(99, 1, vec![row(1, "/0", 5, 1)]))
        .await
        .unwrap();
    run(&mut tool, "BEGIN; SELECT * FROM api_key_usage FOR UPDATE")
        .await
        .unwrap();
    let mut adding = JoinSet::new();
    for by in 0..6 {
        let store = Arc::clone(&store);
        let mut rows: Vec<_> = (0..50)
            .map(|number| row(1, &format!("/{number}"), 5, 1))
            .collect();
        if by % 2 == 0 {
            rows.reverse();
        }
        adding.spawn(async move { store.add_usage(&batch(by, 1, rows)).await });
    }
    until_waiting(&place, &mut tool, 6).await;
    run(&mut tool, "COMMIT").await.unwrap();
    for added in adding.join_all().await {
        added.unwrap();
    }
    assert_eq!(requests(&store, 1).await, 6 * 50 + 1);
}

#[tokio::test]
async fn uses_in_tables_of_an_older_release_are_those_of_the_first_secret() {
    let place = place!();
    let mut tool = place.tool().await;
    for migration in [
        include_str!("../../../src/store/postgres/migrations/0100_initial.sql"),
        include_str!("../../../src/store/postgres/migrations/0101_limit_counters.sql"),
        include_str!("../../../src/store/postgres/migrations/0102_change_log.sql"),
        include_str!("../../../src/store/postgres/migrations/0103_owners.sql"),
        "UPDATE api_key_meta SET schema_version = 103; \
         INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000001', 'p', 'l', 'sha256$00', '', '{}', 0, TRUE, 1); \
         INSERT INTO api_key_last_used VALUES ('0000000000000000000001', 5, NULL)",
    ] {
        run(&mut tool, migration).await.unwrap();
    }
    let store = place.started().await;
    let mut batch = 0;
    let older = async |millis: i64| {
        batch += 1;
        let sql = format!(
            "SELECT api_key_add_usage('older', {batch}, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', \
             '{{0000000000000000000001}}', '{{{millis}}}', '{{null}}')"
        );
        run(&mut tool, &sql).await.unwrap();
    };
    check_uses_beside_an_older_release(&store, older).await;
}

/// A row that another batch changes at this moment is superfluous for a moment, and is not waited for.
#[tokio::test]
async fn a_key_has_twenty_networks_however_many_are_added_at_once() {
    let place = place!();
    let store = Arc::new(place.started().await);
    let options = WriteOptions::new();
    store.insert(&record(1), &options).await.unwrap();
    let mut tool = place.tool().await;
    let networks = |by: u32, first: u32| {
        let mut batch = batch(by, 1, Vec::new());
        batch.networks = (first..first + 20)
            .map(|number| {
                let network = format!("10.{number}.0.0/16").parse().unwrap();
                NetworkUse::new(id(1), network, at(i64::from(number)))
            })
            .collect();
        batch
    };
    store.add_usage(&networks(1, 0)).await.unwrap();
    run(
        &mut tool,
        "BEGIN; SELECT * FROM api_key_networks WHERE network = '10.3.0.0/16' FOR UPDATE",
    )
    .await
    .unwrap();
    store.add_usage(&networks(2, 20)).await.unwrap();
    let rows = "SELECT count(*) FROM api_key_networks";
    assert_eq!(number(&mut tool, rows).await, 21);
    let mut found = store.read_networks(&[id(1)]).await.unwrap();
    found.sort_by_key(|used| used.at);
    assert_eq!(found, networks(2, 20).networks);
    run(&mut tool, "COMMIT").await.unwrap();
    store.add_usage(&networks(3, 20)).await.unwrap();
    assert_eq!(number(&mut tool, rows).await, 20);
}

#[tokio::test]
async fn usage_is_rolled_up() {
    let place = place!();
    check_roll_up(&place.started().await).await;
}

/// Sums stay at the largest, and what another session changes is left for the next time.
#[tokio::test]
async fn no_row_ends_the_roll_up() {
    let place = place!();
    let store = place.started().await;
    let half = u64::MAX / 2;
    let rows = [
        row(1, "/a", 50, half),
        row(1, "/a", 51, half),
        row(2, "/a", 53, 1),
        row(1, "/a", i64::MIN, 1),
        row(1, "/a", -1, 1),
    ];
    add(&store, &rows).await;
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "BEGIN; SELECT * FROM api_key_usage WHERE hour = 53 FOR UPDATE",
    )
    .await
    .unwrap();
    assert!(store.roll_up_usage(i64::MAX).await.unwrap());
    assert!(!store.roll_up_usage(i64::MAX).await.unwrap());
    let found = async || {
        let rows = all(&store).await.into_iter();
        rows.map(|row| (row.hour, row.requests)).collect::<Vec<_>>()
    };
    let most = i64::MAX.unsigned_abs();
    assert_eq!(found().await, [(i64::MIN, 1), (-1, 1), (48, most), (53, 1)]);
    run(&mut tool, "COMMIT").await.unwrap();
    while store.roll_up_usage(i64::MAX).await.unwrap() {}
    assert_eq!(found().await, [(i64::MIN, 1), (-1, 1), (48, most), (48, 1)]);
}

/// Nodes roll up while others add to the same days, as late as that.
#[tokio::test]
async fn nothing_is_counted_twice_or_lost_while_many_roll_up() {
    let place = place!();
    let store = Arc::new(place.started().await);
    let mut tasks = JoinSet::new();
    for by in 1..=4 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for number in 1..=20 {
                let rows = (1..=30).map(|key| row(key, "/a", 48 + i64::from(by), 1));
                let added = batch(by, number, rows.collect());
                store.add_usage(&added).await.unwrap();
                while store.roll_up_usage(3).await.unwrap() {}
            }
        });
    }
    tasks.join_all().await;
    while store.roll_up_usage(3).await.unwrap() {}
    let found = all(&*store).await;
    assert_eq!(found.len(), 30);
    assert!(found.iter().all(|row| (row.hour, row.requests) == (48, 80)));
}

const LATE: [(u128, &str, i64); 6] = [
    (1, "/a", 48),
    (1, "/a", 53),
    (1, "/b", 48),
    (1, "/b", 53),
    (2, "/a", 48),
    (2, "/a", 53),
];

const ENDED: &str = "40P01";

/// Adds a late batch by hand while `other` writes the same rows, one of which is held until both wait or are done.
async fn add_beside(
    place: &Place<'_>,
    store: &Arc<PostgresStore>,
    number: usize,
    other: impl Future<Output = ()> + Send + 'static,
) -> Result<u64, sqlx::Error> {
    let rows = LATE.map(|(key, route, hour)| row(key, route, hour, 1));
    add(&**store, &rows).await;
    let (mut holder, mut adding) = (place.tool().await, place.tool().await);
    let (key, route, hour) = LATE[number % LATE.len()];
    let hold = format!(
        "BEGIN; SELECT * FROM api_key_usage WHERE key = '{}' AND route = '{route}' AND hour = {hour} FOR UPDATE",
        id(key)
    );
    run(&mut holder, &hold).await.unwrap();
    let column = |value: fn(&UsageRow) -> String| rows.each_ref().map(value).join(",");
    // Its session looks for a deadlock first, so it is the one that is ended.
    let batch = format!(
        "SET deadlock_timeout = '10ms'; SELECT api_key_add_usage('late', {number} + 1, '{{{}}}', '{{{}}}', '{{{}}}', \
         array_fill('allowed'::text, ARRAY[6]), array_fill(1::bigint, ARRAY[6]), array_fill(0::bigint, ARRAY[6]), '{{}}', '{{}}', '{{}}', \
         '{{}}', '{{}}', '{{}}', '{{}}')",
        column(|row| row.key.to_string()),
        column(|row| row.hour.to_string()),
        column(|row| row.route.clone()),
    );
    let added = tokio::spawn(async move { run(&mut adding, &batch).await });
    until_waiting(place, &mut holder, 1).await;
    let mut other = tokio::spawn(other);
    let is_done = tokio::select! {
        done = &mut other => done.is_ok(),
        () = until_waiting(place, &mut holder, 2) => false,
    };
    run(&mut holder, "COMMIT").await.unwrap();
    if !is_done {
        other.await.unwrap();
    }
    added.await.unwrap()
}

async fn add_beside_a_roll_up(
    place: &Place<'_>,
    store: &Arc<PostgresStore>,
    number: usize,
) -> Result<u64, sqlx::Error> {
    let rolling = Arc::clone(store);
    let roll_up = async move { while rolling.roll_up_usage(3).await.unwrap() {} };
    add_beside(place, store, number, roll_up).await
}

/// The page has the rows in the opposite order.
async fn add_beside_a_copy(
    place: &Place<'_>,
    store: &Arc<PostgresStore>,
    number: usize,
) -> Result<u64, sqlx::Error> {
    let writing = Arc::clone(store);
    let requests = 1_000 * (number as u64 + 1);
    let page = LATE.map(|(key, route, hour)| row(key, route, hour, requests));
    let page = CopyItems::Usage(page.into_iter().rev().collect());
    let copy = async move {
        let outcome = writing.write_copy(&page).await.unwrap();
        assert_eq!(outcome.written, LATE.len() as u64);
    };
    add_beside(place, store, number, copy).await
}

/// Lets batches lock rows in the order of keys and hours, as an earlier release did.
async fn unsort_batches(place: &Place<'_>) {
    let without = "DO $$ BEGIN EXECUTE (SELECT replace(pg_get_functiondef(oid), 'one.hour % 24 = 0, ', '') FROM pg_proc \
        WHERE proname = 'api_key_add_usage' AND pronargs = 15 AND pronamespace::regnamespace::text = \
        quote_ident(current_schema())); END $$";
    run(&mut place.tool().await, without).await.unwrap();
}

fn is_ended(added: Result<u64, sqlx::Error>) -> bool {
    let ended = added.unwrap_err().into_database_error().unwrap();
    ended.code().as_deref() == Some(ENDED)
}

/// Both lock the first hours of days last.
#[tokio::test]
async fn a_late_batch_and_the_roll_up_of_its_day_do_not_wait_for_each_other() {
    let place = place!();
    let store = Arc::new(place.started().await);
    for number in 0..6 {
        add_beside_a_roll_up(&place, &store, number).await.unwrap();
    }
    while store.roll_up_usage(3).await.unwrap() {}
    assert_eq!(
        [requests(&store, 1).await, requests(&store, 2).await],
        [48, 24]
    );
    // Negative control.
    unsort_batches(&place).await;
    assert!(is_ended(add_beside_a_roll_up(&place, &store, 8).await));
}

/// Both lock rows in one order, however a page is sorted.
#[tokio::test]
async fn a_batch_and_a_copied_page_do_not_wait_for_each_other() {
    let place = place!();
    let store = Arc::new(place.started().await);
    for number in 0..6 {
        add_beside_a_copy(&place, &store, number).await.unwrap();
    }
    // Negative control.
    unsort_batches(&place).await;
    assert!(is_ended(add_beside_a_copy(&place, &store, 8).await));
}
