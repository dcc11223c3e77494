//! The statements on owners. `migrations/0103_owners.sql` has the triggers behind them, and the order of their locks.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Row, query};

use super::error::failed;
use super::history::primary;
use super::origin::{origin_text, with_origin};
use super::pool::{ConnectionPool, PgQuery};
use super::{PostgresStore, owner_list};
use crate::audit::ChangeOrigin;
use crate::error::StoreError;
use crate::record::{OwnerRevocation, OwnerState};
use crate::store::{OwnerPage, OwnerQuery, OwnerStore, sql};

/// The most records that one step of marking reads.
const STEP: i64 = 500;

/// Joins to a row of `api_keys`, named `key`, what a read derives from its owner. With a limit: the server then looks the
/// owner of each key up, and does not read all owners to join them.
macro_rules! owner_join {
    () => {
        " LEFT JOIN LATERAL (SELECT known.version AS owner_version, known.revocations AS owner_revoked, \
            known.suspended AS owner_suspended, revocation.at AS owner_at, revocation.reason AS owner_reason \
            FROM api_key_owners AS known LEFT JOIN api_key_owner_revocations AS revocation \
            ON revocation.owner = known.owner AND revocation.number = key.owner_revocations + 1 \
                AND revocation.number <= known.revocations \
            WHERE known.owner = key.owner LIMIT 1) AS owning ON TRUE"
    };
}
pub(super) use owner_join;

/// Waits for its turn before a change locks the row of the owner `$1`, so that a stream of inserts does not hold it off. `$2`
/// is where the change comes from.
macro_rules! turn {
    () => {
        concat!(
            with_origin!("$2"),
            ", turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(api_key_owner_turn($1)) FROM origin) "
        )
    };
}

#[async_trait]
impl OwnerStore for PostgresStore {
    async fn find_owner(&self, owner: &str) -> Result<Option<OwnerState>, StoreError> {
        find(&self.running()?.keys, owner).await
    }

    async fn revoke_owner_keys(
        &self,
        owner: &str,
        revocation: &OwnerRevocation,
        origin: &ChangeOrigin,
    ) -> Result<OwnerState, StoreError> {
        revoke_keys(&self.running()?.keys, owner, revocation, origin).await
    }

    async fn set_owner_suspended(
        &self,
        owner: &str,
        suspended: bool,
        origin: &ChangeOrigin,
    ) -> Result<(OwnerState, bool), StoreError> {
        set_suspended(&self.running()?.keys, owner, suspended, origin).await
    }

    async fn count_live_keys(&self, owner: &str, max: u32) -> Result<u32, StoreError> {
        count_live(&self.running()?.keys, owner, max).await
    }

    async fn list_owners(&self, query: &OwnerQuery) -> Result<OwnerPage, StoreError> {
        owner_list::list(&self.running()?.keys, query).await
    }

    async fn mark_revoked_keys(&self) -> Result<bool, StoreError> {
        mark(&self.running()?.keys).await
    }
}

async fn find(pool: &ConnectionPool, owner: &str) -> Result<Option<OwnerState>, StoreError> {
    const FIND: &str = "SELECT version AS owner_version, revocations AS owner_revoked, suspended AS owner_suspended, \
            pg_is_in_recovery() AS standby \
         FROM (SELECT) AS one LEFT JOIN api_key_owners ON owner = $1";
    let reading_failed = |error| failed("reading an owner", error);
    let rows = pool.read(|| query(FIND).bind(owner)).await;
    let rows = rows.map_err(reading_failed)?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    primary(row).map_err(reading_failed)?;
    let version: Option<i64> = row.try_get("owner_version").map_err(reading_failed)?;
    version.map(|_| state(owner, row)).transpose()
}

