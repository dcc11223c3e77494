//! Owners and records.
//!
//! The triggers find in the origin that it is a copy: they do not audit, and do not log each change.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{SqliteConnection, query};

use super::super::error::failed;
use super::super::owners::state_columns;
use super::super::records::{RecordValues, select};
use super::super::transaction::WriteTransaction;
use super::WRITING;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyRecord, OwnerState};
use crate::store::sql::{self, KeyRow, column_names};
use crate::store::{CopyOutcome, ListedOwner};

/// One that was left by hand is replaced.
const ORIGIN: &str = "INSERT OR REPLACE INTO api_key_origin (only_row, at, is_library, sets_enabled_at, is_copy) \
    VALUES (1, ?, 1, 1, 1)";
const RESYNC: &str = "INSERT INTO api_key_changes (key_id, kind) VALUES ('', 'all')";
const FORGET_ORIGIN: &str = "DELETE FROM api_key_origin";

async fn begin(pool: &SqlitePool, now: Timestamp) -> Result<WriteTransaction, sqlx::Error> {
    let mut transaction = WriteTransaction::begin(pool).await?;
    query(ORIGIN)
        .bind(now.as_millis())
        .execute(transaction.connection())
        .await?;
    Ok(transaction)
}

/// Commits what was written, after which each node reads everything again.
async fn end(mut transaction: WriteTransaction, outcome: &CopyOutcome) -> Result<(), sqlx::Error> {
    let connection = transaction.connection();
    if outcome.written > 0 {
        query(RESYNC).execute(&mut *connection).await?;
    }
    query(FORGET_ORIGIN).execute(connection).await?;
    transaction.commit().await
}

const FIND_OWNERS: &str = concat!(
    "SELECT owner, ",
    state_columns!(),
    " FROM api_key_owners WHERE owner IN (SELECT value FROM json_each(?))"
);
const ADD_OWNER: &str =
    "INSERT INTO api_key_owners (owner, version, revocations, suspended) VALUES ($1, $2, $3, $4)";
const CHANGE_OWNER: &str =
    "UPDATE api_key_owners SET version = $2, revocations = $3, suspended = $4 WHERE owner = $1";

/// Writes owners whose state is later than the present one, or has more revocations.
pub(super) async fn write_owners(
    pool: &SqlitePool,
    owners: &[ListedOwner],
    now: Timestamp,
) -> Result<CopyOutcome, StoreError> {
    let written = async {
        let mut transaction = begin(pool, now).await?;
        let outcome = put_owners(transaction.connection(), owners).await?;
        end(transaction, &outcome).await?;
        Ok(outcome)
    };
    written
        .await
        .map_err(|error: sqlx::Error| failed(WRITING, error))
}

async fn put_owners(
    connection: &mut SqliteConnection,
    owners: &[ListedOwner],
) -> Result<CopyOutcome, sqlx::Error> {
    let names = owners.iter().map(|owner| owner.name.as_str());
    let rows = query(FIND_OWNERS)
        .bind(Value::from_iter(names).to_string())
        .fetch_all(&mut *connection)
        .await?;
    let present: HashMap<String, OwnerState> = rows.iter().filter_map(owner).collect();
    let mut outcome = CopyOutcome::default();
    for owner in owners {
        let held = present.get(&owner.name);
        let Some(state) = outcome.count_owner(held.copied(), owner) else {
            continue;
        };
        let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
        query(if held.is_some() {
            CHANGE_OWNER
        } else {
            ADD_OWNER
        })
        .bind(&owner.name)
        .bind(number(state.version))
        .bind(number(state.revocations))
        .bind(state.suspended)
        .execute(&mut *connection)
        .await?;
    }
    Ok(outcome)
}

fn owner(row: &SqliteRow) -> Option<(String, OwnerState)> {
    let name = row.text("owner").ok()??;
    Some((name.to_owned(), sql::state(row).ok()?))
}

