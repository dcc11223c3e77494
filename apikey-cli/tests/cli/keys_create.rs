//! `keys create` and `keys rotate`: the secret is shown once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use apikey_runtime::{ApiKeyManager, Config};
use apikey_test_support::{PATIENCE, within};

use crate::program::{PEPPER, Program};

#[tokio::test]
async fn the_last_line_of_stdout_is_the_secret_alone() {
    let program = Program::sqlite();
    let server = program.server().await;
    let create = [
        "keys",
        "create",
        "ci",
        "--owner",
        "42",
        "--scope",
        "orders:read",
        "--expires",
        "90d",
        "--network",
        "192.0.2.7",
        "--method",
        "GET",
        "--rate",
        "fast=100/minute",
        "--quota",
        "daily=1000/day",
        "--metadata",
        r#"{"team":"a"}"#,
        "--description",
        "nightly",
        "--environment",
        "live",
        "--reason",
        "asked for",
    ];
    let stdout = program.run(&create).ok();
    let secret = stdout.lines().last().unwrap();
    assert_eq!(stdout.matches(secret).count(), 1);
    let record = server.list().await.unwrap().keys.pop().unwrap();
    let text = format!("{:?}", record.view());
    for part in [
        "\"42\"",
        "orders:read",
        "192.0.2.7/32",
        "GET",
        "fast",
        "daily",
        "team",
        "nightly",
        "live",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let days = record.expires.unwrap().as_millis() - record.created.as_millis();
    assert_eq!((days as f64 / 86_400_000.0).round(), 90.0);
    let found = server.introspect(secret).await.unwrap();
    assert!(found.active, "the server accepts it at once");

    let rotated = program
        .run(&["keys", "rotate", record.id.as_str(), "--grace", "1h"])
        .ok();
    let new = rotated.lines().last().unwrap();
    assert!(server.introspect(new).await.unwrap().active);
    let old = server.introspect(secret).await.unwrap().key.unwrap();
    assert!(old.superseded_until.is_some());
}

#[tokio::test]
async fn json_has_the_secret_and_the_other_formats_need_a_file_for_it() {
    let program = Program::sqlite();
    let server = program.server().await;
    let json = program.json(&["keys", "create", "a"]);
    assert!(
        server
            .introspect(json["secret"].as_str().unwrap())
            .await
            .unwrap()
            .active
    );
    let line = program
        .run(&["keys", "create", "b", "--output", "jsonl"])
        .ok();
    let line: serde_json::Value = serde_json::from_str(line.trim_end()).unwrap();
    assert!(line["secret"].is_string());

    for format in ["csv", "id"] {
        let create = ["keys", "create", "c", "--output", format];
        let error = program.run(&create).failed(2);
        assert!(error.contains("--secret-file"), "{error}");
        let path = program.path(format);
        let with_file = [&create[..], &["--secret-file", path.to_str().unwrap()]].concat();
        let stdout = program.run(&with_file).ok();
        let secret = fs::read_to_string(&path).unwrap();
        let secret = secret.strip_suffix('\n').unwrap();
        assert!(server.introspect(secret).await.unwrap().active);
        assert!(!stdout.contains(secret), "{stdout}");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let id = server.introspect(secret).await.unwrap().key.unwrap().id;
        if format == "id" {
            assert_eq!(stdout, format!("{id}\n"));
        }
        // Nothing is overwritten, and no key is left whose secret nobody has.
        let count = server.list().await.unwrap().keys.len();
        program.run(&with_file).failed(1);
        assert_eq!(fs::read_to_string(&path).unwrap().trim_end(), secret);
        assert_eq!(server.list().await.unwrap().keys.len(), count);
        let rotate = [
            "keys",
            "rotate",
            id.as_str(),
            "--yes",
            "--secret-file",
            path.to_str().unwrap(),
        ];
        program.run(&rotate).failed(1);
        assert!(
            server.introspect(secret).await.unwrap().active,
            "it was not rotated"
        );
    }
    // A key that is refused leaves no file behind.
    let path = program.path("none");
    let refused = [
        "keys",
        "create",
        "a\nb",
        "--secret-file",
        path.to_str().unwrap(),
    ];
    program.run(&refused).failed(2);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_missing_pepper_is_found_before_anything_is_made() {
    let program = Program::sqlite();
    let server = program.peppered_server(&["v1"]).await;
    let key = server.create("a").await.unwrap();
    let (id, secret) = (key.id().to_string(), key.expose_secret().to_owned());
    program.peppers("peppers", &["v1"]);
    program.peppers("others", &["v2"]);
    for wrong in [&[][..], &["--pepper-file", "others"]] {
        for command in [
            &["keys", "create", "b"][..],
            &["keys", "rotate", &id, "--yes"],
            &["keys", "verify"],
        ] {
            let ran = program.run_with_input(&[command, wrong].concat(), &secret);
            let error = ran.failed(2);
            assert!(
                error.contains("pepper") && error.contains("--pepper-file"),
                "{error}"
            );
        }
    }
    assert_eq!(server.list().await.unwrap().keys.len(), 1);
    let right = ["--pepper-file", "peppers"];
    let verify = [&["keys", "verify"][..], &right].concat();
    program.run_with_input(&verify, &secret).ok();
    let create = [&["keys", "create", "b"][..], &right].concat();
    let created = program.run(&create).ok();
    let created = created.lines().last().unwrap();
    assert!(server.introspect(created).await.unwrap().active);
    // The same by a variable.
    let mut command = program.command(&["keys", "rotate", &id, "--yes"]);
    command.env("APIKEYS_PEPPERS", format!("v1:{PEPPER}"));
    assert!(command.status().unwrap().success());
}

/// Servers do not need the pepper of a key that was revoked or has expired.
#[tokio::test]
async fn a_retired_pepper_stops_neither_a_new_key_nor_a_check() {
    let program = Program::sqlite();
    let server = program.peppered_server(&["v1"]).await;
    let revoked = server.create("revoked").await.unwrap();
    server.revoke(revoked.id()).await.unwrap();
    let short = Duration::from_millis(50);
    let expired = server.create("expired").expires_in(short).await.unwrap();
    let end = expired.record().expires;
    let is_over = async || Some(server.now()) >= end;
    assert!(within(PATIENCE, is_over).await.is_some());
    program.peppers("peppers", &["v2"]);
    let create = ["keys", "create", "new", "--pepper-file", "peppers"];
    let check = ["store", "check", "--pepper-file", "peppers"];
    assert_eq!(program.json(&check)["unknown_peppers"], 0);
    program.run(&create).ok();
    // Negative control: a key that is accepted.
    server.create("live").await.unwrap();
    assert!(program.run(&create).failed(2).contains("pepper"));
    let checked = program.run(&[&check[..], &["--output", "jsonl"]].concat());
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(
        checked.stdout.contains("\"unknown_peppers\":1"),
        "{checked:?}"
    );
}

/// Keys that have ended do not hide a live one that is older.
#[tokio::test]
async fn a_missing_pepper_is_found_behind_many_keys_that_have_ended() {
    let program = Program::sqlite();
    let server = program.peppered_server(&["v1"]).await;
    let end = async |count| {
        for _ in 0..count {
            let ended = server.create("ended").await.unwrap();
            server.revoke(ended.id()).await.unwrap();
        }
    };
    let live = server.create("live").await.unwrap();
    end(30).await;
    program.peppers("others", &["v2"]);
    let create = ["keys", "create", "new"];
    let with_others = [&create[..], &["--pepper-file", "others"]].concat();
    for command in [&create[..], &with_others] {
        assert!(program.run(command).failed(2).contains("pepper"));
    }
    // Without a live key, no pepper is still not one of the store's. Another may be the server's by now.
    server.revoke(live.id()).await.unwrap();
    assert!(program.run(&create).failed(2).contains("pepper"));
    program.run(&with_others).ok();
    // Control: keys that ended, and did not need a pepper.
    let other = Program::sqlite();
    let server = other.server().await;
    let ended = server.create("ended").await.unwrap();
    server.revoke(ended.id()).await.unwrap();
    other.run(&create).ok();
}

#[tokio::test]
async fn a_time_that_is_too_late_is_an_error() {
    let program = Program::sqlite();
    let server = program.server().await;
    let id = server.create("ci").await.unwrap().id().to_string();
    let late = "20000000000w";
    for command in [
        &["keys", "create", "x", "--expires", late][..],
        &["keys", "create", "x", "--not-before", late],
        &["keys", "update", &id, "--expires", late],
        &["keys", "update", &id, "--not-before", late],
        &["keys", "rotate", &id, "--grace", late],
        &["keys", "list", "--expires-before", late],
    ] {
        let error = program.run(command).failed(2);
        assert!(error.contains("too long"), "{command:?} {error}");
    }
    assert_eq!(server.list().await.unwrap().keys.len(), 1);
    program
        .run(&["keys", "create", "x", "--expires", "100w"])
        .ok();
}

/// Without the server's settings, no server would accept the key.
#[tokio::test]
async fn a_key_with_a_prefix_of_no_other_key_is_refused() {
    let program = Program::sqlite();
    let create = ["keys", "create", "new"];
    let config = Config::builder().prefix("acme").build().unwrap();
    let builder = ApiKeyManager::builder().shared_store(program.store());
    let server = builder.config(config).start().await.unwrap();
    let key = server.create("ci").await.unwrap();
    fs::write(program.path("server.json"), r#"{"prefix": "acme"}"#).unwrap();
    for more in [&[][..], &["--dry-run"]] {
        let error = program.run(&[&create[..], more].concat()).failed(2);
        assert!(error.contains("begin with `acme`"), "{error}");
        assert!(error.contains("add `--config FILE`"), "{error}");
    }
    assert_eq!(server.list().await.unwrap().keys.len(), 1);
    let made = program.json(&[&create[..], &["--config", "server.json"]].concat());
    let secret = made["secret"].as_str().unwrap();
    assert!(server.introspect(secret).await.unwrap().active);
    // Controls: who names a prefix means it, and keys that ended do not count.
    let named = [&create[..], &["--prefix", "my_api"]].concat();
    program.run(&named).ok();
    let settings = ["--config", "server.json"];
    program.run(&[&named[..], &settings].concat()).failed(2);
    for listed in server.list().await.unwrap().keys {
        server.revoke(listed.id).await.unwrap();
    }
    assert!(server.get(key.id()).await.unwrap().revoked.is_some());
    program.run(&create).ok();
}
