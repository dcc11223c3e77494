//! `store copy`.

use std::process::Stdio;
use std::time::Duration;

use apikey_runtime::store::{CopyItems, Outcome, StoreCopy, UsageRow};
use apikey_runtime::{
    ApiKeyManager, DenyReason, KeyId, KeyRecord, KeyStore, SqliteStore, Timestamp,
};
use apikey_test_support::servers::redis::RedisServer;

use crate::program::{Program, Ran};

/// Makes keys of each kind: with owners, revoked, rotated, in grace, of an owner that is suspended or revoked.
async fn fill(manager: &ApiKeyManager, keys: u32) {
    for number in 0..keys {
        let owner = format!("owner {}", number % 7);
        let call = manager.create(format!("key {number} \u{e9}")).owner(owner);
        let key = call.scopes(["orders:read"]).await.unwrap();
        match number % 5 {
            0 => drop(manager.revoke(key.id()).reason("lost").await.unwrap()),
            1 => drop(
                manager
                    .rotate(key.id())
                    .grace(Duration::from_secs(3_600))
                    .await
                    .unwrap(),
            ),
            2 => manager.disable(key.id()).await.unwrap(),
            _ => {}
        }
    }
    manager.suspend_owner("owner 1").await.unwrap();
    manager.revoke_all("owner 2").reason("left").await.unwrap();
}

/// Makes a store with keys, which no server uses any more.
async fn filled(keys: u32) -> Program {
    let program = Program::sqlite();
    let server = program.server().await;
    fill(&server, keys).await;
    server.shutdown().await.unwrap();
    program
}

/// Makes the empty store in the file `name`.
fn create(program: &Program, name: &str) {
    program
        .run(&["store", "migrate", "--create", "--sqlite", name])
        .ok();
}

/// Starts a manager on the copy, as a server does after the cutover.
async fn server_of_copy(program: &Program) -> ApiKeyManager {
    let store = SqliteStore::new(program.path("new.db"));
    ApiKeyManager::builder().store(store).start().await.unwrap()
}

