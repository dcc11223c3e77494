//! `--dry-run` of what makes and changes one key: the same rules and exit codes, and nothing is changed.

use std::time::Duration;

use apikey_runtime::{ApiKeyManager, KeyRecord};
use serde_json::{Value, json};

use crate::program::Program;

/// Returns the keys, and how many entries the audit log has.
async fn everything(server: &ApiKeyManager) -> (Vec<KeyRecord>, usize) {
    let keys = server.list().await.unwrap().keys;
    (keys, server.audit().await.unwrap().entries.len())
}

fn dry<'a>(command: &[&'a str]) -> Vec<&'a str> {
    [command, &["--dry-run"]].concat()
}

#[tokio::test]
async fn a_dry_run_shows_what_would_be_done_and_does_not_do_it() {
    for program in Program::every().await {
        let server = program.server().await;
        let key = server.create("ci").owner("42").scopes(["a"]).await.unwrap();
        let id = key.id().to_string();
        let before = everything(&server).await;
        let create = [
            "keys",
            "create",
            "new",
            "--owner",
            "42",
            "--scope",
            "b",
            "--expires",
            "2099-01-01",
            "--secret-file",
            "secret",
        ];
        let shown = program.json(&dry(&create));
        assert_eq!(
            (
                &shown["id"],
                &shown["label"],
                &shown["scopes"],
                &shown["secret"]
            ),
            (&Value::Null, &json!("new"), &json!(["b"]), &Value::Null)
        );
        assert_eq!(shown["expires"], "2099-01-01T00:00:00.000Z");
        assert!(!program.path("secret").exists());
        let update = [
            "keys",
            "update",
            &id,
            "--label",
            "x",
            "--no-scopes",
            "--if-version",
            "1",
        ];
        let shown = program.json(&dry(&update));
        assert_eq!((&shown["id"], &shown["label"]), (&json!(id), &json!("x")));
        assert_eq!(
            (&shown["scopes"], &shown["owner"]),
            (&json!([]), &json!("42"))
        );
        let rotate = ["keys", "rotate", &id];
        let shown = program.json(&dry(&rotate));
        assert_eq!(
            (&shown["id"], &shown["previous_until"]),
            (&json!(id), &Value::Null)
        );
        let shown = program.json(&dry(&["keys", "rotate", &id, "--grace", "1h"]));
        assert!(shown["previous_until"].is_string(), "{shown}");
        for command in [&create[..], &update, &rotate] {
            let ran = program.run(&dry(command));
            assert!(ran.stderr.contains("nothing was changed"), "{ran:?}");
            assert!(!ran.ok().contains("my_api_"), "a secret");
        }
        let ids = program.run(&dry(&[
            "keys",
            "create",
            "x",
            "--output",
            "id",
            "--secret-file",
            "s",
        ]));
        assert_eq!(ids.ok(), "", "it does not have an id yet");
        assert_eq!(everything(&server).await, before, "{}", program.address);
        assert!(server.introspect(key.expose_secret()).await.unwrap().active);
        // Negative control.
        program.run(&update).ok();
        assert_ne!(everything(&server).await, before);
    }
}

