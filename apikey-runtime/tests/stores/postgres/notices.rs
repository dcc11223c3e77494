//! Notices before the end of keys, and when a key was enabled: by hand, and what a claim reads and waits for.

use std::collections::BTreeSet;
use std::sync::Arc;

use apikey_runtime::audit::{AuditAction, ChangeOrigin};
use apikey_runtime::store::{ExpiryNotice, ExpiryNotices, KeyPatch, Membership, WriteOptions};
use apikey_runtime::{KeyId, KeyStore, PostgresStore, Timestamp};
use apikey_test_support::servers::postgres::Postgres;
use sqlx::PgConnection;
use tokio::task::JoinSet;

use super::audit::log;
use super::bulk::add;
use super::marking::rows_read;
use super::tangle::{deadlocks, until_ended};
use super::{Place, cursor, number, place, run, until_waiting};
use crate::notices::{STATEMENTS, TOLD, node, print_insert_costs};
use crate::{InSteps, at, because, id, record};

async fn told(tool: &mut PgConnection) -> String {
    let told: Vec<String> = sqlx::query_scalar(TOLD).fetch_all(tool).await.unwrap();
    told.join(" ")
}

#[tokio::test]
async fn a_statement_by_hand_replaces_the_notice_of_each_key_whose_expiry_it_changes() {
    let place = place!();
    let _store = place.started().await;
    let mut tool = place.tool().await;
    let mut check = async |sql: &str, expected: &str| {
        let planned = "UPDATE api_key_expiry_notices SET planned = 77, claimed_by = 'other'";
        run(&mut tool, planned).await.unwrap();
        run(&mut tool, sql).await.unwrap();
        // What was replaced is not claimed any more.
        let kept = "UPDATE api_key_expiry_notices SET claimed_by = NULL WHERE planned = 77";
        run(&mut tool, kept).await.unwrap();
        assert_eq!(told(&mut tool).await, expected, "{sql}");
    };
    for (sql, expected) in STATEMENTS {
        check(sql, expected).await;
    }
    let again = STATEMENTS[0].0;
    check(again, "1:9000*").await;
    // As a subscription applies it.
    let applied = "SET session_replication_role = replica; UPDATE api_keys SET expires_at = 6 WHERE id LIKE '%2'; \
        SET session_replication_role = DEFAULT";
    check(applied, "1:9000 2:6*").await;
    let applied = "SET session_replication_role = replica; DELETE FROM api_keys WHERE id LIKE '%1'; \
        SET session_replication_role = DEFAULT";
    check(applied, "2:6").await;
    check("TRUNCATE api_keys", "").await;
}

#[tokio::test]
async fn claiming_and_finishing_change_no_record() {
    let place = place!();
    let store = place.started().await;
    add(&mut place.tool().await, 1, 3, "'a'", "9000 + i").await;
    let mut before = (cursor(&store).await, log(&store).await.len());
    let mut tool = place.tool().await;
    let claimed = store.claim_notices(&node(1), at(0), 10).await.unwrap();
    assert_eq!(claimed.len(), 3);
    let plans = [Some(at(5)), None, Some(at(4))];
    let finished: Vec<_> = claimed.into_iter().zip(plans).collect();
    store.finish_notices(&node(1), &finished).await.unwrap();
    let claimed = store.claim_notices(&node(1), at(5), 10).await.unwrap();
    let planned: Vec<_> = claimed.iter().map(|notice| notice.planned).collect();
    assert_eq!(planned, [Some(at(4)), Some(at(5))]);
    assert_eq!((cursor(&store).await, log(&store).await.len()), before);
    // Negative control.
    run(
        &mut tool,
        "UPDATE api_keys SET label = 'x' WHERE id LIKE '%1'",
    )
    .await
    .unwrap();
    before.1 += 1;
    assert_eq!(log(&store).await.len(), before.1);
    assert_ne!(cursor(&store).await, before.0);
}

async fn enabled_at(store: &PostgresStore) -> Option<Timestamp> {
    store.find(&id(1)).await.unwrap().unwrap().enabled_at
}

