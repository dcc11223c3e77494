//! The statements. Each write is one, committed by itself: what stops it between two steps leaves
//! all of it or nothing, and so does a caller who goes away.

use super::{COLUMNS, Columns, Connections, Statement, Value, row};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};
use crate::store::columns::{limits_text, metadata_text, words};
use crate::store::paging::page_size;
use crate::store::{ListQuery, RecordPage};

/// Counts a version up, and stays where there is no higher one.
macro_rules! next_version {
    () => {
        "version = version + CASE WHEN version < 9223372036854775807 THEN 1 ELSE 0 END"
    };
}

pub(in crate::store) async fn insert<C: Connections>(
    connections: &C,
    record: &KeyRecord,
) -> Result<(), StoreError> {
    let statement = row::insert(record)?;
    connections
        .rows(&statement)
        .await
        .map_err(C::insert_failed)?;
    Ok(())
}

#[cfg(feature = "sqlite")]
pub(in crate::store) async fn find<C: Connections>(
    connections: &C,
    id: &KeyId,
) -> Result<Option<KeyRecord>, StoreError> {
    let mut statement = reading();
    statement.push(" WHERE id = ").push_value(id.as_str());
    let rows = run(connections, "reading a record", &statement).await?;
    Ok(rows.first().map(row::record).transpose()?)
}

pub(in crate::store) async fn update<C: Connections>(
    connections: &C,
    id: &KeyId,
    patch: &KeyPatch,
) -> Result<(), StoreError> {
    let statement = update_statement(id, patch)?;
    let changed = run(connections, "changing a record", &statement).await?;
    if !changed.is_empty() {
        Ok(())
    } else if patch.expected_version.is_some() && exists(connections, id).await? {
        Err(StoreError::Conflict)
    } else {
        Err(StoreError::NotFound)
    }
}

/// Names the columns that change, and no other.
fn update_statement(id: &KeyId, patch: &KeyPatch) -> Result<Statement, StoreError> {
    let mut sql = Statement::new(concat!("UPDATE api_keys SET ", next_version!()));
    if let Some(label) = &patch.label {
        sql.push(", label = ").push_value(label);
    }
    if let Some(owner) = &patch.owner {
        sql.push(", owner = ").push_value(owner.as_ref());
    }
    if let Some(scopes) = &patch.scopes {
        sql.push(", scopes = ").push_value(scopes.to_string());
    }
    if let Some(metadata) = &patch.metadata {
        sql.push(", metadata = ")
            .push_value(metadata_text(metadata)?);
    }
    if let Some(environment) = &patch.environment {
        sql.push(", environment = ")
            .push_value(environment.as_ref());
    }
    if let Some(networks) = &patch.networks {
        sql.push(", networks = ").push_value(words(networks));
    }
    if let Some(methods) = &patch.methods {
        sql.push(", methods = ").push_value(words(methods));
    }
    if let Some(limits) = &patch.limits {
        sql.push(", limits = ").push_value(limits_text(limits)?);
    }
    if let Some(expires) = patch.expires {
        sql.push(", expires_at = ")
            .push_value(expires.map(Timestamp::as_millis));
    }
    if let Some(not_before) = patch.not_before {
        sql.push(", not_before = ")
            .push_value(not_before.map(Timestamp::as_millis));
    }
    if let Some(enabled) = patch.enabled {
        sql.push(", enabled = ").push_value(enabled);
    }
    if let Some(digest) = &patch.digest {
        sql.push(", digest = ").push_value(digest);
    }
    if let Some(previous) = &patch.previous {
        let previous = previous.as_ref();
        sql.push(", previous_digest = ")
            .push_value(previous.map(|previous| &previous.digest));
        let until = previous.map(|previous| previous.until.as_millis());
        sql.push(", previous_until = ").push_value(until);
    }
    sql.push(" WHERE id = ").push_value(id.as_str());
    if let Some(version) = patch.expected_version {
        // A version that cannot be stored is no record's, and neither is a negative one.
        sql.push(" AND version = ")
            .push_value(i64::try_from(version).unwrap_or(-1));
    }
    sql.push(" RETURNING id");
    Ok(sql)
}

