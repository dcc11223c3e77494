//! Entries of the audit log.

use super::super::error::failed;
use super::super::pool::ConnectionPool;
use super::{READING, WRITING, once};
use crate::error::StoreError;
use crate::store::sql::{entries_page, entries_start, entries_text, missing_entries, times_of};
use crate::store::{CopiedEntry, CopyOutcome, CopyPage};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT key, at, action, owner, former_owner, actor, channel, address, request_id, reason, fields, number AS place \
             FROM api_key_audit WHERE ",
            $rest
        )
    };
}

const READ: &str = select!("(at, number) > ($2, $3) ORDER BY at, number LIMIT $1");
const FIND: &str = select!("at = ANY ($1) ORDER BY at, number");
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
    let writing_failed = |error| failed(WRITING, error);
    let times = times_of(entries);
    let present = pool.read(|| once(FIND).bind(times.clone())).await;
    let present = present.map_err(writing_failed)?;
    let mut outcome = CopyOutcome::default();
    let missing = missing_entries(entries, &present, &mut outcome);
    if !missing.is_empty() {
        let text = entries_text(&missing);
        let written = pool.write(|| once(WRITE).bind(text.clone())).await;
        written.map_err(writing_failed)?;
    }
    Ok(outcome)
}
