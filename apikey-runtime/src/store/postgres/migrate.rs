//! Bringing the tables up to date.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{Connection, Error, Row};
use tokio::time::timeout;

use super::connect::{ConnectionTarget, check_server};
use super::error::{connecting_failed, failed, is_another_table, is_missing_database};
use crate::clock::millis_i64;
use crate::error::{FoundSchema, StoreError};
use crate::store::schema::{self, Opening, UpgradeFlag};

/// The migrations in their order, each with the version that the tables have after it.
const MIGRATIONS: [(i64, &str); 10] = [
    (schema::FIRST, include_str!("migrations/0100_initial.sql")),
    (101, include_str!("migrations/0101_limit_counters.sql")),
    (102, include_str!("migrations/0102_change_log.sql")),
    (103, include_str!("migrations/0103_owners.sql")),
    (104, include_str!("migrations/0104_audit.sql")),
    (105, include_str!("migrations/0105_last_used.sql")),
    (106, include_str!("migrations/0106_expiry_notices.sql")),
    (107, include_str!("migrations/0107_shared_secrets.sql")),
    (108, include_str!("migrations/0108_copying.sql")),
    (109, include_str!("migrations/0109_usage_locks.sql")),
];

/// The version of the tables after all migrations.
const LATEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// How long a start waits for the server, and for locks of other sessions.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long bringing tables up to date may take, or waiting for another process that does it. It grows with the number of
/// keys, so that a short bound would undo it each time.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(3_600);

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

