//! Connecting, and getting the tables ready.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Error, Row};
use tokio::time::timeout;

use super::error::{connecting_failed, failed};
use super::pool::Target;
use crate::clock::millis_i64;
use crate::error::StoreError;

/// What each step makes of a schema in which all steps before it have run.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_keys.sql"),
    include_str!("migrations/0002_limits.sql"),
    include_str!("migrations/0003_usage.sql"),
];

/// How long a start waits for others that start at the same time.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The first release with `idle_session_timeout` and `client_connection_check_interval`.
const OLDEST_SERVER: i32 = 140_000;

/// Names the lock under which tables are made: in ASCII, "apikeys1".
const MIGRATION_LOCK: i64 = 0x6170_696b_6579_7331;

/// What sqlx takes from a URL. Anything else it would log, value and all, and a misspelt `password`
/// is one.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "statement-cache-capacity",
];

/// The options in `url`; the error never shows it.
pub(super) fn parse(url: &str) -> Result<PgConnectOptions, String> {
    let unfit = |reason: &str| {
        format!(
            "the URL of the store does not fit: {reason}; write it as in \
             `postgres://user:password@host:5432/database`"
        )
    };
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err(unfit("it does not begin with `postgres://`"));
    }
    let query = url.split('#').next().and_then(|url| url.split_once('?'));
    let parameters = query.map_or("", |(_, query)| query).split('&');
    let unknown = (1..).zip(parameters).find(|(_, parameter)| {
        let name = parameter.split('=').next().unwrap_or_default();
        !(name.is_empty() || PARAMETERS.contains(&name) || is_option(name))
    });
    if let Some((place, _)) = unknown {
        // Its place and not its name, which may be a part of the password.
        return Err(unfit(&format!(
            "parameter {place} after the `?` is not known"
        )));
    }
    // What the parser says is about the form, and has no part of the URL but for a number or a mode
    // that is none.
    let options = PgConnectOptions::from_str(url).map_err(|_| unfit("it cannot be read"))?;
    let named = options.get_application_name().is_some();
    let options = if named {
        options
    } else {
        options.application_name("apikey")
    };
    Ok(options.disable_statement_logging())
}

/// `options[name]`, as it is or encoded.
fn is_option(name: &str) -> bool {
    name.starts_with("options[") || name.to_ascii_lowercase().starts_with("options%5b")
}

/// What the tables are like, and how to connect to them.
pub(super) struct Ready {
    pub(super) target: Target,
    /// What the push comes on.
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
) -> Result<Ready, StoreError> {
    let first = Target {
        options: options.clone(),
        setup: setup(None, START_TIMEOUT),
    };
    let late = |_| StoreError::unavailable(format!("no connection within {deadline:?}"));
    let mut connection = timeout(deadline, first.connect())
        .await
        .map_err(late)?
        .map_err(connecting_failed)?;
    let late = |_| {
        StoreError::unavailable(format!(
            "the tables were not ready within {START_TIMEOUT:?}"
        ))
    };
    let ready = timeout(START_TIMEOUT, async {
        look_at_the_server(&mut connection).await?;
        migrate(&mut connection, options, lease, deadline).await
    });
    let ready = ready.await.map_err(late)??;
    // What is not said in time is said by the closed socket.
    let _ = timeout(deadline, connection.close()).await;
    Ok(ready)
}

/// What is run on each connection. In simple statements and not as parameters of the start of a
/// connection, which a pooler in between refuses.
fn setup(search_path: Option<&str>, deadline: Duration) -> String {
    let millis = deadline.as_millis().max(1);
    let search_path =
        search_path.map_or_else(String::new, |path| format!("SET search_path = {path};"));
    // An abandoned call ends with its connection, and a connection whose other end is gone ends
    // too (a server on Windows does not look). Our own statements know how to live with one another at this isolation. An
    // acknowledged write is durable, whatever the server's default.
    format!(
        "{search_path} \
         SET statement_timeout = {millis}; SET lock_timeout = {millis}; \
         SET idle_in_transaction_session_timeout = {millis}; SET idle_session_timeout = 0; \
         DO $$ BEGIN SET client_connection_check_interval = 500; \
            EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$; \
         SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
         SET default_transaction_isolation = 'read committed'; \
         SELECT set_config('synchronous_commit', 'on', FALSE) WHERE current_setting('synchronous_commit') = 'off'; \
         SELECT pg_is_in_recovery() AS standby"
    )
}

