//! `keys create` and `keys rotate`: the secret is shown once.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::program::Program;

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
    let server = program.peppered_server("v1", "0123456789abcdef").await;
    let key = server.create("a").await.unwrap();
    let (id, secret) = (key.id().to_string(), key.expose_secret().to_owned());
    let file = program.path("peppers");
    fs::write(&file, "v1:0123456789abcdef\n").unwrap();
    let other = program.path("others");
    fs::write(&other, "v2:0123456789abcdef\n").unwrap();
    for wrong in [&[][..], &["--pepper-file", other.to_str().unwrap()]] {
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
    let right = ["--pepper-file", file.to_str().unwrap()];
    let verify = [&["keys", "verify"][..], &right].concat();
    program.run_with_input(&verify, &secret).ok();
    let create = [&["keys", "create", "b"][..], &right].concat();
    let created = program.run(&create).ok();
    let created = created.lines().last().unwrap();
    assert!(server.introspect(created).await.unwrap().active);
    // The same by a variable.
    let mut command = program.command(&["keys", "rotate", &id, "--yes"]);
    command.env("APIKEYS_PEPPERS", "v1:0123456789abcdef");
    assert!(command.status().unwrap().success());
}
