//! The statements. Each write is one, committed by itself: what stops it between two steps leaves
//! all of it or nothing, and so does a caller who goes away.

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};

use super::error::{failed, insert_failed};
use super::row;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};
use crate::store::columns::{metadata_text, words};
use crate::store::paging::page_size;
use crate::store::{ListQuery, Page};

pub(super) async fn insert(pool: &SqlitePool, record: &KeyRecord) -> Result<(), StoreError> {
    row::insert(record)?
        .execute(pool)
        .await
        .map_err(insert_failed)?;
    Ok(())
}

pub(super) async fn find(pool: &SqlitePool, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
    let found = sqlx::query("SELECT * FROM api_keys WHERE id = ?")
        .bind(id.as_str())
        .fetch_optional(pool)
        .await
        .map_err(|error| failed("reading a record", error))?;
    Ok(found.as_ref().map(row::record).transpose()?)
}

pub(super) async fn update(
    pool: &SqlitePool,
    id: &KeyId,
    patch: &KeyPatch,
) -> Result<(), StoreError> {
    let done = update_statement(id, patch)?
        .build()
        .execute(pool)
        .await
        .map_err(|error| failed("changing a record", error))?;
    if done.rows_affected() > 0 {
        Ok(())
    } else if patch.expected_version.is_some() && exists(pool, id).await? {
        Err(StoreError::Conflict)
    } else {
        Err(StoreError::NotFound)
    }
}

/// Names the columns that change, and no other.
fn update_statement(id: &KeyId, patch: &KeyPatch) -> Result<QueryBuilder<Sqlite>, StoreError> {
    let mut sql = QueryBuilder::new(
        "UPDATE api_keys SET version = version + (version < 9223372036854775807)",
    );
    if let Some(label) = &patch.label {
        sql.push(", label = ").push_bind(label);
    }
    if let Some(owner) = &patch.owner {
        sql.push(", owner = ").push_bind(owner);
    }
    if let Some(scopes) = &patch.scopes {
        sql.push(", scopes = ").push_bind(scopes.to_string());
    }
    if let Some(metadata) = &patch.metadata {
        sql.push(", metadata = ")
            .push_bind(metadata_text(metadata)?);
    }
    if let Some(environment) = &patch.environment {
        sql.push(", environment = ").push_bind(environment);
    }
    if let Some(networks) = &patch.networks {
        sql.push(", networks = ").push_bind(words(networks));
    }
    if let Some(methods) = &patch.methods {
        sql.push(", methods = ").push_bind(words(methods));
    }
    if let Some(expires) = patch.expires {
        sql.push(", expires_at = ")
            .push_bind(expires.map(Timestamp::as_millis));
    }
    if let Some(not_before) = patch.not_before {
        sql.push(", not_before = ")
            .push_bind(not_before.map(Timestamp::as_millis));
    }
    if let Some(enabled) = patch.enabled {
        sql.push(", enabled = ").push_bind(enabled);
    }
    if let Some(digest) = &patch.digest {
        sql.push(", digest = ").push_bind(digest);
    }
    if let Some(previous) = &patch.previous {
        let previous = previous.as_ref();
        sql.push(", previous_digest = ")
            .push_bind(previous.map(|previous| &previous.digest));
        let until = previous.map(|previous| previous.until.as_millis());
        sql.push(", previous_until = ").push_bind(until);
    }
    sql.push(" WHERE id = ").push_bind(id.as_str());
    if let Some(version) = patch.expected_version {
        // A version that cannot be stored is no record's, and neither is a negative one.
        sql.push(" AND version = ")
            .push_bind(i64::try_from(version).unwrap_or(-1));
    }
    Ok(sql)
}

async fn exists(pool: &SqlitePool, id: &KeyId) -> Result<bool, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys WHERE id = ?")
        .bind(id.as_str())
        .fetch_one(pool)
        .await
        .map_err(|error| failed("looking for a record", error))?;
    Ok(count > 0)
}

