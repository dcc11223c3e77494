//! A record as a row.

use ipnet::IpNet;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Decode, Row, Sqlite, Type};

use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyRecord, Metadata, PreviousDigest, Revocation};
use crate::scope::Scopes;

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

/// Separated by single spaces.
pub(super) fn words<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

/// `metadata` as JSON which [`record`] can read back: it stops at 128 levels, and writing does not.
pub(super) fn metadata_text(metadata: &Metadata) -> Result<String, StoreError> {
    let unfit = |error| {
        refused(
            "the metadata does not read back from JSON; nest it less deeply",
            error,
        )
    };
    let text = serde_json::to_string(metadata).map_err(unfit)?;
    serde_json::from_str::<Metadata>(&text).map_err(unfit)?;
    Ok(text)
}

fn refused(reason: &str, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Backend {
        reason: reason.to_owned(),
        source: Box::new(source),
    }
}

/// A row that is no record.
#[derive(Debug)]
pub(super) struct Broken {
    /// What stands in the column `id`.
    pub(super) id: String,
    /// Names the column; never shows what is in it.
    pub(super) reason: String,
}

impl From<Broken> for StoreError {
    fn from(broken: Broken) -> Self {
        Self::Corrupt {
            id: broken.id,
            reason: broken.reason,
        }
    }
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

/// serde_json's message would quote the text, which is for nobody's log.
fn metadata(text: &str) -> Result<Metadata, String> {
    serde_json::from_str(text).map_err(|error| {
        format!(
            "`metadata` is no JSON object (line {}, column {})",
            error.line(),
            error.column()
        )
    })
}

/// A network that cannot be read must not become "from anywhere".
fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let read = |network: &str| {
        network
            .parse()
            .map_err(|_| "`networks` are not networks".to_owned())
    };
    split(text).map(read).collect()
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
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
