//! Bringing the tables up to date.

use std::path::Path;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, SqliteConnection};

use super::error::{failed, is_not_a_database};
use super::file::place;
use super::transaction::WriteTransaction;
use crate::clock::millis_i64;
use crate::error::StoreError;
use crate::store::schema::{self, Opening, UpgradeFlag};

/// The migrations in their order, each with the version that the tables have after it.
const MIGRATIONS: [(i64, &str); 8] = [
    (schema::FIRST, include_str!("migrations/0100_initial.sql")),
    (102, include_str!("migrations/0102_change_log.sql")),
    (103, include_str!("migrations/0103_owners.sql")),
    (104, include_str!("migrations/0104_audit.sql")),
    (105, include_str!("migrations/0105_last_used.sql")),
    (106, include_str!("migrations/0106_expiry_notices.sql")),
    (107, include_str!("migrations/0107_shared_secrets.sql")),
    (108, include_str!("migrations/0108_copying.sql")),
];

/// How long another process is waited for that brings the tables up to date, which takes longer the more keys there are.
pub(super) const UPGRADE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// The version of the tables after all migrations.
const LATEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Brings the tables up to date in one transaction that is alone from its first statement: of
/// several processes that start at once, one does it and the others find it done.
pub(super) async fn migrate(
    connection: PoolConnection<Sqlite>,
    opening: Opening,
    lease: Option<Duration>,
    upgrade: &UpgradeFlag,
) -> Result<(), StoreError> {
    let migrating_failed = |error| failed("bringing the tables up to date", error);
    let mut transaction = WriteTransaction::begin_on(connection)
        .await
        .map_err(migrating_failed)?;
    let connection = transaction.connection();
    let found = schema_version(connection).await.map_err(migrating_failed)?;
    // Between the look at a file that must exist and now, another process may have changed it.
    opening.check(found, LATEST, || "the file".to_owned())?;
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

/// Returns whether there are tables that are not up to date.
pub(super) async fn is_older(pool: &SqlitePool) -> Result<bool, StoreError> {
    let look = async {
        let mut connection = pool.acquire().await?;
        schema_version(&mut connection).await
    };
    let found = look.await;
    let found = found.map_err(|error| failed("looking for the tables", error))?;
    Ok(found.is_some_and(|found| found < LATEST))
}

/// Rejects a file that `opening` does not allow to be used, and leaves it as it is.
pub(super) async fn check_version(
    pool: &SqlitePool,
    opening: Opening,
    path: &Path,
) -> Result<(), StoreError> {
    let looking_failed = |error| match is_not_a_database(&error) {
        true => schema::foreign(format!(
            "`{}` is not an SQLite database; correct the path",
            path.display()
        )),
        false => failed(
            &format!("looking for the tables in `{}`", path.display()),
            error,
        ),
    };
    let look = async {
        let mut connection = pool.acquire().await?;
        schema_version(&mut connection).await
    };
    let found = look.await.map_err(looking_failed)?;
    let is_empty = std::fs::metadata(path).is_ok_and(|file| file.len() == 0);
    if found.is_none() && opening.must_exist && !is_empty {
        return Err(schema::foreign(format!(
            "`{}` is an SQLite database without the tables of a store; correct the path, or leave `must_exist` out to add \
             the tables to it",
            path.display()
        )));
    }
    opening.check(found, LATEST, || place(path))
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