async fn exists<C: Connections>(connections: &C, id: &KeyId) -> Result<bool, StoreError> {
    let statement = Statement::new("SELECT id FROM api_keys WHERE id = $1").bind(id.as_str());
    let found = run(connections, "looking for a record", &statement).await?;
    Ok(!found.is_empty())
}

pub(in crate::store) async fn revoke<C: Connections>(
    connections: &C,
    id: &KeyId,
    revocation: &Revocation,
) -> Result<bool, StoreError> {
    const REVOKE: &str = concat!(
        "UPDATE api_keys SET revoked_at = $1, revoked_reason = $2, ",
        next_version!(),
        " WHERE id = $3 AND revoked_at IS NULL RETURNING id"
    );
    let statement = Statement::new(REVOKE)
        .bind(revocation.at.as_millis())
        .bind(revocation.reason.as_ref())
        .bind(id.as_str());
    let revoked = run(connections, "revoking a key", &statement).await?;
    if !revoked.is_empty() {
        Ok(true)
    } else if exists(connections, id).await? {
        Ok(false)
    } else {
        Err(StoreError::NotFound)
    }
}

pub(in crate::store) async fn revoke_owner<C: Connections>(
    connections: &C,
    owner: &str,
    revocation: &Revocation,
) -> Result<Vec<KeyId>, StoreError> {
    const REVOKE: &str = concat!(
        "UPDATE api_keys SET revoked_at = $1, revoked_reason = $2, ",
        next_version!(),
        " WHERE owner = $3 AND revoked_at IS NULL RETURNING id"
    );
    let statement = Statement::new(REVOKE)
        .bind(revocation.at.as_millis())
        .bind(revocation.reason.as_ref())
        .bind(owner);
    let rows = run(connections, "revoking the keys of an owner", &statement).await?;
    Ok(rows.iter().filter_map(row::id).collect())
}

pub(in crate::store) async fn purge<C: Connections>(
    connections: &C,
    before: Timestamp,
) -> Result<Vec<KeyId>, StoreError> {
    const PURGE: &str =
        "DELETE FROM api_keys WHERE revoked_at < $1 OR expires_at < $1 RETURNING id";
    let statement = Statement::new(PURGE).bind(before.as_millis());
    let rows = run(connections, "removing old records", &statement).await?;
    Ok(rows.iter().filter_map(row::id).collect())
}

pub(in crate::store) async fn list<C: Connections>(
    connections: &C,
    query: &ListQuery,
) -> Result<RecordPage, StoreError> {
    let size = page_size(query);
    let mut page = RecordPage::default();
    let mut after = query.after.map(|id| id.as_str().as_bytes().to_vec());
    loop {
        let statement = list_statement(query, after, size);
        let mut rows = run(connections, "listing records", &statement).await?;
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
        after = rows.last().map(|row| row.id_bytes().to_vec());
        collect(&rows, &mut page);
    }
}

/// Reads one row more than `size`, which tells whether more follow.
fn list_statement(query: &ListQuery, after: Option<Vec<u8>>, size: usize) -> Statement {
    let mut sql = reading();
    sql.push(" WHERE TRUE");
    if let Some(owner) = &query.owner {
        sql.push(" AND owner = ").push_value(owner);
    }
    if let Some(label) = &query.label {
        sql.push(" AND label = ").push_value(label);
    }
    if let Some(after) = after {
        sql.push(" AND id > CAST(")
            .push_value(Value::Id(after))
            .push(" AS TEXT)");
    }
    let limit = i64::try_from(size.saturating_add(1)).unwrap_or(i64::MAX);
    sql.push(" ORDER BY id LIMIT ").push_value(limit);
    sql
}

fn collect(rows: &[impl Columns], page: &mut RecordPage) {
    for row in rows {
        match row::record(row) {
            Ok(record) => page.records.push(record),
            Err(broken) => page.unreadable.push(broken.id),
        }
    }
}

/// Reads records; a condition can follow.
fn reading() -> Statement {
    let mut sql = Statement::new("SELECT ");
    sql.push(COLUMNS).push(" FROM api_keys");
    sql
}

async fn run<C: Connections>(
    connections: &C,
    doing: &str,
    statement: &Statement,
) -> Result<Vec<C::Row>, StoreError> {
    connections
        .rows(statement)
        .await
        .map_err(|error| C::failed(doing, error))
}
