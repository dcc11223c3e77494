//! The statements on records. Each write is one transaction: a crash between two steps leaves all of it
//! or nothing, and so does a caller that goes away.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqlitePool, SqliteRow};
use sqlx::{Sqlite, SqliteConnection, query};

use super::error::{failed, insert_failed};
use super::limit_counters::json;
use super::live_keys::{check_insert, check_record, check_update};
use super::pools::SqlitePools;
use super::transaction::ChangeTransaction;
use crate::audit::ChangeOrigin;
use crate::clock::{Clock, Timestamp};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};
use crate::store::sql::{self, EncodedColumns, column_names};
use crate::store::{BulkStep, FindResult, ListCursor, WriteOptions};

sql::key_row!(SqliteRow);

/// See [`KeyStore::insert`](crate::KeyStore::insert).
pub(super) async fn insert(
    pool: &SqlitePool,
    record: &KeyRecord,
    options: &WriteOptions,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    const INSERT: &str = concat!(
        "INSERT INTO api_keys (",
        column_names!(),
        ", label_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    );
    let values = RecordValues::of(record)?;
    let mut change =
        ChangeTransaction::begin(pool, "adding a record", &options.origin, clock).await?;
    let now = change.now();
    let inserted = values
        .bind(record, query(INSERT))
        .execute(change.connection())
        .await
        .map_err(insert_failed);
    let done = match inserted {
        Ok(_) => check_insert(change.connection(), &record.id, options, now).await,
        Err(error) => Err(error),
    };
    change.end(done).await
}

/// The values of the columns that are written in another form than the record's.
pub(super) struct RecordValues {
    version: i64,
    rotations: i64,
    encoded: EncodedColumns,
}

impl RecordValues {
    pub(super) fn of(record: &KeyRecord) -> Result<Self, StoreError> {
        Ok(Self {
            version: sql::stored_version(record)?,
            rotations: sql::stored_rotations(record)?,
            encoded: EncodedColumns::of_record(record)?,
        })
    }

    /// Binds the columns of [`column_names`] and `label_key`.
    pub(super) fn bind<'q>(
        &'q self,
        record: &'q KeyRecord,
        statement: SqliteQuery<'q>,
    ) -> SqliteQuery<'q> {
        let previous = record.previous.as_ref();
        let revoked = record.revoked.as_ref();
        statement
            .bind(record.id.as_str())
            .bind(&record.prefix)
            .bind(&record.label)
            .bind(&record.owner)
            .bind(&record.digest)
            .bind(previous.map(|previous| &previous.digest))
            .bind(previous.map(|previous| previous.until.as_millis()))
            .bind(&self.encoded.scopes)
            .bind(&self.encoded.metadata)
            .bind(&record.environment)
            .bind(&self.encoded.networks)
            .bind(&self.encoded.methods)
            .bind(&self.encoded.limits)
            .bind(record.created.as_millis())
            .bind(record.expires.map(Timestamp::as_millis))
            .bind(record.not_before.map(Timestamp::as_millis))
            .bind(revoked.map(|revocation| revocation.at.as_millis()))
            .bind(revoked.and_then(|revocation| revocation.reason.as_ref()))
            .bind(record.enabled)
            .bind(self.version)
            .bind(&record.description)
            .bind(&record.created_by)
            .bind(&record.updated_by)
            .bind(self.rotations)
            .bind(record.enabled_at.map(Timestamp::as_millis))
            .bind(&self.encoded.label_key)
    }
}

type SqliteQuery<'q> = Query<'q, Sqlite, SqliteArguments>;

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
    ($($more:literal)?) => {
        concat!(
            "SELECT ",
            $crate::store::sql::read_columns!(),
            $($more,)?
            " FROM (SELECT api_keys.*, state.version AS owner_version, \
             state.revocations AS owner_revoked, state.suspended AS owner_suspended, \
             iif(revoked_at IS NULL AND owner_revocations < state.revocations, ",
            $crate::store::sqlite::records::of_revocation!("at"),
            ", NULL) AS owner_at, \
             iif(revoked_at IS NULL AND owner_revocations < state.revocations, ",
            $crate::store::sqlite::records::of_revocation!("reason"),
            ", NULL) AS owner_reason \
             FROM api_keys LEFT JOIN api_key_owners AS state ON state.owner = api_keys.owner)"
        )
    };
}

