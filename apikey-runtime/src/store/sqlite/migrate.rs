//! Bringing the tables up to date.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, SqliteConnection};

use super::error::failed;
use super::transaction::WriteTransaction;
use crate::clock::millis_i64;
use crate::error::StoreError;
use crate::store::schema::{self, UpgradeFlag};

/// The migrations in their order, each with the version that the tables have after it.
const MIGRATIONS: [(i64, &str); 7] = [
    (schema::FIRST, include_str!("migrations/0100_initial.sql")),
    (102, include_str!("migrations/0102_change_log.sql")),
    (103, include_str!("migrations/0103_owners.sql")),
    (104, include_str!("migrations/0104_audit.sql")),
    (105, include_str!("migrations/0105_last_used.sql")),
    (106, include_str!("migrations/0106_expiry_notices.sql")),
    (107, include_str!("migrations/0107_shared_secrets.sql")),
];

/// The version of the tables after all migrations.
const LATEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Brings the tables up to date in one transaction that is alone from its first statement: of
/// several processes that start at once, one does it and the others find it done.
pub(super) async fn migrate(
    connection: PoolConnection<Sqlite>,
    lease: Option<Duration>,
    upgrade: &UpgradeFlag,
) -> Result<(), StoreError> {
    let migrating_failed = |error| failed("bringing the tables up to date", error);
    let mut transaction = WriteTransaction::begin_on(connection)
        .await
        .map_err(migrating_failed)?;
    let connection = transaction.connection();
    let found = schema_version(connection).await.map_err(migrating_failed)?;
    if let Some(found) = found {
        schema::check(found, LATEST)?;
    }
    let _upgrading = upgrade.raise_for(found, LATEST);
    let pending = MIGRATIONS
        .iter()
        .filter(|(version, _)| Some(*version) > found);
    for (_, migration) in pending {
        sqlx::raw_sql(*migration)
            .execute(&mut *connection)
            .await
            .map_err(migrating_failed)?;
    }
    write_meta(connection, lease)
        .await
        .map_err(migrating_failed)?;
    transaction.commit().await.map_err(migrating_failed)
}

/// Returns whether the file has the tables of this store.
pub(super) async fn has_tables(pool: &SqlitePool) -> Result<bool, StoreError> {
    let looking_failed = |error| failed("looking for the tables", error);
    let mut connection = pool.acquire().await.map_err(looking_failed)?;
    let found = schema_version(&mut connection).await;
    Ok(found.map_err(looking_failed)?.is_some())
}

/// Returns the version of the tables, if there are any.
async fn schema_version(connection: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
    const EXISTS: &str =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'api_key_meta'";
    let tables: i64 = sqlx::query_scalar(EXISTS)
        .fetch_one(&mut *connection)
        .await?;
    if tables == 0 {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT schema_version FROM api_key_meta")
        .fetch_one(connection)
        .await
        .map(Some)
}

/// Writes the version and the lease down, and begins the history again if the log was emptied.
async fn write_meta(
    connection: &mut SqliteConnection,
    lease: Option<Duration>,
) -> Result<(), sqlx::Error> {
    let lease = lease.map(millis_i64);
    sqlx::query("UPDATE api_key_meta SET schema_version = ?, lease_ms = coalesce(?, lease_ms)")
        .bind(LATEST)
        .bind(lease)
        .execute(&mut *connection)
        .await?;
    const BEGIN: &str = "INSERT INTO api_key_changes (key_id, kind) \
         SELECT '', 'all' WHERE NOT EXISTS (SELECT 1 FROM api_key_changes)";
    sqlx::query(BEGIN).execute(connection).await?;
    Ok(())
}
