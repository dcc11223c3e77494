//! Reads the change log, which triggers write.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::connect::standby;
use super::error::failed;
use super::pool::ConnectionPool;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::sql;
use crate::store::{ChangeListener, ChangeLog, ChangeSet, Changes, Cursor, NodeId};

#[async_trait]
impl ChangeLog for PostgresStore {
    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Changes, StoreError> {
        let running = self.running()?;
        changes(&running.polls, since, node).await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        Some(self.signal.subscribe())
    }
}

/// More changes than these are not listed: it is then cheaper to read the records in use again.
const MAX_CHANGES: usize = 1_000;

/// The tag of a cursor at a row of the log: the row's own random tag, the table that it stands in, and when the server
/// was started. A table that was restored from a dump, and a standby that took over, may have the
/// same tag for the same change, and yet a node may have read what came after it and is lost now.
macro_rules! cursor_tag {
    ($log:literal) => {
        concat!(
            "(",
            $log,
            ".tag || oidsend(",
            $log,
            ".tableoid) \
             || int8send((extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint))"
        )
    };
}
pub(super) use cursor_tag;

/// The newest row of the log.
macro_rules! head {
    () => {
        concat!(
            "(SELECT log.epoch, ",
            $crate::store::postgres::history::cursor_tag!("log"),
            " AS tag \
             FROM api_key_changes AS log ORDER BY log.epoch DESC LIMIT 1) AS head"
        )
    };
}
pub(super) use head;

/// The present cursor, the lease, whether the node is a member, and the log from the cursor's own row on:
/// one statement, so one snapshot. An idle poll reads a row of each table.
const CHANGES: &str = concat!(
    "SELECT log.key_id AS key_id, log.epoch AS epoch, log.tag AS tag, \
            head.epoch AS head_epoch, head.tag AS head_tag, meta.lease_ms AS lease_ms, \
            EXISTS (SELECT FROM api_key_nodes WHERE id = $3 AND NOT suspected) AS member, \
            pg_is_in_recovery() AS standby \
     FROM api_key_meta AS meta JOIN ",
    head!(),
    " ON TRUE LEFT JOIN (SELECT log.key_id, log.epoch, ",
    cursor_tag!("log"),
    " AS tag FROM api_key_changes AS log WHERE log.epoch >= $1 ORDER BY log.epoch LIMIT $2) AS log ON TRUE \
     ORDER BY log.epoch"
);

async fn changes(
    pool: &ConnectionPool,
    since: Option<&Cursor>,
    node: Option<&NodeId>,
) -> Result<Changes, StoreError> {
    // Without a valid cursor, a place after every possible one: only the head is read.
    let from = since
        .and_then(|cursor| i64::try_from(cursor.epoch).ok())
        .unwrap_or(i64::MAX);
    // The cursor's own row, those after it, and one more, which tells that there are too many.
    let limit = i64::try_from(MAX_CHANGES + 2).unwrap_or(i64::MAX);
    let query = || {
        sqlx::query(CHANGES)
            .bind(from)
            .bind(limit)
            .bind(node.map(NodeId::as_str))
    };
    let rows = pool.read(query).await.map_err(reading_failed)?;
    let head = rows.first().ok_or_else(empty_log)?;
    primary(head).map_err(reading_failed)?;
    let cursor = cursor(head).map_err(reading_failed)?;
    let (lease, member) = standing(head).map_err(reading_failed)?;
    let history = match since {
        Some(since) => changed_keys(&rows, since, &cursor).map_err(reading_failed)?,
        None => None,
    };
    let history = history.map_or(ChangeSet::Resync, ChangeSet::of_keys);
    Ok(Changes::new(history, cursor, lease).for_member(member))
}

/// Rejects an answer of a standby.
pub(super) fn primary(row: &PgRow) -> Result<(), sqlx::Error> {
    if row.try_get("standby")? {
        Err(standby())
    } else {
        Ok(())
    }
}

/// Reads the present cursor.
pub(super) fn cursor(row: &PgRow) -> Result<Cursor, sqlx::Error> {
    Ok(Cursor {
        epoch: row.try_get::<i64, _>("head_epoch")?.unsigned_abs(),
        tag: row.try_get("head_tag")?,
    })
}

/// Returns the error for a log or a meta row that was removed by hand.
pub(super) fn empty_log() -> StoreError {
    StoreError::Corrupt {
        id: "api_key_changes".to_owned(),
        reason: "the log of changes, or `api_key_meta`, is empty; restart the store".to_owned(),
    }
}

fn reading_failed(error: sqlx::Error) -> StoreError {
    failed("reading the log of changes", error)
}

fn standing(row: &PgRow) -> Result<(Duration, bool), sqlx::Error> {
    let lease: i64 = row.try_get("lease_ms")?;
    Ok((
        Duration::from_millis(lease.unsigned_abs()),
        row.try_get("member")?,
    ))
}

/// Returns the ids logged after `since` and up to `head`; `None` if `since` is not in this history,
/// or too far back, or a row in between is missing.
fn changed_keys(
    rows: &[PgRow],
    since: &Cursor,
    head: &Cursor,
) -> Result<Option<Vec<KeyId>>, sqlx::Error> {
    let Some((first, after)) = rows.split_first() else {
        return Ok(None);
    };
    let epoch: Option<i64> = first.try_get("epoch")?;
    let tag: Option<Vec<u8>> = first.try_get("tag")?;
    let is_known = epoch.map(i64::unsigned_abs) == Some(since.epoch)
        && tag.as_ref() == Some(&since.tag)
        && u64::try_from(after.len()).ok() == head.epoch.checked_sub(since.epoch);
    if !is_known || after.len() > MAX_CHANGES {
        return Ok(None);
    }
    Ok(Some(after.iter().filter_map(sql::id).collect()))
}
