//! Owners and records. `migrations/0108_copying.sql` has the triggers behind the statements.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::super::error::failed;
use super::super::limit_counters::whole;
use super::super::origin::with_origin;
use super::super::owners::owner_join;
use super::super::pool::ConnectionPool;
use super::{TRIES, WRITING, once};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyRecord, OwnerState};
use crate::store::copy_rules::busy;
use crate::store::sql::{self, EncodedColumns, KeyRow, column_names, read_columns};
use crate::store::{CopyOutcome, ListedOwner};

/// What the triggers read: see [`origin_text`](super::super::origin::origin_text).
const ORIGIN: &str = r#"{"channel":"code","is_copy":true,"sets_enabled_at":true}"#;

const FIND_OWNERS: &str = "SELECT owner, version AS owner_version, revocations AS owner_revoked, suspended AS owner_suspended \
    FROM api_key_owners WHERE owner = ANY ($1)";

/// A state that was changed in the meantime stays. It is looked at again: it may have to be revoked.
const WRITE_OWNERS: &str = concat!(
    with_origin!("$5"),
    "INSERT INTO api_key_owners AS known (owner, version, revocations, suspended) \
     SELECT one.* FROM origin, unnest($1::text[], $2::bigint[], $3::bigint[], $4::boolean[]) AS one \
     ON CONFLICT (owner) DO UPDATE SET version = excluded.version, revocations = excluded.revocations, \
     suspended = excluded.suspended WHERE known.version < excluded.version AND known.revocations <= excluded.revocations \
     RETURNING known.owner"
);

/// Writes owners whose state is later than the present one, or has more revocations.
pub(super) async fn write_owners(
    pool: &ConnectionPool,
    owners: &[ListedOwner],
) -> Result<CopyOutcome, StoreError> {
    let writing_failed = |error| failed(WRITING, error);
    let mut left: Vec<_> = owners.iter().collect();
    let mut outcome = CopyOutcome::default();
    for _ in 0..TRIES {
        let names: Vec<_> = left.iter().map(|owner| owner.name.clone()).collect();
        let rows = pool.read(|| once(FIND_OWNERS).bind(names.clone())).await;
        let rows = rows.map_err(writing_failed)?;
        let present: HashMap<String, OwnerState> = rows.iter().filter_map(owner).collect();
        let held = |owner: &ListedOwner| present.get(&owner.name).copied();
        let state = |owner: &&ListedOwner| {
            let state = CopyOutcome::default().count_owner(held(owner), owner)?;
            Some((owner.name.clone(), state))
        };
        let written: Vec<_> = left.iter().filter_map(state).collect();
        let done = put_owners(pool, &written).await.map_err(writing_failed)?;
        let names: HashSet<_> = written.iter().map(|(name, _)| name).collect();
        let is_left = |name: &String| names.contains(name) && !done.contains(name);
        left.retain(|owner| {
            let is_left = is_left(&owner.name);
            if !is_left {
                outcome.count_owner(held(owner), owner);
            }
            is_left
        });
        if left.is_empty() {
            return Ok(outcome);
        }
    }
    Err(busy(WRITING))
}

/// Runs [`WRITE_OWNERS`], and returns the names of those that it wrote.
async fn put_owners(
    pool: &ConnectionPool,
    written: &[(String, OwnerState)],
) -> Result<HashSet<String>, sqlx::Error> {
    fn column<T>(written: &[(String, OwnerState)], value: impl Fn(&OwnerState) -> T) -> Vec<T> {
        written.iter().map(|(_, state)| value(state)).collect()
    }
    if written.is_empty() {
        return Ok(HashSet::new());
    }
    let names: Vec<_> = written.iter().map(|(name, _)| name.clone()).collect();
    let write = || {
        once(WRITE_OWNERS)
            .bind(names.clone())
            .bind(column(written, |state| whole(state.version)))
            .bind(column(written, |state| whole(state.revocations)))
            .bind(column(written, |state| state.suspended))
            .bind(ORIGIN)
    };
    texts(&pool.write(write).await?)
}

