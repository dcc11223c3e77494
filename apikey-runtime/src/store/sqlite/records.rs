//! The statements on records. Each write is one statement, committed by itself: a crash between two
//! steps leaves all of it or nothing, and so does a caller that goes away.

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, query};

use super::error::{failed, insert_failed};
use super::pools::SqlitePools;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};
use crate::store::paging::page_size;
use crate::store::sql::{self, EncodedColumns, column_names};
use crate::store::{BulkStep, ListQuery, RecordPage};

sql::key_row!(SqliteRow);

/// See [`KeyStore::insert`](crate::KeyStore::insert).
pub(super) async fn insert(pool: &SqlitePool, record: &KeyRecord) -> Result<(), StoreError> {
    const INSERT: &str = concat!(
        "INSERT INTO api_keys (",
        column_names!(),
        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    );
    let version = sql::stored_version(record)?;
    let encoded = EncodedColumns::of_record(record)?;
    let previous = record.previous.as_ref();
    let revoked = record.revoked.as_ref();
    query(INSERT)
        .bind(record.id.as_str())
        .bind(&record.prefix)
        .bind(&record.label)
        .bind(&record.owner)
        .bind(&record.digest)
        .bind(previous.map(|previous| &previous.digest))
        .bind(previous.map(|previous| previous.until.as_millis()))
        .bind(encoded.scopes)
        .bind(encoded.metadata)
        .bind(&record.environment)
        .bind(encoded.networks)
        .bind(encoded.methods)
        .bind(encoded.limits)
        .bind(record.created.as_millis())
        .bind(record.expires.map(Timestamp::as_millis))
        .bind(record.not_before.map(Timestamp::as_millis))
        .bind(revoked.map(|revocation| revocation.at.as_millis()))
        .bind(revoked.and_then(|revocation| revocation.reason.as_ref()))
        .bind(record.enabled)
        .bind(version)
        .execute(pool)
        .await
        .map(drop)
        .map_err(insert_failed)
}

/// See [`KeyStore::find`](crate::KeyStore::find).
pub(super) async fn find(pool: &SqlitePool, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
    const FIND: &str = concat!("SELECT ", column_names!(), " FROM api_keys WHERE id = ?");
    let row = query(FIND)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await
        .map_err(|error| failed("reading a record", error))?;
    Ok(row.as_ref().map(sql::record).transpose()?)
}

/// The most records that a page reads to find those with a label, for which there is no index.
const LIST_READS: i64 = 10_000;

/// See [`KeyStore::list`](crate::KeyStore::list).
pub(super) async fn list(pool: &SqlitePool, listed: &ListQuery) -> Result<RecordPage, StoreError> {
    let size = page_size(listed);
    // One more, which tells whether others follow.
    let limit = i64::try_from(size + 1).unwrap_or(i64::MAX);
    let mut page = RecordPage::default();
    let end = match listed.label {
        Some(_) => {
            let after = listed.after.as_ref();
            end_of_step(pool, listed.owner.as_deref(), after, LIST_READS).await?
        }
        None => None,
    };
    let mut after = listed.after.map(|id| id.as_str().as_bytes().to_vec());
    loop {
        let sql = sql::list_sql(listed, after.is_some(), end.is_some());
        let rows = query(AssertSqlSafe(sql))
            .bind(&listed.owner)
            .bind(&listed.label)
            // As bytes, since an id that was written by hand may not be UTF-8.
            .bind(after)
            .bind(limit)
            .bind(end.as_ref().map(KeyId::as_str))
            .fetch_all(pool)
            .await
            .map_err(|error| failed("listing records", error))?;
        after = sql::read_page(rows, size, &mut page);
        if after.is_none() {
            page.next = page.next.or(end);
            return Ok(page);
        }
    }
}