pub(super) use {of_revocation, select};

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

const FIND_MANY: &str = concat!(select!(), " WHERE id IN (SELECT value FROM json_each(?))");

/// See [`BatchReads::find_many`](crate::store::BatchReads::find_many).
pub(super) async fn find_many(
    pool: &SqlitePool,
    ids: &[KeyId],
) -> Result<Vec<FindResult>, StoreError> {
    let texts: Vec<&str> = ids.iter().map(KeyId::as_str).collect();
    let rows = query(FIND_MANY).bind(json(&texts)).fetch_all(pool).await;
    let rows = rows.map_err(|error| failed("reading records", error))?;
    Ok(sql::records_of(ids, &rows))
}

// A column that can be NULL has a flag beside its new value. The largest version stays as it is.
const UPDATE: &str = "UPDATE api_keys SET \
    version = version + (version < 9223372036854775807), updated_by = $2, \
    rotations = rotations + (coalesce($9, digest) <> digest AND rotations < 9223372036854775807), \
    label = coalesce($3, label), label_key = coalesce($4, label_key), scopes = coalesce($5, scopes), \
    metadata = coalesce($6, metadata), networks = coalesce($7, networks), \
    methods = coalesce($8, methods), digest = coalesce($9, digest), limits = coalesce($10, limits), \
    enabled = coalesce($11, enabled), description = iif($12, $13, description), \
    owner = iif($14, $15, owner), environment = iif($16, $17, environment), \
    expires_at = iif($18, $19, expires_at), not_before = iif($20, $21, not_before), \
    previous_digest = iif($22, $23, previous_digest), previous_until = iif($22, $24, previous_until), \
    enabled_at = coalesce($25, enabled_at) \
    WHERE id = $1";

/// See [`KeyStore::update`](crate::KeyStore::update).
pub(super) async fn update(
    pool: &SqlitePool,
    id: &KeyId,
    patch: &KeyPatch,
    options: &WriteOptions,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    let encoded = EncodedColumns::of_patch(patch)?;
    let mut change =
        ChangeTransaction::begin(pool, "changing a record", &options.origin, clock).await?;
    let now = change.now();
    let connection = change.connection();
    let done = async {
        let before = check_record(connection, id, options, now).await?;
        write(connection, id, patch, encoded, options).await?;
        check_update(connection, id, &before, options, now).await
    };
    let done = done.await;
    change.end(done).await
}

async fn write(
    connection: &mut SqliteConnection,
    id: &KeyId,
    patch: &KeyPatch,
    encoded: EncodedColumns,
    options: &WriteOptions,
) -> Result<(), StoreError> {
    let previous = patch.previous.as_ref().and_then(Option::as_ref);
    query(UPDATE)
        .bind(id.as_str())
        .bind(&options.origin.actor)
        .bind(&patch.label)
        .bind(encoded.label_key)
        .bind(encoded.scopes)
        .bind(encoded.metadata)
        .bind(encoded.networks)
        .bind(encoded.methods)
        .bind(&patch.digest)
        .bind(encoded.limits)
        .bind(patch.enabled)
        .bind(patch.description.is_some())
        .bind(patch.description.as_ref().and_then(Option::as_ref))
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
        .bind(patch.enabled_at.map(Timestamp::as_millis))
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| failed("changing a record", error))
}

const REVOKE: &str = "UPDATE api_keys SET revoked_at = ?, revoked_reason = ?, updated_by = ?, \
    version = version + (version < 9223372036854775807) WHERE id = ? AND revoked_at IS NULL \
    AND owner_revocations >= coalesce((SELECT revocations FROM api_key_owners WHERE owner = api_keys.owner), 0)";

