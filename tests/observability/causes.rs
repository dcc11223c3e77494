//! The cause of a failure: each error's chain, each health text and each log line ends in the code of
//! the server, or in that of the operating system and the path; and shows no password.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::manager::StoreHealth;
use apikey_runtime::store::{NodeId, StoreError};
use apikey_runtime::{
    ApiKeyManager, Config, KeyStore, MemoryStore, PostgresStore, RedisStore, SqliteStore,
};
use apikey_test_support::fleet;
use apikey_test_support::log::Log;
use apikey_test_support::machine::Machine;
use apikey_test_support::servers::postgres::{PASSWORD, USER};
use apikey_test_support::servers::redis::{self, RedisServer};
use apikey_test_support::store::{Call, Forward, Forwarding, GateStore};
use apikey_test_support::{PATIENCE, manager_on, soon, within};

/// Returns the texts of an error and of its sources.
fn chain(error: &dyn Error) -> String {
    let sources = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<_> = sources.map(ToString::to_string).collect();
    texts.join(": ")
}

/// Returns the chain of the error with which a manager does not start. It has much patience, and
/// must not need it.
async fn refusal(store: impl KeyStore) -> String {
    let config = Config::builder().start_timeout(Duration::from_secs(3_600));
    let manager = ApiKeyManager::builder().config(config.build().unwrap());
    let error = soon(manager.store(store).start()).await.unwrap_err();
    chain(&error)
}

#[actix_web::test]
async fn a_start_that_postgres_refuses_says_why() {
    let Some(server) = fleet::postgres() else {
        return;
    };
    let host = format!("127.0.0.1:{}", server.port());
    for (url, cause) in [
        (
            format!("postgres://{USER}:{PASSWORD}x@{host}/postgres"),
            "28P01",
        ),
        (
            format!("postgres://nobody:{PASSWORD}@{host}/postgres"),
            "28P01",
        ),
        (format!("postgres://{USER}:{PASSWORD}@{host}/none"), "3D000"),
        (
            format!("postgres://{USER}:{PASSWORD}@127.0.0.1:1/postgres"),
            "Connection refused (os error 111)",
        ),
        (
            format!("postgres://{USER}:{PASSWORD}@{host}/postgres?sslmode=require"),
            "TLS",
        ),
    ] {
        let chain = refusal(PostgresStore::new(&url)).await;
        assert!(chain.contains(cause), "{chain}");
        assert!(!chain.contains(PASSWORD), "{chain}");
    }
}

#[actix_web::test]
async fn a_start_that_redis_refuses_says_why() {
    if !redis::is_installed("a_start_that_redis_refuses_says_why") {
        return;
    }
    const SECRET: &str = "n0t-t0-be-seen";
    let server = RedisServer::start(&[("requirepass", SECRET)]);
    let host = format!("127.0.0.1:{}", server.port());
    for (url, cause) in [
        (format!("redis://{host}"), "NOAUTH"),
        (format!("redis://:{SECRET}x@{host}"), "WRONGPASS"),
        (
            format!("redis://:{SECRET}@127.0.0.1:1"),
            "Connection refused (os error 111)",
        ),
    ] {
        let chain = refusal(RedisStore::new(url)).await;
        assert!(chain.contains(cause), "{chain}");
        assert!(!chain.contains(SECRET), "{chain}");
    }
}

#[actix_web::test]
async fn a_start_on_a_path_that_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "no database, and longer than the header of one").unwrap();
    for (path, cause) in [
        (folder.path().join("none/keys.db"), "(os error 2)"),
        (file.join("keys.db"), "(os error 20)"),
        (folder.path().to_owned(), "(code: 14)"),
        (file.clone(), "(code: 26)"),
    ] {
        let chain = refusal(SqliteStore::new(&path)).await;
        assert!(chain.contains(cause), "{chain}");
        assert!(chain.contains(path.to_str().unwrap()), "{chain}");
    }
}