/// Connects once, and brings the tables up to date, as far as `opening` allows it.
pub(super) async fn prepare(
    options: &PgConnectOptions,
    opening: Opening,
    lease: Option<Duration>,
    deadline: Duration,
    upgrade: &UpgradeFlag,
) -> Result<ReadySchema, StoreError> {
    let mut connection = first_connection(options, opening, deadline).await?;
    let (channel, lease, search_path) = migrate(&mut connection, opening, lease, upgrade).await?;
    // If this takes too long, the closed socket ends the session.
    let _ = timeout(deadline, connection.close()).await;
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

/// Connects once, and reads rows of the tables of this or an older release, which stay as they are.
pub(super) async fn read_as_is(
    options: &PgConnectOptions,
    deadline: Duration,
    statement: &'static str,
) -> Result<Vec<PgRow>, StoreError> {
    let reading_failed = |error| failed("reading the tables as they are", error);
    let mut connection = first_connection(options, Opening::LOOK, deadline).await?;
    within(START_TIMEOUT, async {
        let mut transaction = connection.begin().await.map_err(reading_failed)?;
        look(&mut transaction, Opening::LOOK).await?;
        let rows = sqlx::query(statement).fetch_all(&mut *transaction).await;
        rows.map_err(reading_failed)
    })
    .await
}

async fn first_connection(
    options: &PgConnectOptions,
    opening: Opening,
    deadline: Duration,
) -> Result<PgConnection, StoreError> {
    let first = ConnectionTarget {
        options: options.clone(),
        search_path: None,
        deadline: START_TIMEOUT,
    };
    let late = |_elapsed| StoreError::timed_out(format!("no connection within {deadline:?}"));
    let mut connection = timeout(deadline, first.connect())
        .await
        .map_err(late)?
        .map_err(|error| first_failed(error, opening))?;
    within(START_TIMEOUT, check_server(&mut connection)).await?;
    Ok(connection)
}

/// Ends `step` after `bound`, of which the server may not know.
async fn within<T>(
    bound: Duration,
    step: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late =
        |_elapsed| StoreError::timed_out(format!("the tables were not ready within {bound:?}"));
    timeout(bound, step).await.map_err(late)?
}

/// Brings the tables up to date in one transaction under a lock: of several processes that start at
/// once, one does it and the others find it done. Returns the channel, the lease and the search path.
async fn migrate(
    connection: &mut PgConnection,
    opening: Opening,
    lease: Option<Duration>,
    upgrade: &UpgradeFlag,
) -> Result<(String, LeaseRow, String), StoreError> {
    let mut transaction = within(START_TIMEOUT, async {
        connection.begin().await.map_err(migrating_failed)
    })
    .await?;
    // Otherwise nothing is made, and what another process makes is not seen before it is done.
    if !opening.is_as_it_is() {
        take_turn(&mut transaction, upgrade).await?;
    }
    let (search_path, found) = within(START_TIMEOUT, look(&mut transaction, opening)).await?;
    // Until it is committed: if a start is given up before, all of it is undone.
    let _upgrading = upgrade.raise_for(found, LATEST);
    within(UPGRADE_TIMEOUT, run_pending(&mut transaction, found)).await?;
    within(START_TIMEOUT, async {
        let (channel, lease) = write_meta(&mut transaction, lease)
            .await
            .map_err(migrating_failed)?;
        transaction.commit().await.map_err(migrating_failed)?;
        Ok((channel, lease, search_path))
    })
    .await
}

/// Returns the error of the first connection.
fn first_failed(error: Error, opening: Opening) -> StoreError {
    match opening.must_exist && is_missing_database(&error) {
        true => StoreError::Schema {
            found: FoundSchema::Missing,
            reason: schema::missing("a database that does not exist"),
        },
        false => connecting_failed(error),
    }
}

fn migrating_failed(error: Error) -> StoreError {
    failed("bringing the tables up to date", error)
}

/// Takes the lock under which tables are made. While another process has it, waits for as long as that may take.
async fn take_turn(connection: &mut PgConnection, upgrade: &UpgradeFlag) -> Result<(), StoreError> {
    const TRY: &str = "SELECT pg_try_advisory_xact_lock($1)";
    const WAIT: &str = "SELECT pg_advisory_xact_lock($1)";
    let try_lock = sqlx::query_scalar(TRY).bind(MIGRATION_LOCK);
    let is_locked: bool = within(START_TIMEOUT, async {
        let is_locked = try_lock.fetch_one(&mut *connection).await;
        is_locked.map_err(migrating_failed)
    })
    .await?;
    if is_locked {
        return Ok(());
    }
    tracing::info!("another process makes the tables of the key store, or brings them up to date");
    let _upgrading = upgrade.raise();
    within(UPGRADE_TIMEOUT, async {
        set_timeouts(connection, UPGRADE_TIMEOUT, UPGRADE_TIMEOUT).await?;
        let wait = sqlx::query(WAIT).bind(MIGRATION_LOCK);
        let waited = wait.execute(&mut *connection).await;
        waited.map_err(migrating_failed)?;
        set_timeouts(connection, START_TIMEOUT, START_TIMEOUT).await
    })
    .await
}

/// Sets the server's own bounds for the statements of this transaction, and for their waits for locks.
async fn set_timeouts(
    connection: &mut PgConnection,
    statement: Duration,
    lock: Duration,
) -> Result<(), StoreError> {
    const SET: &str =
        "SELECT set_config('statement_timeout', $1, TRUE), set_config('lock_timeout', $2, TRUE)";
    let [statement, lock] = [statement, lock].map(|bound| bound.as_millis().to_string());
    let set = sqlx::query(SET).bind(statement).bind(lock);
    set.execute(connection)
        .await
        .map(drop)
        .map_err(migrating_failed)
}

/// Returns the search path, and the version of the tables in it, if there are any.
async fn look(
    connection: &mut PgConnection,
    opening: Opening,
) -> Result<(String, Option<i64>), StoreError> {
    let search_path = enter_schema(connection).await.map_err(migrating_failed)?;
    let Some(search_path) = search_path else {
        return Err(StoreError::InvalidArgument(
            "no schema of the connection's search_path exists; create one, or name another as in \
             `?options=-csearch_path%3Dpublic`"
                .to_owned(),
        ));
    };
    let found = schema_version(connection).await.map_err(|error| {
        match is_another_table(&error) {
            true => schema::foreign(
                "the table `api_key_meta` is not one of a store; name another database or schema",
            ),
            false => migrating_failed(error),
        }
    })?;
    let place = || {
        let schema = search_path.trim_end_matches(", pg_temp");
        format!("the schema `{schema}` of the database")
    };
    opening.check(found, LATEST, place)?;
    Ok((search_path, found))
}

/// Runs the migrations that are not in the tables yet. Each waits for locks for as long as a start does.
async fn run_pending(connection: &mut PgConnection, found: Option<i64>) -> Result<(), StoreError> {
    set_timeouts(connection, UPGRADE_TIMEOUT, START_TIMEOUT).await?;
    let pending = MIGRATIONS
        .iter()
        .filter(|(version, _)| Some(*version) > found);
    for (_, migration) in pending {
        sqlx::raw_sql(*migration)
            .execute(&mut *connection)
            .await
            .map_err(migrating_failed)?;
    }
    set_timeouts(connection, START_TIMEOUT, START_TIMEOUT).await
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
