//! Bringing the tables up to date.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Error, Row};
use tokio::time::timeout;

use super::connect::{ConnectionTarget, check_server};
use super::error::{connecting_failed, failed};
use crate::clock::millis_i64;
use crate::error::StoreError;
use crate::store::schema;

/// The migrations in their order, each with the version that the tables have after it.
const MIGRATIONS: [(i64, &str); 6] = [
    (schema::FIRST, include_str!("migrations/0100_initial.sql")),
    (101, include_str!("migrations/0101_limit_counters.sql")),
    (102, include_str!("migrations/0102_change_log.sql")),
    (103, include_str!("migrations/0103_owners.sql")),
    (104, include_str!("migrations/0104_audit.sql")),
    (105, include_str!("migrations/0105_last_used.sql")),
];

/// The version of the tables after all migrations.
const LATEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// How long a start waits for other processes that start at the same time.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Names the lock under which tables are made: in ASCII, "apikeys1".
const MIGRATION_LOCK: i64 = 0x6170_696b_6579_7331;

/// The state of the tables, and how to connect to them.
pub(super) struct ReadySchema {
    pub(super) target: ConnectionTarget,
    /// The channel of the push.
    pub(super) channel: String,
    pub(super) lease: LeaseRow,
}

/// The lease as it is written down, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaseRow {
    pub(super) length: i64,
    pub(super) longest: i64,
    pub(super) version: i64,
}

/// Connects once, and brings the tables up to date.
pub(super) async fn prepare(
    options: &PgConnectOptions,
    lease: Option<Duration>,
    deadline: Duration,
) -> Result<ReadySchema, StoreError> {
    let first = ConnectionTarget {
        options: options.clone(),
        search_path: None,
        deadline: START_TIMEOUT,
    };
    let late = |_elapsed| StoreError::timed_out(format!("no connection within {deadline:?}"));
    let mut connection = timeout(deadline, first.connect())
        .await
        .map_err(late)?
        .map_err(connecting_failed)?;
    let late = |_elapsed| {
        StoreError::timed_out(format!(
            "the tables were not ready within {START_TIMEOUT:?}"
        ))
    };
    let ready = timeout(START_TIMEOUT, async {
        check_server(&mut connection).await?;
        migrate(&mut connection, options, lease, deadline).await
    });
    let ready = ready.await.map_err(late)??;
    // If this takes too long, the closed socket ends the session.
    let _ = timeout(deadline, connection.close()).await;
    Ok(ready)
}

/// Brings the tables up to date in one transaction under a lock: of several processes that start at
/// once, one does it and the others find it done.
async fn migrate(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    lease: Option<Duration>,
    deadline: Duration,
) -> Result<ReadySchema, StoreError> {
    let migrating_failed = |error| failed("bringing the tables up to date", error);
    let mut transaction = connection.begin().await.map_err(migrating_failed)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(MIGRATION_LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(migrating_failed)?;
    let search_path = enter_schema(&mut transaction)
        .await
        .map_err(migrating_failed)?;
    let Some(search_path) = search_path else {
        return Err(StoreError::InvalidArgument(
            "no schema of the connection's search_path exists; create one, or name another as in \
             `?options=-csearch_path%3Dpublic`"
                .to_owned(),
        ));
    };
    let found = schema_version(&mut transaction)
        .await
        .map_err(migrating_failed)?;
    if let Some(found) = found {
        schema::check(found, LATEST)?;
    }
    let pending = MIGRATIONS
        .iter()
        .filter(|(version, _)| Some(*version) > found);
    for (_, migration) in pending {
        sqlx::raw_sql(*migration)
            .execute(&mut *transaction)
            .await
            .map_err(migrating_failed)?;
    }
    let (channel, lease) = write_meta(&mut transaction, lease)
        .await
        .map_err(migrating_failed)?;
    transaction.commit().await.map_err(migrating_failed)?;
    Ok(ReadySchema {
        target: ConnectionTarget {
            options: options.clone(),
            search_path: Some(search_path),
            deadline,
        },
        channel,
        lease,
    })
}

/// Takes the schema of the search path that has the tables, otherwise the first one, in which they
/// are made, and leaves nothing else on the path. Every connection names it from here on, so that a
/// path that is changed later does not separate one node from the others.
async fn enter_schema(connection: &mut PgConnection) -> Result<Option<String>, Error> {
    // As text, `regnamespace` is quoted if necessary.
    const CHOOSE: &str = "SELECT coalesce( \
         (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('api_key_meta')), \
         quote_ident(current_schema())) || ', pg_temp'";
    let chosen: Option<String> = sqlx::query_scalar(CHOOSE)
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query("SELECT set_config('search_path', $1, TRUE) WHERE $1 IS NOT NULL")
        .bind(&chosen)
        .execute(connection)
        .await?;
    Ok(chosen)
}

/// Returns the version of the tables, if there are any.
async fn schema_version(connection: &mut PgConnection) -> Result<Option<i64>, Error> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('api_key_meta') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(None);
    }
    // An unreleased build has a column of another type.
    sqlx::query_scalar("SELECT schema_version::bigint FROM api_key_meta")
        .fetch_one(connection)
        .await
        .map(Some)
}

/// Writes the version and the lease down, and begins the history again if the log was emptied.
async fn write_meta(
    connection: &mut PgConnection,
    lease: Option<Duration>,
) -> Result<(String, LeaseRow), Error> {
    const WRITE: &str = "UPDATE api_key_meta SET schema_version = $1, lease_ms = coalesce($2, lease_ms) \
         WHERE schema_version <> $1 OR lease_ms <> $2";
    const BEGIN: &str =
        "SELECT api_key_append_change('', 'all') WHERE NOT EXISTS (SELECT FROM api_key_changes)";
    const READ: &str =
        "SELECT channel, lease_ms, longest_lease_ms, lease_version FROM api_key_meta";
    sqlx::query(WRITE)
        .bind(LATEST)
        .bind(lease.map(millis_i64))
        .execute(&mut *connection)
        .await?;
    sqlx::query(BEGIN).execute(&mut *connection).await?;
    let row = sqlx::query(READ).fetch_one(connection).await?;
    let lease = LeaseRow {
        length: row.try_get("lease_ms")?,
        longest: row.try_get("longest_lease_ms")?,
        version: row.try_get("lease_version")?,
    };
    Ok((row.try_get("channel")?, lease))
}
