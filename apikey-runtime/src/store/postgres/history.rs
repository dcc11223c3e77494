//! What changed, from the log that the triggers keep.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::failed;
use super::pool::{Pool, standby};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::sql::{self, Connections, Statement, Value};
use crate::store::{ChangeSet, Changes, Cursor, NodeId};

/// More changes than these are not named: reading anew what is used is then cheaper.
const MOST_CHANGES: usize = 1_000;

/// The mark of a row of the log: its random tag, the table that it stands in, and when the server
/// was started. A table that was restored from a dump, and a standby that took over, may have the
/// same tag for the same change, and yet a node may have read what came after it and is lost now.
macro_rules! mark {
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
pub(super) use mark;

/// The newest row of the log.
macro_rules! head {
    () => {
        concat!(
            "(SELECT log.epoch, ",
            $crate::store::postgres::history::mark!("log"),
            " AS mark \
             FROM api_key_changes AS log ORDER BY log.epoch DESC LIMIT 1) AS head"
        )
    };
}
pub(super) use head;

/// Where the history stands, the lease, the node's place, and the log from the cursor's own row on:
/// one statement, so one snapshot. An idle poll reads a row of each table.
const CHANGES: &str = concat!(
    "SELECT log.key_id AS key_id, log.epoch AS epoch, log.mark AS mark, \
            head.epoch AS head_epoch, head.mark AS head_mark, meta.lease_ms AS lease_ms, \
            EXISTS (SELECT FROM api_key_nodes WHERE id = $3 AND NOT suspected) AS member, \
            pg_is_in_recovery() AS standby \
     FROM api_key_meta AS meta JOIN ",
    head!(),
    " ON TRUE LEFT JOIN (SELECT log.key_id, log.epoch, ",
    mark!("log"),
    " AS mark FROM api_key_changes AS log WHERE log.epoch >= $1 ORDER BY log.epoch LIMIT $2) AS log ON TRUE \
     ORDER BY log.epoch"
);

/// See [`KeyStore::changes`](crate::KeyStore::changes).
pub(super) async fn changes(
    pool: &Pool,
    since: Option<&Cursor>,
    node: Option<&NodeId>,
) -> Result<Changes, StoreError> {
    // Without a cursor, or with one of no store's, a place after all that can be: only the head is
    // read.
    let from = since
        .and_then(|cursor| i64::try_from(cursor.epoch).ok())
        .unwrap_or(i64::MAX);
    // The cursor's own row, those after it, and one that tells of too many.
    let limit = i64::try_from(MOST_CHANGES + 2).unwrap_or(i64::MAX);
    let statement = Statement::new(CHANGES)
        .bind(from)
        .bind(limit)
        .bind(Value::Text(node.map(NodeId::to_string)));
    let rows = pool.rows(&statement).await.map_err(reading_failed)?;
    let head = rows.first().ok_or_else(nowhere)?;
    primary(head).map_err(reading_failed)?;
    let cursor = cursor(head).map_err(reading_failed)?;
    let (lease, member) = standing(head).map_err(reading_failed)?;
    let history = match since {
        Some(since) => named(&rows, since, &cursor).map_err(reading_failed)?,
        None => None,
    };
    let history = history.map_or(ChangeSet::Resync, ChangeSet::Entries);
    Ok(Changes::new(history, cursor, lease).for_member(member))
}

/// Refuses an answer of a standby.
pub(super) fn primary(row: &PgRow) -> Result<(), sqlx::Error> {
    if row.try_get("standby")? {
        Err(standby())
    } else {
        Ok(())
    }
}

/// Where the history stands.
pub(super) fn cursor(row: &PgRow) -> Result<Cursor, sqlx::Error> {
    Ok(Cursor {
        epoch: row.try_get::<i64, _>("head_epoch")?.unsigned_abs(),
        tag: row.try_get("head_mark")?,
    })
}

/// The error where log or meta row were emptied by hand.
pub(super) fn nowhere() -> StoreError {
    StoreError::Corrupt {
        id: "api_key_changes".to_owned(),
        reason: "the log of changes, or `api_key_meta`, is empty; start the store anew".to_owned(),
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

/// The ids logged after `since` and up to `head`; `None` where `since` is no place in this history,
/// or too far back, or a row in between is missing.
fn named(rows: &[PgRow], since: &Cursor, head: &Cursor) -> Result<Option<Vec<KeyId>>, sqlx::Error> {
    let Some((first, after)) = rows.split_first() else {
        return Ok(None);
    };
    let epoch: Option<i64> = first.try_get("epoch")?;
    let mark: Option<Vec<u8>> = first.try_get("mark")?;
    let is_known = epoch.map(i64::unsigned_abs) == Some(since.epoch)
        && mark.as_ref() == Some(&since.tag)
        && u64::try_from(after.len()).ok() == head.epoch.checked_sub(since.epoch);
    if !is_known || after.len() > MOST_CHANGES {
        return Ok(None);
    }
    Ok(Some(after.iter().filter_map(sql::id).collect()))
}
