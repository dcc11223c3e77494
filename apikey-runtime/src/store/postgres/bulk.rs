//! Changes of many records, step by step. Each step is one statement, and so one transaction.

use sqlx::{Row, query};

use super::error::failed;
use super::origin::{origin_text, with_origin};
use super::pool::{ConnectionPool, PgQuery};
use crate::audit::ChangeOrigin;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::sql;
use crate::store::{BulkStep, ListCursor};

/// The most records that a step reads: their removal takes some 20 ms, for a part of which other commits of changes wait.
const STEP: i64 = 500;

/// See [`KeyStore::purge`](crate::KeyStore::purge).
///
/// Reads all records, in the order of their ids, and finds those of a page again by their ids, as an array: a join could
/// compare each of them with all rows of the table. An index on the time when a key ends would have to follow each
/// revocation, and until a vacuum each step would pass over what the steps before it removed.
pub(super) async fn purge(
    pool: &ConnectionPool,
    before: Timestamp,
    after: Option<&ListCursor>,
    origin: &ChangeOrigin,
) -> Result<BulkStep, StoreError> {
    const PURGE: &str = concat!(
        with_origin!("$4"),
        ", page AS MATERIALIZED ( \
            SELECT id FROM api_keys WHERE id > $2 AND id ~ '^[0-9A-Za-z]{22}$' ORDER BY id LIMIT $3), \
        changed AS ( \
            DELETE FROM api_keys AS key USING origin WHERE key.id = ANY (ARRAY(SELECT id FROM page)) \
                AND (key.revoked_at < $1 OR key.expires_at < $1 OR key.revoked_at IS NULL AND ( \
                    SELECT revocation.at FROM api_key_owners AS known JOIN api_key_owner_revocations AS revocation \
                        ON revocation.owner = known.owner AND revocation.number <= known.revocations \
                    WHERE known.owner = key.owner AND revocation.number = key.owner_revocations + 1) < $1) \
            RETURNING key.id) \
        SELECT id, FALSE AS is_next FROM changed \
        UNION ALL SELECT max(id), TRUE FROM page HAVING count(*) = $3"
    );
    let origin = origin_text(origin, None);
    let purge = || {
        query(PURGE)
            .bind(before.as_millis())
            .bind(after.map_or("", |after| after.id.as_str()))
            .bind(STEP)
            .bind(&origin)
    };
    step(pool, "removing old records", purge).await
}

async fn step(
    pool: &ConnectionPool,
    doing: &str,
    query: impl Fn() -> PgQuery + Send + Sync,
) -> Result<BulkStep, StoreError> {
    let stepping_failed = |error| failed(doing, error);
    let rows = pool.write(query).await.map_err(stepping_failed)?;
    let mut step = BulkStep::default();
    for row in &rows {
        if row.try_get("is_next").map_err(stepping_failed)? {
            step.next = sql::id(row).map(ListCursor::from);
        } else {
            step.keys.extend(sql::id(row));
        }
    }
    Ok(step)
}