/// Returns the action of the newest entry, and the fields that it shows.
async fn newest(store: &PostgresStore) -> (AuditAction, Vec<String>) {
    let entry = log(store).await.pop().unwrap();
    let fields = entry.fields.into_iter();
    (entry.action, fields.map(|change| change.field).collect())
}

#[tokio::test]
async fn a_key_that_is_enabled_by_hand_was_enabled_now() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    let options = WriteOptions::new();
    store.insert(&record(1), &options).await.unwrap();
    run(&mut tool, "UPDATE api_keys SET enabled = FALSE")
        .await
        .unwrap();
    assert_eq!(enabled_at(&store).await, None);
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let before = number(&mut tool, now).await;
    // Also if it says where it comes from, as a process of the release before does.
    let enable = "BEGIN; SELECT set_config('apikey.origin', '{\"actor\":\"anna\",\"max_live_keys\":null}', TRUE); \
        UPDATE api_keys SET enabled = TRUE; COMMIT";
    run(&mut tool, enable).await.unwrap();
    let set = enabled_at(&store).await.unwrap();
    let bounds = at(before)..=at(number(&mut tool, now).await);
    assert!(bounds.contains(&set), "{set} is not in {bounds:?}");
    run(&mut tool, "UPDATE api_keys SET enabled = TRUE")
        .await
        .unwrap();
    assert_eq!(
        enabled_at(&store).await,
        Some(set),
        "it was enabled already"
    );
    let sql =
        "UPDATE api_keys SET enabled = FALSE; UPDATE api_keys SET enabled = TRUE, enabled_at = 5";
    run(&mut tool, sql).await.unwrap();
    assert_eq!(enabled_at(&store).await, Some(at(5)));
    let both = ["enabled", "enabled_at"].map(str::to_owned);
    assert_eq!(newest(&store).await, (AuditAction::Enabled, both.to_vec()));

    // The store writes what its caller says.
    let mut patch = KeyPatch::new();
    patch.enabled = Some(false);
    store.update(&id(1), &patch, &options).await.unwrap();
    assert_eq!(
        newest(&store).await,
        (AuditAction::Disabled, both[..1].to_vec())
    );
    let before = store.find(&id(1)).await.unwrap().unwrap();
    patch.enabled = Some(true);
    store.update(&id(1), &patch, &options).await.unwrap();
    assert_eq!(enabled_at(&store).await, Some(at(5)));
    assert_eq!(
        newest(&store).await,
        (AuditAction::Enabled, both[..1].to_vec())
    );
    patch.enabled_at = Some(at(8));
    store.update(&id(1), &patch, &options).await.unwrap();
    assert_eq!(
        newest(&store).await,
        (AuditAction::Enabled, both[1..].to_vec())
    );
    let after = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(after.enabled_at, Some(at(8)));
    assert_eq!(after.version, before.version + 2, "each was a change");
}

/// Makes the tables of the release before, with keys.
pub(super) async fn older(place: &Place<'_>, expires: &str) -> PgConnection {
    let mut tool = place.tool().await;
    for migration in [
        include_str!("../../../src/store/postgres/migrations/0100_initial.sql"),
        include_str!("../../../src/store/postgres/migrations/0101_limit_counters.sql"),
        include_str!("../../../src/store/postgres/migrations/0102_change_log.sql"),
        include_str!("../../../src/store/postgres/migrations/0103_owners.sql"),
        include_str!("../../../src/store/postgres/migrations/0104_audit.sql"),
        include_str!("../../../src/store/postgres/migrations/0105_last_used.sql"),
        "UPDATE api_key_meta SET schema_version = 105",
    ] {
        run(&mut tool, migration).await.unwrap();
    }
    add(&mut tool, 1, 1_200, "NULL", expires).await;
    tool
}

async fn claim_all(store: &PostgresStore) -> Vec<KeyId> {
    let mut keys = Vec::new();
    loop {
        let claimed = store.claim_notices(&node(1), at(0), 1_000).await.unwrap();
        if claimed.is_empty() {
            return keys;
        }
        assert!(claimed.len() <= 500, "a bounded step");
        let known = |notice: &ExpiryNotice| notice.planned.is_none() && notice.since == at(0);
        assert!(claimed.iter().all(known));
        let finished: Vec<_> = claimed.iter().map(|notice| (*notice, None)).collect();
        store.finish_notices(&node(1), &finished).await.unwrap();
        keys.extend(claimed.iter().map(|notice| notice.key));
    }
}