#[tokio::test]
async fn a_dry_run_has_the_exit_code_of_the_command() {
    let program = Program::sqlite();
    let server = program.server().await;
    let hour = Duration::from_secs(3_600);
    let key = server.create("ci").owner("42").expires_in(hour);
    let key = key.await.unwrap();
    let gone = server.create("gone").await.unwrap();
    server.revoke(gone.id()).await.unwrap();
    let (id, gone) = (key.id().to_string(), gone.id().to_string());
    let (id, gone) = (id.as_str(), gone.as_str());
    let unknown = "0".repeat(22);
    std::fs::write(program.path("taken"), "").unwrap();
    let before = everything(&server).await;
    for (code, command) in [
        (2, &["keys", "create", ""][..]),
        (2, &["keys", "create", "x", "--prefix", "other"]),
        (2, &["keys", "create", "x", "--expires", "2020-01-01"]),
        (2, &["keys", "create", "x", "--output", "csv"]),
        (1, &["keys", "create", "x", "--secret-file", "taken"]),
        (4, &["keys", "create", "x", "--expires", "90d"]),
        (4, &["keys", "create", "x", "--owner", "42"]),
        (2, &["keys", "update", id]),
        (2, &["keys", "update", id, "--label", ""]),
        (3, &["keys", "update", &unknown, "--label", "x"]),
        (4, &["keys", "update", id, "--expires", "90d"]),
        (
            5,
            &["keys", "update", id, "--label", "x", "--if-version", "7"],
        ),
        (
            1,
            &["keys", "rotate", id, "--secret-file", "taken", "--yes"],
        ),
        (3, &["keys", "rotate", &unknown, "--yes"]),
        (5, &["keys", "rotate", gone, "--yes"]),
        (2, &["keys", "purge", "--before", "2099-01-01", "--yes"]),
        (5, &["keys", "rotate", id, "--if-version", "7", "--yes"]),
    ] {
        for command in [command.to_vec(), dry(command)] {
            let mut run = program.command(&command);
            run.env("ACTIX_API_KEY_MAX_LIFETIME_HOURS", "24");
            run.env("ACTIX_API_KEY_MAX_KEYS_PER_OWNER", "1");
            let ran = run.output().unwrap();
            assert_eq!(ran.status.code(), Some(code), "{command:?} {ran:?}");
            assert!(ran.stdout.is_empty(), "{command:?} {ran:?}");
        }
    }
    assert_eq!(everything(&server).await, before);
}

/// Without a grace, and with one of no length, what the old secret's holders use ends. So does a grace, by the next rotation.
#[tokio::test]
async fn a_rotation_asks_unless_the_old_secret_stays_valid() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").await.unwrap();
    let id = key.id().to_string();
    for grace in [&[][..], &["--grace", "0s"]] {
        let rotate = [&["keys", "rotate", &id], grace].concat();
        let error = program.run(&rotate).failed(2);
        assert!(
            !error.contains("at once") && error.contains("--dry-run"),
            "{error}"
        );
    }
    assert!(server.introspect(key.expose_secret()).await.unwrap().active);
    let rotated = program.run(&["keys", "rotate", &id, "--grace", "1h"]);
    assert!(!rotated.stderr.contains("note:"), "{rotated:?}");
    rotated.ok();
    let until = server.get(key.id()).await.unwrap().previous.unwrap().until;
    for (grace, present) in [(&["--grace", "1h"][..], false), (&[], true)] {
        let rotate = [&["keys", "rotate", &id], grace].concat();
        let error = program.run(&rotate).failed(2);
        let promised = format!("has a grace until {until}");
        assert!(error.contains(&promised), "{error}");
        assert_eq!(error.contains("denies its present secret"), present);
    }
    assert!(server.introspect(key.expose_secret()).await.unwrap().active);
    let again = program.run(&["keys", "rotate", &id, "--grace", "1h", "--yes"]);
    assert!(again.stderr.contains("the secret before it"), "{again:?}");
    again.ok();
    assert!(!server.introspect(key.expose_secret()).await.unwrap().active);
    // Negative control: nobody is asked once the grace is over.
    server.end_grace(key.id()).await.unwrap();
    program.run(&["keys", "rotate", &id, "--grace", "1h"]).ok();
}

#[tokio::test]
async fn a_key_that_was_revoked_before_is_told() {
    for program in Program::every().await {
        let server = program.server().await;
        let [key, other] = [
            server.create("a").await.unwrap(),
            server.create("b").await.unwrap(),
        ];
        server.revoke(key.id()).reason("lost").await.unwrap();
        let revoked = server.get(key.id()).await.unwrap().revoked.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        let (_, entries) = everything(&server).await;
        let (id, other) = (key.id().to_string(), other.id().to_string());
        let ran = program.run(&[
            "keys", "revoke", &id, &other, "--yes", "--reason", "again", "--output", "json",
        ]);
        let told = format!("`{id}` was revoked already, at {}", revoked.at);
        assert!(ran.stderr.contains(&told), "{ran:?}");
        assert_eq!(ran.stderr.matches("already").count(), 1, "{ran:?}");
        let rows: Value = serde_json::from_str(&ran.ok()).unwrap();
        assert_eq!(rows[0]["revoked_reason"], "lost");
        assert_eq!(
            everything(&server).await.1,
            entries + 1,
            "that of the other"
        );
    }
}