/// Refuses a server that cannot keep the records, and warns of one that can lose them.
async fn look_at_the_server(connection: &mut PgConnection) -> Result<(), StoreError> {
    const LOOK: &str = "SELECT current_setting('server_version_num')::integer AS version, \
         current_setting('server_encoding') AS encoding, current_setting('fsync') AS fsync, \
         current_setting('full_page_writes') AS full_page_writes, \
         (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') AS synchronous_commit";
    let looking_failed = |error| failed("looking at the server's settings", error);
    let row = sqlx::query(LOOK)
        .fetch_one(connection)
        .await
        .map_err(looking_failed)?;
    let version: i32 = row.try_get("version").map_err(looking_failed)?;
    if version < OLDEST_SERVER {
        return Err(StoreError::InvalidArgument(format!(
            "the server is PostgreSQL {}; 14 or a newer one is needed",
            version / 10_000
        )));
    }
    let encoding: String = row.try_get("encoding").map_err(looking_failed)?;
    if encoding != "UTF8" {
        return Err(StoreError::InvalidArgument(format!(
            "the database's encoding is {encoding}, which cannot keep every text; make one with \
             the encoding UTF8"
        )));
    }
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value: Option<String> = row.try_get(setting).map_err(looking_failed)?;
        if value.as_deref() == Some("off") {
            tracing::warn!(
                setting,
                "PostgreSQL is set to lose what it has acknowledged: a revocation can be undone by a crash"
            );
        }
    }
    Ok(())
}

/// Brings the tables up to date in one transaction under a lock: of several processes that start at
/// once, one does it and the others find it done.
async fn migrate(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    lease: Option<Duration>,
    deadline: Duration,
) -> Result<Ready, StoreError> {
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
    let done = schema_version(&mut transaction)
        .await
        .map_err(migrating_failed)?;
    let missing = usize::try_from(done)
        .ok()
        .and_then(|done| MIGRATIONS.get(done..));
    let Some(missing) = missing else {
        return Err(StoreError::InvalidArgument(format!(
            "the schema has tables of version {done}, and this release knows {}; take a newer release",
            MIGRATIONS.len()
        )));
    };
    for step in missing {
        sqlx::raw_sql(*step)
            .execute(&mut *transaction)
            .await
            .map_err(migrating_failed)?;
    }
    let (channel, lease) = settle(&mut transaction, lease)
        .await
        .map_err(migrating_failed)?;
    transaction.commit().await.map_err(migrating_failed)?;
    Ok(Ready {
        target: Target {
            options: options.clone(),
            setup: setup(Some(&search_path), deadline),
        },
        channel,
        lease,
    })
}

/// Takes the schema of the search path that has the tables, else the one where they would be made,
/// and leaves nothing else on the path. From here on it is named on every connection, so that a
/// path that is set to another later leads no node away from the others.
async fn enter_schema(connection: &mut PgConnection) -> Result<Option<String>, Error> {
    // As text, `regnamespace` is quoted where it has to be.
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

async fn schema_version(connection: &mut PgConnection) -> Result<i32, Error> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('api_key_meta') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT schema_version FROM api_key_meta")
        .fetch_one(connection)
        .await
}

/// Writes down what now holds, and gives the history a place to stand on where someone emptied the
/// log.
async fn settle(
    connection: &mut PgConnection,
    lease: Option<Duration>,
) -> Result<(String, LeaseRow), Error> {
    const WRITE: &str = "UPDATE api_key_meta SET schema_version = $1, lease_ms = coalesce($2, lease_ms) \
         WHERE schema_version <> $1 OR lease_ms <> $2";
    const STAND: &str = "SELECT api_key_log('') WHERE NOT EXISTS (SELECT FROM api_key_changes)";
    const READ: &str =
        "SELECT channel, lease_ms, longest_lease_ms, lease_version FROM api_key_meta";
    sqlx::query(WRITE)
        .bind(i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX))
        .bind(lease.map(millis_i64))
        .execute(&mut *connection)
        .await?;
    sqlx::query(STAND).execute(&mut *connection).await?;
    let row = sqlx::query(READ).fetch_one(connection).await?;
    let lease = LeaseRow {
        length: row.try_get("lease_ms")?,
        longest: row.try_get("longest_lease_ms")?,
        version: row.try_get("lease_version")?,
    };
    Ok((row.try_get("channel")?, lease))
}