#[tokio::test]
async fn keys_of_the_release_before_get_their_notices_from_claims() {
    let place = place!();
    let mut tool = older(
        &place,
        "CASE WHEN i > 2 THEN 4000000000000 + i / 3 WHEN i > 1 THEN 1 END",
    )
    .await;
    let store = place.started().await;
    let count = "SELECT count(*) FROM api_key_expiry_notices";
    assert_eq!(number(&mut tool, count).await, 0, "the start takes no time");
    // A statement of the release before, whose notice is finished before the backfill comes to the key.
    let last = "UPDATE api_keys SET expires_at = 4000000001000 WHERE id LIKE '%01200'";
    run(&mut tool, last).await.unwrap();
    let claimed = store.claim_notices(&node(1), at(0), 1).await.unwrap();
    assert!(claimed[0].since > at(0) && claimed[0].expires == at(4_000_000_001_000));
    store
        .finish_notices(&node(1), &[(claimed[0], None)])
        .await
        .unwrap();
    let changed = "DELETE FROM api_keys WHERE id LIKE '%01100'; UPDATE api_keys SET expires_at = NULL WHERE id LIKE '%01101'; \
        UPDATE api_keys SET revoked_at = 5 WHERE id LIKE '%01102'";
    run(&mut tool, changed).await.unwrap();

    // A key that another transaction has locked, and those after it, are left to a later call.
    let mut holder = place.tool().await;
    run(
        &mut holder,
        "BEGIN; UPDATE api_keys SET label = 'x' WHERE id LIKE '%00700'",
    )
    .await
    .unwrap();
    let mut keys = claim_all(&store).await;
    assert!((600..700).contains(&keys.len()), "{}", keys.len());
    run(&mut holder, "ROLLBACK").await.unwrap();
    keys.extend(claim_all(&store).await);
    let unique: BTreeSet<_> = keys.iter().collect();
    assert_eq!((unique.len(), keys.len()), (1_195, 1_195));
    assert_eq!(
        number(&mut tool, "SELECT count(*) FROM api_key_notice_backfill").await,
        0
    );
    assert_eq!(
        store
            .claim_notices(&node(1), at(i64::MAX), 9)
            .await
            .unwrap(),
        []
    );
    store.stop().await;
    place.started().await;
}

/// A change of a key waits for the step of the backfill, which waits for nothing.
#[tokio::test]
async fn the_backfill_leaves_no_notice_of_an_expiry_that_is_changed_meanwhile() {
    let place = place!();
    let mut tool = older(&place, "CASE WHEN i < 3 THEN 4000000000000 + i END").await;
    let store = place.started().await;
    run(&mut tool, "BEGIN; SELECT api_key_backfill_notices(10)")
        .await
        .unwrap();
    let mut other = place.tool().await;
    let change = async {
        let ended = "UPDATE api_keys SET expires_at = NULL WHERE id LIKE '%1'; DELETE FROM api_keys WHERE id LIKE '%00002'";
        run(&mut other, ended).await.unwrap();
    };
    let commit = async {
        until_waiting(&place, &mut tool, 1).await;
        run(&mut tool, "COMMIT").await.unwrap();
    };
    tokio::join!(change, commit);
    assert_eq!(
        number(&mut tool, "SELECT count(*) FROM api_key_expiry_notices").await,
        0
    );
    drop(store);
}

