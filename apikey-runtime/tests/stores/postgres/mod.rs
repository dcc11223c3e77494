//! The specifics of PostgreSQL. The tests share one server, and each has its own schema.

mod as_it_is;
mod audit;
mod audit_kept;
mod bulk;
mod by_hand;
mod calls;
mod charges;
mod copying;
mod crash;
mod epochs;
mod faults;
mod live_keys;
mod locks;
mod marking;
mod model;
mod nodes;
mod notices;
mod numbering;
mod owner_lists;
mod owner_rows;
mod owners;
mod owners_by_hand;
mod ranges;
mod rates;
mod secrets;
mod shared_secrets;
mod start;
mod suite;
mod tangle;
mod transactions;
mod upgrade;
mod usage;

use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use apikey_runtime::store::{
    ChangeLog, ChangeSet, Cursor, OwnerRevocation, OwnerState, OwnerStore,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, PostgresStore};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tokio::time::sleep;

use apikey_test_support::PATIENCE;
use apikey_test_support::servers::postgres::{self, Postgres};

use crate::{at, keys_in, owned};

/// Returns the server that all tests share which do not disturb it. `None` if PostgreSQL is not
/// installed.
fn server() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    postgres::shared(&SERVER)
}

/// Ends a test without a server; [`server`] has recorded it as skipped.
macro_rules! place {
    () => {
        match crate::postgres::server() {
            Some(server) => crate::postgres::Place::on(server).await,
            None => return,
        }
    };
}
use place;

/// A test's own schema.
struct Place<'s> {
    server: &'s Postgres,
    schema: String,
}

impl<'s> Place<'s> {
    async fn on(server: &'s Postgres) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // A name that has to be quoted.
        let schema = format!("Place {number}");
        let place = Self { server, schema };
        let mut tool = connection(&server.url()).await;
        run(&mut tool, &format!("CREATE SCHEMA \"{}\"", place.schema))
            .await
            .unwrap();
        place
    }

    fn url(&self) -> String {
        self.url_at(self.server.port())
    }

    fn url_at(&self, port: u16) -> String {
        let schema = self.schema.replace(' ', "\\ ");
        let options = format!("-csearch_path=\"{schema}\"");
        let encoded: String = options.bytes().map(|byte| format!("%{byte:02X}")).collect();
        format!("{}?options={encoded}", self.server.url_at(port))
    }

    fn store(&self) -> PostgresStore {
        PostgresStore::new(self.url())
    }

    async fn started(&self) -> PostgresStore {
        let store = self.store();
        store.start().await.unwrap();
        store
    }

    /// Opens a connection outside of the store, as an operator's tool does.
    async fn tool(&self) -> PgConnection {
        connection(&self.url()).await
    }
}

async fn connection(url: &str) -> PgConnection {
    let options = PgConnectOptions::from_str(url).unwrap();
    options.connect().await.unwrap()
}

/// Runs statements by hand.
async fn run(tool: &mut PgConnection, sql: &str) -> Result<u64, sqlx::Error> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(tool).await?;
    Ok(done.rows_affected())
}

/// Returns the number that `sql` selects.
async fn number(tool: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(tool)
        .await
        .unwrap()
}

/// Waits until this many sessions wait for locks of `holder`, or for one another behind it. Uses
/// another connection: within a transaction the list of sessions does not change after its first
/// read.
async fn until_waiting(place: &Place<'_>, holder: &mut PgConnection, calls: i64) {
    let pid = number(holder, "SELECT pg_backend_pid()::bigint").await;
    let waiting = format!(
        "WITH RECURSIVE behind(pid) AS (SELECT {pid}::integer UNION \
            SELECT other.pid FROM behind, pg_stat_activity AS other \
            WHERE behind.pid = ANY (pg_blocking_pids(other.pid))) \
         SELECT count(*) - 1 FROM behind"
    );
    let mut tool = place.tool().await;
    let began = Instant::now();
    while number(&mut tool, &waiting).await < calls {
        assert!(began.elapsed() < PATIENCE, "nobody waits");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn cursor(store: &impl ChangeLog) -> Cursor {
    store.changes(None, None).await.unwrap().cursor
}

async fn history(store: &impl ChangeLog, since: &Cursor) -> ChangeSet {
    store.changes(Some(since), None).await.unwrap().set
}

async fn changed(store: &impl ChangeLog, since: &Cursor) -> Vec<KeyId> {
    keys_in(history(store, since).await)
}

/// Returns what a store reads of a key that was inserted for an owner, which has not been changed.
fn owned_as_read(number: u128, owner: &str) -> KeyRecord {
    let mut record = owned(number, owner);
    record.owner_state = Some(OwnerState::new());
    record
}

/// Returns a revocation of all keys of an owner, at this time in milliseconds.
fn for_reason(millis: i64, reason: &str) -> OwnerRevocation {
    OwnerRevocation::new(at(millis)).with_reason(Some(reason.to_owned()))
}

/// Marks to the end, and returns in how many steps.
async fn mark(store: &PostgresStore) -> u32 {
    let mut steps = 1;
    while store.mark_revoked_keys().await.unwrap() {
        steps += 1;
    }
    steps
}
