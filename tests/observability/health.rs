//! The health report: each class of calls is known from what really happened, and its reason ends in
//! the code of the server or of the operating system.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::manager::{Health, StoreHealth};
use apikey_runtime::{
    ApiKeyManager, Config, DenyReason, KeyId, KeyStore, PostgresStore, Quota, RedisStore,
    SqliteStore,
};
use apikey_test_support::fleet;
use apikey_test_support::servers::postgres::{PASSWORD, Postgres, USER};
use apikey_test_support::servers::redis::{self, RedisServer, Reply};
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{PATIENCE, manager_on, soon, within};
use sqlx::{Connection, PgConnection};

async fn denial(manager: &ApiKeyManager, secret: &str) -> Option<DenyReason> {
    let answer = soon(manager.verify(secret)).await;
    answer.err().map(|denied| denied.reason())
}

/// Waits until `holds` is true of the report.
async fn becomes(manager: &ApiKeyManager, holds: impl Fn(&Health) -> bool) -> Health {
    let seen = within(PATIENCE, async || holds(&manager.health())).await;
    assert!(seen.is_some(), "{:#?}", manager.health());
    manager.health()
}

fn reason(health: &StoreHealth) -> &str {
    match health {
        StoreHealth::Down { reason, .. } => reason,
        _ => "",
    }
}

/// A manager that writes usage often, so that its result is known soon.
async fn manager(store: impl KeyStore) -> ApiKeyManager {
    let config = Config::builder().usage_flush_interval(Duration::from_millis(100));
    let manager = ApiKeyManager::builder().config(config.build().unwrap());
    soon(manager.store(store).start()).await.unwrap()
}

#[actix_web::test]
async fn a_node_that_cannot_read_keys_is_not_ready_though_polls_are_answered() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    assert!(manager.health().is_ready());

    store.fail(Call::Find, Fault::Unavailable);
    let unavailable = Some(DenyReason::StoreUnavailable);
    assert_eq!(denial(&manager, key.expose_secret()).await, unavailable);
    let health = manager.health();
    assert!(!health.is_ready(), "{health:?}");
    assert!(reason(&health.reads).contains("the test says so"));
    assert_eq!(health.store, StoreHealth::Up, "polls are answered");
    let json = serde_json::to_value(&health).unwrap();
    assert_eq!(json["reads"]["state"], "down");
    for class in ["store", "writes", "charges", "usage"] {
        assert_eq!(json[class]["state"], "up", "{class}");
    }

    // Without a request.
    store.heal();
    becomes(&manager, Health::is_ready).await;
}

#[actix_web::test]
async fn without_requests_a_probe_finds_out_that_keys_cannot_be_read() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    store.fail(Call::Find, Fault::Unavailable);
    becomes(&manager, |health| !health.is_ready()).await;
    store.heal();
    becomes(&manager, Health::is_ready).await;
}

#[actix_web::test]
async fn a_node_that_only_cannot_write_stays_ready_and_says_so() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").limit("q", Quota::lifetime(5)).await;
    let key = key.unwrap();
    // Errors of the caller are answers.
    assert!(manager.enable(KeyId::from_u128(1)).await.is_err());
    assert_eq!(manager.health().writes, StoreHealth::Up);

    store.fail(Call::Update, Fault::Backend);
    assert!(manager.disable(key.id()).await.is_err());
    let health = manager.health();
    assert!(health.is_ready());
    assert!(reason(&health.writes).contains("the test says so"));
    assert_eq!(health.charges, StoreHealth::Up);

    store.fail(Call::Charge, Fault::Unavailable);
    let unavailable = Some(DenyReason::StoreUnavailable);
    assert_eq!(denial(&manager, key.expose_secret()).await, unavailable);
    let health = manager.health();
    assert!(health.is_ready());
    assert!(reason(&health.charges).contains("the test says so"));

    store.heal();
    becomes(&manager, |health| health.writes == StoreHealth::Up).await;
    assert_eq!(denial(&manager, key.expose_secret()).await, None);
    assert_eq!(manager.health().charges, StoreHealth::Up);
}

/// A database of a role that is not a superuser.
struct Database {
    name: String,
    admin: PgConnection,
    url: String,
}

impl Database {
    async fn new(server: &Postgres) -> Self {
        let url = fleet::database(server).await;
        let name = url.rsplit_once('/').unwrap().1.to_owned();
        // Another password: sqlx logs the statement below.
        let url = url.replace(&format!("{USER}:{PASSWORD}"), &format!("{name}:{name}"));
        let admin = PgConnection::connect(&server.url()).await.unwrap();
        let mut database = Self { name, admin, url };
        let name = &database.name;
        let create = format!(
            "CREATE ROLE {name} LOGIN PASSWORD '{name}'; ALTER DATABASE {name} OWNER TO {name}"
        );
        database.run(create).await;
        database
    }

    async fn run(&mut self, sql: String) {
        let sql = sqlx::AssertSqlSafe(sql);
        sqlx::raw_sql(sql).execute(&mut self.admin).await.unwrap();
    }