/// Reads the first column.
fn texts(rows: &[PgRow]) -> Result<HashSet<String>, sqlx::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn owner(row: &PgRow) -> Option<(String, OwnerState)> {
    let name = row.text("owner").ok()??;
    Some((name.to_owned(), sql::state(row).ok()?))
}

const FIND_KEYS: &str = concat!(
    "SELECT ",
    read_columns!(),
    " FROM api_keys AS key",
    owner_join!(),
    " WHERE key.id = ANY ($1)"
);

/// A record that was changed in the meantime stays. It is looked at again: it may have to be revoked.
const WRITE_KEYS: &str = concat!(
    with_origin!("$2"),
    "INSERT INTO api_keys AS key (",
    column_names!(),
    ", label_key, owner_revocations) SELECT one.* FROM origin, json_to_recordset($1::json) AS one(\
     id text, prefix text, label text, owner text, digest text, previous_digest text, previous_until bigint, scopes text, \
     metadata text, environment text, networks text, methods text, limits text, created_at bigint, expires_at bigint, \
     not_before bigint, revoked_at bigint, revoked_reason text, enabled boolean, version bigint, description text, \
     created_by text, updated_by text, rotations bigint, enabled_at bigint, label_key text, owner_revocations bigint) \
     ON CONFLICT (id) DO UPDATE SET (",
    column_names!(),
    ", label_key, owner_revocations) = ROW(\
     excluded.id, excluded.prefix, excluded.label, excluded.owner, excluded.digest, excluded.previous_digest, \
     excluded.previous_until, excluded.scopes, excluded.metadata, excluded.environment, excluded.networks, excluded.methods, \
     excluded.limits, excluded.created_at, excluded.expires_at, excluded.not_before, excluded.revoked_at, \
     excluded.revoked_reason, excluded.enabled, excluded.version, excluded.description, excluded.created_by, \
     excluded.updated_by, excluded.rotations, excluded.enabled_at, excluded.label_key, excluded.owner_revocations) \
     WHERE key.version < excluded.version AND (key.revoked_at IS NULL OR excluded.revoked_at IS NOT NULL) \
     RETURNING key.id"
);

/// Adds when and why records were revoked that their owner's state revokes here. Their version is the same.
const COMPLETE_KEYS: &str = concat!(
    with_origin!("$5"),
    "UPDATE api_keys AS key SET revoked_at = one.at, revoked_reason = one.reason \
     FROM origin, unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[]) AS one(id, version, at, reason) \
     WHERE key.id = one.id AND key.version = one.version RETURNING key.id"
);

/// Writes records whose version is later than the present one, or that are revoked there alone.
pub(super) async fn write_keys(
    pool: &ConnectionPool,
    records: &[KeyRecord],
) -> Result<CopyOutcome, StoreError> {
    let writing_failed = |error| failed(WRITING, error);
    let mut left: Vec<_> = records.iter().collect();
    let mut outcome = CopyOutcome::default();
    for _ in 0..TRIES {
        let ids: Vec<_> = left.iter().map(|record| record.id.to_string()).collect();
        let rows = pool.read(|| once(FIND_KEYS).bind(ids.clone())).await;
        let rows = rows.map_err(writing_failed)?;
        let present = rows
            .iter()
            .map(present)
            .collect::<Result<HashMap<_, _>, StoreError>>()?;
        let written = left.iter().filter_map(|record| {
            CopyOutcome::default().count_record(present.get(&record.id), record)
        });
        let written: Vec<_> = written.collect();
        let (completed, changed): (Vec<_>, Vec<_>) = written.iter().partition(|record| {
            let present = present.get(&record.id);
            present.is_some_and(|present| present.version == record.version)
        });
        // A record that cannot be written is found before any is.
        let changed = changed.iter().map(|record| columns(record));
        let changed = changed.collect::<Result<Vec<_>, _>>()?;
        let mut done = complete(pool, &completed).await.map_err(writing_failed)?;
        done.extend(put_keys(pool, changed).await.map_err(writing_failed)?);
        let ids: HashSet<_> = written.iter().map(|record| record.id).collect();
        left.retain(|record| {
            let is_left = ids.contains(&record.id) && !done.contains(record.id.as_str());
            if !is_left {
                outcome.count_record(present.get(&record.id), record);
            }
            is_left
        });
        if left.is_empty() {
            return Ok(outcome);
        }
    }
    Err(busy(WRITING))
}

