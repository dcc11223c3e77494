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
use crate::store::sql::{self, EncodedColumns, column_names, read_columns};
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

/// The first revocation of the owner that came after the key's number.
macro_rules! of_revocation {
    ($column:literal) => {
        concat!(
            "(SELECT ",
            $column,
            " FROM api_key_owner_revocations AS revocation WHERE revocation.owner = api_keys.owner \
             AND number > owner_revocations ORDER BY number LIMIT 1)"
        )
    };
}

/// Reads records with the states of their owners, in one snapshot.
macro_rules! select {
    () => {
        concat!(
            "SELECT ",
            read_columns!(),
            " FROM (SELECT api_keys.*, state.version AS owner_version, \
             state.revocations AS owner_revoked, state.suspended AS owner_suspended, \
             iif(revoked_at IS NULL AND owner_revocations < state.revocations, ",
            of_revocation!("at"),
            ", NULL) AS owner_at, \
             iif(revoked_at IS NULL AND owner_revocations < state.revocations, ",
            of_revocation!("reason"),
            ", NULL) AS owner_reason \
             FROM api_keys LEFT JOIN api_key_owners AS state ON state.owner = api_keys.owner)"
        )
    };
}

const SELECT: &str = select!();
const FIND: &str = concat!(select!(), " WHERE id = ?");

/// See [`KeyStore::find`](crate::KeyStore::find).
pub(super) async fn find(pool: &SqlitePool, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
    let row = query(FIND)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await
        .map_err(|error| failed("reading a record", error))?;
    Ok(row.as_ref().map(sql::record).transpose()?)
}

/// The most records that a page reads to find those with a label, which has no index.
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
        let sql = sql::list_sql(SELECT, listed, after.is_some(), end.is_some());
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

const REVOKE: &str = "UPDATE api_keys SET revoked_at = ?, revoked_reason = ?, \
    version = version + (version < 9223372036854775807) WHERE id = ? AND revoked_at IS NULL \
    AND owner_revocations >= coalesce((SELECT revocations FROM api_key_owners WHERE owner = api_keys.owner), 0)";

/// See [`KeyStore::revoke`](crate::KeyStore::revoke).
pub(super) async fn revoke(
    pool: &SqlitePool,
    id: &KeyId,
    revocation: &Revocation,
) -> Result<bool, StoreError> {
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

/// The most records that a step reads. Their removal takes some 10 ms, during which nothing else
/// can be written to the file.
pub(super) const STEP: i64 = 500;

/// Selects only ids that can be a position; what has another is part of the step before it.
macro_rules! end_of_step_sql {
    ($($condition:expr),*) => {
        concat!(
            "SELECT id FROM api_keys WHERE ",
            $($condition,)*
            "id > $1 AND length(id) = 22 AND id NOT GLOB '*[^0-9A-Za-z]*' ORDER BY id LIMIT 1 OFFSET $2"
        )
    };
}
pub(super) use end_of_step_sql;

const END_OF_OWNER_STEP: &str = end_of_step_sql!("owner = $3 AND ");
const END_OF_STEP: &str = end_of_step_sql!();

/// A blob is greater than each text: without an end, the step is the last.
const PURGE_STEP: &str = concat!(
    "DELETE FROM api_keys WHERE id > $2 AND id <= coalesce($3, x'') AND (expires_at < $1 OR coalesce(revoked_at, \
     iif(owner_revocations < (SELECT revocations FROM api_key_owners WHERE owner = api_keys.owner), coalesce(",
    of_revocation!("at"),
    ", created_at), NULL)) < $1) RETURNING id"
);

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
pub(super) mod tests {
    use sqlx::Row;

    use super::*;
    use crate::store::{KeyStore, SqliteStore};

    /// Asserts that `sql` reads what is in `expected` of `steps`, and no other part of the table.
    pub(in crate::store::sqlite) async fn reads(store: &SqliteStore, sql: &str, expected: &[&str]) {
        let plan = query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        let pools = store.pools().await.unwrap();
        let rows = plan.fetch_all(&pools.reader).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        let steps = steps.join("; ");
        for part in expected {
            assert!(steps.contains(part), "{sql}: {steps}");
        }
        assert!(
            !steps.contains("SCAN") && !steps.contains("TEMP"),
            "{sql}: {steps}"
        );
    }

    /// Neither a read nor a step reads more of the table the more keys it, or an owner, has: each is a
    /// range of an index.
    #[tokio::test]
    async fn each_statement_reads_a_range_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db"));
        store.start().await.unwrap();
        let [of_owner, of_all, one] = [
            "api_keys_owner (owner=? AND id>?",
            "sqlite_autoindex_api_keys_1 (id>?",
            "sqlite_autoindex_api_keys_1 (id=?)",
        ];
        let state = "state USING PRIMARY KEY (owner=?)";
        let revocation = "sqlite_autoindex_api_key_owner_revocations_1 (owner=? AND number>?)";
        let end = |index: &str| format!("{index} AND id<?)");
        reads(&store, END_OF_OWNER_STEP, &[&format!("{of_owner})")]).await;
        reads(&store, END_OF_STEP, &[&format!("{of_all})")]).await;
        reads(&store, PURGE_STEP, &[&end(of_all), revocation]).await;
        reads(&store, REVOKE, &[one]).await;
        reads(&store, FIND, &[one, state, revocation]).await;
        let mut listed = ListQuery::first(10);
        let all = sql::list_sql(SELECT, &listed, true, true);
        reads(&store, &all, &[&end(of_all), state, revocation]).await;
        listed.owner = Some("acme".to_owned());
        let owned = sql::list_sql(SELECT, &listed, true, true);
        reads(&store, &owned, &[&end(of_owner), state, revocation]).await;
        store.stop().await;
    }
}
