//! Notices before the end of keys. `migrations/0106_expiry_notices.sql` has the functions, the triggers, and their locks.

use async_trait::async_trait;
use sqlx::{Row, query};

use super::PostgresStore;
use super::error::failed;
use super::pool::ConnectionPool;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::expiry_notices::{check_finished, claim_limit};
use crate::store::{ExpiryNotice, ExpiryNotices, NodeId, sql};

/// The most keys that one step of the backfill reads and locks.
const BACKFILL_STEP: i64 = 500;

#[async_trait]
impl ExpiryNotices for PostgresStore {
    async fn claim_notices(
        &self,
        node: &NodeId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ExpiryNotice>, StoreError> {
        let pool = &self.running()?.keys;
        let limit = claim_limit(limit);
        let claimed = claim(pool, node, now, limit).await?;
        if claimed.len() < limit && backfill(pool).await? {
            return claim(pool, node, now, limit).await;
        }
        Ok(claimed)
    }

    async fn finish_notices(
        &self,
        node: &NodeId,
        finished: &[(ExpiryNotice, Option<Timestamp>)],
    ) -> Result<(), StoreError> {
        check_finished(finished)?;
        finish(&self.running()?.keys, node, finished).await
    }
}

async fn claim(
    pool: &ConnectionPool,
    node: &NodeId,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<ExpiryNotice>, StoreError> {
    const CLAIM: &str = "SELECT * FROM api_key_claim_notices($1, $2, $3)";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let claim = || {
        let claim = query(CLAIM).bind(node.as_str());
        claim.bind(sql::notice_time(now)).bind(limit)
    };
    let rows = pool.write(claim).await;
    let rows = rows.map_err(|error| failed("claiming notices", error))?;
    Ok(sql::expiry_notices(&rows))
}

/// Adds notices for the next keys of an older release. Returns whether it did.
async fn backfill(pool: &ConnectionPool) -> Result<bool, StoreError> {
    const BACKFILL: &str = "SELECT api_key_backfill_notices($1) AS is_added";
    let adding_failed = |error| failed("adding notices", error);
    let rows = pool.write(|| query(BACKFILL).bind(BACKFILL_STEP)).await;
    let rows = rows.map_err(adding_failed)?;
    let is_added = rows.first().map(|row| row.try_get("is_added"));
    Ok(is_added
        .transpose()
        .map_err(adding_failed)?
        .unwrap_or_default())
}

async fn finish(
    pool: &ConnectionPool,
    node: &NodeId,
    finished: &[(ExpiryNotice, Option<Timestamp>)],
) -> Result<(), StoreError> {
    const FINISH: &str = "SELECT key FROM api_key_finish_notices($1, $2, $3, $4) AS waiting(key)";
    // Waits for the lock of a row, and holds none meanwhile.
    const FINISH_ONE: &str = "UPDATE api_key_expiry_notices SET planned = $4, claimed_by = NULL \
         WHERE key = $2 AND claimed_by = $1 AND expires = $3";
    let finishing_failed = |error| failed("finishing notices", error);
    let (mut keys, mut ends, mut plans) = (Vec::new(), Vec::new(), Vec::new());
    for (notice, planned) in finished {
        keys.push(notice.key.as_str().to_owned());
        ends.push(notice.expires.as_millis());
        plans.push(planned.map(sql::notice_time));
    }
    let all = || {
        let finish = query(FINISH).bind(node.as_str()).bind(keys.clone());
        finish.bind(ends.clone()).bind(plans.clone())
    };
    let rows = pool.write(all).await.map_err(finishing_failed)?;
    let waiting: Vec<_> = rows.iter().filter_map(sql::id).collect();
    for (notice, planned) in finished {
        if waiting.contains(&notice.key) {
            let one = || {
                let finish = query(FINISH_ONE)
                    .bind(node.as_str())
                    .bind(notice.key.as_str());
                finish
                    .bind(notice.expires.as_millis())
                    .bind(planned.map(sql::notice_time))
            };
            pool.write(one).await.map_err(finishing_failed)?;
        }
    }
    Ok(())
}