pub(super) async fn revoke(
    pool: &SqlitePool,
    id: &KeyId,
    revocation: &Revocation,
) -> Result<bool, StoreError> {
    const REVOKE: &str = "UPDATE api_keys SET revoked_at = ?, revoked_reason = ?, \
         version = version + (version < 9223372036854775807) WHERE id = ? AND revoked_at IS NULL";
    let done = sqlx::query(REVOKE)
        .bind(revocation.at.as_millis())
        .bind(&revocation.reason)
        .bind(id.as_str())
        .execute(pool)
        .await
        .map_err(|error| failed("revoking a key", error))?;
    if done.rows_affected() > 0 {
        Ok(true)
    } else if exists(pool, id).await? {
        Ok(false)
    } else {
        Err(StoreError::NotFound)
    }
}

pub(super) async fn revoke_owner(
    pool: &SqlitePool,
    owner: &str,
    revocation: &Revocation,
) -> Result<Vec<KeyId>, StoreError> {
    const REVOKE: &str = "UPDATE api_keys SET revoked_at = ?, revoked_reason = ?, \
         version = version + (version < 9223372036854775807) WHERE owner = ? AND revoked_at IS NULL RETURNING id";
    // All rows are fetched: the commit comes after the last, and its failure must be seen.
    let rows = sqlx::query(REVOKE)
        .bind(revocation.at.as_millis())
        .bind(&revocation.reason)
        .bind(owner)
        .fetch_all(pool)
        .await
        .map_err(|error| failed("revoking the keys of an owner", error))?;
    Ok(rows.iter().filter_map(row::id).collect())
}

pub(super) async fn purge(pool: &SqlitePool, before: Timestamp) -> Result<Vec<KeyId>, StoreError> {
    const PURGE: &str =
        "DELETE FROM api_keys WHERE revoked_at < ?1 OR expires_at < ?1 RETURNING id";
    let rows = sqlx::query(PURGE)
        .bind(before.as_millis())
        .fetch_all(pool)
        .await
        .map_err(|error| failed("removing old records", error))?;
    Ok(rows.iter().filter_map(row::id).collect())
}

pub(super) async fn list(pool: &SqlitePool, query: &ListQuery) -> Result<Page, StoreError> {
    let size = page_size(query);
    let mut page = Page::default();
    let mut after = query.after.map(|id| id.as_str().as_bytes().to_vec());
    loop {
        let mut rows = list_statement(query, after.as_deref(), size)
            .build()
            .fetch_all(pool)
            .await
            .map_err(|error| failed("listing records", error))?;
        if rows.len() <= size {
            collect(&rows, &mut page);
            return Ok(page);
        }
        rows.truncate(size);
        // The next page starts after an id, so this one ends with a row that has one.
        if let Some(last) = rows.iter().rposition(|row| row::id(row).is_some()) {
            rows.truncate(last + 1);
            page.next = row::id(&rows[last]);
            collect(&rows, &mut page);
            return Ok(page);
        }
        after = rows.last().map(|row| row::id_bytes(row).to_vec());
        collect(&rows, &mut page);
    }
}

/// Reads one row more than `size`, which tells whether more follow.
fn list_statement(query: &ListQuery, after: Option<&[u8]>, size: usize) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT * FROM api_keys WHERE TRUE");
    if let Some(owner) = &query.owner {
        sql.push(" AND owner = ").push_bind(owner);
    }
    if let Some(label) = &query.label {
        sql.push(" AND label = ").push_bind(label);
    }
    if let Some(after) = after {
        // Bytes, since an id that someone wrote by hand may be no UTF-8.
        sql.push(" AND id > CAST(")
            .push_bind(after)
            .push(" AS TEXT)");
    }
    let limit = i64::try_from(size.saturating_add(1)).unwrap_or(i64::MAX);
    sql.push(" ORDER BY id LIMIT ").push_bind(limit);
    sql
}

fn collect(rows: &[SqliteRow], page: &mut Page) {
    for row in rows {
        match row::record(row) {
            Ok(record) => page.records.push(record),
            Err(broken) => page.unreadable.push(broken.id),
        }
    }
}
