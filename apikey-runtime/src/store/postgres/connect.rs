//! Connecting, and the settings of connections and of the server.

use std::io;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Error, Row};

use super::error::failed;
use crate::error::StoreError;

/// The first release with `idle_session_timeout` and `client_connection_check_interval`.
const OLDEST_SERVER: i32 = 140_000;

/// The server, and how each connection to it is set up.
#[derive(Debug, Clone)]
pub(super) struct ConnectionTarget {
    pub(super) options: PgConnectOptions,
    /// The schema that has the tables, if it is known.
    pub(super) search_path: Option<String>,
    /// How long one call may take.
    pub(super) deadline: Duration,
}

impl ConnectionTarget {
    /// Returns the same with a deadline of this length at least.
    pub(super) fn with_deadline(&self, at_least: Duration) -> Self {
        Self {
            deadline: self.deadline.max(at_least),
            ..self.clone()
        }
    }

    pub(super) async fn connect(&self) -> Result<PgConnection, Error> {
        let mut connection = self.options.connect().await?;
        self.set_up(&mut connection).await?;
        Ok(connection)
    }

    pub(super) async fn set_up(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let rows = sqlx::raw_sql(AssertSqlSafe(self.setup()))
            .fetch_all(connection)
            .await?;
        match rows.last() {
            Some(row) if !row.try_get::<bool, _>("standby")? => Ok(()),
            _ => Err(standby()),
        }
    }

    /// Returns the statements that are run once on each connection, of which the last tells whether it leads to a
    /// standby. In simple statements and not as parameters of the start of a
    /// connection, which a pooler in between refuses.
    fn setup(&self) -> String {
        let millis = self.deadline.as_millis().max(1);
        let search_path = self.search_path.as_ref();
        let search_path =
            search_path.map_or_else(String::new, |path| format!("SET search_path = {path};"));
        // An abandoned call ends with its connection, and a connection whose other end is gone ends
        // too (a server on Windows does not look). Our own statements know how to live with one another at this isolation. An
        // acknowledged write is durable, whatever the server's default. If rows are wanted in the order of an index, the
        // server reads them in that order: with statistics that are out of date it would rather read all of them, and sort.
        format!(
            "{search_path} \
         SET statement_timeout = {millis}; SET lock_timeout = {millis}; \
         SET idle_in_transaction_session_timeout = {millis}; SET idle_session_timeout = 0; \
         DO $$ BEGIN SET client_connection_check_interval = 500; \
            EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$; \
         SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
         SET enable_sort = off; SET jit = off; \
         SET default_transaction_isolation = 'read committed'; \
         SELECT set_config('synchronous_commit', 'on', FALSE) WHERE current_setting('synchronous_commit') = 'off'; \
         SELECT pg_is_in_recovery() AS standby"
        )
    }
}

/// The error of a server that is a standby: it may not know yet of what was revoked.
pub(super) fn standby() -> Error {
    Error::Io(io::Error::other(
        "the server is a standby, and those are never read; connect to the primary",
    ))
}

/// Refuses a server that cannot keep the records, and warns of one that can lose them.
pub(super) async fn check_server(connection: &mut PgConnection) -> Result<(), StoreError> {
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
