//! Entries of the audit log.

use super::super::error::failed;
use super::super::pool::ConnectionPool;
use super::{READING, WRITING, once};
use crate::error::StoreError;
use crate::store::sql::{ENTRIES_STEP, PresentEntries, entries_page, entries_start, entries_text};
use crate::store::{CopiedEntry, CopyOutcome, CopyPage};

macro_rules! columns {
    () => {
        "key, at, action, owner, former_owner, actor, channel, address, request_id, reason, fields"
    };
}

const READ: &str = concat!(
    "SELECT ",
    columns!(),
    ", number AS place FROM api_key_audit WHERE (at, number) > ($2, $3) ORDER BY at, number LIMIT $1"
);

/// Holds off another copy until this one's page is committed: both would find that the same entries are missing.
const TURN: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('', 'api_key_audit'::regclass::oid::bigint))";

const SKIP: &str =
    "SELECT number AS place FROM api_key_audit WHERE at = $1 ORDER BY number LIMIT 1 OFFSET $2";

/// The server reads no more of a time than the limit.
const FIND: &str = concat!(
    "SELECT * FROM (SELECT ",
    columns!(),
    ", number AS place FROM api_key_audit WHERE at = $3 AND number > $4 ORDER BY number LIMIT $1) AS same \
     UNION ALL SELECT later.* FROM unnest($2::bigint[]) AS asked(later_at) CROSS JOIN LATERAL (SELECT ",
    columns!(),
    ", number AS place FROM api_key_audit WHERE at = later_at ORDER BY number LIMIT $1) AS later \
     ORDER BY at, place LIMIT $1"
);

const WRITE: &str = "SELECT api_key_copy_audit($1::json)";

/// Reads a page.
pub(super) async fn read(
    pool: &ConnectionPool,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let start = entries_start(after)?;
    // One more, which tells whether others follow.
    let limit = i64::try_from(size + 1).unwrap_or(i64::MAX);
    let read = || once(READ).bind(limit).bind(start.at).bind(start.place);
    let rows = pool.read(read).await;
    let rows = rows.map_err(|error| failed(READING, error))?;
    Ok(entries_page(&rows, start, size))
}

/// Adds the entries that are not there yet.
pub(super) async fn write(
    pool: &ConnectionPool,
    entries: &[CopiedEntry],
) -> Result<CopyOutcome, StoreError> {
    let written = pool.in_time(add_missing(pool, entries)).await;
    written.map_err(|error| failed(WRITING, error))
}

async fn add_missing(
    pool: &ConnectionPool,
    entries: &[CopiedEntry],
) -> Result<CopyOutcome, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let connection = transaction.connection()?;
    once(TURN).execute(&mut *connection).await?;
    let mut present = PresentEntries::new(entries);
    if let Some(skipped) = present.skipped() {
        let skip = once(SKIP).bind(present.last.at).bind(skipped);
        present.start_after(skip.fetch_optional(&mut *connection).await?.as_ref());
    }
    loop {
        let rows = once(FIND)
            .bind(ENTRIES_STEP)
            .bind(present.later_times())
            .bind(present.last.at)
            .bind(present.last.place)
            .fetch_all(&mut *connection)
            .await?;
        if !present.add(&rows) {
            break;
        }
    }
    let mut outcome = CopyOutcome::default();
    let missing = present.missing(&mut outcome);
    if !missing.is_empty() {
        let text = entries_text(&missing);
        once(WRITE).bind(text).execute(connection).await?;
    }
    transaction.commit().await?;
    Ok(outcome)
}
