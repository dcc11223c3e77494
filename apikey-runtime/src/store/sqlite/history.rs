//! Reads the change log, which triggers write.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Error, Row};

use super::SqliteStore;
use super::error::failed;
use crate::error::StoreError;
use crate::store::sql;
use crate::store::{ChangeListener, ChangeLog, ChangeSet, ChangedItem, Changes, Cursor, NodeId};

#[async_trait]
impl ChangeLog for SqliteStore {
    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Changes, StoreError> {
        changes(&self.pools().await?.history, since, node).await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        Some(self.changed.subscribe())
    }
}

/// The newest cursor, the lease, and a page of the log from the cursor's own row on, with the states of
/// the owners in it: one statement, so one snapshot. An idle poll reads two rows.
///
/// `last_epoch` is the number that was taken last: if its row is missing, the newest row is not the
/// newest change.
const CHANGES: &str = "\
    SELECT log.key_id AS key_id, log.kind AS kind, log.epoch AS epoch, log.tag AS tag, \
           head.epoch AS head_epoch, head.tag AS head_tag, \
           (SELECT seq FROM sqlite_sequence WHERE name = 'api_key_changes') AS last_epoch, \
           meta.lease_ms AS lease_ms, meta.required_protocol AS required_protocol, \
           EXISTS (SELECT 1 FROM api_key_nodes WHERE id = ? AND suspected = 0) AS member, \
           log.owner AS owner, state.version AS owner_version, state.revocations AS owner_revoked, \
           state.suspended AS owner_suspended \
    FROM api_key_meta AS meta \
    JOIN (SELECT epoch, tag FROM api_key_changes ORDER BY epoch DESC LIMIT 1) AS head \
    LEFT JOIN (SELECT key_id, kind, epoch, tag, owner FROM api_key_changes WHERE epoch >= ? ORDER BY epoch LIMIT ?) AS log \
    LEFT JOIN api_key_owners AS state ON state.owner = log.owner \
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
    // The cursor's own row, and those of the page.
    let limit = i64::try_from(ChangeSet::MAX_ENTRIES + 1).unwrap_or(i64::MAX);
    let rows = sqlx::query(CHANGES)
        .bind(node.map(NodeId::as_str))
        .bind(from)
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(reading_failed)?;
    let first = rows.first().ok_or_else(empty_log)?;
    let newest = head(first).map_err(reading_failed)?;
    let page = match since {
        Some(since) => entries(&rows, since, &newest).map_err(reading_failed)?,
        None => None,
    };
    let head = newest.epoch;
    let (set, cursor) = page.unwrap_or((ChangeSet::Resync, newest));
    let lease = millis(first, "lease_ms").map_err(reading_failed)?;
    let member = first.try_get("member").map_err(reading_failed)?;
    let protocol = first.try_get("required_protocol").map_err(reading_failed)?;
    Ok(Changes::new(set, cursor, lease)
        .with_head(head)
        .for_member(member)
        .with_required_protocol(protocol))
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

/// Returns the entries after `since` and the cursor of the last; `None` if `since` is not in this
/// history, the newest entry is missing, or what an entry is about is not known.
fn entries(
    rows: &[SqliteRow],
    since: &Cursor,
    newest: &Cursor,
) -> Result<Option<(ChangeSet, Cursor)>, Error> {
    let Some((first, after)) = rows.split_first() else {
        return Ok(None);
    };
    let last_epoch: Option<u64> = first.try_get("last_epoch")?;
    if cursor(first)?.as_ref() != Some(since) || last_epoch != Some(newest.epoch) {
        return Ok(None);
    }
    let mut items = Vec::with_capacity(after.len());
    for row in after {
        match (row.try_get("kind")?, sql::id(row)) {
            ("key", Some(id)) => items.push(ChangedItem::Key(id)),
            ("member", _) => items.push(ChangedItem::Member),
            ("owner", _) => match owner(row) {
                Some(changed) => items.push(changed),
                None => return Ok(None),
            },
            _ => return Ok(None),
        }
    }
    let last = rows.last().map(cursor).transpose()?.flatten();
    Ok(last.map(|last| (ChangeSet::Entries(items), last)))
}

/// Reads an entry of an owner; `None` if it, or the owner's row, cannot be read.
fn owner(row: &SqliteRow) -> Option<ChangedItem> {
    let owner = row.try_get::<Option<String>, _>("owner").ok()??;
    let state = sql::state(row).ok()?;
    Some(ChangedItem::Owner { owner, state })
}

/// Reads the cursor at an entry; `None` for the row of an empty page.
fn cursor(row: &SqliteRow) -> Result<Option<Cursor>, Error> {
    let epoch: Option<u64> = row.try_get("epoch")?;
    let tag: Option<Vec<u8>> = row.try_get("tag")?;
    Ok(epoch.zip(tag).map(|(epoch, tag)| Cursor { epoch, tag }))
}