/// Returns the id of the last of the next `count` records, of an owner or of all; `None` if there are
/// fewer. Reads an index only.
async fn end_of_step(
    pool: &SqlitePool,
    owner: Option<&str>,
    after: Option<&KeyId>,
    count: i64,
) -> Result<Option<KeyId>, StoreError> {
    let sql = match owner {
        Some(_) => END_OF_OWNER_STEP,
        None => END_OF_STEP,
    };
    let end = query(sql)
        .bind(after.map_or("", KeyId::as_str))
        .bind(count - 1)
        .bind(owner)
        .fetch_optional(pool)
        .await
        .map_err(|error| failed("reading ids", error))?;
    Ok(end.as_ref().and_then(sql::id))
}

/// See [`KeyStore::update`](crate::KeyStore::update).
pub(super) async fn update(
    pool: &SqlitePool,
    id: &KeyId,
    patch: &KeyPatch,
) -> Result<(), StoreError> {
    // A column that can be NULL has a flag beside its new value. The largest version stays as it is.
    const UPDATE: &str = "UPDATE api_keys SET \
        version = version + (version < 9223372036854775807), \
        label = coalesce($2, label), scopes = coalesce($3, scopes), metadata = coalesce($4, metadata), \
        networks = coalesce($5, networks), methods = coalesce($6, methods), limits = coalesce($7, limits), \
        enabled = coalesce($8, enabled), digest = coalesce($9, digest), \
        owner = iif($10, $11, owner), environment = iif($12, $13, environment), \
        expires_at = iif($14, $15, expires_at), not_before = iif($16, $17, not_before), \
        previous_digest = iif($18, $19, previous_digest), previous_until = iif($18, $20, previous_until) \
        WHERE id = $1 AND ($21 IS NULL OR version = $21)";
    let encoded = EncodedColumns::of_patch(patch)?;
    let previous = patch.previous.as_ref().and_then(Option::as_ref);
    let updated = query(UPDATE)
        .bind(id.as_str())
        .bind(&patch.label)
        .bind(encoded.scopes)
        .bind(encoded.metadata)
        .bind(encoded.networks)
        .bind(encoded.methods)
        .bind(encoded.limits)
        .bind(patch.enabled)
        .bind(&patch.digest)
        .bind(patch.owner.is_some())
        .bind(patch.owner.as_ref().and_then(Option::as_ref))
        .bind(patch.environment.is_some())
        .bind(patch.environment.as_ref().and_then(Option::as_ref))
        .bind(patch.expires.is_some())
        .bind(patch.expires.flatten().map(Timestamp::as_millis))
        .bind(patch.not_before.is_some())
        .bind(patch.not_before.flatten().map(Timestamp::as_millis))
        .bind(patch.previous.is_some())
        .bind(previous.map(|previous| &previous.digest))
        .bind(previous.map(|previous| previous.until.as_millis()))
        .bind(sql::expected_version(patch))
        .execute(pool)
        .await
        .map_err(|error| failed("changing a record", error))?;
    if updated.rows_affected() > 0 {
        Ok(())
    } else if patch.expected_version.is_some() && exists(pool, id).await? {
        Err(StoreError::Conflict)
    } else {
        Err(StoreError::NotFound)
    }
}

/// See [`KeyStore::revoke`](crate::KeyStore::revoke).
pub(super) async fn revoke(
    pool: &SqlitePool,
    id: &KeyId,
    revocation: &Revocation,
) -> Result<bool, StoreError> {
    const REVOKE: &str = "UPDATE api_keys SET revoked_at = ?, revoked_reason = ?, \
        version = version + (version < 9223372036854775807) WHERE id = ? AND revoked_at IS NULL";
    let revoked = query(REVOKE)
        .bind(revocation.at.as_millis())
        .bind(&revocation.reason)
        .bind(id.as_str())
        .execute(pool)
        .await
        .map_err(|error| failed("revoking a key", error))?;
    if revoked.rows_affected() > 0 {
        Ok(true)
    } else if exists(pool, id).await? {
        Ok(false)
    } else {
        Err(StoreError::NotFound)
    }
}

async fn exists(pool: &SqlitePool, id: &KeyId) -> Result<bool, StoreError> {
    let row = query("SELECT 1 FROM api_keys WHERE id = ?")
        .bind(id.as_str())
        .fetch_optional(pool)
        .await
        .map_err(|error| failed("looking for a record", error))?;
    Ok(row.is_some())
}