const FIND_KEYS: &str = concat!(select!(), " WHERE id IN (SELECT value FROM json_each(?))");
const ADD_KEY: &str = concat!(
    "INSERT INTO api_keys (",
    column_names!(),
    ", label_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);
const CHANGE_KEY: &str = concat!(
    "UPDATE api_keys SET (",
    column_names!(),
    ", label_key) = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, \
     ?24, ?25, ?26) WHERE id = ?1"
);
/// While this row is there, no trigger changes what an update writes.
const BEGIN_NUMBERING: &str = "INSERT INTO api_key_numbering (key) VALUES ('')";
const ADD_OWNER_OF_KEY: &str = "INSERT INTO api_key_owners (owner) SELECT $1 \
    WHERE $1 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM api_key_owners WHERE owner = $1)";
const NUMBER: &str =
    "UPDATE api_keys SET owner_revocations = $2 WHERE id = $1 AND owner_revocations <> $2";
const END_NUMBERING: &str = "DELETE FROM api_key_numbering";

/// Writes records whose version is later than the present one, or that are revoked there alone.
pub(super) async fn write_keys(
    pool: &SqlitePool,
    records: &[KeyRecord],
    now: Timestamp,
) -> Result<CopyOutcome, StoreError> {
    let writing_failed = |error| failed(WRITING, error);
    let mut transaction = begin(pool, now).await.map_err(writing_failed)?;
    let outcome = put_keys(transaction.connection(), records).await?;
    end(transaction, &outcome).await.map_err(writing_failed)?;
    Ok(outcome)
}

async fn put_keys(
    connection: &mut SqliteConnection,
    records: &[KeyRecord],
) -> Result<CopyOutcome, StoreError> {
    let writing_failed = |error| failed(WRITING, error);
    let ids = records.iter().map(|record| record.id.as_str());
    let rows = query(FIND_KEYS)
        .bind(Value::from_iter(ids).to_string())
        .fetch_all(&mut *connection)
        .await
        .map_err(writing_failed)?;
    let present = present(&rows)?;
    let mut outcome = CopyOutcome::default();
    let mut written = Vec::new();
    for record in records {
        if let Some(record) = outcome.count_record(present.get(&record.id), record) {
            let values = RecordValues::of(&record)?;
            written.push((record, values));
        }
    }
    let put = put(connection, &present, written).await;
    put.map_err(writing_failed)?;
    Ok(outcome)
}

/// Returns the records by their ids. One that cannot be read may be revoked, so it is not replaced.
fn present(rows: &[SqliteRow]) -> Result<HashMap<KeyId, KeyRecord>, StoreError> {
    let read = |row: &SqliteRow| {
        let record = sql::record(row)?;
        Ok((record.id, record))
    };
    rows.iter().map(read).collect()
}

async fn put(
    connection: &mut SqliteConnection,
    present: &HashMap<KeyId, KeyRecord>,
    written: Vec<(Cow<'_, KeyRecord>, RecordValues)>,
) -> Result<(), sqlx::Error> {
    let (changed, added): (Vec<_>, Vec<_>) = written
        .iter()
        .partition(|(record, _)| present.contains_key(&record.id));
    for (record, values) in added {
        let statement = values.bind(record, query(ADD_KEY));
        statement.execute(&mut *connection).await?;
    }
    query(BEGIN_NUMBERING).execute(&mut *connection).await?;
    for (record, values) in changed {
        query(ADD_OWNER_OF_KEY)
            .bind(&record.owner)
            .execute(&mut *connection)
            .await?;
        let statement = values.bind(record, query(CHANGE_KEY));
        statement.execute(&mut *connection).await?;
    }
    for (record, _) in &written {
        query(NUMBER)
            .bind(record.id.as_str())
            .bind(i64::try_from(record.owner_revocations).unwrap_or(i64::MAX))
            .execute(&mut *connection)
            .await?;
    }
    query(END_NUMBERING).execute(connection).await?;
    Ok(())
}
