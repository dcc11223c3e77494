//! Bringing the tables of an older release up to date: who waits for it, and for how long.

use std::sync::Arc;
use std::time::Instant;

use apikey_runtime::KeyStore;
use apikey_runtime::store::ExpiryNotices;

use super::notices::older;
use super::{number, place, run, until_waiting};
use crate::at;
use crate::notices::node;
use crate::warnings::Warnings;

const VERSION: &str = "SELECT schema_version FROM api_key_meta";

/// It is announced. What is given up is undone, and done by the next start.
#[tokio::test]
async fn an_upgrade_is_announced_and_all_of_it_is_done_or_nothing() {
    let place = place!();
    let (warnings, _guard) = Warnings::capture();
    place.started().await.stop().await;
    let announced = || warnings.text().contains("is brought up to date");
    assert!(!announced(), "new tables are no upgrade");
    let (mut tool, mut holder) = (place.tool().await, place.tool().await);
    run(
        &mut tool,
        "DROP SCHEMA IF EXISTS old CASCADE; CREATE SCHEMA old",
    )
    .await
    .unwrap();
    let old = super::Place {
        server: place.server,
        schema: "old".to_owned(),
    };
    older(&old, "4000000000000 + i").await;
    let hold = "SET search_path = old; BEGIN; LOCK TABLE api_keys IN ACCESS SHARE MODE";
    run(&mut holder, hold).await.unwrap();
    let store = Arc::new(old.store());
    let start = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.start().await }
    });
    until_waiting(&place, &mut holder, 1).await;
    assert!(announced() && store.is_upgrading());
    start.abort();
    assert!(start.await.unwrap_err().is_cancelled());
    assert!(!store.is_upgrading());
    run(&mut holder, "COMMIT").await.unwrap();
    run(&mut tool, "SET search_path = old").await.unwrap();
    assert_eq!(number(&mut tool, VERSION).await, 105);
    store.start().await.unwrap();
    assert!(!store.is_upgrading());
    assert_eq!(number(&mut tool, VERSION).await, 109);
    store.stop().await;
}

/// It may take longer than a start.
#[tokio::test]
async fn a_start_waits_for_another_process_that_upgrades() {
    let place = place!();
    let mut holder = place.tool().await;
    // The lock of the migrations.
    let lock = "BEGIN; SELECT pg_advisory_xact_lock(x'6170696b65797331'::bigint)";
    run(&mut holder, lock).await.unwrap();
    let store = Arc::new(place.store());
    let start = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.start().await }
    });
    until_waiting(&place, &mut holder, 1).await;
    assert!(store.is_upgrading());
    run(&mut holder, "COMMIT").await.unwrap();
    start.await.unwrap().unwrap();
    assert!(!store.is_upgrading());
    store.stop().await;
}

/// With the bound of a start, 30 seconds, it would be undone each time.
#[tokio::test]
#[ignore = "takes 40 seconds"]
async fn an_upgrade_may_take_longer_than_a_start() {
    let place = place!();
    let mut tool = older(&place, "NULL").await;
    let slow = "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
            IF tg_tag = 'ALTER TABLE' AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'slept') THEN \
                PERFORM pg_sleep(35), set_config('application_name', 'slept', FALSE); END IF; END $$; \
        CREATE EVENT TRIGGER slow ON ddl_command_end EXECUTE FUNCTION slow()";
    run(&mut tool, slow).await.unwrap();
    let began = Instant::now();
    let started = place.store().start().await;
    run(&mut tool, "DROP EVENT TRIGGER slow").await.unwrap();
    started.unwrap();
    assert!(began.elapsed().as_secs() >= 35);
    assert_eq!(number(&mut tool, VERSION).await, 109);
}

/// `cargo test --workspace --all-features --test stores postgres::upgrade::a_million -- --ignored --nocapture`
#[tokio::test]
#[ignore = "takes minutes: it makes 1,000,000 keys, and prints what their upgrade costs"]
async fn a_million_keys_of_the_release_before() {
    let place = place!();
    let mut tool = older(&place, "NULL").await;
    let keys = "ALTER TABLE api_keys DISABLE TRIGGER ALL; \
        INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, expires_at, enabled, version) \
        SELECT lpad(i::text, 22, '0'), 'p', 'l', 'd', '', '{}', 0, 4000000000000 + i::bigint * 7919 % 1000000, TRUE, 1 \
        FROM generate_series(10001, 1010000) AS i; \
        ALTER TABLE api_keys ENABLE TRIGGER ALL; ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_changed";
    run(&mut tool, keys).await.unwrap();
    let began = Instant::now();
    let store = place.started().await;
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
    assert_eq!(claimed, 1_000_000);
    store.stop().await;
}