    /// Changes a setting of the database, for connections that are opened from now on, and ends the
    /// others.
    async fn set_read_only(&mut self, value: &str) {
        let name = self.name.clone();
        self.run(format!(
            "ALTER DATABASE {name} SET default_transaction_read_only = {value}; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await;
    }
}

#[actix_web::test]
async fn without_a_free_connection_to_postgres_a_node_is_not_ready() {
    let Some(server) = fleet::postgres() else {
        return;
    };
    let mut database = Database::new(server).await;
    let manager = manager(PostgresStore::new(&database.url)).await;
    // The connections of polls and heartbeats stay; reads need one that is not open yet.
    let name = database.name.clone();
    database
        .run(format!("ALTER ROLE {name} CONNECTION LIMIT 1"))
        .await;
    becomes(&manager, |health| !health.is_ready()).await;
    let health = becomes(&manager, |health| reason(&health.reads).contains("53300")).await;
    assert_eq!(health.store, StoreHealth::Up);

    database
        .run(format!("ALTER ROLE {name} CONNECTION LIMIT -1"))
        .await;
    becomes(&manager, Health::is_ready).await;
}

#[actix_web::test]
async fn a_database_that_became_read_only_is_ready_and_tells_that_it_cannot_be_changed() {
    let Some(server) = fleet::postgres() else {
        return;
    };
    let mut database = Database::new(server).await;
    let manager = manager(PostgresStore::new(&database.url)).await;
    let key = manager.create("a").limit("q", Quota::lifetime(5)).await;
    let key = key.unwrap();
    database.set_read_only("on").await;
    // Known from the heartbeat, before a change is tried.
    let read_only = |health: &Health| reason(&health.writes).contains("25006");
    becomes(&manager, read_only).await;
    assert!(manager.create("b").await.is_err());
    let charged = async || {
        let unavailable = Some(DenyReason::StoreUnavailable);
        assert_eq!(denial(&manager, key.expose_secret()).await, unavailable);
        reason(&manager.health().charges).contains("25006")
    };
    assert!(within(PATIENCE, charged).await.is_some());
    let health = becomes(&manager, Health::is_ready).await;
    assert!(read_only(&health), "{health:?}");
    assert_eq!(health.store, StoreHealth::Up);

    database.set_read_only("off").await;
    becomes(&manager, |health| health.writes == StoreHealth::Up).await;
    let accepted = async || denial(&manager, key.expose_secret()).await.is_none();
    assert!(within(PATIENCE, accepted).await.is_some());
    assert_eq!(manager.health().charges, StoreHealth::Up);
}

#[actix_web::test]
async fn a_redis_that_refuses_writes_is_ready_and_tells_why() {
    const TEST: &str = "a_redis_that_refuses_writes_is_ready_and_tells_why";
    if !redis::is_installed(TEST) {
        return;
    }
    let server = RedisServer::start(&[]);
    let set = |name: &str, value: &str| {
        let reply = server.command(&["CONFIG", "SET", name, value]);
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
    };
    let manager = manager(RedisStore::new(server.url())).await;
    let key = manager.create("a").await.unwrap();
    for (name, fault, healed, code) in [
        ("maxmemory", "1", "0", "OOM"),
        ("min-replicas-to-write", "1", "0", "NOREPLICAS"),
    ] {
        set(name, fault);
        let down = |health: &Health| reason(&health.writes).contains(code);
        becomes(&manager, down).await;
        assert!(manager.disable(key.id()).await.is_err());
        assert_eq!(denial(&manager, key.expose_secret()).await, None);
        let health = becomes(&manager, Health::is_ready).await;
        assert!(down(&health), "{health:?}");
        set(name, healed);
        becomes(&manager, |health| health.writes == StoreHealth::Up).await;
    }
}

/// Names the file to the child process; without it the child's test does nothing.
const FILE: &str = "APIKEY_TEST_FULL_FILE";

/// No file may grow, which a process can set for itself, and which ends as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_ready_and_tells_that_it_cannot_be_written() {
    const CHILD: &str = "health::child_whose_disk_is_full_for_a_while";
    let folder = tempfile::tempdir().unwrap();
    // Without this, the signal at the limit ends the process.
    let ignore = "trap '' XFSZ; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", ignore]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", CHILD, "--nocapture"]);
    command.env(FILE, folder.path().join("keys.db"));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{errors}"
    );
}

#[actix_web::test]
async fn child_whose_disk_is_full_for_a_while() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let limit_files = |option: &str| {
        let own = std::process::id().to_string();
        let set = Command::new("prlimit")
            .args(["--pid", &own, option])
            .status();
        assert!(set.unwrap().success());
    };
    let manager = manager(SqliteStore::new(file)).await;
    let key = manager.create("a").await.unwrap();
    limit_files("--fsize=1:");
    // Known from the heartbeat, before a change is tried.
    let health = becomes(&manager, |health| health.writes != StoreHealth::Up).await;
    let ends_in_a_code = |reason: &str| reason.contains("(code: ") || reason.contains("os error");
    assert!(ends_in_a_code(reason(&health.writes)), "{health:?}");
    assert!(manager.disable(key.id()).await.is_err());
    becomes(&manager, Health::is_ready).await;

    limit_files("--fsize=unlimited:");
    becomes(&manager, |health| health.writes == StoreHealth::Up).await;
    manager.disable(key.id()).await.unwrap();
}

/// A slow start is a test of its own store: the calls that it makes first take longer than a call
/// may take later.
#[actix_web::test]
async fn a_store_that_is_slow_at_the_start_is_waited_for() {
    let store = GateStore::new();
    let config = Config::builder().store_timeout(Duration::from_millis(20));
    let manager = ApiKeyManager::builder().config(config.build().unwrap());
    let join = store.gate_before(Call::Join);
    let opening = async {
        join.arrived().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        join.open();
    };
    let start = manager.shared_store(Arc::clone(&store) as Arc<dyn KeyStore>);
    let (started, ()) = tokio::join!(soon(start.start()), opening);
    assert!(started.unwrap().health().is_ready());
}
