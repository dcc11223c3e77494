//! The audit log over time: pages, pruning, kills, and tables of the release before.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use apikey_runtime::audit::{AuditAction, ChangeChannel, ChangeOrigin};
use apikey_runtime::store::{
    AuditQuery, AuditStore, KeyPatch, ListQuery, ListRange, OwnerStore, StoreError, WriteOptions,
};
use apikey_runtime::{KeyStore, PostgresStore};
use sqlx::PgConnection;

use super::audit::{by_anna, log, origin};
use super::bulk::add;
use super::marking::rows_read;
use super::{Place, for_reason, mark, number, place, run};
use crate::{InSteps, at, because, id, owned};

/// Names the database to the child process; without it the child's test does nothing.
const URL: &str = "APIKEY_TEST_AUDIT_URL";
const FIRST: &str = "APIKEY_TEST_AUDIT_FIRST";

/// Returns how many keys and owners have another number of changes than of entries.
pub(super) async fn disagreements(tool: &mut PgConnection) -> i64 {
    let keys = "SELECT count(*) FROM (SELECT key_id, count(*) AS changes FROM api_key_changes \
            WHERE kind = 'key' AND key_id <> '' GROUP BY key_id) AS logged \
         FULL JOIN (SELECT key, count(*) AS entries FROM api_key_audit WHERE key IS NOT NULL GROUP BY key) AS audited \
         ON key = key_id WHERE changes IS DISTINCT FROM entries";
    let owners = "SELECT count(*) FROM api_key_owners AS known WHERE revocations <> (SELECT count(*) FROM api_key_audit AS entry \
            WHERE entry.owner = known.owner AND action = 'owner_revoked')";
    number(tool, keys).await + number(tool, owners).await
}