/// The most records that a step reads. Their revocation takes some 10 ms, during which nothing else
/// can be written to the file.
const STEP: i64 = 500;

/// Selects only ids that can be a position; what has another is part of the step before it.
macro_rules! end_of_step {
    ($condition:literal) => {
        concat!(
            "SELECT id FROM api_keys WHERE ",
            $condition,
            "id > $1 AND length(id) = 22 AND id NOT GLOB '*[^0-9A-Za-z]*' ORDER BY id LIMIT 1 OFFSET $2"
        )
    };
}

const END_OF_OWNER_STEP: &str = end_of_step!("owner = $3 AND ");
const END_OF_STEP: &str = end_of_step!("");

/// A blob is greater than each text: without an end, the step is the last.
const REVOKE_STEP: &str = "UPDATE api_keys SET revoked_at = $1, revoked_reason = $2, \
     version = version + (version < 9223372036854775807) \
     WHERE owner = $3 AND id > $4 AND id <= coalesce($5, x'') AND revoked_at IS NULL RETURNING id";
const PURGE_STEP: &str = "DELETE FROM api_keys WHERE id > $2 AND id <= coalesce($3, x'') \
     AND (revoked_at < $1 OR expires_at < $1) RETURNING id";

/// See [`KeyStore::revoke_owner`](crate::KeyStore::revoke_owner). The end of the step is read before
/// the write, so that the write stays one statement.
pub(super) async fn revoke_owner(
    pools: &SqlitePools,
    owner: &str,
    revocation: &Revocation,
    after: Option<&KeyId>,
) -> Result<BulkStep, StoreError> {
    let next = end_of_step(&pools.reader, Some(owner), after, STEP).await?;
    // Read to its end: the commit comes after the last row, and its failure must be seen.
    let rows = query(REVOKE_STEP)
        .bind(revocation.at.as_millis())
        .bind(&revocation.reason)
        .bind(owner)
        .bind(after.map_or("", KeyId::as_str))
        .bind(next.as_ref().map(KeyId::as_str))
        .fetch_all(&pools.writer)
        .await
        .map_err(|error| failed("revoking the keys of an owner", error))?;
    Ok(BulkStep::new(
        rows.iter().filter_map(sql::id).collect(),
        next,
    ))
}

/// See [`KeyStore::purge`](crate::KeyStore::purge).
pub(super) async fn purge(
    pools: &SqlitePools,
    before: Timestamp,
    after: Option<&KeyId>,
) -> Result<BulkStep, StoreError> {
    let next = end_of_step(&pools.reader, None, after, STEP).await?;
    let rows = query(PURGE_STEP)
        .bind(before.as_millis())
        .bind(after.map_or("", KeyId::as_str))
        .bind(next.as_ref().map(KeyId::as_str))
        .fetch_all(&pools.writer)
        .await
        .map_err(|error| failed("removing old records", error))?;
    Ok(BulkStep::new(
        rows.iter().filter_map(sql::id).collect(),
        next,
    ))
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;
    use crate::store::{KeyStore, SqliteStore};

    /// No step reads more of the table the more keys it has: each is a range of an index.
    #[tokio::test]
    async fn each_step_is_a_range_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db"));
        store.start().await.unwrap();
        let pools = store.pools().await.unwrap();
        let of_owner = "api_keys_owner (owner=? AND id>?";
        let of_all = "sqlite_autoindex_api_keys_1 (id>?";
        for (sql, expected) in [
            (END_OF_OWNER_STEP, format!("{of_owner})")),
            (END_OF_STEP, format!("{of_all})")),
            (REVOKE_STEP, format!("{of_owner} AND id<?)")),
            (PURGE_STEP, format!("{of_all} AND id<?)")),
        ] {
            let plan = query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
            let rows = plan.fetch_all(&pools.reader).await.unwrap();
            let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            let steps = steps.join("; ");
            assert!(steps.contains(&expected), "{sql}: {steps}");
            assert!(
                !steps.contains("SCAN") && !steps.contains("TEMP"),
                "{sql}: {steps}"
            );
        }
        store.stop().await;
    }
}