#[actix_web::test]
async fn when_a_server_is_gone_health_and_log_say_why() {
    const REFUSED: &str = "Connection refused (os error 111)";
    let log = Log::capture();
    for mut machine in Machine::every("when_a_server_is_gone_health_and_log_say_why") {
        let manager = manager_on(machine.store(Duration::from_secs(2))).await;
        let key = manager.create("a").await.unwrap();
        machine.kill();
        let known = within(PATIENCE, async || {
            let health = manager.health();
            [health.store, health.reads, health.writes].iter().all(
                |class| matches!(class, StoreHealth::Down { reason, .. } if reason.contains(REFUSED)),
            )
        });
        assert!(known.await.is_some(), "{:#?}", manager.health());
        let id = key.id().to_string();
        let logged = within(PATIENCE, async || {
            assert!(soon(manager.verify(key.expose_secret())).await.is_err());
            !log.lines(&["the key store failed", &id, REFUSED])
                .is_empty()
        });
        assert!(logged.await.is_some(), "{}", machine.name());
    }
    assert!(!log.text().contains(PASSWORD));
}

#[actix_web::test]
async fn a_start_that_waits_says_for_what() {
    let log = Log::capture();
    let store = GateStore::new();
    let join = store.gate_before(Call::Join);
    let start = ApiKeyManager::builder().shared_store(Arc::clone(&store) as Arc<dyn KeyStore>);
    let seen = async {
        let line = [
            "WARN",
            "the start waits for the key store's change log",
            "deadline=30s",
        ];
        let logged = within(PATIENCE, async || !log.lines(&line).is_empty()).await;
        assert!(logged.is_some());
        join.open();
    };
    let (started, ()) = tokio::join!(soon(start.start()), seen);
    started.unwrap();
}

/// Tells the lines of [`Full`] from those of other tests, which write to the same log.
const FULL: &str = "the queue of joins is full";

/// A store that is too busy to let anyone join.
#[derive(Debug)]
struct Full(MemoryStore);

impl Forward for Full {
    fn inner(&self) -> &dyn KeyStore {
        &self.0
    }

    async fn join(&self, _: &NodeId) -> Result<(), StoreError> {
        Err(StoreError::Unavailable {
            reason: FULL.to_owned(),
            source: Some(Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut))),
        })
    }
}

/// A failure that passes by itself is repeated every 50 milliseconds, and not logged as often. There is no lease yet.
#[actix_web::test]
async fn a_start_that_repeats_a_call_logs_a_warning_a_second() {
    let log = Log::capture();
    let store = Forwarding(Full(MemoryStore::new()));
    let config = Config::builder().start_timeout(Duration::from_secs(3));
    let start = ApiKeyManager::builder().config(config.build().unwrap());
    let error = soon(start.store(store).start()).await.unwrap_err();
    let chain = chain(&error);
    assert!(chain.contains("timed out"), "{chain}");
    let logged = log.lines(&[
        "WARN",
        "the start still waits for the key store's change log",
        FULL,
    ]);
    assert!((1..=3).contains(&logged.len()), "{logged:#?}");
    let expires = log.lines(&["its lease expires", FULL]);
    assert!(expires.is_empty(), "{expires:#?}");
}

/// A store whose lease was lowered may take longer to start than others.
#[actix_web::test]
async fn a_start_that_waits_for_longer_leases_says_for_how_long_at_most() {
    let log = Log::capture();
    let folder = tempfile::tempdir().unwrap();
    let leased = |seconds| {
        let store = SqliteStore::new(folder.path().join("keys.db"));
        Arc::new(store.lease(Duration::from_secs(seconds)))
    };
    let before = manager_on(leased(3)).await;
    before.shutdown().await.unwrap();
    // A deadline that no other start has: on a busy machine, those of other tests say for what they wait too.
    let config = Config::builder().start_timeout(Duration::from_secs(61));
    let after = ApiKeyManager::builder().config(config.build().unwrap());
    soon(after.shared_store(leased(1)).start()).await.unwrap();
    let line = [
        "WARN",
        "the start waits for the key store to start",
        "deadline=121.065s",
    ];
    assert_eq!(log.lines(&line).len(), 1, "{}", log.text());
}

/// The bound of the patience: the error keeps its cause.
#[actix_web::test]
async fn a_start_gives_up_on_a_store_that_never_answers() {
    let store = GateStore::new();
    store.fail(Call::Join, apikey_test_support::store::Fault::Hangs);
    let config = Config::builder().start_timeout(Duration::from_millis(100));
    let start = ApiKeyManager::builder().config(config.build().unwrap());
    let start = start.shared_store(store);
    let error = soon(start.start()).await.unwrap_err();
    let chain = chain(&error);
    assert!(
        chain.contains("at the start") && chain.contains("no answer within 100ms"),
        "{chain}"
    );
}
