//! A record as a row.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Decode, Row, Sqlite, Type};

use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyRecord, PreviousDigest, Revocation};
use crate::scope::Scopes;
use crate::store::columns::{Broken, metadata, metadata_text, networks, refused, split, words};

/// A statement with its values.
pub(super) type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Names its columns in the order in which [`bind`] gives them.
pub(super) const INSERT: &str = "INSERT INTO api_keys (id, prefix, label, owner, digest, previous_digest, \
     previous_until, scopes, metadata, environment, networks, methods, created_at, expires_at, not_before, \
     revoked_at, revoked_reason, enabled, version) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// The statement that adds `record`.
pub(super) fn insert(record: &KeyRecord) -> Result<Statement<'_>, StoreError> {
    let previous = record.previous.as_ref();
    let revoked = record.revoked.as_ref();
    let version = i64::try_from(record.version)
        .map_err(|error| refused("a version above 2^63 - 1 cannot be kept", error))?;
    Ok(sqlx::query(INSERT)
        .bind(record.id.as_str())
        .bind(&record.prefix)
        .bind(&record.label)
        .bind(&record.owner)
        .bind(&record.digest)
        .bind(previous.map(|previous| &previous.digest))
        .bind(previous.map(|previous| previous.until.as_millis()))
        .bind(record.scopes.to_string())
        .bind(metadata_text(&record.metadata)?)
        .bind(&record.environment)
        .bind(words(&record.networks))
        .bind(words(&record.methods))
        .bind(record.created.as_millis())
        .bind(record.expires.map(Timestamp::as_millis))
        .bind(record.not_before.map(Timestamp::as_millis))
        .bind(revoked.map(|revocation| revocation.at.as_millis()))
        .bind(revoked.and_then(|revocation| revocation.reason.as_ref()))
        .bind(record.enabled)
        .bind(version))
}

/// The record in `row`, which holds all columns of `api_keys`.
pub(super) fn record(row: &SqliteRow) -> Result<KeyRecord, Broken> {
    read(row).map_err(|reason| Broken {
        id: raw_id(row),
        reason,
    })
}

/// The id in the first column, whatever it is.
fn raw_id(row: &SqliteRow) -> String {
    String::from_utf8_lossy(id_bytes(row)).into_owned()
}

/// The bytes of the first column, which in every statement here is the id.
pub(super) fn id_bytes(row: &SqliteRow) -> &[u8] {
    row.try_get(0).unwrap_or_default()
}

/// The id in the first column, if it is one. An id that is none names no record that could be read,
/// or kept in memory.
pub(super) fn id(row: &SqliteRow) -> Option<KeyId> {
    KeyId::from_ascii(id_bytes(row))
}

fn read(row: &SqliteRow) -> Result<KeyRecord, String> {
    let id = KeyId::from_ascii(column::<&str>(row, "id")?.as_bytes())
        .ok_or("`id` is not 22 letters and digits")?;
    let mut record = KeyRecord::new(
        id,
        column::<String>(row, "prefix")?,
        column::<String>(row, "label")?,
        column::<String>(row, "digest")?,
        Timestamp::from_millis(column(row, "created_at")?),
    );
    record.owner = column(row, "owner")?;
    record.previous = previous(row)?;
    record.scopes = Scopes::from_text(column(row, "scopes")?)
        .map_err(|_| "`scopes` are not scopes separated by single spaces")?;
    record.metadata = metadata(column(row, "metadata")?)?;
    record.environment = column(row, "environment")?;
    record.networks = networks(column(row, "networks")?)?;
    record.methods = split(column(row, "methods")?).map(str::to_owned).collect();
    record.expires = time(row, "expires_at")?;
    record.not_before = time(row, "not_before")?;
    record.revoked = revoked(row)?;
    record.enabled = column(row, "enabled")?;
    record.version =
        u64::try_from(column::<i64>(row, "version")?).map_err(|_| "`version` is negative")?;
    Ok(record)
}

fn previous(row: &SqliteRow) -> Result<Option<PreviousDigest>, String> {
    match (
        column(row, "previous_digest")?,
        time(row, "previous_until")?,
    ) {
        (Some(digest), Some(until)) => Ok(Some(PreviousDigest { digest, until })),
        (None, None) => Ok(None),
        _ => Err(
            "one of `previous_digest` and `previous_until` is there without the other".to_owned(),
        ),
    }
}

fn revoked(row: &SqliteRow) -> Result<Option<Revocation>, String> {
    let reason = column(row, "revoked_reason")?;
    Ok(time(row, "revoked_at")?.map(|at| Revocation { at, reason }))
}

fn time(row: &SqliteRow, name: &str) -> Result<Option<Timestamp>, String> {
    Ok(column::<Option<i64>>(row, name)?.map(Timestamp::from_millis))
}

fn column<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    name: &str,
) -> Result<T, String> {
    row.try_get(name)
        .map_err(|_| format!("`{name}` is missing or of another type"))
}
