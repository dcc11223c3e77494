//! A connection on which a transaction failed, at whatever step, is used by no later call.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    Charge, LimitCounter, NodeId, OwnerRevocation, StoreError, WriteOptions,
};
use apikey_runtime::usage::{Outcome, SecretUse, UsageBatch, UsageRow};
use apikey_runtime::{KeyStore, Quota, SqliteStore};
use sqlx::SqliteConnection;

use crate::{Place, at, because, id, number, owned, record, run};

/// The calls that write, on each of the connections.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write {
    Charge,
    Refill,
    AddUsage,
    Leave,
    Join,
    Insert,
    Revoke,
    RevokeOwner,
    SuspendOwner,
}

pub(crate) const WRITES: [Write; 7] = [
    Write::Charge,
    Write::Refill,
    Write::AddUsage,
    Write::Leave,
    Write::Join,
    Write::Insert,
    Write::Revoke,
];

const OWNER_WRITES: [Write; 2] = [Write::RevokeOwner, Write::SuspendOwner];

impl Write {
    /// Runs the call; `attempt` is a larger number each time.
    pub(crate) async fn run(self, store: &dyn KeyStore, attempt: u128) -> Result<(), StoreError> {
        let (key, node) = (id(1), NodeId::from_u128(1));
        let (limits, nodes) = (store.limits().unwrap(), store.membership().unwrap());
        let quota = LimitCounter::new("a limit", Quota::lifetime(1_000_000));
        match self {
            Self::Charge => {
                let charge = Charge::new(key, 1, vec![quota]);
                limits.charge(&charge).await.map(drop)
            }
            Self::Refill => limits.refill(&key, &quota, 1).await,
            Self::AddUsage => store.usage().unwrap().add_usage(&batch(attempt)).await,
            Self::Join => nodes.join(&node).await,
            Self::Leave => nodes.leave(&node).await,
            Self::Insert => store.insert(&record(attempt), &WriteOptions::new()).await,
            Self::Revoke => store
                .revoke(&key, &because("lost"), &WriteOptions::new())
                .await
                .map(drop),
            Self::RevokeOwner => {
                let owners = store.owners().unwrap();
                let lost = OwnerRevocation::new(at(3_000));
                owners
                    .revoke_owner_keys("acme", &lost, &ChangeOrigin::new())
                    .await?;
                owners.mark_revoked_keys().await.map(drop)
            }
            Self::SuspendOwner => {
                let owners = store.owners().unwrap();
                owners
                    .set_owner_suspended("acme", true, &ChangeOrigin::new())
                    .await?;
                let done = owners
                    .set_owner_suspended("acme", false, &ChangeOrigin::new())
                    .await;
                done.map(drop)
            }
        }
    }
}

/// A batch of two statements.
fn batch(number: u128) -> UsageBatch {
    let number = u64::try_from(number).unwrap();
    let mut batch = UsageBatch::new(NodeId::from_u128(1), number, Duration::from_secs(60));
    let mut row = UsageRow::new(id(1), "/", 475_000, Outcome::Allowed);
    row.requests = 1;
    batch.rows = vec![row];
    let moment = at(i64::try_from(number).unwrap());
    batch.last_used = vec![SecretUse::new(id(1), 0, moment, None)];
    batch
}

/// Adds one key, which has used some of its quota, and one node.
pub(crate) async fn begin(store: &dyn KeyStore) {
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&owned(2, "acme"), &WriteOptions::new())
        .await
        .unwrap();
    Write::Charge.run(store, 0).await.unwrap();
    Write::Join.run(store, 0).await.unwrap();
}

async fn begun(place: &Place) -> SqliteStore {
    let store = place.store().await;
    begin(&store).await;
    store
}