/// Runs [`WRITE_KEYS`], and returns the ids of the records that it wrote.
async fn put_keys(
    pool: &ConnectionPool,
    records: Vec<Value>,
) -> Result<HashSet<String>, sqlx::Error> {
    if records.is_empty() {
        return Ok(HashSet::new());
    }
    let text = Value::from(records).to_string();
    let write = || once(WRITE_KEYS).bind(text.clone()).bind(ORIGIN);
    texts(&pool.write(write).await?)
}

/// Runs [`COMPLETE_KEYS`], and returns the ids of the records that it found. Records read the same before and after it, but for the
/// time and the reason.
async fn complete(
    pool: &ConnectionPool,
    records: &[&Cow<'_, KeyRecord>],
) -> Result<HashSet<String>, sqlx::Error> {
    if records.is_empty() {
        return Ok(HashSet::new());
    }
    let revoked = || records.iter().map(|record| record.revoked.as_ref());
    let ids: Vec<_> = records.iter().map(|record| record.id.to_string()).collect();
    let versions: Vec<_> = records.iter().map(|record| whole(record.version)).collect();
    let times: Vec<_> = revoked()
        .map(|revoked| revoked.map(|revoked| revoked.at.as_millis()))
        .collect();
    let reasons: Vec<_> = revoked()
        .map(|revoked| revoked.and_then(|revoked| revoked.reason.clone()))
        .collect();
    let complete = || {
        once(COMPLETE_KEYS)
            .bind(ids.clone())
            .bind(versions.clone())
            .bind(times.clone())
            .bind(reasons.clone())
            .bind(ORIGIN)
    };
    texts(&pool.write(complete).await?)
}

/// Reads a record. One that cannot be read may be revoked, so it is not replaced.
fn present(row: &PgRow) -> Result<(KeyId, KeyRecord), StoreError> {
    let record = sql::record(row)?;
    Ok((record.id, record))
}

fn columns(record: &KeyRecord) -> Result<Value, StoreError> {
    let encoded = EncodedColumns::of_record(record)?;
    let previous = record.previous.as_ref();
    let revoked = record.revoked.as_ref();
    Ok(json!({
        "id": record.id,
        "prefix": record.prefix,
        "label": record.label,
        "owner": record.owner,
        "digest": record.digest,
        "previous_digest": previous.map(|previous| &previous.digest),
        "previous_until": previous.map(|previous| previous.until.as_millis()),
        "scopes": encoded.scopes,
        "metadata": encoded.metadata,
        "environment": record.environment,
        "networks": encoded.networks,
        "methods": encoded.methods,
        "limits": encoded.limits,
        "created_at": record.created.as_millis(),
        "expires_at": record.expires.map(Timestamp::as_millis),
        "not_before": record.not_before.map(Timestamp::as_millis),
        "revoked_at": revoked.map(|revoked| revoked.at.as_millis()),
        "revoked_reason": revoked.and_then(|revoked| revoked.reason.as_ref()),
        "enabled": record.enabled,
        "version": sql::stored_version(record)?,
        "description": record.description,
        "created_by": record.created_by,
        "updated_by": record.updated_by,
        "rotations": sql::stored_rotations(record)?,
        "enabled_at": record.enabled_at.map(Timestamp::as_millis),
        "label_key": encoded.label_key,
        "owner_revocations": whole(record.owner_revocations),
    }))
}
