//! A record as a row.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::record::{KeyRecord, OwnerState, PreviousDigest, Revocation};
use crate::scope::Scopes;
use crate::store::FindResult;
use crate::store::columns::{Broken, limits, metadata, networks, split};

/// The columns of a record, with the id as the first. They are named one by one, so that a column
/// which a later release adds does not change an answer. A write also sets `label_key`, by which lists
/// are sorted.
macro_rules! column_names {
    () => {
        "id, prefix, label, owner, digest, previous_digest, previous_until, scopes, metadata, environment, \
         networks, methods, limits, created_at, expires_at, not_before, revoked_at, revoked_reason, enabled, version, \
         description, created_by, updated_by, rotations, enabled_at"
    };
}
pub(in crate::store) use column_names;

/// The columns that a read selects: those of the record, and what is true of its owner. If the owner
/// has a row, `owner_version`, `owner_revoked` and `owner_suspended` are its state. If the key's own
/// row is not marked yet, `owner_at` and `owner_reason` are of the owner's revocation that revokes it.
macro_rules! read_columns {
    () => {
        concat!(
            $crate::store::sql::column_names!(),
            ", owner_revocations, owner_version, owner_revoked, owner_suspended, owner_at, owner_reason"
        )
    };
}
pub(in crate::store) use read_columns;

/// A row of `api_keys`, or of the audit log.
pub(in crate::store) trait KeyRow {
    fn text(&self, name: &str) -> Result<Option<&str>, sqlx::Error>;
    fn number(&self, name: &str) -> Result<Option<i64>, sqlx::Error>;
    fn flag(&self, name: &str) -> Result<bool, sqlx::Error>;

    /// The bytes of a text, which need not be UTF-8.
    fn bytes(&self, name: &str) -> Option<&[u8]>;

    /// The bytes of the first column, which in every statement on keys is the id.
    fn id_bytes(&self) -> &[u8];
}

/// Implements [`KeyRow`] for a database's own row.
macro_rules! key_row {
    ($row:ty) => {
        impl $crate::store::sql::KeyRow for $row {
            fn text(&self, name: &str) -> Result<Option<&str>, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }

            fn number(&self, name: &str) -> Result<Option<i64>, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }

            fn flag(&self, name: &str) -> Result<bool, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }

            fn bytes(&self, name: &str) -> Option<&[u8]> {
                // Unchecked: a text is read as bytes.
                sqlx::Row::try_get_unchecked(self, name).ok().flatten()
            }

            fn id_bytes(&self) -> &[u8] {
                // Unchecked: a text is read as bytes.
                sqlx::Row::try_get_unchecked(self, 0).unwrap_or_default()
            }
        }
    };
}
pub(in crate::store) use key_row;

/// Reads the record in `row`, which holds all columns of [`read_columns`].
pub(in crate::store) fn record(row: &impl KeyRow) -> Result<KeyRecord, Broken> {
    read(row).map_err(|reason| Broken {
        id: String::from_utf8_lossy(row.id_bytes()).into_owned(),
        reason,
    })
}

/// Reads the records of `ids`, in their order, in the rows that a statement found for them.
pub(in crate::store) fn records_of<R: KeyRow>(ids: &[KeyId], rows: &[R]) -> Vec<FindResult> {
    let found = |row: &R| Some((id(row)?, record(row).map(Some).map_err(Into::into)));
    let mut found: HashMap<KeyId, FindResult> = rows.iter().filter_map(found).collect();
    let of = |id| found.remove(id).unwrap_or(Ok(None));
    ids.iter().map(of).collect()
}

/// Reads the id in the first column, if it is valid. A record with an invalid id cannot be read, or
/// kept in memory.
pub(in crate::store) fn id(row: &impl KeyRow) -> Option<KeyId> {
    KeyId::from_ascii(row.id_bytes())
}