/// The child process; not a test by itself.
#[tokio::test]
async fn child_that_changes_keys_until_it_is_killed() {
    let Some(url) = std::env::var_os(URL) else {
        return;
    };
    let first: u128 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = PostgresStore::new(url.to_str().unwrap());
    store.start().await.unwrap();
    let mut patch = KeyPatch::new();
    patch.label = Some("changed".to_owned());
    for number in first.. {
        let owner = format!("owner {number}");
        let lost = for_reason(3_000, "lost");
        store
            .insert(&owned(number, &owner), &by_anna())
            .await
            .unwrap();
        store.update(&id(number), &patch, &by_anna()).await.unwrap();
        match number % 3 {
            0 => drop(
                store
                    .revoke(&id(number), &because("lost"), &by_anna())
                    .await
                    .unwrap(),
            ),
            1 => drop(
                store
                    .revoke_owner_keys(&owner, &lost, &origin())
                    .await
                    .unwrap(),
            ),
            _ => {}
        }
        if number % 5 == 0 {
            store.mark_revoked_keys().await.unwrap();
            store.purge_all(at(i64::MAX)).await.unwrap();
        }
        writeln!(std::io::stdout(), "\ndone").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_leaves_a_change_and_its_entry_or_neither() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    for round in 0..6_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("postgres::audit_kept::child_that_changes_keys_until_it_is_killed")
            .env(URL, place.url())
            .env(FIRST, (round * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let done = lines.map_while(Result::ok).filter(|line| line == "done");
        assert_eq!(done.take(1 + round as usize).count(), 1 + round as usize);
        // At another moment of a change each time.
        std::thread::sleep(Duration::from_micros(round * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        // What the server still does of it, it does to its end or not at all.
        let open = "SELECT count(*) FROM pg_locks WHERE relation = 'api_keys'::regclass AND pid <> pg_backend_pid()";
        while number(&mut tool, open).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(disagreements(&mut tool).await, 0);
    }
    assert!(
        store
            .list(&ListQuery::first(1))
            .await
            .unwrap()
            .records
            .len()
            == 1
    );
    // Negative control: a change without its entry.
    let without = "SET session_replication_role = replica; ALTER TABLE api_key_audit ENABLE TRIGGER api_key_audit_not_removed; \
        DELETE FROM api_key_audit WHERE number = (SELECT max(number) FROM api_key_audit WHERE key IS NOT NULL)";
    run(&mut tool, without).await.unwrap();
    assert_eq!(disagreements(&mut tool).await, 1);
}

/// Each filter, and pages of it: newest first, without a gap.
#[tokio::test]
async fn the_log_is_read_by_key_owner_actor_and_time_page_by_page() {
    let place = place!();
    let store = place.started().await;
    for key in 1..=6 {
        let owner = ["a", "b"][key as usize % 2];
        let actor = ["anna", "ben", "cleo"][key as usize % 3];
        let options = WriteOptions::new().with_origin(origin().with_actor(actor));
        store.insert(&owned(key, owner), &options).await.unwrap();
        let mut patch = KeyPatch::new();
        patch.owner = Some(Some("c".to_owned()));
        store.update(&id(key), &patch, &options).await.unwrap();
    }
    let all = log(&store).await;
    assert_eq!(all.len(), 12);
    let mut queries = vec![AuditQuery::newest(1_000); 8];
    queries[1].key = Some(id(3));
    queries[2].owner = Some("a".to_owned());
    queries[3].owner = Some("c".to_owned());
    queries[4].actor = Some("ben".to_owned());
    (queries[5].from, queries[5].to) = (Some(all[2].at), Some(all[9].at));
    (queries[6].owner, queries[6].actor) = (Some("b".to_owned()), Some("ben".to_owned()));
    queries[7].to = Some(all[0].at);
    for query in queries {
        let mut expected: Vec<_> = all
            .iter()
            .filter(|entry| query.matches(entry))
            .cloned()
            .collect();
        expected.reverse();
        for limit in [1, 2, 5, 1_000] {
            let mut query = query.clone();
            query.limit = limit;
            let mut found = Vec::new();
            loop {
                let page = store.read_audit(&query).await.unwrap();
                assert!(page.entries.len() <= limit as usize);
                found.extend(page.entries);
                query.before = page.next;
                if query.before.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{query:?}");
        }
    }
    let mut query = AuditQuery::newest(1);
    query.before = Some("yesterday".to_owned());
    let refused = store.read_audit(&query).await;
    assert!(
        matches!(refused, Err(StoreError::InvalidArgument(_))),
        "{refused:?}"
    );
}

/// Also on the same connection.
#[tokio::test]
async fn a_call_without_an_actor_clears_the_one_before() {
    let place = place!();
    let store = place.store().max_connections(1);
    store.start().await.unwrap();
    store.insert(&owned(1, "a"), &by_anna()).await.unwrap();
    let mut patch = KeyPatch::new();
    patch.description = Some(Some("what it is for".to_owned()));
    store.update(&id(1), &patch, &by_anna()).await.unwrap();
    store
        .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
        .await
        .unwrap();
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(found.updated_by, None);
    assert_eq!(found.description.as_deref(), Some("what it is for"));
    let actors: Vec<_> = log(&store)
        .await
        .into_iter()
        .map(|entry| entry.origin.actor)
        .collect();
    let anna = Some("anna".to_owned());
    assert_eq!(actors, [anna.clone(), anna, None]);
}

/// Several nodes at once remove each entry once, the oldest first, and keep what is younger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_entries_are_removed_in_steps() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    add(&mut tool, 1, 2_500, "NULL", "NULL").await;
    let last = "SELECT max(at) FROM api_key_audit";
    let end = at(number(&mut tool, last).await + 1);
    while number(
        &mut tool,
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    )
    .await
        <= end.as_millis()
    {}
    add(&mut tool, 2_501, 2_510, "NULL", "NULL").await;
    let count = "SELECT count(*) FROM api_key_audit";
    assert!(store.prune_audit(end).await.unwrap());
    assert_eq!(number(&mut tool, count).await, 1_510);
    let oldest = "SELECT min(number) FROM api_key_audit";
    assert_eq!(number(&mut tool, oldest).await, 1_001);
    // An entry that another node is removing is passed over, and not waited for.
    run(
        &mut tool,
        "BEGIN; SELECT FROM api_key_audit WHERE number = 1001 FOR UPDATE",
    )
    .await
    .unwrap();
    assert!(store.prune_audit(end).await.unwrap());
    run(&mut tool, "ROLLBACK").await.unwrap();
    assert!(!store.prune_audit(end).await.unwrap());
    assert!(!store.prune_audit(end).await.unwrap());
    assert_eq!(number(&mut tool, oldest).await, 2_501);
    assert_eq!(number(&mut tool, count).await, 10);
}

/// The tables of the release before, with keys.
async fn older(place: &Place<'_>) -> PgConnection {
    let mut tool = place.tool().await;
    for migration in [
        include_str!("../../../src/store/postgres/migrations/0100_initial.sql"),
        include_str!("../../../src/store/postgres/migrations/0101_limit_counters.sql"),
        include_str!("../../../src/store/postgres/migrations/0102_change_log.sql"),
        include_str!("../../../src/store/postgres/migrations/0103_owners.sql"),
        "UPDATE api_key_meta SET schema_version = 103",
    ] {
        run(&mut tool, migration).await.unwrap();
    }
    tool
}

#[tokio::test]
async fn tables_of_the_release_before_get_a_log_and_ranges() {
    let place = place!();
    let mut tool = older(&place).await;
    add(
        &mut tool,
        1,
        100,
        "CASE WHEN i > 1 THEN 'a' || i % 2 END",
        "NULL",
    )
    .await;
    let long = format!(
        "UPDATE api_keys SET label = 'Straße ' || repeat('X', {}) WHERE id LIKE '%99'",
        200
    );
    run(&mut tool, &long).await.unwrap();
    let logged = "SELECT max(epoch) FROM api_key_changes";
    let before = number(&mut tool, logged).await;
    let store = place.started().await;
    assert_eq!(number(&mut tool, logged).await, before, "it is no change");
    assert_eq!(log(&store).await, []);
    assert_eq!(store.count_live_keys("a1", 100).await.unwrap(), 49);
    assert_eq!(store.count_live_keys("a1", 7).await.unwrap(), 7);
    let beginning = ListRange::Label(format!("straße {}", "x".repeat(57)));
    let page = store.list(&ListQuery::of(beginning, 10)).await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.records[0].id.as_str(), "0000000000000000000099");
    assert_eq!(
        (page.records[0].rotations, &page.records[0].created_by),
        (0, &None)
    );

    // A process of the older release goes on: its statements name no origin.
    let insert = "INSERT INTO api_keys (id, prefix, label, owner, digest, previous_digest, previous_until, scopes, metadata, \
        environment, networks, methods, limits, created_at, expires_at, not_before, revoked_at, revoked_reason, enabled, version) \
        VALUES ('0000000000000000000zzz', 'p', 'OLDER', 'a1', 'd', NULL, NULL, '', '{}', NULL, '', '', '[]', 0, NULL, NULL, NULL, \
        NULL, TRUE, 1)";
    let update = "UPDATE api_keys SET version = version + (version < 9223372036854775807)::integer, label = 'Later', digest = 'e' \
        WHERE id = '0000000000000000000zzz' RETURNING id";
    run(&mut tool, insert).await.unwrap();
    let by_label = async |beginning: &str| {
        let range = ListRange::Label(beginning.to_owned());
        let page = store.list(&ListQuery::of(range, 10)).await.unwrap();
        page.records.len()
    };
    assert_eq!(by_label("older").await, 1);
    run(&mut tool, update).await.unwrap();
    assert_eq!((by_label("older").await, by_label("later").await), (0, 1));
    let entries = log(&store).await;
    let actions: Vec<_> = entries.iter().map(|entry| entry.action).collect();
    assert_eq!(actions, [AuditAction::Created, AuditAction::Rotated]);
    let by_hand = ChangeOrigin::new()
        .with_channel(ChangeChannel::Sql)
        .with_actor("keeper");
    assert!(entries.iter().all(|entry| entry.origin == by_hand));
    mark(&store).await;
}

/// A statement by hand that changes many keys costs the same for each of them.
#[tokio::test]
async fn a_change_of_many_keys_by_hand_reads_no_more_for_each() {
    let place = place!();
    place.started().await.stop().await;
    let mut tool = place.tool().await;
    let mut reads = Vec::new();
    for (from, to) in [(1, 2_000), (2_001, 10_000)] {
        add(&mut tool, from, to, "'a'", "NULL").await;
        let mut other = place.tool().await;
        let before = rows_read(&mut tool).await;
        let change = format!(
            "UPDATE api_keys SET enabled = FALSE WHERE id > lpad('{}', 22, '0')",
            from - 1
        );
        run(&mut other, &change).await.unwrap();
        drop(other);
        reads.push((rows_read(&mut tool).await - before) / (to - from + 1) as i64);
    }
    assert!(reads[1] <= reads[0] + 10, "{reads:?}");
}
