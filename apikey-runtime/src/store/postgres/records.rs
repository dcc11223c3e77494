//! The statements on records. Each write is one statement, committed by itself: a crash between two
//! steps leaves all of it or nothing, and so does a caller that goes away.

use sqlx::postgres::PgRow;
use sqlx::{Row, query};

use super::error::{failed, insert_failed, write_failed};
use super::history;
use super::origin::{origin_text, with_origin};
use super::owners::owner_join;
use super::pool::ConnectionPool;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};
use crate::store::sql::{self, EncodedColumns, KeyRow, column_names, read_columns};
use crate::store::{FindResult, WriteOptions};

sql::key_row!(PgRow);

/// See [`KeyStore::insert`](crate::KeyStore::insert).
pub(super) async fn insert(
    pool: &ConnectionPool,
    record: &KeyRecord,
    options: &WriteOptions,
) -> Result<(), StoreError> {
    const INSERT: &str = concat!(
        with_origin!("$27"),
        "INSERT INTO api_keys (",
        column_names!(),
        ", label_key) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
         $21, $22, $23, $24, $25, $26 FROM origin"
    );
    let version = sql::stored_version(record)?;
    let rotations = sql::stored_rotations(record)?;
    let encoded = EncodedColumns::of_record(record)?;
    let origin = origin_text(&options.origin, options.max_live_keys);
    let previous = record.previous.as_ref();
    let revoked = record.revoked.as_ref();
    let insert = || {
        query(INSERT)
            .bind(record.id.as_str())
            .bind(&record.prefix)
            .bind(&record.label)
            .bind(&record.owner)
            .bind(&record.digest)
            .bind(previous.map(|previous| &previous.digest))
            .bind(previous.map(|previous| previous.until.as_millis()))
            .bind(&encoded.scopes)
            .bind(&encoded.metadata)
            .bind(&record.environment)
            .bind(&encoded.networks)
            .bind(&encoded.methods)
            .bind(&encoded.limits)
            .bind(record.created.as_millis())
            .bind(record.expires.map(Timestamp::as_millis))
            .bind(record.not_before.map(Timestamp::as_millis))
            .bind(revoked.map(|revocation| revocation.at.as_millis()))
            .bind(revoked.and_then(|revocation| revocation.reason.as_ref()))
            .bind(record.enabled)
            .bind(version)
            .bind(&record.description)
            .bind(&record.created_by)
            .bind(&record.updated_by)
            .bind(rotations)
            .bind(record.enabled_at.map(Timestamp::as_millis))
            .bind(&encoded.label_key)
            .bind(&origin)
    };
    let inserted = pool.write(insert).await;
    inserted
        .map(drop)
        .map_err(|error| insert_failed(error, options))
}

/// See [`KeyStore::find`](crate::KeyStore::find). Reads from the primary, or not at all.
pub(super) async fn find(
    pool: &ConnectionPool,
    id: &KeyId,
) -> Result<Option<KeyRecord>, StoreError> {
    const FIND: &str = concat!(
        "SELECT ",
        read_columns!(),
        ", pg_is_in_recovery() AS standby FROM (SELECT) AS one LEFT JOIN api_keys AS key ON id = $1",
        owner_join!()
    );
    let reading_failed = |error| failed("reading a record", error);
    let rows = pool.read(|| query(FIND).bind(id.as_str())).await;
    let rows = rows.map_err(reading_failed)?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    history::primary(row).map_err(reading_failed)?;
    // Without a record, all its columns are NULL.
    match row.id_bytes() {
        [] => Ok(None),
        _ => Ok(Some(sql::record(row)?)),
    }
}

/// See [`BatchReads::find_many`](crate::store::BatchReads::find_many). Reads from the primary, or not at all.
pub(super) async fn find_many(
    pool: &ConnectionPool,
    ids: &[KeyId],
) -> Result<Vec<FindResult>, StoreError> {
    // A row for each id, so that one tells which server answers. With a limit: the server then looks each record up.
    const FIND_MANY: &str = concat!(
        "SELECT ",
        read_columns!(),
        ", pg_is_in_recovery() AS standby FROM unnest($1::text[]) AS asked (wanted) \
            LEFT JOIN LATERAL (SELECT * FROM api_keys WHERE id = wanted LIMIT 1) AS key ON TRUE",
        owner_join!()
    );
    let reading_failed = |error| failed("reading records", error);
    let texts: Vec<String> = ids.iter().map(KeyId::to_string).collect();
    let rows = pool.read(|| query(FIND_MANY).bind(texts.clone())).await;
    let rows = rows.map_err(reading_failed)?;
    for row in &rows {
        history::primary(row).map_err(reading_failed)?;
    }
    Ok(sql::records_of(ids, &rows))
}

/// Locks the record `$1` and reads on what a write of it depends, as of then. `turned` comes first: see
/// `migrations/0103_owners.sql` for the order of locks.
macro_rules! held {
    ($turned:literal) => {
        concat!(
            "held AS MATERIALIZED (SELECT key.id, key.owner, key.version FROM origin, ",
            $turned,
            "api_keys AS key WHERE key.id = $1 FOR NO KEY UPDATE OF key), "
        )
    };
}

/// Whether the record that is held has the owner `$2` and the version `$3` that the write expects.
macro_rules! is_expected {
    () => {
        "($2::text IS NULL OR held.owner = $2) AND ($3::bigint IS NULL OR held.version = $3)"
    };
}

/// The answer of a write: `is_owned` and `is_expected` tell which condition does not hold.
macro_rules! outcome {
    () => {
        concat!(
            "SELECT ($2::text IS NULL OR held.owner = $2) IS TRUE AS is_owned, (",
            is_expected!(),
            ") IS TRUE AS is_expected, EXISTS (SELECT FROM changed) AS is_changed FROM held"
        )
    };
}

