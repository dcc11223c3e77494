//! Owners and records. `migrations/0108_copying.sql` has the triggers behind the statements.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::postgres::PgRow;

use super::super::error::failed;
use super::super::limit_counters::whole;
use super::super::origin::with_origin;
use super::super::owners::owner_join;
use super::super::pool::ConnectionPool;
use super::{WRITING, once};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyRecord, OwnerState};
use crate::store::copy_rules::{CopyAction, copied_record};
use crate::store::sql::{self, EncodedColumns, KeyRow, column_names, read_columns};
use crate::store::{CopyOutcome, ListedOwner};
use crate::util::text::quote;

/// What the triggers read: see [`origin_text`](super::super::origin::origin_text).
const ORIGIN: &str = r#"{"channel":"code","is_copy":true,"sets_enabled_at":true}"#;

const FIND_OWNERS: &str = "SELECT owner, version AS owner_version, revocations AS owner_revoked, suspended AS owner_suspended \
    FROM api_key_owners WHERE owner = ANY ($1)";

/// A state that was changed in the meantime stays.
const WRITE_OWNERS: &str = concat!(
    with_origin!("$5"),
    "INSERT INTO api_key_owners AS known (owner, version, revocations, suspended) \
     SELECT one.* FROM origin, unnest($1::text[], $2::bigint[], $3::bigint[], $4::boolean[]) AS one \
     ON CONFLICT (owner) DO UPDATE SET version = excluded.version, revocations = excluded.revocations, \
     suspended = excluded.suspended WHERE known.version < excluded.version AND known.revocations <= excluded.revocations"
);

/// Writes owners whose state is later than the present one.
pub(super) async fn write_owners(
    pool: &ConnectionPool,
    owners: &[ListedOwner],
) -> Result<CopyOutcome, StoreError> {
    let writing_failed = |error| failed(WRITING, error);
    let names: Vec<_> = owners.iter().map(|owner| owner.name.clone()).collect();
    let rows = pool.read(|| once(FIND_OWNERS).bind(names.clone())).await;
    let rows = rows.map_err(writing_failed)?;
    let present: HashMap<String, OwnerState> = rows.iter().filter_map(owner).collect();
    let mut outcome = CopyOutcome::default();
    let is_written = |owner: &&ListedOwner| {
        let action = CopyAction::of_owner(present.get(&owner.name).copied(), owner.state);
        outcome.count(action, || format!("the owner {}", quote(&owner.name)))
    };
    let written: Vec<_> = owners.iter().filter(is_written).collect();
    if written.is_empty() {
        return Ok(outcome);
    }
    fn column<T>(owners: &[&ListedOwner], value: impl Fn(&ListedOwner) -> T) -> Vec<T> {
        owners.iter().map(|owner| value(owner)).collect()
    }
    let write = || {
        once(WRITE_OWNERS)
            .bind(column(&written, |owner| owner.name.clone()))
            .bind(column(&written, |owner| whole(owner.state.version)))
            .bind(column(&written, |owner| whole(owner.state.revocations)))
            .bind(column(&written, |owner| owner.state.suspended))
            .bind(ORIGIN)
    };
    pool.write(write).await.map_err(writing_failed)?;
    Ok(outcome)
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

/// A record that was changed in the meantime stays.
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
     WHERE key.version < excluded.version AND (key.revoked_at IS NULL OR excluded.revoked_at IS NOT NULL)"
);

/// Writes records whose version is later than the present one.
pub(super) async fn write_keys(
    pool: &ConnectionPool,
    records: &[KeyRecord],
) -> Result<CopyOutcome, StoreError> {
    let writing_failed = |error| failed(WRITING, error);
    let ids: Vec<_> = records.iter().map(|record| record.id.to_string()).collect();
    let rows = pool.read(|| once(FIND_KEYS).bind(ids.clone())).await;
    let rows = rows.map_err(writing_failed)?;
    let present = rows
        .iter()
        .map(present)
        .collect::<Result<HashMap<_, _>, StoreError>>()?;
    let (mut outcome, mut written) = (CopyOutcome::default(), Vec::new());
    for record in records {
        let action = CopyAction::of_record(present.get(&record.id), record);
        if outcome.count(action, || record.id.to_string()) {
            written.push(columns(record)?);
        }
    }
    if written.is_empty() {
        return Ok(outcome);
    }
    let text = Value::from(written).to_string();
    let write = || once(WRITE_KEYS).bind(text.clone()).bind(ORIGIN);
    pool.write(write).await.map_err(writing_failed)?;
    Ok(outcome)
}

/// Reads a record. One that cannot be read may be revoked, so it is not replaced.
fn present(row: &PgRow) -> Result<(KeyId, KeyRecord), StoreError> {
    let record = copied_record(sql::record(row)?);
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
