//! A record as a row.

use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyRecord, PreviousDigest, Revocation};
use crate::scope::Scopes;
use crate::store::columns::{
    Broken, limits, limits_text, metadata, metadata_text, networks, refused, split, words,
};

use super::Statement;

/// The columns of a record, with the id as the first, and named one by one: a column that a later
/// release adds then changes no answer.
macro_rules! column_names {
    () => {
        "id, prefix, label, owner, digest, previous_digest, previous_until, scopes, metadata, environment, \
         networks, methods, limits, created_at, expires_at, not_before, revoked_at, revoked_reason, enabled, version"
    };
}

/// Reads a record; a condition follows.
pub(in crate::store) const COLUMNS: &str = column_names!();

/// Gives its values in the order in which the columns are named.
const INSERT: &str = concat!(
    "INSERT INTO api_keys (",
    column_names!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)"
);

/// The values of a row.
pub(in crate::store) trait Columns {
    fn text(&self, name: &str) -> Result<Option<&str>, sqlx::Error>;
    fn number(&self, name: &str) -> Result<Option<i64>, sqlx::Error>;
    fn truth(&self, name: &str) -> Result<bool, sqlx::Error>;

    /// The bytes of the first column, which in every statement on keys is the id.
    fn id_bytes(&self) -> &[u8];
}

/// [`Columns`] of a database's own row.
macro_rules! columns {
    ($row:ty) => {
        impl $crate::store::sql::Columns for $row {
            fn text(&self, name: &str) -> Result<Option<&str>, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }

            fn number(&self, name: &str) -> Result<Option<i64>, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }

            fn truth(&self, name: &str) -> Result<bool, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }

            fn id_bytes(&self) -> &[u8] {
                // Unchecked: a text is asked for as bytes.
                sqlx::Row::try_get_unchecked(self, 0).unwrap_or_default()
            }
        }
    };
}
pub(in crate::store) use columns;

/// The statement that adds `record`.
pub(super) fn insert(record: &KeyRecord) -> Result<Statement, StoreError> {
    let previous = record.previous.as_ref();
    let revoked = record.revoked.as_ref();
    let version = i64::try_from(record.version)
        .map_err(|error| refused("a version above 2^63 - 1 cannot be kept", error))?;
    Ok(Statement::new(INSERT)
        .bind(record.id.as_str())
        .bind(&record.prefix)
        .bind(&record.label)
        .bind(record.owner.as_ref())
        .bind(&record.digest)
        .bind(previous.map(|previous| &previous.digest))
        .bind(previous.map(|previous| previous.until.as_millis()))
        .bind(record.scopes.to_string())
        .bind(metadata_text(&record.metadata)?)
        .bind(record.environment.as_ref())
        .bind(words(&record.networks))
        .bind(words(&record.methods))
        .bind(limits_text(&record.limits)?)
        .bind(record.created.as_millis())
        .bind(record.expires.map(Timestamp::as_millis))
        .bind(record.not_before.map(Timestamp::as_millis))
        .bind(revoked.map(|revocation| revocation.at.as_millis()))
        .bind(revoked.and_then(|revocation| revocation.reason.as_ref()))
        .bind(record.enabled)
        .bind(version))
}

/// The record in `row`, which holds all columns of `api_keys`.
pub(in crate::store) fn record(row: &impl Columns) -> Result<KeyRecord, Broken> {
    read(row).map_err(|reason| Broken {
        id: String::from_utf8_lossy(row.id_bytes()).into_owned(),
        reason,
    })
}

/// The id in the first column, if it is one. An id that is none names no record that could be read,
/// or kept in memory.
pub(in crate::store) fn id(row: &impl Columns) -> Option<KeyId> {
    KeyId::from_ascii(row.id_bytes())
}

fn read(row: &impl Columns) -> Result<KeyRecord, String> {
    let id = KeyId::from_ascii(text(row, "id")?.as_bytes())
        .ok_or("`id` is not 22 letters and digits")?;
    let mut record = KeyRecord::new(
        id,
        text(row, "prefix")?,
        text(row, "label")?,
        text(row, "digest")?,
        Timestamp::from_millis(number(row, "created_at")?),
    );
    record.owner = optional_text(row, "owner")?;
    record.previous = previous(row)?;
    record.scopes = Scopes::from_text(text(row, "scopes")?)
        .map_err(|_| "`scopes` are not scopes separated by single spaces")?;
    record.metadata = metadata(text(row, "metadata")?)?;
    record.environment = optional_text(row, "environment")?;
    record.networks = networks(text(row, "networks")?)?;
    record.methods = split(text(row, "methods")?).map(str::to_owned).collect();
    record.limits = limits(text(row, "limits")?)?;
    record.expires = time(row, "expires_at")?;
    record.not_before = time(row, "not_before")?;
    record.revoked = revoked(row)?;
    record.enabled = row.truth("enabled").map_err(|_| unfit("enabled"))?;
    record.version = u64::try_from(number(row, "version")?).map_err(|_| "`version` is negative")?;
    Ok(record)
}

fn previous(row: &impl Columns) -> Result<Option<PreviousDigest>, String> {
    match (
        optional_text(row, "previous_digest")?,
        time(row, "previous_until")?,
    ) {
        (Some(digest), Some(until)) => Ok(Some(PreviousDigest { digest, until })),
        (None, None) => Ok(None),
        _ => Err(
            "one of `previous_digest` and `previous_until` is there without the other".to_owned(),
        ),
    }
}

fn revoked(row: &impl Columns) -> Result<Option<Revocation>, String> {
    let reason = optional_text(row, "revoked_reason")?;
    Ok(time(row, "revoked_at")?.map(|at| Revocation { at, reason }))
}

fn text<'r>(row: &'r impl Columns, name: &str) -> Result<&'r str, String> {
    row.text(name).ok().flatten().ok_or_else(|| unfit(name))
}

fn optional_text(row: &impl Columns, name: &str) -> Result<Option<String>, String> {
    let text = row.text(name).map_err(|_| unfit(name))?;
    Ok(text.map(str::to_owned))
}

fn number(row: &impl Columns, name: &str) -> Result<i64, String> {
    row.number(name).ok().flatten().ok_or_else(|| unfit(name))
}

fn time(row: &impl Columns, name: &str) -> Result<Option<Timestamp>, String> {
    let millis = row.number(name).map_err(|_| unfit(name))?;
    Ok(millis.map(Timestamp::from_millis))
}

fn unfit(name: &str) -> String {
    format!("`{name}` is missing or of another type")
}
