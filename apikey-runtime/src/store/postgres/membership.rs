//! The list of nodes.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::error::failed;
use super::history::{cursor, cursor_tag, empty_log, head, primary};
use super::migrate;
use super::pool::{ConnectionPool, PgQuery};
use crate::error::StoreError;
use crate::store::{Cursor, MemberList, Membership, Node, NodeId, PROTOCOL};

#[async_trait]
impl Membership for PostgresStore {
    async fn join(&self, node: &NodeId) -> Result<(), StoreError> {
        join(&self.running()?.membership, node).await
    }

    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
        let running = self.running()?;
        acknowledge(&running.membership, node, cursor).await?;
        // The acknowledgement is committed, and other nodes see it already.
        let trim = async { Ok(trim(&running.membership, &running.trimmed).await? >= TRIM_STEP) };
        running.trim_schedule.run(trim).await;
        Ok(())
    }

    async fn members(&self) -> Result<MemberList, StoreError> {
        nodes(&self.running()?.member_list).await
    }

    async fn members_before_start(&self) -> Result<MemberList, StoreError> {
        listed(&migrate::read_as_is(self.checked()?, self.timeout, NODES).await?)
    }

    async fn suspect(&self, seen: &Node) -> Result<(), StoreError> {
        suspect(&self.running()?.membership, seen).await
    }

    async fn remove_node(&self, seen: &Node) -> Result<(), StoreError> {
        remove_node(&self.running()?.membership, seen).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        leave(&self.running()?.membership, node).await
    }
}

async fn join(pool: &ConnectionPool, node: &NodeId) -> Result<(), StoreError> {
    // The function is called for the row that was written: after it, in the same transaction.
    const JOIN: &str = "WITH joined AS ( \
            INSERT INTO api_key_nodes AS node (id, protocol) VALUES ($1, $2) \
            ON CONFLICT (id) DO UPDATE SET heartbeat = node.heartbeat + 1, suspected = FALSE, \
                protocol = excluded.protocol \
            RETURNING id) \
         SELECT api_key_append_change('', 'member') FROM joined";
    let join = || {
        let join = sqlx::query(JOIN).bind(node.as_str());
        join.bind(i32::try_from(PROTOCOL).unwrap_or(i32::MAX))
    };
    write(pool, "joining the nodes", join).await
}

async fn acknowledge(
    pool: &ConnectionPool,
    node: &NodeId,
    cursor: &Cursor,
) -> Result<(), StoreError> {
    // Does not wait for the disk: if it is lost, others wait for the lease to end.
    const ACKNOWLEDGE: &str = concat!(
        "WITH setting AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', TRUE) AS value) \
         UPDATE api_key_nodes AS node SET heartbeat = node.heartbeat + 1, \
            acknowledged = coalesce(seen.epoch, node.acknowledged), \
            acknowledged_tag = coalesce(seen.tag, node.acknowledged_tag) \
         FROM setting LEFT JOIN (SELECT log.epoch, ",
        cursor_tag!("log"),
        " AS tag FROM api_key_changes AS log WHERE log.epoch = $2) AS seen ON seen.tag = $3 \
         WHERE node.id = $1 AND setting.value = 'off'"
    );
    let acknowledge = || {
        sqlx::query(ACKNOWLEDGE)
            .bind(node.as_str())
            // No change has a negative number.
            .bind(i64::try_from(cursor.epoch).unwrap_or(-1))
            .bind(&cursor.tag)
    };
    write(pool, "acknowledging changes", acknowledge).await
}

/// Removes entries of the log that every node has acknowledged, but not the last of them, which is a cursor. Bounded, so
/// that no other statement waits long. Returns how many. `from` is where to start: until a vacuum, entries that were
/// removed take time to skip.
///
/// Takes the locks in the order in which changes are numbered. Waits for that one for [`TRIM_WAIT`] at most, since a
/// transaction may hold it for long and the next heartbeat tries again; and does not wait for the disk.
///
/// A node of another history, whose acknowledgement does not count, holds everything back until it has followed this
/// one; but the log never has more than [`MAX_LOG`] entries.
async fn trim(pool: &ConnectionPool, from: &AtomicI64) -> Result<i64, StoreError> {
    const TRIM: &str = concat!(
        "WITH setting AS MATERIALIZED ( \
            SELECT set_config('synchronous_commit', 'off', TRUE) AS off, set_config('lock_timeout', $4, TRUE) AS wait), \
        bound AS MATERIALIZED ( \
            SELECT greatest(head.epoch - $2, least(head.epoch, ( \
                SELECT min(coalesce(seen.epoch, 0)) FROM api_key_nodes AS node \
                LEFT JOIN api_key_changes AS seen ON seen.epoch = node.acknowledged AND ",
        cursor_tag!("seen"),
        " = node.acknowledged_tag))) AS epoch FROM ",
        head!(),
        "), old AS MATERIALIZED ( \
            SELECT log.epoch FROM api_key_changes AS log \
            WHERE log.epoch >= $1 AND log.epoch < (SELECT epoch FROM bound) \
            ORDER BY log.epoch LIMIT $3), \
        locked AS MATERIALIZED ( \
            UPDATE api_key_meta AS meta SET removals = meta.removals + 1 FROM setting \
            WHERE EXISTS (SELECT FROM old) AND setting.off = 'off' AND setting.wait = $4 RETURNING TRUE), \
        removed AS ( \
            DELETE FROM api_key_changes AS log USING old \
            WHERE log.epoch = old.epoch AND (SELECT count(*) FROM locked) > 0 RETURNING log.epoch) \
        SELECT coalesce((SELECT max(epoch) + 1 FROM old), bound.epoch) AS next, \
            (SELECT count(*) FROM removed) AS count FROM bound"
    );
    let start = from.load(Ordering::Relaxed);
    let trim = || {
        let trim = sqlx::query(TRIM).bind(start).bind(MAX_LOG);
        trim.bind(TRIM_STEP).bind(TRIM_WAIT)
    };
    let trimming_failed = |error| failed("trimming the log of changes", error);
    let rows = pool.write(trim).await.map_err(trimming_failed)?;
    let row = rows.first().ok_or_else(empty_log)?;
    let next = row.try_get("next").map_err(trimming_failed)?;
    from.store(next, Ordering::Relaxed);
    row.try_get("count").map_err(trimming_failed)
}

