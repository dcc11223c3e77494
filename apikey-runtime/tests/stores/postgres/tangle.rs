//! Calls that lock the same rows in opposite orders.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    Charge, KeyPatch, LimitCounter, LimitStore, OwnerStore, UsageStore, WriteOptions,
};
use apikey_runtime::usage::{NetworkUse, Outcome, SecretUse, UsageBatch, UsageRow};
use apikey_runtime::{KeyStore, PostgresStore, Quota};
use apikey_test_support::servers::postgres::Postgres;
use sqlx::PgConnection;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{connection, for_reason, number, run};
use crate::{InSteps, at, id, owned, record};

/// Returns the number of deadlocks that the server has seen in this database.
pub(super) async fn deadlocks(tool: &mut PgConnection) -> i64 {
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    number(tool, sql).await
}

/// Charges in opposite orders, with new and old limits, between removals of keys and usage batches.
async fn tangle(store: Arc<PostgresStore>, worker: u32) {
    let order = |count: u32| {
        let mut order: Vec<_> = (0..count).collect();
        if worker % 2 == 1 {
            order.reverse();
        }
        order
    };
    for turn in 0..40 {
        let counters = order(6).into_iter().map(|number| {
            LimitCounter::new(
                &format!("{number} {}", turn / (number + 1)),
                Quota::per_day(1_000),
            )
        });
        let charge = Charge::new(id(u128::from(turn % 3)), 1, counters.collect());
        store.charge(&charge).await.unwrap();
        let mut batch = UsageBatch::new(
            format!("{worker:022}").parse().unwrap(),
            u64::from(turn) + 1,
            Duration::ZERO,
        );
        // Batches that share usage rows take turns, so they do not deadlock later.
        let rows = if worker < 4 { 20 } else { 0 };
        for number in order(rows) {
            let mut row = UsageRow::new(
                id(u128::from(number % 3)),
                format!("/{number}"),
                0,
                Outcome::Allowed,
            );
            row.requests = 1;
            batch.rows.push(row);
        }
        for number in order(3) {
            let key = id(u128::from(number));
            let used = |rotations| SecretUse::new(key, rotations, at(i64::from(turn)), None);
            batch
                .last_used
                .extend([used(u64::from(turn / 2)), used(u64::from(turn / 2 + 1))]);
        }
        // Each batch makes some of another's networks superfluous.
        for network in order(3 * 15) {
            let key = id(u128::from(network / 15));
            let network = format!("192.0.{}.0/24", (network % 15 + turn * worker) % 64);
            let used = NetworkUse::new(key, network.parse().unwrap(), at(i64::from(turn)));
            batch.networks.push(used);
        }
        store.add_usage(&batch).await.unwrap();
        match worker {
            0 if turn % 4 == 3 => {
                let removed = store.purge_all(at(i64::MAX)).await.unwrap();
                for id in removed {
                    let mut record = record(0);
                    record.id = id;
                    record.expires = Some(at(0));
                    store.insert(&record, &WriteOptions::new()).await.unwrap();
                }
            }
            1 => store.prune_usage(1).await.unwrap(),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn limits_in_opposite_orders_never_deadlock() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let store = Arc::new(PostgresStore::new(server.url()));
    store.start().await.unwrap();
    for key in 0..3 {
        let mut record = record(key);
        record.expires = Some(at(0));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
    let mut workers = JoinSet::new();
    for worker in 0..8 {
        workers.spawn(tangle(Arc::clone(&store), worker));
    }
    workers.join_all().await;
    store.stop().await;
    let mut tool = connection(&server.url()).await;
    until_ended(&mut tool).await;
    assert_eq!(deadlocks(&mut tool).await, 0);
    // Negative control: two sessions that each lock one row, and then the other's, are detected.
    run(
        &mut tool,
        "CREATE TABLE rows (n int); INSERT INTO rows VALUES (1), (2)",
    )
    .await
    .unwrap();
    let mut others = [
        connection(&server.url()).await,
        connection(&server.url()).await,
    ];
    let lock = |row: u32| format!("BEGIN; UPDATE rows SET n = n WHERE n = {row}");
    run(&mut others[0], &lock(1)).await.unwrap();
    run(&mut others[1], &lock(2)).await.unwrap();
    let [first, second] = &mut others;
    let outcomes = tokio::join!(
        run(first, "UPDATE rows SET n = n WHERE n = 2"),
        run(second, "UPDATE rows SET n = n WHERE n = 1")
    );
    assert!(outcomes.0.is_err() != outcomes.1.is_err());
    drop(others);
    while deadlocks(&mut tool).await == 0 {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Changes of owners and of their keys' owners, in all orders.
async fn tangle_owners(store: Arc<PostgresStore>, worker: u32) {
    let owner = |number: u32| format!("owner {}", number % 3);
    let counted = WriteOptions::new().with_max_live_keys(Some(100_000));
    for turn in 0..60 {
        // Half of the writes count live keys.
        let options = [WriteOptions::new(), counted.clone()][turn as usize % 2].clone();
        let (here, there) = (owner(turn + worker), owner(turn * worker + 1));
        match worker {
            0 | 1 => {
                let lost = for_reason(i64::from(turn), "lost");
                store
                    .revoke_owner_keys(&here, &lost, &ChangeOrigin::new())
                    .await
                    .unwrap();
            }
            2 => drop(
                store
                    .set_owner_suspended(&here, turn % 2 == 0, &ChangeOrigin::new())
                    .await
                    .unwrap(),
            ),
            3 | 4 => drop(store.mark_revoked_keys().await.unwrap()),
            _ => {
                let key = u128::from(1_000 + worker * 100 + turn);
                store.insert(&owned(key, &here), &options).await.unwrap();
                let mut patch = KeyPatch::new();
                patch.owner = Some(Some(there));
                store.update(&id(key - 1), &patch, &options).await.unwrap();
                store
                    .update(&id(u128::from(turn % 2)), &patch, &options)
                    .await
                    .unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn owners_in_opposite_orders_never_deadlock() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let store = Arc::new(PostgresStore::new(server.url()));
    store.start().await.unwrap();
    for (key, owner) in [(0, 0), (1, 1), (2, 2), (1_499, 0), (1_599, 1), (1_699, 2)] {
        store
            .insert(&owned(key, &format!("owner {owner}")), &WriteOptions::new())
            .await
            .unwrap();
    }
    let mut workers = JoinSet::new();
    for worker in 0..8 {
        workers.spawn(tangle_owners(Arc::clone(&store), worker));
    }
    workers.join_all().await;
    store.stop().await;
    let mut tool = connection(&server.url()).await;
    until_ended(&mut tool).await;
    assert_eq!(deadlocks(&mut tool).await, 0);
}

/// Waits until the sessions of a stopped store have ended: a server process reports its statistics then, at the latest.
pub(super) async fn until_ended(tool: &mut PgConnection) {
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'apikey'";
    while number(tool, busy).await > 0 {
        sleep(Duration::from_millis(5)).await;
    }
}
