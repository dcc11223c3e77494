//! What a write depends on: the record that it changes, and the live keys of an owner.

use sqlx::SqliteConnection;
use sqlx::query;
use sqlx::query_scalar;
use sqlx::sqlite::SqlitePool;

use super::error::failed;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::WriteOptions;
use crate::store::sql::{KeyRow, expected_version};

/// What is in the file of a key that is written.
pub(super) struct StoredKey {
    /// As bytes: a text that was written by hand may not be UTF-8.
    owner: Option<Vec<u8>>,
    version: Option<i64>,
    is_live: bool,
}

const STORED: &str = "SELECT owner, version, revoked_at IS NULL AND coalesce(expires_at, 9223372036854775807) > $2 \
    AND owner_revocations >= coalesce((SELECT revocations FROM api_key_owners WHERE owner = api_keys.owner), 0) AS is_live \
    FROM api_keys WHERE id = $1";

async fn stored(
    connection: &mut SqliteConnection,
    id: &KeyId,
    now: Timestamp,
) -> Result<Option<StoredKey>, StoreError> {
    let row = query(STORED)
        .bind(id.as_str())
        .bind(now.as_millis())
        .fetch_optional(connection)
        .await
        .map_err(|error| failed("looking for a record", error))?;
    Ok(row.map(|row| StoredKey {
        owner: row.bytes("owner").map(<[u8]>::to_vec),
        version: row.number("version").ok().flatten(),
        is_live: row.flag("is_live").unwrap_or(false),
    }))
}

/// Returns the key before the write, if it is the one that the caller expects.
pub(super) async fn check_record(
    connection: &mut SqliteConnection,
    id: &KeyId,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<StoredKey, StoreError> {
    let found = stored(connection, id, now).await?;
    let found = found.ok_or(StoreError::NotFound)?;
    let expected = options.expected_owner.as_ref().map(String::as_bytes);
    if expected.is_some() && found.owner.as_deref() != expected {
        return Err(StoreError::NotFound);
    }
    match expected_version(options) {
        Some(version) if found.version != Some(version) => Err(StoreError::Conflict),
        _ => Ok(found),
    }
}

/// Rejects an insert that was made, if the owner has too many other live keys.
pub(super) async fn check_insert(
    connection: &mut SqliteConnection,
    id: &KeyId,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<(), StoreError> {
    let before = StoredKey {
        owner: None,
        version: None,
        is_live: false,
    };
    check_update(connection, id, &before, options, now).await
}

/// Rejects an update that was made from `before`, if it makes the key live for an owner that has too many
/// other live keys.
pub(super) async fn check_update(
    connection: &mut SqliteConnection,
    id: &KeyId,
    before: &StoredKey,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(max) = options.max_live_keys else {
        return Ok(());
    };
    let Some(after) = stored(connection, id, now).await? else {
        return Ok(());
    };
    let was_live = before.is_live && before.owner == after.owner;
    if after.owner.is_none() || !after.is_live || was_live {
        return Ok(());
    }
    let others: u32 = query_scalar(COUNT_OTHERS)
        .bind(id.as_str())
        .bind(now.as_millis())
        .bind(max)
        .fetch_one(connection)
        .await
        .map_err(|error| failed("counting live keys", error))?;
    match others >= max {
        true => Err(StoreError::TooManyKeys { max }),
        false => Ok(()),
    }
}

/// Counts a range of an index that has the row id too. The live keys of an owner have its revocations.
macro_rules! count_live {
    ($owner:literal, $other:literal) => {
        concat!(
            "SELECT count(*) FROM (SELECT 1 FROM api_keys WHERE owner = ",
            $owner,
            " AND revoked_at IS NULL AND owner_revocations = \
             coalesce((SELECT revocations FROM api_key_owners WHERE owner = ",
            $owner,
            "), 0) AND coalesce(expires_at, 9223372036854775807) > $2",
            $other,
            " LIMIT $3)"
        )
    };
}

const COUNT: &str = count_live!("$1", "");
const COUNT_OTHERS: &str = count_live!(
    "(SELECT owner FROM api_keys WHERE id = $1)",
    " AND rowid <> (SELECT rowid FROM api_keys WHERE id = $1)"
);

/// See [`OwnerStore::count_live_keys`](crate::store::OwnerStore::count_live_keys).
pub(super) async fn count(
    pool: &SqlitePool,
    owner: &str,
    max: u32,
    now: Timestamp,
) -> Result<u32, StoreError> {
    query_scalar(COUNT)
        .bind(owner)
        .bind(now.as_millis())
        .bind(max)
        .fetch_one(pool)
        .await
        .map_err(|error| failed("counting live keys", error))
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::reads;
    use super::*;
    use crate::store::{KeyStore, SqliteStore};

    /// A count ends at its maximum, and does not read the records.
    #[tokio::test]
    async fn live_keys_are_counted_in_a_range_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db"));
        store.start().await.unwrap();
        let live = "INDEX api_keys_live (owner=? AND owner_revocations=? AND <expr>>?)";
        let one = "sqlite_autoindex_api_keys_1 (id=?)";
        let state = "api_key_owners USING PRIMARY KEY (owner=?)";
        reads(&store, COUNT, &[live, state]).await;
        reads(&store, COUNT_OTHERS, &[live, one, state]).await;
        reads(&store, STORED, &[one, state]).await;
        store.stop().await;
    }
}