/// The maximum number of entries in the log, whatever nodes have acknowledged. A node that is further behind resyncs.
const MAX_LOG: i64 = 1_000_000;

/// The most entries that one trim removes.
const TRIM_STEP: i64 = 1_000;

/// How long a trim waits for a lock, as the server writes the setting.
const TRIM_WAIT: &str = "100ms";

/// An acknowledgement counts while the log has the very change that was acknowledged: after a restore another may have its
/// number. Before 103, nodes do not have the column `protocol`, and the name is that of `oldest`.
const NODES: &str = concat!(
    "SELECT node.id AS id, node.heartbeat AS heartbeat, node.suspected AS suspected, \
        (SELECT protocol FROM api_key_nodes AS spoken WHERE spoken.id = node.id) AS protocol, \
        coalesce(seen.epoch, 0) AS acknowledged, head.epoch AS head_epoch, head.tag AS head_tag, \
        meta.longest_lease_ms AS longest_lease_ms, pg_is_in_recovery() AS standby \
     FROM api_key_meta AS meta CROSS JOIN (SELECT 1 AS protocol) AS oldest JOIN ",
    head!(),
    " ON TRUE LEFT JOIN api_key_nodes AS node ON TRUE \
     LEFT JOIN api_key_changes AS seen ON seen.epoch = node.acknowledged AND ",
    cursor_tag!("seen"),
    " = node.acknowledged_tag"
);

async fn nodes(pool: &ConnectionPool) -> Result<MemberList, StoreError> {
    let rows = pool.read(|| sqlx::query(NODES)).await;
    listed(&rows.map_err(reading_failed)?)
}

fn reading_failed(error: sqlx::Error) -> StoreError {
    failed("reading the list of nodes", error)
}

fn listed(rows: &[PgRow]) -> Result<MemberList, StoreError> {
    let first = rows.first().ok_or_else(empty_log)?;
    primary(first).map_err(reading_failed)?;
    let longest: i64 = first.try_get("longest_lease_ms").map_err(reading_failed)?;
    let mut nodes = Vec::with_capacity(rows.len());
    for row in rows {
        let id: Option<&str> = row.try_get("id").map_err(reading_failed)?;
        if let Some(id) = id {
            nodes.push(node(row, id).map_err(reading_failed)?);
        }
    }
    Ok(MemberList::new(
        cursor(first).map_err(reading_failed)?,
        Duration::from_millis(longest.unsigned_abs()),
        nodes,
    ))
}

fn node(row: &PgRow, id: &str) -> Result<Node, sqlx::Error> {
    // A node that cannot be read may hold a lease, so the whole list is an error.
    let id = id
        .parse()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let node = Node::new(
        id,
        row.try_get::<i64, _>("acknowledged")?.unsigned_abs(),
        row.try_get::<i64, _>("heartbeat")?.unsigned_abs(),
        row.try_get("suspected")?,
    );
    // A number that is not one of a protocol is of a node that knows none of this.
    let protocol: i32 = row.try_get("protocol")?;
    Ok(node.with_protocol(u32::try_from(protocol).unwrap_or(0)))
}

async fn suspect(pool: &ConnectionPool, seen: &Node) -> Result<(), StoreError> {
    const SUSPECT: &str =
        "UPDATE api_key_nodes SET suspected = TRUE WHERE id = $1 AND heartbeat = $2";
    write(pool, "suspecting a node", || of_seen(SUSPECT, seen)).await
}

async fn remove_node(pool: &ConnectionPool, seen: &Node) -> Result<(), StoreError> {
    const REMOVE: &str = "DELETE FROM api_key_nodes WHERE id = $1 AND heartbeat = $2 AND suspected";
    write(pool, "removing a node", || of_seen(REMOVE, seen)).await
}

async fn leave(pool: &ConnectionPool, node: &NodeId) -> Result<(), StoreError> {
    const LEAVE: &str = "DELETE FROM api_key_nodes WHERE id = $1";
    let leave = || sqlx::query(LEAVE).bind(node.as_str());
    write(pool, "leaving the nodes", leave).await
}

fn of_seen(sql: &'static str, seen: &Node) -> PgQuery {
    sqlx::query(sql)
        .bind(seen.id.as_str())
        // A heartbeat is never negative.
        .bind(i64::try_from(seen.heartbeat).unwrap_or(-1))
}

async fn write(
    pool: &ConnectionPool,
    doing: &str,
    query: impl Fn() -> PgQuery + Send + Sync,
) -> Result<(), StoreError> {
    let written = pool.write(query).await;
    written.map(drop).map_err(|error| failed(doing, error))
}