/// The server counts what it reads. Its statistics are of empty tables.
#[tokio::test]
async fn a_claim_reads_no_more_if_others_have_claimed_many() {
    const OTHERS: i64 = 100_000;
    let place = place!();
    let mut tool = place.tool().await;
    place.started().await.stop().await;
    // Otherwise the server would look at the tables by itself meanwhile.
    let alone = "ANALYZE; ALTER TABLE api_key_expiry_notices SET (autovacuum_enabled = off); \
        INSERT INTO api_key_nodes (id) VALUES (lpad('b', 22, '0')), (lpad('c', 22, '0'))";
    run(&mut tool, alone).await.unwrap();
    // Notices that others have claimed come first; the last ones are of a node that is gone.
    let fill = format!(
        "INSERT INTO api_key_expiry_notices (key, expires, since, planned, claimed_by) \
         SELECT lpad(i::text, 22, '0'), 9, 9, i, CASE WHEN i <= {OTHERS} THEN lpad((ARRAY['b', 'c'])[1 + i % 2], 22, '0') \
            WHEN i % 100 = 0 THEN lpad('gone', 22, '0') END FROM generate_series(1, 3 * {OTHERS}) AS i"
    );
    run(&mut tool, &fill).await.unwrap();
    let mut claimed = Vec::new();
    for step in 0..4 {
        let before = rows_read(&mut tool).await;
        let store = place.started().await;
        let now = if step == 0 { at(OTHERS) } else { at(i64::MAX) };
        match step {
            0 | 1 => claimed = store.claim_notices(&node(1), now, 100).await.unwrap(),
            2 => {
                let finished: Vec<_> = claimed.iter().map(|notice| (*notice, None)).collect();
                store.finish_notices(&node(1), &finished).await.unwrap();
            }
            // Negative control.
            _ => {
                run(&mut tool, "DROP INDEX api_key_expiry_notices_due")
                    .await
                    .unwrap();
                store.claim_notices(&node(1), now, 100).await.unwrap();
            }
        }
        store.stop().await;
        let count = rows_read(&mut tool).await - before;
        assert_eq!(count < 2_000, step < 3, "{step} reads {count} rows");
        let planned: Vec<_> = claimed.iter().filter_map(|notice| notice.planned).collect();
        let expected = if step == 0 {
            vec![]
        } else {
            (1..=100).map(|i| at(OTHERS + i)).collect()
        };
        assert_eq!(planned, expected, "{step}");
    }
}

/// A transaction by hand holds a notice: a claim passes over it, and finishing waits for it while it holds no other.
#[tokio::test]
async fn claiming_and_finishing_hold_no_lock_while_they_wait() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let place = Place::on(&server).await;
    let mut tool = place.tool().await;
    for is_protected in [true, false] {
        let store = place.started().await;
        store.join(&node(1)).await.unwrap();
        run(&mut tool, "DELETE FROM api_keys").await.unwrap();
        add(&mut tool, 1, 3, "NULL", "9000").await;
        let claimed = store.claim_notices(&node(1), at(0), 2).await.unwrap();
        if !is_protected {
            // Negative control.
            let waits = "DO $$ BEGIN EXECUTE replace(pg_get_functiondef('api_key_finish_notices'::regproc), \
                'SKIP LOCKED', ''); END $$";
            run(&mut tool, waits).await.unwrap();
        }
        let mut holder = place.tool().await;
        run(
            &mut holder,
            "BEGIN; UPDATE api_keys SET expires_at = 5 WHERE id LIKE '%2'",
        )
        .await
        .unwrap();
        let left = store.claim_notices(&node(2), at(0), 10).await.unwrap();
        assert_eq!(left.len(), 1, "it does not wait");
        let finished: Vec<_> = claimed
            .iter()
            .map(|notice| (*notice, Some(at(7))))
            .collect();
        let node = node(1);
        let finish = store.finish_notices(&node, &finished);
        let hold = async {
            until_waiting(&place, &mut holder, 1).await;
            let outcome = run(
                &mut holder,
                "UPDATE api_keys SET expires_at = 5 WHERE id LIKE '%1'",
            )
            .await;
            let _ = run(&mut holder, "ROLLBACK").await;
            outcome
        };
        let before = deadlocks(&mut tool).await;
        let (finish, hold) = tokio::join!(finish, hold);
        finish.unwrap();
        if is_protected {
            hold.unwrap();
            let planned = "SELECT count(*) FROM api_key_expiry_notices WHERE planned = 7 AND claimed_by IS NULL";
            assert_eq!(
                number(&mut tool, planned).await,
                2,
                "what was undone is finished too"
            );
            assert_eq!(deadlocks(&mut tool).await, before);
        } else {
            // One of both was undone: this statement, or the call, which was then made again.
            while hold.is_ok() && deadlocks(&mut tool).await == before {}
        }
        store.stop().await;
    }
}