/// Lets every write fail as on a full disk: SQLite rolls the transaction back by itself, and a
/// ROLLBACK after it is an error.
async fn fill(tool: &mut SqliteConnection) {
    let triggers = "\
        CREATE TRIGGER full_1 BEFORE INSERT ON api_key_limit_counters BEGIN SELECT RAISE(ROLLBACK, 'full'); END; \
        CREATE TRIGGER full_2 BEFORE INSERT ON api_key_secret_uses BEGIN SELECT RAISE(ROLLBACK, 'full'); END; \
        CREATE TRIGGER full_3 BEFORE INSERT ON api_key_nodes BEGIN SELECT RAISE(ROLLBACK, 'full'); END; \
        CREATE TRIGGER full_4 BEFORE DELETE ON api_key_nodes BEGIN SELECT RAISE(ROLLBACK, 'full'); END; \
        CREATE TRIGGER full_5 BEFORE INSERT ON api_keys BEGIN SELECT RAISE(ROLLBACK, 'full'); END; \
        CREATE TRIGGER full_6 BEFORE UPDATE ON api_keys BEGIN SELECT RAISE(ROLLBACK, 'full'); END; \
        CREATE TRIGGER full_7 BEFORE UPDATE ON api_key_owners BEGIN SELECT RAISE(ROLLBACK, 'full'); END";
    run(tool, triggers).await.unwrap();
}

async fn free(tool: &mut SqliteConnection) {
    let drops = "DROP TRIGGER full_1; DROP TRIGGER full_2; DROP TRIGGER full_3; \
        DROP TRIGGER full_4; DROP TRIGGER full_5; DROP TRIGGER full_6; DROP TRIGGER full_7";
    run(tool, drops).await.unwrap();
}

#[tokio::test]
async fn after_a_rollback_of_sqlite_itself_the_next_call_succeeds() {
    let place = Place::new();
    let (store, mut tool) = (begun(&place).await, place.tool().await);
    let mut attempt = 10;
    for round in 0..2 {
        fill(&mut tool).await;
        for write in WRITES.into_iter().chain(OWNER_WRITES) {
            for _ in 0..3 {
                attempt += 1;
                let failed = write.run(&store, attempt).await;
                // The key is revoked after the first round.
                if round == 0 || !matches!(write, Write::Revoke) {
                    assert!(failed.is_err(), "{write:?}");
                }
            }
        }
        free(&mut tool).await;
        for write in WRITES.into_iter().chain(OWNER_WRITES) {
            attempt += 1;
            let done = write.run(&store, attempt).await;
            assert!(done.is_ok(), "{write:?} after the disk was full: {done:?}");
        }
    }
    // Of each failed batch, no part was kept.
    let added = "SELECT sum(requests) FROM api_key_usage";
    assert_eq!(number(&mut tool, added).await, 2);
}

/// Polls `call` up to `times`; returns whether it came to its end.
async fn polled(call: impl Future, times: u32) -> bool {
    let (mut call, mut polls) = (pin!(call), 0);
    poll_fn(|context| {
        polls += 1;
        match call.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if polls >= times => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A caller that goes away in the middle of a transaction leaves all of it or nothing.
#[tokio::test]
async fn a_call_dropped_at_any_step_leaves_all_or_nothing_and_the_next_call_succeeds() {
    let place = Place::new();
    let (store, mut tool) = (begun(&place).await, place.tool().await);
    let mut attempt = 10;
    for write in WRITES.into_iter().chain(OWNER_WRITES) {
        let (mut times, mut dropped) = (0, 0);
        for _ in 0..1_000 {
            times += 1;
            attempt += 1;
            let is_done = polled(write.run(&store, attempt), times).await;
            attempt += 1;
            let next = write.run(&store, attempt).await;
            assert!(next.is_ok(), "{write:?} dropped after {times}: {next:?}");
            // A number that was kept without its rows, or the other way round.
            let torn = "SELECT count(*) FROM api_key_usage_batches AS batch, api_key_secret_uses AS used \
                 WHERE batch.number <> used.at";
            assert_eq!(number(&mut tool, torn).await, 0, "{write:?}");
            // Of a revocation that was counted, the time is kept; and of none that was not.
            let torn = "SELECT count(*) FROM api_key_owner_revocations AS revocation, api_key_owners AS state \
                 WHERE number > revocations";
            assert_eq!(number(&mut tool, torn).await, 0, "{write:?}");
            // On a busy machine, SQLite's thread may answer each step before the poll goes on.
            match is_done {
                true if dropped > 0 => break,
                true => times = 0,
                false => dropped += 1,
            }
        }
        assert!(dropped > 0, "{write:?} was never dropped");
    }
}