/// Returns the numbers of a column of the report.
fn column(csv: &str, place: usize) -> Vec<String> {
    let lines = csv.split_terminator("\r\n").skip(1);
    lines
        .map(|line| line.split(',').nth(place).unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_copy_is_equal_and_a_repeated_one_changes_nothing() {
    let program = filled(40).await;
    create(&program, "new.db");
    let copy = [
        "store",
        "copy",
        "sqlite:keys.db",
        "sqlite:new.db",
        "--output",
        "csv",
    ];
    let dry = program.run(&[&copy[..], &["--dry-run"]].concat()).ok();
    assert!(dry.contains("keys,40,0,0,0,0,\r\n"), "{dry}");
    let first = program.run(&[&copy[..], &["--verify"]].concat()).ok();
    assert!(first.contains("keys,40,40,0,0,0,0\r\n"), "{first}");
    assert!(first.contains("owners,7,7,0,0,0,0\r\n"), "{first}");
    let again = program.run(&[&copy[..], &["--verify"]].concat()).ok();
    assert!(
        column(&again, 2).iter().all(|written| written == "0"),
        "{again}"
    );
    assert_eq!(column(&again, 1), column(&again, 3), "{again}");
    assert!(
        column(&again, 6).iter().all(|differing| differing == "0"),
        "{again}"
    );
}

#[tokio::test]
async fn what_differs_is_found() {
    let program = filled(10).await;
    create(&program, "new.db");
    let copy = [
        "store",
        "copy",
        "sqlite:keys.db",
        "sqlite:new.db",
        "--verify",
        "--output",
        "csv",
    ];
    program.run(&copy).ok();
    let server = server_of_copy(&program).await;
    server.create("another").await.unwrap();
    server.shutdown().await.unwrap();
    let ran = program.run(&[&copy[..], &["--force"]].concat());
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stdout.contains("keys,10,0,10,0,0,1\r\n"), "{ran:?}");
}

#[tokio::test]
async fn a_store_that_a_server_uses_is_not_copied() {
    let program = Program::sqlite();
    // A heartbeat comes within half of a lease, and the program waits for one for more than a lease: on a busy
    // machine, the default is short.
    let store = SqliteStore::new(program.path("keys.db")).lease(Duration::from_secs(10));
    let server = ApiKeyManager::builder().store(store).start().await.unwrap();
    fill(&server, 5).await;
    create(&program, "new.db");
    let copy = [
        "store",
        "copy",
        "sqlite:keys.db",
        "sqlite:new.db",
        "--output",
        "csv",
    ];
    let error = program.run(&copy).failed(4);
    assert!(
        error.contains("1 server uses the store FROM, and nothing was copied"),
        "{error}"
    );
    let forced = program.run(&[&copy[..], &["--force"]].concat()).ok();
    assert!(forced.contains("keys,5,5,"), "{forced}");
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn arguments_do_not_have_addresses_and_stores_are_not_made() {
    let program = filled(5).await;
    let url = "postgres://ann:s3cret@localhost/keys";
    let error = program
        .run(&["store", "copy", "sqlite:keys.db", url])
        .failed(2);
    assert!(
        error.contains("env:NAME") && !error.contains("s3cret"),
        "{error}"
    );
    let copy = ["store", "copy", "sqlite:keys.db", "sqlite:none.db"];
    let error = program.run(&copy).failed(3);
    assert!(error.contains("store migrate --create"), "{error}");
    assert!(!program.path("none.db").exists());
}

/// A copy is killed again and again, each time a little later, until one comes to its end.
#[tokio::test]
async fn a_copy_that_was_killed_is_continued() {
    let program = filled(60).await;
    create(&program, "new.db");
    let copy = ["store", "copy", "sqlite:keys.db", "sqlite:new.db"];
    for millis in (0..).step_by(7) {
        let mut command = program.command(&copy);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        let is_done = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        if is_done {
            break;
        }
    }
    program.run(&[&copy[..], &["--verify"]].concat()).ok();
}

#[tokio::test]
async fn a_copy_to_redis_and_back_is_equal() {
    if !apikey_test_support::servers::redis::is_installed(
        "apikey_cli::a_copy_to_redis_and_back_is_equal",
    ) {
        return;
    }
    let redis = RedisServer::start(&[]);
    let program = filled(40).await;
    std::fs::write(program.path("redis.address"), redis.url()).unwrap();
    let create_redis = [
        "store",
        "migrate",
        "--create",
        "--store-file",
        "redis.address",
    ];
    program.run(&create_redis).ok();
    create(&program, "back.db");
    let there = [
        "store",
        "copy",
        "sqlite:keys.db",
        "file:redis.address",
        "--verify",
    ];
    program.run(&there).ok();
    let again = program
        .run(&[&there[..], &["--output", "csv"]].concat())
        .ok();
    assert!(
        column(&again, 2).iter().all(|written| written == "0"),
        "{again}"
    );
    let back = [
        "store",
        "copy",
        "file:redis.address",
        "sqlite:back.db",
        "--verify",
    ];
    program.run(&back).ok();
    let first = [
        "store",
        "copy",
        "sqlite:keys.db",
        "sqlite:back.db",
        "--verify",
        "--output",
        "csv",
    ];
    let compared = program.run(&first).ok();
    assert!(
        column(&compared, 2).iter().all(|written| written == "0"),
        "{compared}"
    );
}

/// Makes a store with usage of today, and of 100 days ago.
async fn with_old_usage(program: &Program) {
    let store = SqliteStore::new(program.path("keys.db"));
    store.start().await.unwrap();
    let key = KeyId::from_u128(7);
    let now = Timestamp::from(std::time::SystemTime::now());
    let record = KeyRecord::new(key, "my_api", "a label", "sha256$00", now);
    let today = now.as_millis() / 3_600_000;
    let row = |hour| {
        let mut row = UsageRow::new(key, "/", hour, Outcome::Allowed);
        row.requests = 9;
        row
    };
    let usage = CopyItems::Usage([today - 2_400, today].map(row).to_vec());
    for items in [CopyItems::Keys(vec![record]), usage] {
        store.write_copy(&items).await.unwrap();
    }
    store.stop().await;
}

/// Redis has to know for how long usage is kept: as the setting says.
#[tokio::test]
async fn usage_is_copied_to_redis_as_long_as_servers_keep_it() {
    if !apikey_test_support::servers::redis::is_installed(
        "apikey_cli::usage_is_copied_to_redis_as_long_as_servers_keep_it",
    ) {
        return;
    }
    let (redis, program) = (RedisServer::start(&[]), Program::sqlite());
    with_old_usage(&program).await;
    std::fs::write(program.path("redis.address"), redis.url()).unwrap();
    let create = [
        "store",
        "migrate",
        "--create",
        "--store-file",
        "redis.address",
    ];
    program.run(&create).ok();
    let copy = [
        "store",
        "copy",
        "sqlite:keys.db",
        "file:redis.address",
        "--verify",
        "--output",
        "csv",
    ];
    let ran = program.run(&copy);
    assert!(
        ran.stderr
            .contains("usage older than 2160 hours was not copied (1 count)"),
        "{ran:?}"
    );
    assert!(ran.ok().contains("usage,2,1,0,0,0,0\r\n"));

    let mut command = program.command(&copy);
    command.env("ACTIX_API_KEY_USAGE_RETENTION_HOURS", "4800");
    let ran = Ran::from(command.output().unwrap());
    assert!(!ran.stderr.contains("older"), "{ran:?}");
    assert!(ran.ok().contains("usage,2,1,1,0,0,0\r\n"));
}

#[tokio::test]
async fn a_store_is_checked() {
    let program = filled(10).await;
    let checked = program.run(&["store", "check", "--output", "csv"]).ok();
    assert!(checked.contains("SQLite,10,7,0,0,0\r\n"), "{checked}");
    let note = program.run(&["store", "migrate"]);
    assert!(
        note.code == 0 && note.stderr.contains("nothing to do"),
        "{note:?}"
    );
}

/// An owner that is suspended in FROM alone, and a key that FROM does not have any more, are named: both are valid in TO.
#[tokio::test]
async fn what_stays_valid_in_the_copy_is_named() {
    let program = filled(5).await;
    create(&program, "new.db");
    let copy = ["store", "copy", "sqlite:keys.db", "sqlite:new.db"];
    let force = [&copy[..], &["--force"]].concat();
    program.run(&copy).ok();
    let target = server_of_copy(&program).await;
    let key = target.create("another").await.unwrap();
    target.shutdown().await.unwrap();
    let ran = program.run(&force);
    assert_eq!(ran.code, 5, "{ran:?}");
    let named = format!("`{}` is only in TO", key.id());
    assert!(ran.stderr.contains(&named), "{ran:?}");

    let back = ["store", "copy", "sqlite:new.db", "sqlite:keys.db"];
    program.run(&back).ok();
    let source = program.server().await;
    source.suspend_owner("owner 3").await.unwrap();
    source.shutdown().await.unwrap();
    let target = server_of_copy(&program).await;
    target.suspend_owner("owner 3").await.unwrap();
    target.resume_owner("owner 3").await.unwrap();
    target.shutdown().await.unwrap();
    let ran = program.run(&force);
    assert_eq!(ran.code, 5, "{ran:?}");
    let named = "`owner 3` is revoked or suspended in FROM, still valid";
    assert!(ran.stderr.contains(named), "{ran:?}");
}

/// A key and the keys of an owner that were revoked in FROM are revoked in TO, whatever was changed there since.
#[tokio::test]
async fn a_copy_revokes_what_was_changed_since() {
    let program = filled(5).await;
    create(&program, "new.db");
    let copy = ["store", "copy", "sqlite:keys.db", "sqlite:new.db"];
    let force = [&copy[..], &["--force"]].concat();
    let source = program.server().await;
    let [key, other] = [1, 2].map(|number| source.create(format!("another {number}")));
    let (key, other) = (key.await.unwrap(), other.owner("ann").await.unwrap());
    source.shutdown().await.unwrap();
    program.run(&copy).ok();

    let source = program.server().await;
    source.revoke(key.id()).reason("lost").await.unwrap();
    source.revoke_all("ann").await.unwrap();
    source.shutdown().await.unwrap();
    let target = server_of_copy(&program).await;
    for _ in 0..2 {
        target.disable(key.id()).await.unwrap();
        target.enable(key.id()).await.unwrap();
        target.suspend_owner("ann").await.unwrap();
        target.resume_owner("ann").await.unwrap();
    }
    target.shutdown().await.unwrap();

    let ran = program.run(&force);
    assert_eq!(ran.code, 5, "{ran:?}");
    let named = format!("`{}` is revoked in TO now, as in FROM", key.id());
    assert!(ran.stderr.contains(&named), "{ran:?}");
    for named in [
        "`the owner \"ann\"` is revoked in TO now",
        "the stores are not the same; what FROM revoked is revoked in TO",
    ] {
        assert!(ran.stderr.contains(named), "{ran:?}");
    }
    let target = server_of_copy(&program).await;
    let found = target.get(key.id()).await.unwrap();
    assert_eq!(found.revoked.unwrap().reason.as_deref(), Some("lost"));
    for key in [&key, &other] {
        let denied = target.verify(key.expose_secret()).await.unwrap_err();
        assert_eq!(denied.reason(), DenyReason::Revoked);
    }
    target.shutdown().await.unwrap();

    // The record in TO has a later version, and still differs.
    let again = program.run(&[&force[..], &["--verify", "--output", "csv"]].concat());
    assert_eq!(again.code, 5, "{again:?}");
    assert!(
        column(&again.stdout, 2)
            .iter()
            .all(|written| written == "0"),
        "{again:?}"
    );
    let differs = format!("keys: `{}` differs", key.id());
    assert!(again.stderr.contains(&differs), "{again:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_a_store_is_the_same_store() {
    let program = filled(2).await;
    std::os::unix::fs::symlink("keys.db", program.path("link.db")).unwrap();
    let error = program
        .run(&["store", "copy", "sqlite:keys.db", "sqlite:link.db"])
        .failed(2);
    assert!(error.contains("the same store"), "{error}");
}