/// Is not one of those that are added by hand.
fn tangled(number: u128) -> KeyId {
    id((1 << 100) + number)
}

/// Claims, finishes, changes of expiries, revocations and purges, in all orders.
async fn tangle(store: Arc<PostgresStore>, worker: u32) {
    let this = node(u128::from(worker));
    let options = WriteOptions::new();
    for turn in 0..60_i64 {
        match worker {
            0..4 => {
                let claimed = store.claim_notices(&this, at(turn), 40).await.unwrap();
                let plan =
                    |place: usize| (!place.is_multiple_of(3)).then(|| at(turn + place as i64));
                let mut finished: Vec<_> = claimed
                    .into_iter()
                    .enumerate()
                    .map(|(place, notice)| (notice, plan(place)))
                    .collect();
                if worker % 2 == 1 {
                    finished.reverse();
                }
                store.finish_notices(&this, &finished).await.unwrap();
            }
            4 => {
                let removed = store.purge_all(at(50)).await.unwrap();
                for id in removed {
                    let mut record = record(0);
                    (record.id, record.expires) = (id, Some(at(1_000 + turn)));
                    store.insert(&record, &options).await.unwrap();
                }
            }
            5 => {
                let key = tangled(turn as u128);
                let _missing = store.revoke(&key, &because("lost"), &options).await;
            }
            _ => {
                let mut patch = KeyPatch::new();
                for key in 0..60 {
                    let key = if worker == 6 { key } else { 60 - key };
                    patch.expires = Some((turn % 3 > 0).then(|| at(turn % 2 * 100 + 1)));
                    let _missing = store.update(&tangled(key), &patch, &options).await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn notices_in_opposite_orders_never_deadlock() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let place = Place::on(&server).await;
    let mut tool = older(&place, "4000000000000 + i").await;
    let store = Arc::new(place.started().await);
    let before = deadlocks(&mut tool).await;
    for key in 0..60 {
        let mut record = record(0);
        (record.id, record.expires) = (tangled(key), Some(at(1)));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
    for worker in 0..4 {
        store.join(&node(worker)).await.unwrap();
    }
    let mut workers = JoinSet::new();
    for worker in 0..8 {
        workers.spawn(tangle(Arc::clone(&store), worker));
    }
    workers.join_all().await;
    // Each key that expires has its notice, unless that was finished for good, and no other key has one.
    let wrong = "SELECT count(*) FROM api_key_expiry_notices AS notice FULL JOIN api_keys AS key ON key.id = notice.key \
        WHERE key.expires_at IS DISTINCT FROM notice.expires AND NOT EXISTS (SELECT FROM api_key_notice_backfill)";
    store
        .purge(at(0), None, &ChangeOrigin::new())
        .await
        .unwrap();
    while number(&mut tool, "SELECT count(*) FROM api_key_notice_backfill").await > 0 {
        store.claim_notices(&node(1), at(0), 1_000).await.unwrap();
        run(
            &mut tool,
            "UPDATE api_key_expiry_notices SET planned = 7, claimed_by = NULL",
        )
        .await
        .unwrap();
    }
    assert_eq!(number(&mut tool, wrong).await, 0);
    store.stop().await;
    until_ended(&mut tool).await;
    assert_eq!(deadlocks(&mut tool).await, before);
}

/// `cargo test --workspace --all-features --test stores notices::the_cost -- --ignored --nocapture`
#[tokio::test]
#[ignore = "prints what a notice adds to an insert"]
async fn the_cost_of_an_insert_with_an_expiry() {
    let (with, without) = (place!(), place!());
    let stores = [with.started().await, without.started().await];
    let off = "DROP TRIGGER api_keys_expiry_set ON api_keys";
    run(&mut without.tool().await, off).await.unwrap();
    print_insert_costs([&stores[0], &stores[1]]).await;
}
