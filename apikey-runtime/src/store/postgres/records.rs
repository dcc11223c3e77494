//! The statements on records. Each write is one statement, committed by itself: a crash between two
//! steps leaves all of it or nothing, and so does a caller that goes away.

use sqlx::postgres::PgRow;
use sqlx::query;

use super::error::{failed, insert_failed};
use super::history;
use super::owners::owner_join;
use super::pool::ConnectionPool;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};
use crate::store::sql::{self, EncodedColumns, KeyRow, column_names, read_columns};

sql::key_row!(PgRow);

/// See [`KeyStore::insert`](crate::KeyStore::insert).
pub(super) async fn insert(pool: &ConnectionPool, record: &KeyRecord) -> Result<(), StoreError> {
    const INSERT: &str = concat!(
        "INSERT INTO api_keys (",
        column_names!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)"
    );
    let version = sql::stored_version(record)?;
    let encoded = EncodedColumns::of_record(record)?;
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
    };
    let inserted = pool.write(insert).await;
    inserted.map(drop).map_err(insert_failed)
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

/// See [`KeyStore::update`](crate::KeyStore::update).
pub(super) async fn update(
    pool: &ConnectionPool,
    id: &KeyId,
    patch: &KeyPatch,
) -> Result<(), StoreError> {
    // A column that can be NULL has a flag beside its new value. The largest version stays as it is.
    const UPDATE: &str = "UPDATE api_keys SET \
        version = version + (version < 9223372036854775807)::integer, \
        label = coalesce($2, label), scopes = coalesce($3, scopes), metadata = coalesce($4, metadata), \
        networks = coalesce($5, networks), methods = coalesce($6, methods), limits = coalesce($7, limits), \
        enabled = coalesce($8, enabled), digest = coalesce($9, digest), \
        owner = CASE WHEN $10 THEN $11 ELSE owner END, \
        environment = CASE WHEN $12 THEN $13 ELSE environment END, \
        expires_at = CASE WHEN $14 THEN $15 ELSE expires_at END, \
        not_before = CASE WHEN $16 THEN $17 ELSE not_before END, \
        previous_digest = CASE WHEN $18 THEN $19 ELSE previous_digest END, \
        previous_until = CASE WHEN $18 THEN $20 ELSE previous_until END \
        WHERE id = $1 AND ($21::bigint IS NULL OR version = $21) RETURNING id";
    let encoded = EncodedColumns::of_patch(patch)?;
    let previous = patch.previous.as_ref().and_then(Option::as_ref);
    let update = || {
        query(UPDATE)
            .bind(id.as_str())
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
            .bind(sql::expected_version(patch))
    };
    let updated = pool.write(update).await;
    let updated = updated.map_err(|error| failed("changing a record", error))?;
    if !updated.is_empty() {
        Ok(())
    } else if patch.expected_version.is_some() && exists(pool, id).await? {
        Err(StoreError::Conflict)
    } else {
        Err(StoreError::NotFound)
    }
}

/// See [`KeyStore::revoke`](crate::KeyStore::revoke).
pub(super) async fn revoke(
    pool: &ConnectionPool,
    id: &KeyId,
    revocation: &Revocation,
) -> Result<bool, StoreError> {
    // If its owner's state revokes the key, marking writes the time and reason of that.
    const REVOKE: &str = "UPDATE api_keys AS key SET revoked_at = $1, revoked_reason = $2, \
        version = version + (version < 9223372036854775807)::integer \
        WHERE id = $3 AND revoked_at IS NULL AND owner_revocations >= coalesce(( \
            SELECT known.revocations FROM api_key_owners AS known WHERE known.owner = key.owner), 0) RETURNING id";
    let revoke = || {
        query(REVOKE)
            .bind(revocation.at.as_millis())
            .bind(&revocation.reason)
            .bind(id.as_str())
    };
    let revoked = pool.write(revoke).await;
    let revoked = revoked.map_err(|error| failed("revoking a key", error))?;
    if !revoked.is_empty() {
        Ok(true)
    } else if exists(pool, id).await? {
        Ok(false)
    } else {
        Err(StoreError::NotFound)
    }
}

async fn exists(pool: &ConnectionPool, id: &KeyId) -> Result<bool, StoreError> {
    let find = || query("SELECT FROM api_keys WHERE id = $1").bind(id.as_str());
    let found = pool.read(find).await;
    let found = found.map_err(|error| failed("looking for a record", error))?;
    Ok(!found.is_empty())
}
