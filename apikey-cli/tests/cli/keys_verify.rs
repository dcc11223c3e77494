//! `keys verify`: the key comes from stdin, and is not used by it.

use std::fs::{self, File};
use std::time::Duration;

use apikey_runtime::{ApiKeyManager, Config, KeyState};

use crate::on_terminal::Terminal;
use crate::program::{Program, Ran};

#[tokio::test]
async fn each_reason_of_a_rejection_is_told_and_the_exit_code_is_ten() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").owner("42").scopes(["a"]).await.unwrap();
    let secret = key.expose_secret().to_owned();
    let verify = |key: &str, more: &[&str]| {
        let arguments = [&["keys", "verify", "--output", "json"][..], more].concat();
        let ran = program.run_with_input(&arguments, key);
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(!ran.stdout.contains(key) && !ran.stderr.contains(key));
        assert_eq!(ran.code == 0, json["valid"] == true, "{}", ran.stderr);
        assert!(ran.code == 0 || ran.code == 10, "{}", ran.stderr);
        // Whatever is wrong with it, the id stands in its text.
        let id = key.trim().rsplit('_').nth(1);
        assert_eq!(json["id"].as_str(), id, "{}", ran.stdout);
        let is_named = id.is_some_and(|id| ran.stderr.contains(id));
        assert_eq!(is_named, ran.code == 10 && id.is_some(), "{}", ran.stderr);
        (json["valid"] == true, json["reason"].clone())
    };
    assert_eq!(
        verify(&secret, &["--scope", "a"]),
        (true, serde_json::Value::Null)
    );
    assert!(verify(&format!("{secret}\n"), &[]).0);
    assert_eq!(verify(&secret, &["--scope", "b"]).1, "missing_scope");
    assert_eq!(verify("hello", &[]).1, "malformed");
    let other = Program::sqlite();
    let stray = other.server().await.create("x").await.unwrap();
    assert_eq!(verify(stray.expose_secret(), &[]).1, "unknown");
    let new = server.rotate(key.id()).await.unwrap();
    assert_eq!(verify(&secret, &[]).1, "wrong_secret");
    let secret = new.expose_secret().to_owned();
    server.disable(key.id()).await.unwrap();
    assert_eq!(verify(&secret, &[]).1, "disabled");
    server.revoke(key.id()).await.unwrap();
    assert_eq!(verify(&secret, &[]).1, "revoked");
    assert!(
        server.last_used(key.id()).await.unwrap().is_none(),
        "it was not used"
    );
    let record = server.get(key.id()).await.unwrap();
    assert_eq!(record.state_at(server.now()), KeyState::Revoked);
}

/// It is refused, and not repeated in an error.
#[tokio::test]
async fn a_key_among_the_arguments_is_refused() {
    let program = Program::sqlite();
    let key = program.server().await.create("ci").await.unwrap();
    let error = program
        .run(&["keys", "verify", key.expose_secret()])
        .failed(2);
    assert!(error.contains("stdin"), "{error}");
    assert!(!error.contains(key.expose_secret()), "{error}");
    program.run(&["keys", "verify"]).failed(2);
}

