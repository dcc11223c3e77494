//! Reads the change log, which triggers write.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Error, Row};

use super::SqliteStore;
use super::error::failed;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::sql;
use crate::store::{ChangeListener, ChangeLog, ChangeSet, Changes, Cursor, NodeId};

/// The file is not opened again: SQLite would take the log of the old file for one of the new.
const REPLACED: &str = "the file was moved or replaced while it was open; stop every process that uses it, see that it is \
     the right one, and start again";

#[async_trait]
impl ChangeLog for SqliteStore {
    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Changes, StoreError> {
        let pools = self.pools()?;
        if pools.is_replaced() {
            self.close().await;
            return Err(StoreError::unavailable(REPLACED));
        }
        changes(&pools.history, since, node).await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        Some(self.changed.subscribe())
    }
}

/// More changes than these are not listed: it is then cheaper to read the records in use again.
const MAX_CHANGES: usize = 1_000;

/// The present cursor, the lease, and the log from the cursor's own row on: one statement, so
/// one snapshot. An idle poll reads two rows.
const CHANGES: &str = "\
    SELECT log.key_id AS key_id, log.epoch AS epoch, log.tag AS tag, \
           head.epoch AS head_epoch, head.tag AS head_tag, meta.lease_ms AS lease_ms, \
           EXISTS (SELECT 1 FROM api_key_nodes WHERE id = ? AND suspected = 0) AS member \
    FROM api_key_meta AS meta \
    JOIN (SELECT epoch, tag FROM api_key_changes ORDER BY epoch DESC LIMIT 1) AS head \
    LEFT JOIN (SELECT key_id, epoch, tag FROM api_key_changes WHERE epoch >= ? ORDER BY epoch LIMIT ?) AS log \
    ORDER BY log.epoch";

async fn changes(
    pool: &SqlitePool,
    since: Option<&Cursor>,
    node: Option<&NodeId>,
) -> Result<Changes, StoreError> {
    // Without a valid cursor, a place after every possible one: only the head is read.
    let from = since
        .and_then(|cursor| i64::try_from(cursor.epoch).ok())
        .unwrap_or(i64::MAX);
    // The cursor's own row, those after it, and one more, which tells that there are too many.
    let limit = i64::try_from(MAX_CHANGES + 2).unwrap_or(i64::MAX);
    let rows = sqlx::query(CHANGES)
        .bind(node.map(NodeId::as_str))
        .bind(from)
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(reading_failed)?;
    let first = rows.first().ok_or_else(empty_log)?;
    let cursor = head(first).map_err(reading_failed)?;
    let lease = millis(first, "lease_ms").map_err(reading_failed)?;
    let member = first.try_get("member").map_err(reading_failed)?;
    let history = match since {
        Some(since) => changed_keys(&rows, since).map_err(reading_failed)?,
        None => None,
    };
    Ok(Changes::new(
        history.map_or(ChangeSet::Resync, ChangeSet::of_keys),
        cursor,
        lease,
    )
    .for_member(member))
}

fn reading_failed(error: Error) -> StoreError {
    failed("reading the log of changes", error)
}

/// Returns the error for a log or a meta row that was removed by hand.
pub(super) fn empty_log() -> StoreError {
    StoreError::Corrupt {
        id: "api_key_changes".to_owned(),
        reason: "the log of changes, or `api_key_meta`, is empty; restart the store".to_owned(),
    }
}

/// Reads the present cursor, which each row repeats.
pub(super) fn head(row: &SqliteRow) -> Result<Cursor, Error> {
    Ok(Cursor {
        epoch: row.try_get("head_epoch")?,
        tag: row.try_get("head_tag")?,
    })
}

pub(super) fn millis(row: &SqliteRow, column: &str) -> Result<Duration, Error> {
    Ok(Duration::from_millis(row.try_get(column)?))
}

/// Returns the ids logged after `since`; `None` if `since` is not in this history, or too far back.
fn changed_keys(rows: &[SqliteRow], since: &Cursor) -> Result<Option<Vec<KeyId>>, Error> {
    let Some((first, after)) = rows.split_first() else {
        return Ok(None);
    };
    let epoch: Option<u64> = first.try_get("epoch")?;
    let tag: Option<Vec<u8>> = first.try_get("tag")?;
    if epoch != Some(since.epoch) || tag.as_ref() != Some(&since.tag) || after.len() > MAX_CHANGES {
        return Ok(None);
    }
    Ok(Some(after.iter().filter_map(sql::id).collect()))
}
