//! `keys verify`: the key comes from stdin, and is not used by it.

use apikey_runtime::KeyState;

use crate::program::Program;

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
