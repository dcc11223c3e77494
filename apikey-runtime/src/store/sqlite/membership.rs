//! The list of nodes.

use async_trait::async_trait;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Error, Row};

use super::SqliteStore;
use super::error::failed;
use super::history::{head, millis};
use super::transaction::WriteTransaction;
use crate::error::StoreError;
use crate::store::{Cursor, MemberList, Membership, Node, NodeId, PROTOCOL};

#[async_trait]
impl Membership for SqliteStore {
    async fn join(&self, node: &NodeId) -> Result<(), StoreError> {
        join(&self.pools().await?.writer, node)
            .await
            .map_err(|error| failed("joining the nodes", error))
    }

    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
        let pools = self.pools().await?;
        acknowledge(&pools.membership, node, cursor).await?;
        // The acknowledgement is committed, and other nodes see it already.
        pools.trim_schedule.run(trim(&pools.membership)).await;
        Ok(())
    }

    async fn members(&self) -> Result<MemberList, StoreError> {
        nodes(&self.pools().await?.member_list).await
    }

    async fn members_before_start(&self) -> Result<MemberList, StoreError> {
        let pools = self.look().await?;
        let members = nodes(&pools.member_list).await;
        pools.close().await;
        members
    }

    async fn suspect(&self, seen: &Node) -> Result<(), StoreError> {
        suspect(&self.pools().await?.membership, seen).await
    }

    async fn remove_node(&self, seen: &Node) -> Result<(), StoreError> {
        remove_node(&self.pools().await?.membership, seen).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        leave(&self.pools().await?.membership, node).await
    }
}

async fn join(pool: &SqlitePool, node: &NodeId) -> Result<(), Error> {
    // Starts at a random number: a node that leaves and comes back does not repeat a heartbeat that
    // was seen before.
    const JOIN: &str = "INSERT INTO api_key_nodes (id, acknowledged, heartbeat, suspected, protocol) \
         VALUES (?, 0, random() & 0x3fffffffffffffff, 0, ?) \
         ON CONFLICT (id) DO UPDATE SET heartbeat = heartbeat + 1, suspected = 0, protocol = excluded.protocol";
    const LOG: &str = "INSERT INTO api_key_changes (key_id, kind) VALUES ('', 'member')";
    let mut transaction = WriteTransaction::begin(pool).await?;
    sqlx::query(JOIN)
        .bind(node.as_str())
        .bind(PROTOCOL)
        .execute(transaction.connection())
        .await?;
    sqlx::query(LOG).execute(transaction.connection()).await?;
    transaction.commit().await
}

async fn acknowledge(pool: &SqlitePool, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
    const ACKNOWLEDGE: &str = "UPDATE api_key_nodes SET heartbeat = heartbeat + 1, acknowledged = \
         coalesce((SELECT epoch FROM api_key_changes WHERE epoch = ? AND tag = ?), acknowledged) WHERE id = ?";
    // An epoch that cannot be stored is in no history.
    let epoch = i64::try_from(cursor.epoch).unwrap_or(-1);
    sqlx::query(ACKNOWLEDGE)
        .bind(epoch)
        .bind(&cursor.tag)
        .bind(node.as_str())
        .execute(pool)
        .await
        .map_err(|error| failed("acknowledging changes", error))?;
    Ok(())
}

/// Removes entries of the log that every node has acknowledged, but not the last of them, which is a
/// cursor. Bounded, so that other writers do not wait long.
async fn trim(pool: &SqlitePool) -> Result<bool, StoreError> {
    let removed = sqlx::query(TRIM)
        .execute(pool)
        .await
        .map_err(|error| failed("trimming the log of changes", error))?;
    Ok(removed.rows_affected() >= TRIM_STEP)
}

/// The most entries that one trim removes.
const TRIM_STEP: u64 = 1_000;

/// Removes at most [`TRIM_STEP`] rows.
const TRIM: &str = "DELETE FROM api_key_changes WHERE epoch < min(\
     (SELECT min(acknowledged) FROM api_key_nodes), (SELECT min(epoch) FROM api_key_changes) + 1000)";

/// One statement, so one snapshot.
async fn nodes(pool: &SqlitePool) -> Result<MemberList, StoreError> {
    // Before 103, nodes do not have the column `protocol`, and the name is that of `oldest`.
    const NODES: &str = "\
        SELECT node.id AS id, node.acknowledged AS acknowledged, node.heartbeat AS heartbeat, node.suspected AS suspected, \
               (SELECT protocol FROM api_key_nodes AS spoken WHERE spoken.id = node.id) AS protocol, \
               head.epoch AS head_epoch, head.tag AS head_tag, meta.longest_lease_ms AS longest_lease_ms \
        FROM api_key_meta AS meta JOIN (SELECT 1 AS protocol) AS oldest \
        JOIN (SELECT epoch, tag FROM api_key_changes ORDER BY epoch DESC LIMIT 1) AS head \
        LEFT JOIN api_key_nodes AS node";
    let listing_failed = |error| failed("listing the nodes", error);
    let rows = sqlx::query(NODES)
        .fetch_all(pool)
        .await
        .map_err(listing_failed)?;
    let first = rows.first().ok_or_else(super::history::empty_log)?;
    let cursor = head(first).map_err(listing_failed)?;
    let longest = millis(first, "longest_lease_ms").map_err(listing_failed)?;
    let nodes: Result<Vec<_>, Error> = rows
        .iter()
        .filter_map(|row| node(row).transpose())
        .collect();
    Ok(MemberList::new(
        cursor,
        longest,
        nodes.map_err(listing_failed)?,
    ))
}

/// Reads a node; `None` for the row of an empty list.
fn node(row: &SqliteRow) -> Result<Option<Node>, Error> {
    let Some(id) = row.try_get::<Option<&str>, _>("id")? else {
        return Ok(None);
    };
    let unreadable = |source: crate::error::Error| Error::ColumnDecode {
        index: "id".to_owned(),
        source: Box::new(source),
    };
    let node = Node::new(
        id.parse().map_err(unreadable)?,
        row.try_get("acknowledged")?,
        row.try_get("heartbeat")?,
        row.try_get("suspected")?,
    );
    Ok(Some(node.with_protocol(row.try_get("protocol")?)))
}

async fn suspect(pool: &SqlitePool, seen: &Node) -> Result<(), StoreError> {
    const SUSPECT: &str = "UPDATE api_key_nodes SET suspected = 1 WHERE id = ? AND heartbeat = ?";
    if_unchanged(pool, SUSPECT, seen, "suspecting a node").await
}

async fn remove_node(pool: &SqlitePool, seen: &Node) -> Result<(), StoreError> {
    const REMOVE: &str =
        "DELETE FROM api_key_nodes WHERE id = ? AND heartbeat = ? AND suspected = 1";
    if_unchanged(pool, REMOVE, seen, "removing a node").await
}

async fn leave(pool: &SqlitePool, node: &NodeId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM api_key_nodes WHERE id = ?")
        .bind(node.as_str())
        .execute(pool)
        .await
        .map_err(|error| failed("leaving the nodes", error))?;
    Ok(())
}

async fn if_unchanged(
    pool: &SqlitePool,
    statement: &'static str,
    seen: &Node,
    doing: &str,
) -> Result<(), StoreError> {
    sqlx::query(statement)
        .bind(seen.id.as_str())
        .bind(i64::try_from(seen.heartbeat).unwrap_or(-1))
        .execute(pool)
        .await
        .map_err(|error| failed(doing, error))?;
    Ok(())
}