async fn revoke_keys(
    pool: &ConnectionPool,
    owner: &str,
    revocation: &OwnerRevocation,
    origin: &ChangeOrigin,
) -> Result<OwnerState, StoreError> {
    const REVOKE: &str = concat!(
        turn!(),
        ", changed AS ( \
            UPDATE api_key_owners AS known SET revocations = revocations + 1, version = version + 1 \
            FROM turn WHERE known.owner = $1 RETURNING known.*), \
         kept AS ( \
            INSERT INTO api_key_owner_revocations (owner, number, at, reason, actor) \
            SELECT owner, revocations, $3, $4, $5 FROM changed \
            ON CONFLICT (owner, number) DO UPDATE \
            SET at = excluded.at, reason = excluded.reason, actor = excluded.actor, marked_to = '') \
         SELECT version AS owner_version, revocations AS owner_revoked, suspended AS owner_suspended FROM changed"
    );
    let origin = origin_text(origin, None);
    let revoke = || {
        query(REVOKE)
            .bind(owner)
            .bind(&origin)
            .bind(revocation.at.as_millis())
            .bind(&revocation.reason)
            .bind(&revocation.actor)
    };
    let row = changed(pool, "revoking all keys of an owner", revoke).await?;
    state(owner, &row)
}

async fn set_suspended(
    pool: &ConnectionPool,
    owner: &str,
    suspended: bool,
    origin: &ChangeOrigin,
) -> Result<(OwnerState, bool), StoreError> {
    const SUSPEND: &str = concat!(
        turn!(),
        ", present AS MATERIALIZED ( \
            SELECT known.* FROM turn JOIN api_key_owners AS known ON known.owner = $1 FOR NO KEY UPDATE OF known), \
         changed AS ( \
            UPDATE api_key_owners AS known SET suspended = $3, version = known.version + 1 \
            FROM present WHERE known.owner = present.owner AND present.suspended <> $3 RETURNING known.*) \
         SELECT version AS owner_version, revocations AS owner_revoked, suspended AS owner_suspended, TRUE AS is_changed \
            FROM changed \
         UNION ALL SELECT version, revocations, suspended, FALSE FROM present WHERE suspended = $3"
    );
    const DOING: &str = "suspending or resuming an owner";
    let origin = origin_text(origin, None);
    let suspend = || query(SUSPEND).bind(owner).bind(&origin).bind(suspended);
    let row = changed(pool, DOING, suspend).await?;
    let is_changed = row.try_get("is_changed");
    let is_changed = is_changed.map_err(|error| failed(DOING, error))?;
    Ok((state(owner, &row)?, is_changed))
}

async fn count_live(pool: &ConnectionPool, owner: &str, max: u32) -> Result<u32, StoreError> {
    const COUNT: &str = "SELECT api_key_live_keys($1, known.revocations, '', \
            (extract(epoch FROM clock_timestamp()) * 1000)::bigint, $2) AS live \
         FROM api_key_owners AS known WHERE known.owner = $1";
    let counting_failed = |error| failed("counting live keys", error);
    let count = || query(COUNT).bind(owner).bind(i64::from(max));
    let rows = pool.read(count).await.map_err(counting_failed)?;
    let live: Option<i64> = rows
        .first()
        .map(|row| row.try_get("live"))
        .transpose()
        .map_err(counting_failed)?;
    Ok(live.map_or(0, |live| u32::try_from(live).unwrap_or(max)))
}

async fn mark(pool: &ConnectionPool) -> Result<bool, StoreError> {
    const MARK: &str = "SELECT api_key_mark_revoked($1) AS is_more";
    let marking_failed = |error| failed("marking revoked keys", error);
    let rows = pool.write(|| query(MARK).bind(STEP)).await;
    let rows = rows.map_err(marking_failed)?;
    let is_more = rows.first().map(|row| row.try_get("is_more"));
    is_more.transpose().map_or_else(
        |error| Err(marking_failed(error)),
        |is_more| Ok(is_more.unwrap_or_default()),
    )
}

/// Runs a change of an owner, and returns the row of its answer.
async fn changed(
    pool: &ConnectionPool,
    doing: &str,
    query: impl Fn() -> PgQuery + Send + Sync,
) -> Result<PgRow, StoreError> {
    let rows = pool.write(query).await;
    let mut rows = rows.map_err(|error| failed(doing, error))?;
    rows.pop().ok_or(StoreError::NotFound)
}

fn state(owner: &str, row: &PgRow) -> Result<OwnerState, StoreError> {
    sql::state(row).map_err(|reason| StoreError::Corrupt {
        id: owner.to_owned(),
        reason,
    })
}
