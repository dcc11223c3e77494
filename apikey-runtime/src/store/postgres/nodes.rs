//! The list of nodes.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::failed;
use super::history::{cursor, head, mark, nowhere, primary};
use super::pool::Pool;
use crate::error::StoreError;
use crate::store::sql::{Connections, Statement, Value};
use crate::store::{Cursor, MemberList, Node, NodeId};

/// See [`KeyStore::join`](crate::KeyStore::join).
pub(super) async fn join(pool: &Pool, node: &NodeId) -> Result<(), StoreError> {
    // The function is called for the row that was written: after it, in the same transaction.
    const JOIN: &str = "WITH joined AS ( \
            INSERT INTO api_key_nodes AS node (id) VALUES ($1) \
            ON CONFLICT (id) DO UPDATE SET beat = node.beat + 1, suspected = FALSE \
            RETURNING id) \
         SELECT api_key_log('') FROM joined";
    write(
        pool,
        "joining the nodes",
        Statement::new(JOIN).bind(node.as_str()),
    )
    .await
}

/// See [`KeyStore::acknowledge`](crate::KeyStore::acknowledge).
pub(super) async fn acknowledge(
    pool: &Pool,
    node: &NodeId,
    cursor: &Cursor,
) -> Result<(), StoreError> {
    // Nobody waits for the disk: what is lost is that others wait for the lease to end.
    const ACKNOWLEDGE: &str = concat!(
        "WITH setting AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', TRUE) AS value) \
         UPDATE api_key_nodes AS node SET beat = node.beat + 1, \
            acknowledged = coalesce(seen.epoch, node.acknowledged), mark = coalesce(seen.mark, node.mark) \
         FROM setting LEFT JOIN (SELECT log.epoch, ",
        mark!("log"),
        " AS mark FROM api_key_changes AS log WHERE log.epoch = $2) AS seen ON seen.mark = $3 \
         WHERE node.id = $1 AND setting.value = 'off'"
    );
    let statement = Statement::new(ACKNOWLEDGE)
        .bind(node.as_str())
        // No change has a negative number.
        .bind(i64::try_from(cursor.epoch).unwrap_or(-1))
        .bind(Value::Bytes(Some(cursor.tag.clone())));
    write(pool, "acknowledging changes", statement).await
}

/// See [`KeyStore::members`](crate::KeyStore::members).
pub(super) async fn nodes(pool: &Pool) -> Result<MemberList, StoreError> {
    // An acknowledgement counts while the log has the very change that was acknowledged: after a
    // restore another may have its number.
    const NODES: &str = concat!(
        "SELECT node.id AS id, node.beat AS beat, node.suspected AS suspected, \
            coalesce(seen.epoch, 0) AS acknowledged, head.epoch AS head_epoch, head.mark AS head_mark, \
            meta.longest_lease_ms AS longest_lease_ms, pg_is_in_recovery() AS standby \
         FROM api_key_meta AS meta JOIN ",
        head!(),
        " ON TRUE LEFT JOIN api_key_nodes AS node ON TRUE \
         LEFT JOIN api_key_changes AS seen ON seen.epoch = node.acknowledged AND ",
        mark!("seen"),
        " = node.mark"
    );
    let reading_failed = |error| failed("reading the list of nodes", error);
    let rows = pool
        .rows(&Statement::new(NODES))
        .await
        .map_err(reading_failed)?;
    let first = rows.first().ok_or_else(nowhere)?;
    primary(first).map_err(reading_failed)?;
    let longest: i64 = first.try_get("longest_lease_ms").map_err(reading_failed)?;
    let mut nodes = Vec::with_capacity(rows.len());
    for row in &rows {
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
    // What cannot be read may yet hold a lease, so the whole list is an error.
    let id = id
        .parse()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Node::new(
        id,
        row.try_get::<i64, _>("acknowledged")?.unsigned_abs(),
        row.try_get::<i64, _>("beat")?.unsigned_abs(),
        row.try_get("suspected")?,
    ))
}

/// See [`KeyStore::suspect`](crate::KeyStore::suspect).
pub(super) async fn suspect(pool: &Pool, seen: &Node) -> Result<(), StoreError> {
    const SUSPECT: &str = "UPDATE api_key_nodes SET suspected = TRUE WHERE id = $1 AND beat = $2";
    write(pool, "suspecting a node", of_seen(SUSPECT, seen)).await
}

/// See [`KeyStore::dismiss`](crate::KeyStore::dismiss).
pub(super) async fn remove_node(pool: &Pool, seen: &Node) -> Result<(), StoreError> {
    const DISMISS: &str = "DELETE FROM api_key_nodes WHERE id = $1 AND beat = $2 AND suspected";
    write(pool, "dismissing a node", of_seen(DISMISS, seen)).await
}

/// See [`KeyStore::leave`](crate::KeyStore::leave).
pub(super) async fn leave(pool: &Pool, node: &NodeId) -> Result<(), StoreError> {
    const LEAVE: &str = "DELETE FROM api_key_nodes WHERE id = $1";
    write(
        pool,
        "leaving the nodes",
        Statement::new(LEAVE).bind(node.as_str()),
    )
    .await
}

fn of_seen(sql: &'static str, seen: &Node) -> Statement {
    Statement::new(sql)
        .bind(seen.id.as_str())
        // No beat is negative.
        .bind(i64::try_from(seen.heartbeat).unwrap_or(-1))
}

async fn write(pool: &Pool, doing: &str, statement: Statement) -> Result<(), StoreError> {
    let written = pool.rows(&statement).await;
    written.map(drop).map_err(|error| failed(doing, error))
}
