//! `store copy` to a store that was changed since it was copied.

use std::time::Duration;

use apikey_runtime::{ApiKeyManager, SqliteStore, Timestamp};

use crate::program::Program;

const COPY: [&str; 4] = ["store", "copy", "sqlite:keys.db", "sqlite:new.db"];

async fn server_of_copy(program: &Program) -> ApiKeyManager {
    let store = SqliteStore::new(program.path("new.db"));
    ApiKeyManager::builder().store(store).start().await.unwrap()
}

/// A key that was disabled in TO, and one that was revoked and removed there, would be live again.
#[tokio::test]
async fn a_copy_does_not_undo_what_was_changed_in_the_target_since() {
    let program = Program::sqlite();
    let server = program.server().await;
    let [disabled, removed] = [
        server.create("disabled").await.unwrap(),
        server.create("removed").await.unwrap(),
    ];
    server.shutdown().await.unwrap();
    let create = ["store", "migrate", "--create", "--sqlite", "new.db"];
    program.run(&create).ok();
    program.run(&COPY).ok();

    // FROM goes on, and has later versions than TO.
    let server = program.server().await;
    for label in ["a", "b"] {
        server.update(disabled.id()).label(label).await.unwrap();
    }
    server.shutdown().await.unwrap();
    program.run(&COPY).ok();
    let server = program.server().await;
    for label in ["c", "d"] {
        server.update(disabled.id()).label(label).await.unwrap();
    }
    server.shutdown().await.unwrap();
    let server = server_of_copy(&program).await;
    server.disable(disabled.id()).await.unwrap();
    server.revoke(removed.id()).await.unwrap();
    let end = Timestamp::from_millis(server.now().as_millis() + 2);
    while server.now() <= end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.purge(server.now()).await.unwrap(), 1);
    server.shutdown().await.unwrap();

    let error = program.run(&COPY).failed(5);
    for part in [
        "nothing was copied",
        "3 changes that FROM lacks",
        "--force",
        "only in TO: disabled at ",
        &format!("of the key `{}`", disabled.id()),
        "only in TO: purged at ",
    ] {
        assert!(error.contains(part), "{part} {error}");
    }
    let dry_run = program.run(&[&COPY[..], &["--dry-run"]].concat());
    assert!(dry_run.stderr.contains("may undo changes"), "{dry_run:?}");
    let active = async |server: &ApiKeyManager| {
        let mut active = 0;
        for key in [&disabled, &removed] {
            let found = server.introspect(key.expose_secret()).await.unwrap();
            active += u32::from(found.active);
        }
        active
    };
    let server = server_of_copy(&program).await;
    assert_eq!(active(&server).await, 0);
    server.shutdown().await.unwrap();
    // Negative control.
    program.run(&[&COPY[..], &["--force"]].concat());
    let server = server_of_copy(&program).await;
    assert_eq!(active(&server).await, 2);
}

/// Removes the entries of FROM's audit log that were made before `end`.
async fn prune(program: &Program, end: Timestamp) {
    let store = program.store();
    store.start().await.unwrap();
    let log = store.audit().unwrap();
    assert!(!log.prune_audit(end).await.unwrap());
    store.stop().await;
}

/// What FROM removed from its audit log is still in that of TO.
#[tokio::test]
async fn a_copy_goes_on_after_the_source_pruned_its_audit_log() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").await.unwrap();
    server.shutdown().await.unwrap();
    let create = ["store", "migrate", "--create", "--sqlite", "new.db"];
    program.run(&create).ok();
    program.run(&COPY).ok();
    let server = program.server().await;
    server.update(key.id()).label("later").await.unwrap();
    let newest = server.audit().await.unwrap().entries[0].at;
    server.shutdown().await.unwrap();
    prune(&program, newest).await;
    program.run(&COPY).ok();
    let server = server_of_copy(&program).await;
    assert_eq!(server.get(key.id()).await.unwrap().label, "later");
    server.shutdown().await.unwrap();
    // Without a log, nothing tells what an earlier copy brought from what was changed.
    prune(&program, Timestamp::from_millis(newest.as_millis() + 1)).await;
    let dry_run = program.run(&[&COPY[..], &["--dry-run"]].concat());
    let error = program.run(&COPY).failed(5);
    for said in [&dry_run.stderr, &error] {
        assert!(said.contains("FROM's audit log is empty"), "{said}");
        assert!(!said.contains("that FROM lacks"), "{said}");
    }
    assert!(error.contains("nothing was copied"), "{error}");
}
