//! The stores: the conformance suite, what it finds in incorrect stores, and the specifics of
//! SQLite.
#![cfg(all(feature = "sqlite", feature = "conformance"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod as_it_is;
mod audit;
mod bulk;
mod by_hand;
mod copying;
mod counts;
mod crash;
mod enabling;
mod file;
mod full_disk;
mod history;
mod lease;
mod live_keys;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod many_keys;
mod miscounting;
mod moved_files;
mod notices;
mod owner_lists;
mod owners;
mod page_cost;
#[cfg(feature = "postgres")]
mod postgres;
mod ranges;
mod rates;
#[cfg(feature = "redis")]
mod redis;
mod roll_up;
mod shared_secrets;
mod start;
mod suite;
mod transactions;
mod usage;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod warnings;
mod wrong;
mod wrong_audit;
mod wrong_batch_reads;
mod wrong_checks;
mod wrong_copies;
mod wrong_lists;
mod wrong_notices;
mod wrong_owner_lists;
mod wrong_owners;
mod wrong_secrets;
mod wrong_writes;

use std::path::{Path, PathBuf};

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{ChangeSet, ChangedItem, Revocation, StoreError};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, SqliteStore, Timestamp};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tempfile::TempDir;

/// A folder for a test's files, removed with the value.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("keys.db")
    }

    /// Starts a store in [`Place::file`].
    async fn store(&self) -> SqliteStore {
        let store = SqliteStore::new(self.file());
        store.start().await.unwrap();
        store
    }

    /// Opens a connection outside of the store, as an operator's tool does.
    async fn tool(&self) -> SqliteConnection {
        connection(&self.file()).await
    }
}

async fn connection(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap()
}

/// Runs statements by hand.
async fn run(tool: &mut SqliteConnection, sql: &'static str) -> Result<u64, sqlx::Error> {
    Ok(sqlx::raw_sql(sql).execute(tool).await?.rows_affected())
}

/// Returns the number that `sql` selects.
async fn number(tool: &mut SqliteConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(tool).await.unwrap()
}

/// Returns the keys that changed; the set must not be [`ChangeSet::Resync`].
fn keys_in(set: ChangeSet) -> Vec<KeyId> {
    match set {
        ChangeSet::Entries(items) => items.into_iter().filter_map(ChangedItem::key).collect(),
        ChangeSet::Resync => panic!("the cursor is unknown"),
    }
}

/// Bulk changes to their end.
trait InSteps {
    async fn revoke_all(
        &self,
        owner: &str,
        revocation: &Revocation,
    ) -> Result<Vec<KeyId>, StoreError>;

    async fn purge_all(&self, before: Timestamp) -> Result<Vec<KeyId>, StoreError>;
}

impl<S: KeyStore + ?Sized> InSteps for S {
    async fn revoke_all(
        &self,
        owner: &str,
        revocation: &Revocation,
    ) -> Result<Vec<KeyId>, StoreError> {
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let step = self
                .revoke_owner(owner, revocation, after.as_ref(), &ChangeOrigin::new())
                .await?;
            keys.extend(step.keys);
            after = step.next;
            if after.is_none() {
                return Ok(keys);
            }
        }
    }

    async fn purge_all(&self, before: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let step = self
                .purge(before, after.as_ref(), &ChangeOrigin::new())
                .await?;
            keys.extend(step.keys);
            after = step.next;
            if after.is_none() {
                return Ok(keys);
            }
        }
    }
}

fn id(number: u128) -> KeyId {
    KeyId::from_u128(number)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn record(number: u128) -> KeyRecord {
    KeyRecord::new(id(number), "my_api", "a label", "sha256$00", at(1_000))
}

fn owned(number: u128, owner: &str) -> KeyRecord {
    let mut record = record(number);
    record.owner = Some(owner.to_owned());
    record
}

fn because(reason: &str) -> Revocation {
    Revocation {
        at: at(3_000),
        reason: Some(reason.to_owned()),
    }
}
