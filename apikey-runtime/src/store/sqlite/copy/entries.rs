//! Entries of the audit log.

use serde_json::Value;
use sqlx::sqlite::SqlitePool;
use sqlx::{SqliteConnection, query};

use super::super::error::failed;
use super::super::transaction::WriteTransaction;
use super::{READING, WRITING};
use crate::error::StoreError;
use crate::store::sql::{ENTRIES_STEP, PresentEntries, entries_page, entries_start, entries_text};
use crate::store::{CopiedEntry, CopyOutcome, CopyPage};

macro_rules! columns {
    () => {
        "key, at, action, owner, former_owner, actor, channel, address, request_id, reason, fields"
    };
}

const READ: &str = concat!(
    "SELECT ",
    columns!(),
    ", position AS place FROM api_key_audit WHERE (at, position) > ($2, $3) ORDER BY at, position LIMIT $1"
);

const SKIP: &str =
    "SELECT position AS place FROM api_key_audit WHERE at = $1 ORDER BY position LIMIT 1 OFFSET $2";

const FIND: &str = concat!(
    "SELECT * FROM (SELECT ",
    columns!(),
    ", position AS place FROM api_key_audit WHERE at = $3 AND position > $4 ORDER BY position LIMIT $1) \
     UNION ALL SELECT * FROM (SELECT ",
    columns!(),
    ", position AS place FROM api_key_audit WHERE at IN (SELECT value FROM json_each($2)) ORDER BY at, position LIMIT $1) \
     ORDER BY at, place LIMIT $1"
);

const WRITE: &str = "INSERT INTO api_key_audit \
    (at, action, key, owner, former_owner, actor, channel, address, request_id, reason, fields) \
    SELECT value ->> 'at', value ->> 'action', value ->> 'key', value ->> 'owner', value ->> 'former_owner', \
    value ->> 'actor', value ->> 'channel', value ->> 'address', value ->> 'request_id', value ->> 'reason', \
    value ->> 'fields' FROM json_each($1) ORDER BY json_each.key";

/// Reads a page.
pub(super) async fn read(
    pool: &SqlitePool,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let start = entries_start(after)?;
    let rows = query(READ)
        // One more, which tells whether others follow.
        .bind(i64::try_from(size + 1).unwrap_or(i64::MAX))
        .bind(start.at)
        .bind(start.place)
        .fetch_all(pool)
        .await;
    let rows = rows.map_err(|error| failed(READING, error))?;
    Ok(entries_page(&rows, start, size))
}

/// Adds the entries that are not there yet.
pub(super) async fn write(
    pool: &SqlitePool,
    entries: &[CopiedEntry],
) -> Result<CopyOutcome, StoreError> {
    let written = async {
        let mut transaction = WriteTransaction::begin(pool).await?;
        let connection = transaction.connection();
        let present = present(connection, entries).await?;
        let mut outcome = CopyOutcome::default();
        let missing = present.missing(&mut outcome);
        if !missing.is_empty() {
            query(WRITE)
                .bind(entries_text(&missing))
                .execute(&mut *connection)
                .await?;
        }
        transaction.commit().await?;
        Ok(outcome)
    };
    written
        .await
        .map_err(|error: sqlx::Error| failed(WRITING, error))
}

/// Reads those of the entries that are there already.
async fn present<'e>(
    connection: &mut SqliteConnection,
    entries: &'e [CopiedEntry],
) -> Result<PresentEntries<'e>, sqlx::Error> {
    let mut present = PresentEntries::new(entries);
    if let Some(skipped) = present.skipped() {
        let skip = query(SKIP).bind(present.last.at).bind(skipped);
        present.start_after(skip.fetch_optional(&mut *connection).await?.as_ref());
    }
    loop {
        let rows = query(FIND)
            .bind(ENTRIES_STEP)
            .bind(Value::from(present.later_times()).to_string())
            .bind(present.last.at)
            .bind(present.last.place)
            .fetch_all(&mut *connection)
            .await?;
        if !present.add(&rows) {
            return Ok(present);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::records::tests::{reads, reads_through};
    use super::*;
    use crate::store::{KeyStore, SqliteStore};

    #[tokio::test]
    async fn each_page_of_entries_is_a_range_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db"));
        store.start().await.unwrap();
        reads(&store, READ, &["INDEX api_key_audit_at ("]).await;
        let index = "COVERING INDEX api_key_audit_at (at=?)";
        reads(&store, SKIP, &[index]).await;
        let indexes = [
            "INDEX api_key_audit_at (at=? AND rowid>?)",
            "INDEX api_key_audit_at (at=?)",
        ];
        reads_through(&store, FIND, &indexes).await;
        store.stop().await;
    }
}