fn read(row: &impl KeyRow) -> Result<KeyRecord, String> {
    let id = KeyId::from_ascii(text(row, "id")?.as_bytes())
        .ok_or("`id` is not 22 letters and digits")?;
    let mut record = KeyRecord::new(
        id,
        text(row, "prefix")?,
        text(row, "label")?,
        text(row, "digest")?,
        Timestamp::from_millis(number(row, "created_at")?),
    );
    record.description = optional_text(row, "description")?;
    record.owner = optional_text(row, "owner")?;
    record.previous = previous(row)?;
    record.scopes = Scopes::from_text(text(row, "scopes")?)
        .map_err(|_quotes_it| "`scopes` are not scopes separated by single spaces")?;
    record.metadata = metadata(text(row, "metadata")?)?;
    record.environment = optional_text(row, "environment")?;
    record.networks = networks(text(row, "networks")?)?;
    record.methods = split(text(row, "methods")?).map(str::to_owned).collect();
    record.limits = limits(text(row, "limits")?)?;
    record.created_by = optional_text(row, "created_by")?;
    record.updated_by = optional_text(row, "updated_by")?;
    record.expires = time(row, "expires_at")?;
    record.not_before = time(row, "not_before")?;
    record.owner_revocations = count(row, "owner_revocations")?;
    record.owner_state = owner_state(row)?;
    record.revoked = revoked(row, &record)?;
    record.enabled = row.flag("enabled").map_err(|_quotes_it| unfit("enabled"))?;
    record.enabled_at = time(row, "enabled_at")?;
    record.version = count(row, "version")?;
    record.rotations = count(row, "rotations")?;
    Ok(record)
}

fn previous(row: &impl KeyRow) -> Result<Option<PreviousDigest>, String> {
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

/// Reads the key's own revocation, or that of its owner. If neither is there, and the owner's state
/// revokes the key all the same, the time is not known: it is not earlier than the key's creation.
fn revoked(row: &impl KeyRow, record: &KeyRecord) -> Result<Option<Revocation>, String> {
    let reason = optional_text(row, "revoked_reason")?;
    if let Some(at) = time(row, "revoked_at")? {
        return Ok(Some(Revocation { at, reason }));
    }
    let owner = record.owner_state.unwrap_or_default();
    if !owner.revokes(record.owner_revocations) {
        return Ok(None);
    }
    Ok(Some(Revocation {
        at: time(row, "owner_at")?.unwrap_or(record.created),
        reason: optional_text(row, "owner_reason")?,
    }))
}

fn owner_state(row: &impl KeyRow) -> Result<Option<OwnerState>, String> {
    let version = row.number("owner_version");
    if version
        .map_err(|_quotes_it| unfit("owner_version"))?
        .is_none()
    {
        return Ok(None);
    }
    state(row).map(Some)
}

/// Reads the state of an owner in `row`, which has it.
pub(in crate::store) fn state(row: &impl KeyRow) -> Result<OwnerState, String> {
    let suspended = row.flag("owner_suspended");
    Ok(OwnerState::new()
        .with_version(count(row, "owner_version")?)
        .with_revocations(count(row, "owner_revoked")?)
        .with_suspended(suspended.map_err(|_quotes_it| unfit("owner_suspended"))?))
}

fn text<'r>(row: &'r impl KeyRow, name: &str) -> Result<&'r str, String> {
    row.text(name).ok().flatten().ok_or_else(|| unfit(name))
}

fn optional_text(row: &impl KeyRow, name: &str) -> Result<Option<String>, String> {
    let text = row.text(name).map_err(|_quotes_it| unfit(name))?;
    Ok(text.map(str::to_owned))
}

fn number(row: &impl KeyRow, name: &str) -> Result<i64, String> {
    row.number(name).ok().flatten().ok_or_else(|| unfit(name))
}

/// Reads a number that is never negative.
fn count(row: &impl KeyRow, name: &str) -> Result<u64, String> {
    u64::try_from(number(row, name)?).map_err(|_quotes_it| format!("`{name}` is negative"))
}

fn time(row: &impl KeyRow, name: &str) -> Result<Option<Timestamp>, String> {
    let millis = row.number(name).map_err(|_quotes_it| unfit(name))?;
    Ok(millis.map(Timestamp::from_millis))
}

fn unfit(name: &str) -> String {
    format!("`{name}` is missing or of another type")
}