/// See [`KeyStore::revoke`](crate::KeyStore::revoke).
pub(super) async fn revoke(
    pool: &SqlitePool,
    id: &KeyId,
    revocation: &Revocation,
    options: &WriteOptions,
    clock: &dyn Clock,
) -> Result<bool, StoreError> {
    let mut change =
        ChangeTransaction::begin(pool, "revoking a key", &options.origin, clock).await?;
    let now = change.now();
    let connection = change.connection();
    let done = async {
        check_record(connection, id, options, now).await?;
        let revoked = query(REVOKE)
            .bind(revocation.at.as_millis())
            .bind(&revocation.reason)
            .bind(&options.origin.actor)
            .bind(id.as_str())
            .execute(connection)
            .await
            .map_err(|error| failed("revoking a key", error))?;
        Ok(revoked.rows_affected() > 0)
    };
    let done = done.await;
    change.end(done).await
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
    after: Option<&ListCursor>,
    origin: &ChangeOrigin,
    clock: &dyn Clock,
) -> Result<BulkStep, StoreError> {
    const DOING: &str = "removing old records";
    let after = after.map_or("", |after| after.id.as_str());
    let end = query(END_OF_STEP)
        .bind(after)
        .bind(STEP - 1)
        .fetch_optional(&pools.reader)
        .await
        .map_err(|error| failed(DOING, error))?;
    let next = end.as_ref().and_then(sql::id);
    let mut change = ChangeTransaction::begin(&pools.writer, DOING, origin, clock).await?;
    let rows = query(PURGE_STEP)
        .bind(before.as_millis())
        .bind(after)
        .bind(next.as_ref().map(KeyId::as_str))
        .fetch_all(change.connection())
        .await
        .map_err(|error| failed(DOING, error));
    let rows = change.end(rows).await?;
    Ok(BulkStep::new(
        rows.iter().filter_map(sql::id).collect(),
        next.map(ListCursor::from),
    ))
}

#[cfg(test)]
pub(super) mod tests {
    use sqlx::{AssertSqlSafe, Row};

    use super::*;
    use crate::store::{KeyStore, SqliteStore};

    /// Asserts that `sql` reads what is in `expected` of `steps`, and no other part of the table.
    pub(in crate::store::sqlite) async fn reads(store: &SqliteStore, sql: &str, expected: &[&str]) {
        let steps = reads_through(store, sql, expected).await;
        assert!(!steps.contains("TEMP"), "{sql}: {steps}");
    }

    /// As [`reads`], for a statement that sorts what it read. Returns its steps.
    pub(in crate::store::sqlite) async fn reads_through(
        store: &SqliteStore,
        sql: &str,
        expected: &[&str],
    ) -> String {
        let plan = query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        let pools = store.pools().await.unwrap();
        let rows = plan.fetch_all(&pools.reader).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        let steps = steps.join("; ");
        for part in expected {
            assert!(steps.contains(part), "{sql}: {steps}");
        }
        assert!(!steps.contains("SCAN api_key"), "{sql}: {steps}");
        steps
    }

    /// Neither a read nor a step reads more of the table the more keys it, or an owner, has: each is a
    /// range of an index.
    #[tokio::test]
    async fn each_statement_reads_a_range_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db"));
        store.start().await.unwrap();
        let [of_all, one] = [
            "sqlite_autoindex_api_keys_1 (id>?",
            "sqlite_autoindex_api_keys_1 (id=?)",
        ];
        let state = "state USING PRIMARY KEY (owner=?)";
        let revocation = "sqlite_autoindex_api_key_owner_revocations_1 (owner=? AND number>?)";
        let end = |index: &str| format!("{index} AND id<?)");
        reads(&store, END_OF_STEP, &[&format!("{of_all})")]).await;
        reads(&store, PURGE_STEP, &[&end(of_all), revocation]).await;
        reads(&store, UPDATE, &[one]).await;
        reads(&store, REVOKE, &[one]).await;
        reads(&store, FIND, &[one, state, revocation]).await;
        reads(&store, FIND_MANY, &[one, state, revocation]).await;
        store.stop().await;
    }
}
