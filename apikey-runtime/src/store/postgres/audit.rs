//! The audit log. `migrations/0104_audit.sql` has the triggers that write it.

use async_trait::async_trait;
use sqlx::{Row, query};

use super::PostgresStore;
use super::error::failed;
use super::pool::ConnectionPool;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::{AuditPage, AuditQuery, AuditStore, sql};

/// The most entries that one step of pruning removes.
const STEP: i64 = 1_000;

/// The most entries that a query of several filters reads. One of them is answered by an index.
const MAX_READ: usize = 1_000;

/// Reads the entries before the position `$2`, `$3`, from the time `$4` on, that a filter of `$1` selects.
macro_rules! select {
    ($filter:literal) => {
        concat!(
            "SELECT at, number, action, key, owner, former_owner, actor, channel, address, request_id, reason, fields \
             FROM api_key_audit WHERE ",
            $filter,
            " AND (at, number) < ($2, $3) AND at >= $4 ORDER BY at DESC, number DESC LIMIT $5"
        )
    };
}

const ALL: &str = select!("$1::text IS NULL");
const OF_KEY: &str = select!("key = $1");
const OF_ACTOR: &str = select!("left(actor, 256) = left($1, 256) AND actor = $1");
const OF_OWNER: &str = concat!(
    "SELECT * FROM ((",
    select!("left(owner, 256) = left($1, 256) AND owner = $1"),
    ") UNION ALL (",
    select!("left(former_owner, 256) = left($1, 256) AND former_owner = $1"),
    ")) AS entry ORDER BY at DESC, number DESC LIMIT $5"
);

#[async_trait]
impl AuditStore for PostgresStore {
    async fn read_audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        read(&self.running()?.keys, query).await
    }

    async fn prune_audit(&self, before: Timestamp) -> Result<bool, StoreError> {
        const PRUNE: &str = "SELECT api_key_prune_audit($1, $2) AS is_more";
        let pool = &self.running()?.keys;
        let pruning_failed = |error| failed("pruning the audit log", error);
        let prune = || query(PRUNE).bind(before.as_millis()).bind(STEP);
        let rows = pool.write(prune).await.map_err(pruning_failed)?;
        let is_more = rows.first().map(|row| row.try_get("is_more"));
        let is_more = is_more.transpose().map_err(pruning_failed)?;
        Ok(is_more.unwrap_or_default())
    }
}

async fn read(pool: &ConnectionPool, wanted: &AuditQuery) -> Result<AuditPage, StoreError> {
    let reading_failed = |error| failed("reading the audit log", error);
    let size = usize::try_from(wanted.limit.clamp(1, 1_000)).unwrap_or(usize::MAX);
    let key = wanted.key.as_ref().map(|key| key.as_str());
    let (sql, filter) = match (key, &wanted.owner, &wanted.actor) {
        (Some(key), _, _) => (OF_KEY, Some(key)),
        (_, Some(owner), _) => (OF_OWNER, Some(owner.as_str())),
        (_, _, Some(actor)) => (OF_ACTOR, Some(actor.as_str())),
        _ => (ALL, None),
    };
    let filters = [
        key.is_some(),
        wanted.owner.is_some(),
        wanted.actor.is_some(),
    ];
    let limit = match filters.iter().filter(|is_set| **is_set).count() {
        0 | 1 => size + 1,
        _ => MAX_READ.max(size + 1),
    };
    let (at, number) = end(wanted)?;
    let from = wanted.from.map_or(i64::MIN, Timestamp::as_millis);
    let read = || {
        query(sql)
            .bind(filter)
            .bind(at)
            .bind(number)
            .bind(from)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    };
    let rows = pool.read(read).await.map_err(reading_failed)?;
    let mut page = AuditPage::default();
    let mut last = None;
    for row in &rows {
        let at: i64 = row.try_get("at").map_err(reading_failed)?;
        let number: i64 = row.try_get("number").map_err(reading_failed)?;
        let entry = sql::audit_entry(row, position(at, number));
        if wanted.matches(&entry) {
            if page.entries.len() == size {
                page.next = last;
                return Ok(page);
            }
            last = Some(entry.position.clone());
            page.entries.push(entry);
        } else {
            last = Some(entry.position);
        }
    }
    page.next = last.filter(|_| rows.len() == limit);
    Ok(page)
}

/// Returns a position as a text that sorts as the log does.
fn position(at: i64, number: i64) -> String {
    format!("{at:015}-{number:019}")
}

/// Returns the position before which the query's entries are.
fn end(query: &AuditQuery) -> Result<(i64, i64), StoreError> {
    let to = match query.to {
        Some(to) => (to.as_millis(), i64::MIN),
        None => (i64::MAX, i64::MAX),
    };
    let Some(before) = &query.before else {
        return Ok(to);
    };
    let read = before
        .split_once('-')
        .and_then(|(at, number)| Some((at.parse().ok()?, number.parse().ok()?)));
    let before = read.ok_or_else(|| {
        StoreError::InvalidArgument(
            "the position is not one that a page has as `next`; start again without a position"
                .to_owned(),
        )
    })?;
    Ok(to.min(before))
}