/// Servers accept a secret in its grace, whose digest may need another pepper than that of the key's new secret. Without one of
/// both, the program cannot tell.
#[tokio::test]
async fn a_secret_in_its_grace_is_not_rejected_for_want_of_its_pepper() {
    let program = Program::sqlite();
    let first = program.peppered_server(&["v1"]).await;
    let old = first.create("ci").await.unwrap();
    let server = program.peppered_server(&["v2", "v1"]).await;
    let rotation = server.rotate(old.id()).grace(Duration::from_secs(3_600));
    let new = rotation.await.unwrap();
    program.peppers("all", &["v2", "v1"]);
    program.peppers("new", &["v2"]);
    let verify = |peppers: &str, secret: &str| {
        let arguments = ["keys", "verify", "--pepper-file", peppers];
        program.run_with_input(&arguments, secret)
    };
    verify("all", old.expose_secret()).ok();
    let error = verify("new", old.expose_secret()).failed(2);
    assert!(error.contains("--pepper-file"), "{error}");
    // What is not known of the old secret does not matter for the new one.
    verify("new", new.expose_secret()).ok();
    let checked = program.run(&["store", "check", "--pepper-file", "new"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    // Negative control: after the grace, it is rejected whatever its pepper.
    server.end_grace(old.id()).await.unwrap();
    assert_eq!(verify("new", old.expose_secret()).code, 10);
    verify("new", new.expose_secret()).ok();
    program
        .run(&["store", "check", "--pepper-file", "new"])
        .ok();
    // A key that was revoked is rejected whatever its pepper.
    server.revoke(old.id()).await.unwrap();
    program.peppers("other", &["v3"]);
    assert_eq!(verify("other", new.expose_secret()).code, 10);
}

#[tokio::test]
async fn the_key_is_the_first_line_of_stdin() {
    let program = Program::sqlite();
    let key = program.server().await.create("ci").await.unwrap();
    let text = format!("{}\na note\n", key.expose_secret());
    program.run_with_input(&["keys", "verify"], &text).ok();
    program
        .run_with_input(&["keys", "verify"], &format!("\n{text}"))
        .failed(2);
}

#[tokio::test]
async fn a_prompt_does_not_show_the_key_and_leaves_the_terminal_as_it_was() {
    let program = Program::sqlite();
    let key = program.server().await.create("ci").await.unwrap();
    let line = format!("{}\n", key.expose_secret());
    for (typed, code) in [
        (&*line, 0),
        ("hello\n", 10),
        ("\n", 2),
        ("abc\u{3}", 130),
        ("abc\u{1c}", 131),
        ("signal:2", 130),
        ("signal:15", 143),
        ("abc\u{1a}\n", 10),
        ("\u{4}", 2),
    ] {
        let terminal = Terminal {
            typed: ("Key: ", typed),
            ..Terminal::default()
        };
        let test = "a_prompt_does_not_show_the_key";
        let Some(screen) = terminal.run(test, &program, &["keys", "verify"]) else {
            return;
        };
        assert_eq!(screen.code, code, "{typed:?} {screen:?}");
        let is_shown = |text: &str| screen.text.contains(text);
        assert!(
            !is_shown(&line[30..line.len() - 1]) && !is_shown("hello") && !is_shown("abc"),
            "{screen:?}"
        );
    }
    // Control: at a question, what is typed is shown.
    let terminal = Terminal {
        typed: ("[y/N]", "hello\n"),
        ..Terminal::default()
    };
    let id = key.id().to_string();
    let disable = ["keys", "disable", &id];
    let screen = terminal.run("a_prompt_does_not_show_the_key", &program, &disable);
    assert!(screen.unwrap().text.contains("hello"));
}

/// The request is not known, so a valid key may be denied to it: the output says by what.
#[tokio::test]
async fn what_a_key_is_limited_to_is_shown() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server
        .create("ci")
        .networks(["192.0.2.0/24".parse().unwrap()])
        .methods(["GET"])
        .await
        .unwrap();
    let verify = ["keys", "verify", "--output", "json"];
    let ran = program.run_with_input(&verify, key.expose_secret());
    let json: serde_json::Value = serde_json::from_str(&ran.ok()).unwrap();
    assert_eq!(
        (&json["networks"], &json["methods"]),
        (
            &serde_json::json!(["192.0.2.0/24"]),
            &serde_json::json!(["GET"])
        )
    );
}

/// A key that was cut, or mistyped, is no wrong secret, and a prefix may begin as another one does.
#[tokio::test]
async fn the_reason_of_a_rejection_is_the_first_that_a_server_meets() {
    let program = Program::sqlite();
    let config = Config::builder().prefixes(["acme_test", "acme"]);
    let builder = ApiKeyManager::builder().shared_store(program.store());
    let server = builder
        .config(config.build().unwrap())
        .start()
        .await
        .unwrap();
    let key = server.create("ci").await.unwrap();
    let secret = key.expose_secret();
    let reason = |prefix: &str, key: &[u8]| {
        fs::write(program.path("key"), key).unwrap();
        let mut command = program.command(&["keys", "verify", "--output", "json"]);
        command.env("ACTIX_API_KEY_PREFIX", prefix);
        command.stdin(File::open(program.path("key")).unwrap());
        let ran = Ran::from(command.output().unwrap());
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(ran.code == 0, json["valid"] == true, "{ran:?}");
        assert!(ran.code == 0 || ran.code == 10, "{ran:?}");
        json["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert!(secret.starts_with("acme_test_"));
    assert_eq!(reason("acme", secret.as_bytes()), "prefix_not_accepted");
    let cut = &secret[..secret.len() - 1];
    let last = if secret.ends_with('0') { '1' } else { '0' };
    for wrong in [cut, &format!("{cut}{last}")] {
        assert_eq!(reason("acme_test", wrong.as_bytes()), "malformed");
    }
    assert_eq!(reason("acme_test", b"acme_test_\xff\xfe"), "malformed");
    // Negative control.
    assert_eq!(reason("acme_test", secret.as_bytes()), "");
    server.rotate(key.id()).await.unwrap();
    assert_eq!(reason("acme_test", secret.as_bytes()), "wrong_secret");
}
