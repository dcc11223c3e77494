//! The program beside running servers, on each store.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant};

use apikey_runtime::{ApiKeyManager, KeyState, NewKey, SqliteStore};
use apikey_test_support::{PATIENCE, soon, within};

use crate::program::Program;

async fn is_accepted(server: &ApiKeyManager, key: &NewKey) -> bool {
    soon(server.verify(key.expose_secret())).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_changes_counts_on_a_running_server() {
    for program in Program::every().await {
        let address = &program.address;
        let server = program.server().await;
        let key = soon(server.create("ci").owner("42")).await.unwrap();
        let id = key.id().to_string();
        assert!(is_accepted(&server, &key).await, "{address}");

        program.run(&["keys", "disable", &id, "--yes"]).ok();
        let denied = async || !is_accepted(&server, &key).await;
        assert!(within(PATIENCE, denied).await.is_some(), "{address}");
        program.run(&["keys", "enable", &id]).ok();
        assert!(is_accepted(&server, &key).await, "{address}");

        let rows = program.json(&["keys", "revoke", &id, "--yes", "--confirmed"]);
        assert!(!is_accepted(&server, &key).await, "{address}: at once");
        let node = server.members().await.unwrap()[0].id.to_string();
        // On a busy machine, a lease may end before the server answers.
        let heard =
            ["acknowledged", "waited_out"].map(|list| rows[0][list].as_array().unwrap().as_slice());
        assert_eq!(heard.concat(), [node.as_str()], "{address}");
        let listed = program.json(&["keys", "list", "--state", "revoked"]);
        assert_eq!(listed[0]["id"], id.as_str(), "{address}");
        assert_eq!(server.members().await.unwrap().len(), 1, "{address}");
    }
}

/// It is not a member, so no server waits for it. That one does wait for a member is a test of `detached`.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_in_the_middle_delays_no_server() {
    let program = Program::sqlite();
    // Long, so that the program waits for its end, and a server would too.
    let lease = Duration::from_secs(20);
    let store = SqliteStore::new(program.path("keys.db")).lease(lease);
    let server = ApiKeyManager::builder().store(store).start().await.unwrap();
    // A manager that has followed the change log for a lease trusts the member list.
    let key = server.create("a").await.unwrap();
    let other = server.create("b").await.unwrap();
    tokio::time::sleep(lease + Duration::from_millis(500)).await;
    let mut child = program.start(&["keys", "revoke", key.id().as_str(), "--yes", "--confirmed"]);
    let revoked = async || server.get(key.id()).await.unwrap().revoked.is_some();
    assert!(within(PATIENCE, revoked).await.is_some());
    assert!(
        child.try_wait().unwrap().is_none(),
        "it waits for the lease"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let began = Instant::now();
    let done = soon(server.revoke(other.id()).confirmed()).await.unwrap();
    assert!(done.propagation.waited_out.is_empty(), "{done:?}");
    assert!(!done.propagation.outlasted, "{done:?}");
    assert!(began.elapsed() < lease, "{done:?}");
}

/// The old secret is denied by then, so nobody would have one.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_while_it_waits_has_written_the_new_secret() {
    let program = Program::sqlite();
    // Long, so that the program waits for its end.
    let store = SqliteStore::new(program.path("keys.db")).lease(Duration::from_secs(60));
    let server = ApiKeyManager::builder().store(store).start().await.unwrap();
    let key = server.create("a").await.unwrap();
    let id = key.id().to_string();
    let beginning = format!("my_api_{id}_");
    let rotate = ["keys", "rotate", &id, "--yes", "--confirmed"];
    for (more, place) in [
        (
            &["--output", "id", "--secret-file", "new.key"][..],
            "new.key",
        ),
        (&["--output", "json"], "out.txt"),
        (&[], "out.txt"),
    ] {
        let mut command = program.command(&[&rotate[..], more].concat());
        let stdout = File::create(program.path("out.txt")).unwrap();
        command.stdout(stdout).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let is_written = async || {
            let text = fs::read_to_string(program.path(place)).unwrap_or_default();
            let mut words = text.split(|letter: char| letter.is_whitespace() || letter == '"');
            let secret = words.find(|word| word.starts_with(&beginning));
            match secret {
                Some(secret) => server.introspect(secret).await.unwrap().active,
                None => false,
            }
        };
        let written = within(PATIENCE, is_written).await;
        let waits = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            written.is_some() && waits,
            "{more:?}: it waits for the lease"
        );
    }
}

/// Many keys, of a leak, are revoked before the one wait for the servers. Each wait may take a lease.
#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_changed_before_the_one_wait_for_the_servers() {
    let program = Program::sqlite();
    // As long as the test waits at most.
    let store = SqliteStore::new(program.path("keys.db")).lease(Duration::from_secs(60));
    let server = ApiKeyManager::builder().store(store).start().await.unwrap();
    let mut ids = String::new();
    for number in 0..150 {
        let key = server.create(format!("ci-{number}")).await.unwrap();
        ids += &format!("{}\n", key.id());
    }
    fs::write(program.path("ids"), &ids).unwrap();
    for (command, state) in [
        ("disable", KeyState::Disabled),
        ("revoke", KeyState::Revoked),
    ] {
        let mut run = program.command(&["keys", command, "--yes", "--confirmed", "-"]);
        run.stdin(File::open(program.path("ids")).unwrap());
        run.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = run.spawn().unwrap();
        let are_changed = async || {
            let changed = server.list().state(state).page_size(1_000).await;
            changed.unwrap().keys.len() == 150
        };
        let changed = within(PATIENCE, are_changed).await;
        let waits = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(changed.is_some(), "{command}");
        assert!(waits, "{command}: it waits for the lease");
    }
}