/// See [`KeyStore::update`](crate::KeyStore::update).
pub(super) async fn update(
    pool: &ConnectionPool,
    id: &KeyId,
    patch: &KeyPatch,
    options: &WriteOptions,
) -> Result<(), StoreError> {
    // A column that can be NULL has a flag beside its new value. The largest version stays as it is. If the number of live
    // keys is bounded, the write takes the turn of the owner that the record will have: the new one, or that of now.
    const UPDATE: &str = concat!(
        with_origin!("$4"),
        ", turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(api_key_owner_turn(coming.owner)) FROM ( \
            SELECT CASE WHEN $14 THEN $15 ELSE key.owner END AS owner FROM api_keys AS key WHERE key.id = $1) AS coming \
            WHERE $5 AND coming.owner IS NOT NULL), ",
        held!("(SELECT count(*) FROM turn) AS turned, "),
        "changed AS (UPDATE api_keys AS key SET \
            version = key.version + (key.version < 9223372036854775807)::integer, \
            label = coalesce($6, key.label), scopes = coalesce($7, key.scopes), metadata = coalesce($8, key.metadata), \
            networks = coalesce($9, key.networks), methods = coalesce($10, key.methods), \
            limits = coalesce($11, key.limits), enabled = coalesce($12, key.enabled), \
            digest = coalesce($13, key.digest), \
            owner = CASE WHEN $14 THEN $15 ELSE key.owner END, \
            environment = CASE WHEN $16 THEN $17 ELSE key.environment END, \
            expires_at = CASE WHEN $18 THEN $19 ELSE key.expires_at END, \
            not_before = CASE WHEN $20 THEN $21 ELSE key.not_before END, \
            previous_digest = CASE WHEN $22 THEN $23 ELSE key.previous_digest END, \
            previous_until = CASE WHEN $22 THEN $24 ELSE key.previous_until END, \
            description = CASE WHEN $25 THEN $26 ELSE key.description END, \
            label_key = coalesce($27, key.label_key), \
            enabled_at = coalesce($28, key.enabled_at) \
            FROM held WHERE key.id = held.id AND ",
        is_expected!(),
        " RETURNING key.id) ",
        outcome!()
    );
    let encoded = EncodedColumns::of_patch(patch)?;
    let previous = patch.previous.as_ref().and_then(Option::as_ref);
    // Other changes do not make a key live.
    let comes = patch.owner.is_some() || patch.expires.is_some();
    let max_live_keys = options.max_live_keys.filter(|_| comes);
    let origin = origin_text(&options.origin, max_live_keys);
    let update = || {
        query(UPDATE)
            .bind(id.as_str())
            .bind(&options.expected_owner)
            .bind(sql::expected_version(options))
            .bind(&origin)
            .bind(max_live_keys.is_some())
            .bind(&patch.label)
            .bind(&encoded.scopes)
            .bind(&encoded.metadata)
            .bind(&encoded.networks)
            .bind(&encoded.methods)
            .bind(&encoded.limits)
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
            .bind(patch.description.is_some())
            .bind(patch.description.as_ref().and_then(Option::as_ref))
            .bind(&encoded.label_key)
            .bind(patch.enabled_at.map(Timestamp::as_millis))
    };
    let updated = pool.write(update).await;
    let rows = updated.map_err(|error| write_failed("changing a record", error, options))?;
    is_changed(&rows).map(drop)
}

/// See [`KeyStore::revoke`](crate::KeyStore::revoke).
pub(super) async fn revoke(
    pool: &ConnectionPool,
    id: &KeyId,
    revocation: &Revocation,
    options: &WriteOptions,
) -> Result<bool, StoreError> {
    // If its owner's state revokes the key, marking writes the time and reason of that.
    const REVOKE: &str = concat!(
        with_origin!("$4"),
        ", ",
        held!(""),
        "changed AS (UPDATE api_keys AS key SET revoked_at = $5, revoked_reason = $6, \
            version = key.version + (key.version < 9223372036854775807)::integer \
            FROM held WHERE key.id = held.id AND ",
        is_expected!(),
        " AND key.revoked_at IS NULL AND key.owner_revocations >= coalesce(( \
            SELECT known.revocations FROM api_key_owners AS known WHERE known.owner = key.owner), 0) RETURNING key.id) ",
        outcome!()
    );
    let origin = origin_text(&options.origin, None);
    let revoke = || {
        query(REVOKE)
            .bind(id.as_str())
            .bind(&options.expected_owner)
            .bind(sql::expected_version(options))
            .bind(&origin)
            .bind(revocation.at.as_millis())
            .bind(&revocation.reason)
    };
    let revoked = pool.write(revoke).await;
    let rows = revoked.map_err(|error| failed("revoking a key", error))?;
    is_changed(&rows)
}

/// Returns whether a write has changed its record, if the record is as the write expects it.
fn is_changed(rows: &[PgRow]) -> Result<bool, StoreError> {
    let row = rows.first().ok_or(StoreError::NotFound)?;
    let flag = |name| row.try_get::<bool, _>(name);
    let flags = (flag("is_owned"), flag("is_expected"), flag("is_changed"));
    match flags {
        (Ok(false), _, _) => Err(StoreError::NotFound),
        (_, Ok(false), _) => Err(StoreError::Conflict),
        (_, _, Ok(is_changed)) => Ok(is_changed),
        (_, _, Err(error)) => Err(failed("reading the outcome of a write", error)),
    }
}
