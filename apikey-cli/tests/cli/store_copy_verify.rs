//! What `store copy` says of stores that differ.

use std::time::Duration;

use apikey_runtime::{ApiKeyManager, SqliteStore, Timestamp};

use crate::program::Program;

const COPY: [&str; 4] = ["store", "copy", "sqlite:keys.db", "sqlite:new.db"];

fn create_new(program: &Program) {
    let create = ["store", "migrate", "--create", "--sqlite", "new.db"];
    program.run(&create).ok();
}

async fn server_of_copy(program: &Program) -> ApiKeyManager {
    let store = SqliteStore::new(program.path("new.db"));
    ApiKeyManager::builder().store(store).start().await.unwrap()
}

#[tokio::test]
async fn what_differs_is_named_in_words() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").owner("acme").await.unwrap();
    server.verify(key.expose_secret()).await.unwrap();
    server.usage(key.id()).await.unwrap();
    server.shutdown().await.unwrap();
    create_new(&program);
    let copy = [&COPY[..], &["--verify", "--force"]].concat();
    program.run(&copy).ok();

    let server = server_of_copy(&program).await;
    let other = server.create("another").await.unwrap();
    let before = server.now();
    server.verify(other.expose_secret()).await.unwrap();
    let after = server.now();
    server.usage(other.id()).await.unwrap();
    let made = server.audit().await.unwrap().entries[0].at;
    server.shutdown().await.unwrap();
    let ran = program.run(&copy);
    assert_eq!(ran.code, 5, "{ran:?}");
    let id = other.id();
    for named in [
        format!("keys: `{id}` is only in TO"),
        format!("secret_uses: `{id} 0`"),
        format!("audit: `{made} 0`"),
    ] {
        assert!(ran.stderr.contains(&named), "{named} {ran:?}");
    }
    let is_named = |at: Timestamp| {
        let hour = &at.to_string()[..13];
        let named = format!("usage: `{id} {hour}:00:00.000Z");
        ran.stderr.contains(&named)
    };
    assert!(is_named(before) || is_named(after), "{ran:?}");
    let raw = ['\u{fffd}', '\0'];
    assert!(
        !ran.stderr.contains(raw) && !ran.stderr.contains("\\u{"),
        "{ran:?}"
    );
}

/// It wrote nothing, so what FROM revoked is still valid in TO.
#[tokio::test]
async fn a_dry_run_does_not_say_that_a_revocation_was_copied() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").await.unwrap();
    server.shutdown().await.unwrap();
    create_new(&program);
    program.run(&COPY).ok();
    let server = program.server().await;
    server.revoke(key.id()).await.unwrap();
    server.shutdown().await.unwrap();

    let dry_run = program.run(&[&COPY[..], &["--dry-run", "--verify"]].concat());
    assert_eq!(dry_run.code, 5, "{dry_run:?}");
    let said = &dry_run.stderr;
    assert!(
        said.contains("nothing was written") && said.contains("without `--dry-run`"),
        "{said}"
    );
    assert!(!said.contains("is revoked in TO"), "{said}");
    let target = server_of_copy(&program).await;
    // It is no use, which would differ too.
    let introspected = target.introspect(key.expose_secret()).await;
    assert!(introspected.unwrap().active);
    target.shutdown().await.unwrap();
    // Negative control.
    program.run(&[&COPY[..], &["--verify"]].concat()).ok();
    let target = server_of_copy(&program).await;
    let introspected = target.introspect(key.expose_secret()).await;
    assert!(!introspected.unwrap().active);
}

/// Keys that ended in TO, too, may be removed from FROM: none of them is valid.
#[tokio::test]
async fn what_ended_and_was_removed_from_the_source_is_no_conflict() {
    let program = Program::sqlite();
    let server = program.server().await;
    let [revoked, live] = [
        server.create("revoked").await.unwrap(),
        server.create("live").await.unwrap(),
    ];
    let end = Timestamp::from_millis(server.now().as_millis() + 2_000);
    server.create("expired").expires_at(end).await.unwrap();
    server.revoke(revoked.id()).await.unwrap();
    server.shutdown().await.unwrap();
    create_new(&program);
    program.run(&COPY).ok();

    let server = program.server().await;
    while server.now() <= end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.purge(server.now()).await.unwrap(), 2);
    server.shutdown().await.unwrap();
    program.run(&COPY).ok();
    // Negative control: a key that is still valid.
    let server = program.server().await;
    server.revoke(live.id()).await.unwrap();
    let later = Timestamp::from_millis(server.now().as_millis() + 2);
    while server.now() <= later {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.purge(server.now()).await.unwrap(), 1);
    server.shutdown().await.unwrap();
    let ran = program.run(&COPY);
    assert_eq!(ran.code, 5, "{ran:?}");
    let named = format!("`{}` is only in TO", live.id());
    assert!(ran.stderr.contains(&named), "{ran:?}");
}
