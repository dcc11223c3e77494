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
use crate::store::sql;
use crate::store::{ChangeListener, ChangeLog, ChangeSet, ChangedItem, Changes, Cursor, NodeId};

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

/// The newest cursor, the lease, whether the node is a member, and a page of the log from the cursor's own row on, with the
/// states of the owners that changed: one statement, so one snapshot. An idle poll reads a row of each table.
const CHANGES: &str = concat!(
    "SELECT log.key_id AS key_id, log.kind AS kind, log.epoch AS epoch, log.tag AS tag, log.owner AS owner, \
            owning.version AS owner_version, owning.revocations AS owner_revoked, \
            owning.suspended AS owner_suspended, \
            head.epoch AS head_epoch, head.tag AS head_tag, meta.lease_ms AS lease_ms, \
            meta.required_protocol AS required_protocol, \
            EXISTS (SELECT FROM api_key_nodes WHERE id = $3 AND NOT suspected) AS member, \
            pg_is_in_recovery() AS standby \
     FROM api_key_meta AS meta JOIN ",
    head!(),
    " ON TRUE LEFT JOIN (SELECT log.key_id, log.kind, log.owner, log.epoch, ",
    cursor_tag!("log"),
    " AS tag FROM api_key_changes AS log WHERE log.epoch >= $1 ORDER BY log.epoch LIMIT $2) AS log ON TRUE \
     LEFT JOIN LATERAL (SELECT known.* FROM api_key_owners AS known WHERE known.owner = log.owner LIMIT 1) AS owning \
        ON TRUE ORDER BY log.epoch"
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
    // The cursor's own row, and those of the page.
    let limit = i64::try_from(ChangeSet::MAX_ENTRIES + 1).unwrap_or(i64::MAX);
    let query = || {
        sqlx::query(CHANGES)
            .bind(from)
            .bind(limit)
            .bind(node.map(NodeId::as_str))
    };
    let rows = pool.read(query).await.map_err(reading_failed)?;
    let first = rows.first().ok_or_else(empty_log)?;
    primary(first).map_err(reading_failed)?;
    let newest = cursor(first).map_err(reading_failed)?;
    let (lease, member, protocol) = standing(first).map_err(reading_failed)?;
    let page = match since {
        Some(since) => entries(&rows, since, &newest).map_err(reading_failed)?,
        None => None,
    };
    let head = newest.epoch;
    let (set, cursor) = page.unwrap_or((ChangeSet::Resync, newest));
    Ok(Changes::new(set, cursor, lease)
        .with_head(head)
        .for_member(member)
        .with_required_protocol(protocol))
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

/// Reads the lease, whether the node is a member, and the protocol that it must speak. A number that is not one of a
/// protocol is one that no node speaks.
fn standing(row: &PgRow) -> Result<(Duration, bool, u32), sqlx::Error> {
    let lease: i64 = row.try_get("lease_ms")?;
    let protocol: i32 = row.try_get("required_protocol")?;
    Ok((
        Duration::from_millis(lease.unsigned_abs()),
        row.try_get("member")?,
        u32::try_from(protocol).unwrap_or(u32::MAX),
    ))
}

/// Returns the entries after `since` and the cursor of the last; `None` if `since` is not in this history, an entry is
/// missing, or what an entry is about is not known.
fn entries(
    rows: &[PgRow],
    since: &Cursor,
    newest: &Cursor,
) -> Result<Option<(ChangeSet, Cursor)>, sqlx::Error> {
    let Some((first, after)) = rows.split_first() else {
        return Ok(None);
    };
    if entry_cursor(first)?.as_ref() != Some(since) {
        return Ok(None);
    }
    let mut items = Vec::with_capacity(after.len());
    for row in after {
        match (row.try_get("kind")?, sql::id(row), owner(row)?) {
            ("key", Some(id), _) => items.push(ChangedItem::Key(id)),
            ("member", ..) => items.push(ChangedItem::Member),
            ("owner", _, Some(owner)) => items.push(owner),
            _ => return Ok(None),
        }
    }
    let expected = newest.epoch.saturating_sub(since.epoch);
    let is_whole = |last: &Cursor| {
        let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
        last.epoch - since.epoch == count
            && (count == expected || items.len() == ChangeSet::MAX_ENTRIES)
    };
    let last = rows.last().map(entry_cursor).transpose()?.flatten();
    let last = last.filter(is_whole);
    Ok(last.map(|last| (ChangeSet::Entries(items), last)))
}

/// Reads the owner that an entry is about, with its state; `None` if it does not have a row.
fn owner(row: &PgRow) -> Result<Option<ChangedItem>, sqlx::Error> {
    let owner: Option<String> = row.try_get("owner")?;
    let version: Option<i64> = row.try_get("owner_version")?;
    let state = sql::state(row);
    Ok(match (owner, version, state) {
        (Some(owner), Some(_), Ok(state)) => Some(ChangedItem::Owner { owner, state }),
        _ => None,
    })
}

/// Reads the cursor at an entry; `None` for the row of an empty page.
fn entry_cursor(row: &PgRow) -> Result<Option<Cursor>, sqlx::Error> {
    let epoch: Option<i64> = row.try_get("epoch")?;
    let tag: Option<Vec<u8>> = row.try_get("tag")?;
    let cursor = |(epoch, tag): (i64, _)| Cursor {
        epoch: epoch.unsigned_abs(),
        tag,
    };
    Ok(epoch.zip(tag).map(cursor))
}
