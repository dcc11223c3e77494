//! Notices before the end of keys. Triggers of `migrations/0106_expiry_notices.sql` keep them up to date.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Error, SqliteConnection, query, query_scalar};

use super::SqliteStore;
use super::error::failed;
use super::limit_counters::json;
use super::pools::SqlitePools;
use super::transaction::WriteTransaction;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::expiry_notices::{check_finished, claim_limit};
use crate::store::{ExpiryNotice, ExpiryNotices, NodeId, sql};

/// The most keys that one step of the backfill reads.
const BACKFILL_STEP: usize = 500;

/// Claims do not wait for the disk: a loss of power ends the node too.
#[async_trait]
impl ExpiryNotices for SqliteStore {
    async fn claim_notices(
        &self,
        node: &NodeId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ExpiryNotice>, StoreError> {
        let pools = self.pools().await?;
        let claimed = claim(&pools, node, now, claim_limit(limit)).await;
        self.kept(claimed.map_err(|error| failed("claiming notices", error)))
            .await
    }

    async fn finish_notices(
        &self,
        node: &NodeId,
        finished: &[(ExpiryNotice, Option<Timestamp>)],
    ) -> Result<(), StoreError> {
        check_finished(finished)?;
        let pools = self.pools().await?;
        let done = finish(&pools, node, finished).await;
        self.kept(done.map_err(|error| failed("finishing notices", error)))
            .await
    }
}

/// The nodes that have claims which this node may take: itself, and those that are not members. Each is found by one
/// step in an index, and their claims are not read.
const HOLDERS: &str = "\
    WITH RECURSIVE holders (id) AS (\
        SELECT (SELECT claimed_by FROM api_key_expiry_notices WHERE claimed_by > '' ORDER BY claimed_by LIMIT 1) \
        UNION ALL SELECT (SELECT claimed_by FROM api_key_expiry_notices WHERE claimed_by > holders.id \
            ORDER BY claimed_by LIMIT 1) FROM holders WHERE holders.id IS NOT NULL\
    ) SELECT id FROM holders WHERE id = ?1 \
        OR id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM api_key_nodes AS node WHERE node.id = holders.id)";

macro_rules! due {
    ($claimed_by:literal) => {
        concat!(
            "SELECT key, expires, since, planned FROM api_key_expiry_notices WHERE ",
            $claimed_by,
            " AND planned <= ?1 ORDER BY planned, key LIMIT ?2"
        )
    };
}

const UNCLAIMED: &str = due!("claimed_by IS NULL");
const CLAIMED_BY: &str = due!("claimed_by = ?3");

const CLAIM: &str = "UPDATE api_key_expiry_notices SET claimed_by = ?1 \
    WHERE key IN (SELECT value FROM json_each(?2)) AND claimed_by IS NOT ?1";

async fn claim(
    pools: &SqlitePools,
    node: &NodeId,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<ExpiryNotice>, Error> {
    const IS_FILLED: &str = "SELECT NOT EXISTS (SELECT 1 FROM api_key_notice_backfill)";
    // Usually nothing is due, and nothing is written.
    let mut reader = pools.reader.acquire().await?;
    let is_filled: bool = query_scalar(IS_FILLED).fetch_one(&mut *reader).await?;
    if is_filled && due(&mut reader, node, now, limit).await?.is_empty() {
        return Ok(Vec::new());
    }
    drop(reader);
    let mut transaction = WriteTransaction::begin(&pools.membership).await?;
    let connection = transaction.connection();
    let mut found = due(connection, node, now, limit).await?;
    if found.len() < limit && backfill(connection).await? {
        found = due(connection, node, now, limit).await?;
    }
    let keys: Vec<_> = found.iter().map(|notice| notice.key.as_str()).collect();
    query(CLAIM)
        .bind(node.as_str())
        .bind(json(&keys))
        .execute(connection)
        .await?;
    transaction.commit().await?;
    Ok(found)
}

/// Returns the first notices that the node may claim.
async fn due(
    connection: &mut SqliteConnection,
    node: &NodeId,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<ExpiryNotice>, Error> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let of = |sql| query(sql).bind(sql::notice_time(now)).bind(most);
    let mut rows: Vec<SqliteRow> = of(UNCLAIMED).fetch_all(&mut *connection).await?;
    let holders: Vec<String> = query_scalar(HOLDERS)
        .bind(node.as_str())
        .fetch_all(&mut *connection)
        .await?;
    for holder in holders {
        rows.extend(
            of(CLAIMED_BY)
                .bind(holder)
                .fetch_all(&mut *connection)
                .await?,
        );
    }
    let mut notices = sql::expiry_notices(&rows);
    notices.truncate(limit);
    Ok(notices)
}

const END_OF_BACKFILL_STEP: &str = "SELECT expires_at, id FROM api_keys \
    WHERE expires_at IS NOT NULL AND (expires_at, id) > (SELECT expires, key FROM api_key_notice_backfill WHERE only_row = 1) \
    ORDER BY expires_at, id LIMIT 1 OFFSET ?";

/// Without an end, the step is the last.
const BACKFILL: &str = "INSERT INTO api_key_expiry_notices (key, expires, since) \
    SELECT id, expires_at, created_at FROM api_keys AS key \
    WHERE expires_at IS NOT NULL AND (expires_at, id) > (SELECT expires, key FROM api_key_notice_backfill WHERE only_row = 1) \
        AND (expires_at, id) <= (coalesce(?1, 9223372036854775807), coalesce(?2, '~')) \
        AND NOT EXISTS (SELECT 1 FROM api_key_expiry_notices AS notice WHERE notice.key = key.id)";

/// Adds notices for the next keys of an older release. Returns whether it did.
async fn backfill(connection: &mut SqliteConnection) -> Result<bool, Error> {
    const REACHED: &str = "UPDATE api_key_notice_backfill SET expires = ?1, key = ?2";
    const DONE: &str = "DELETE FROM api_key_notice_backfill WHERE ?1 IS NULL";
    let end: Option<(i64, String)> = sqlx::query_as(END_OF_BACKFILL_STEP)
        .bind(i64::try_from(BACKFILL_STEP - 1).unwrap_or(i64::MAX))
        .fetch_optional(&mut *connection)
        .await?;
    let (expires, key) = end.unzip();
    let added = query(BACKFILL)
        .bind(expires)
        .bind(&key)
        .execute(&mut *connection)
        .await?;
    let next = if key.is_some() { REACHED } else { DONE };
    query(next)
        .bind(expires)
        .bind(&key)
        .execute(connection)
        .await?;
    Ok(added.rows_affected() > 0)
}

const FINISH: &str = "UPDATE api_key_expiry_notices SET planned = ?4, claimed_by = NULL \
    WHERE key = ?2 AND expires = ?3 AND claimed_by = ?1";

async fn finish(
    pools: &SqlitePools,
    node: &NodeId,
    finished: &[(ExpiryNotice, Option<Timestamp>)],
) -> Result<(), Error> {
    let mut transaction = WriteTransaction::begin(&pools.membership).await?;
    for (notice, planned) in finished {
        query(FINISH)
            .bind(node.as_str())
            .bind(notice.key.as_str())
            .bind(notice.expires.as_millis())
            .bind(planned.map(sql::notice_time))
            .execute(transaction.connection())
            .await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::reads;
    use super::*;
    use crate::store::KeyStore;

    /// Whatever is claimed, planned or filled in: each statement reads a range of an index.
    #[tokio::test]
    async fn notices_are_read_in_ranges_of_indexes() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db"));
        store.start().await.unwrap();
        let one = "PRIMARY KEY (key=?)";
        let claimed = "api_key_expiry_notices_claimed (claimed_by";
        reads(
            &store,
            UNCLAIMED,
            &["api_key_expiry_notices_due (planned<?)"],
        )
        .await;
        reads(
            &store,
            CLAIMED_BY,
            &[&format!("{claimed}=? AND planned<?)")],
        )
        .await;
        reads(&store, CLAIM, &[one]).await;
        reads(&store, FINISH, &[one]).await;
        let keys = "api_keys_expires (";
        reads(&store, END_OF_BACKFILL_STEP, &[keys]).await;
        reads(&store, BACKFILL, &[keys, one]).await;
        reads(&store, HOLDERS, &[&format!("{claimed}>?)")]).await;
        store.stop().await;
    }
}
