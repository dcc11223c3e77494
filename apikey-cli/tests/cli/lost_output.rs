//! Commands whose output cannot be written: a change goes on and says so, and a verdict keeps its exit code.

use std::fs::{self, File};
use std::process::Stdio;

use apikey_runtime::KeyState;
use apikey_test_support::{PATIENCE, within};
use sqlx::{Connection, SqliteConnection};

use crate::program::{Program, Ran};

/// Returns a stdout whose reader has gone.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

/// Runs the program with this stdout, and with this text on stdin.
fn run_to(program: &Program, arguments: &[&str], stdout: Stdio, input: &str) -> Ran {
    let file = program.path("stdin");
    fs::write(&file, input).unwrap();
    let mut command = program.command(arguments);
    command.stdin(File::open(file).unwrap()).stdout(stdout);
    command.stderr(Stdio::piped());
    command.spawn().unwrap().wait_with_output().unwrap().into()
}

#[tokio::test]
async fn a_change_of_many_keys_goes_on_without_a_reader_and_is_no_success() {
    let program = Program::sqlite();
    let server = program.server().await;
    let mut ids = String::new();
    // More than are changed at the same time, and more output than a buffer holds.
    for _ in 0..400 {
        let key = server.create("ci").await.unwrap();
        ids += &format!("{}\n", key.id());
    }
    let revoke = ["keys", "revoke", "-", "--yes", "--output", "jsonl"];
    // Negative control: a dry run only reads, so a reader that has gone wants no more.
    let dry_run = [&revoke[..], &["--dry-run"]].concat();
    assert_eq!(run_to(&program, &dry_run, closed(), &ids).code, 0);
    let ran = run_to(&program, &revoke, closed(), &ids);
    let live = server.list().state(KeyState::Active).await.unwrap().keys;
    assert_eq!(live.len(), 0, "{ran:?}");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("the change was made") && ran.stderr.contains("output"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn each_change_fails_if_its_output_does_and_each_read_does_not_need_a_reader() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").owner("acme").await.unwrap();
    let id = key.id().to_string();
    let id = id.as_str();
    for change in [
        &["keys", "update", id, "--label", "x"][..],
        &["keys", "disable", id, "--yes"],
        &["keys", "enable", id],
        &["keys", "purge", "--before", "1d", "--yes"],
        &["owners", "suspend", "acme", "--yes"],
        &["owners", "resume", "acme"],
    ] {
        for stdout in [closed(), full()] {
            let ran = run_to(&program, change, stdout, "");
            assert_eq!(ran.code, 1, "{change:?} {ran:?}");
            assert!(ran.stderr.contains("the change was made"), "{ran:?}");
        }
    }
    for read in [
        &["keys", "list"][..],
        &["keys", "show", id],
        &["keys", "usage", id],
        &["keys", "purge", "--before", "1d", "--dry-run"],
        &["keys", "create", "new", "--dry-run"],
        &["keys", "update", id, "--label", "y", "--dry-run"],
        &["keys", "rotate", id, "--dry-run"],
        &["owners", "list"],
        &["owners", "revoke", "acme", "--dry-run"],
        &["owners", "suspend", "acme", "--dry-run"],
        &["owners", "resume", "acme", "--dry-run"],
        &["audit"],
        &["completions", "bash"],
    ] {
        let ran = run_to(&program, read, closed(), "");
        assert_eq!(ran.code, 0, "{read:?} {ran:?}");
        assert_eq!(run_to(&program, read, full(), "").code, 1, "{read:?}");
    }
}

#[tokio::test]
async fn a_rejected_key_is_rejected_without_a_reader() {
    let program = Program::sqlite();
    let key = program.server().await.create("ci").await.unwrap();
    for format in ["table", "json", "csv"] {
        let verify = ["keys", "verify", "--output", format];
        for stdout in [closed(), full()] {
            assert_eq!(run_to(&program, &verify, stdout, "hello\n").code, 10);
        }
        let ran = run_to(&program, &verify, closed(), key.expose_secret());
        assert_eq!(ran.code, 1, "it is no verdict: {ran:?}");
    }
}

#[tokio::test]
async fn a_secret_that_was_not_shown_is_an_error_that_names_the_key() {
    let program = Program::sqlite();
    let server = program.server().await;
    let id = server.create("ci").await.unwrap().id().to_string();
    for format in ["table", "json", "jsonl"] {
        for command in [
            &["keys", "create", "new", "--output", format][..],
            &["keys", "rotate", &id, "--yes", "--output", format],
        ] {
            for stdout in [closed(), full()] {
                let before = server.list().await.unwrap().keys;
                let ran = run_to(&program, command, stdout, "");
                assert_eq!(ran.code, 1, "{command:?} {ran:?}");
                let after = server.list().await.unwrap().keys;
                let made = after
                    .iter()
                    .find(|key| before.iter().all(|old| old.id != key.id));
                let named = made.map_or(id.clone(), |key| key.id.to_string());
                for part in [&named, "secret was not shown", "rotate", "revoke"] {
                    assert!(ran.stderr.contains(part), "{part} {ran:?}");
                }
            }
        }
    }
    // With a grace, the remedy of the others would cut off who has the earlier secret.
    let rotate = ["keys", "rotate", &id, "--grace", "1h"];
    let ran = run_to(&program, &rotate, full(), "");
    for part in ["denies that secret at once", "keys create", "until 2"] {
        assert!(ran.stderr.contains(part), "{part} {ran:?}");
    }
    let create = ["keys", "create", "new", "--secret-file", "secret"];
    let ran = run_to(&program, &create, closed(), "");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("its secret is in `secret`"), "{ran:?}");
    let secret = fs::read_to_string(program.path("secret")).unwrap();
    assert!(server.introspect(secret.trim_end()).await.unwrap().active);
}

/// Runs the program with a stdout that a shell's redirection makes.
#[cfg(unix)]
fn run_redirected(program: &Program, redirection: &str, arguments: &[&str]) -> Ran {
    let command = program.command(arguments);
    let mut shell = std::process::Command::new("/bin/sh");
    shell.arg("-c").arg(format!("exec \"$@\" {redirection}"));
    shell.arg("sh").arg(command.get_program()).args(arguments);
    shell.env_clear().env("APIKEYS_STORE", &program.address);
    shell.current_dir(program.folder.path());
    shell.output().unwrap().into()
}

/// A stdout that was closed is `/dev/null` when the program begins, open for reading too.
#[cfg(unix)]
#[tokio::test]
async fn no_secret_is_made_for_a_closed_stdout_and_null_is_told_of() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").await.unwrap();
    let id = key.id().to_string();
    for command in [
        &["keys", "create", "new"][..],
        &["keys", "create", "new", "--output", "json"],
        &["keys", "rotate", &id, "--yes"],
        &["keys", "create", "new", "--dry-run"],
        &["keys", "rotate", &id, "--dry-run"],
    ] {
        for closed in [">&-", "1<>/dev/null", "1</dev/null", "1<keys.db"] {
            let error = run_redirected(&program, closed, command).failed(1);
            for part in ["stdout is closed", "--secret-file", "no key was made"] {
                assert!(error.contains(part), "{part} {command:?} {error}");
            }
        }
    }
    assert!(server.verify(key.expose_secret()).await.is_ok());
    assert_eq!(server.list().await.unwrap().keys.len(), 1);
    // Nothing is lost if the secret has a file.
    let create = ["keys", "create", "new", "--secret-file", "secret"];
    let said = run_redirected(&program, ">&-", &create).failed(0);
    assert!(!said.contains("not shown"), "{said}");
    let secret = fs::read_to_string(program.path("secret")).unwrap();
    assert!(server.introspect(secret.trim_end()).await.unwrap().active);
    // Who writes `/dev/null` may have it.
    let rotate = ["keys", "rotate", &id, "--yes"];
    let said = run_redirected(&program, ">/dev/null", &rotate).failed(0);
    for part in ["warning: the secret of the key", &id, "rotate", "revoke"] {
        assert!(said.contains(part), "{part} {said}");
    }
    let before = server.introspect(key.expose_secret()).await.unwrap();
    assert!(!before.active);
    // Controls: a secret that is shown is not warned of, and what has no secret needs no stdout.
    assert_eq!(program.run(&rotate).stderr, "");
    let list = run_redirected(&program, ">&-", &["keys", "list"]);
    assert_eq!(list.failed(0), "");
}

#[tokio::test]
async fn a_conclusion_of_a_copy_stands_without_a_reader() {
    let program = Program::sqlite();
    let server = program.server().await;
    server.create("ci").await.unwrap();
    server.shutdown().await.unwrap();
    for name in ["same.db", "other.db"] {
        let create = ["store", "migrate", "--create", "--sqlite", name];
        program.run(&create).ok();
    }
    let copy = |to: &'static str| ["store", "copy", "sqlite:keys.db", to, "--verify"];
    assert_eq!(
        run_to(&program, &copy("sqlite:same.db"), closed(), "").code,
        1
    );
    // A key that is only in TO.
    let create = ["keys", "create", "x", "--sqlite", "other.db"];
    program.run(&create).ok();
    let copy = [&copy("sqlite:other.db")[..], &["--force"]].concat();
    let ran = run_to(&program, &copy, closed(), "");
    assert_eq!(ran.code, 5, "{ran:?}");
}

/// A program that may not write to files meets what a full disk is, and reaches its server all the same.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_without_room_is_an_error_before_anything_is_made() {
    const WITHOUT_ROOM: &str = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
    for program in Program::every().await {
        if program.address.starts_with("sqlite:") {
            continue;
        }
        let without_room = |arguments: &[&str]| {
            let command = program.command(arguments);
            let mut limited = std::process::Command::new("sh");
            limited.args(["-c", WITHOUT_ROOM, "sh"]);
            limited.arg(command.get_program()).args(arguments);
            limited.env("APIKEYS_STORE", &program.address);
            limited.current_dir(program.folder.path());
            Ran::from(limited.output().unwrap())
        };
        let server = program.server().await;
        let create = ["keys", "create", "ci", "--secret-file", "secret"];
        let ran = without_room(&create);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains("no key was made"), "{ran:?}");
        assert!(!program.path("secret").exists());
        assert!(server.list().await.unwrap().keys.is_empty());
        assert_eq!(without_room(&["man", "man"]).code, 1);
        // Control: with room, the key is made, and its secret is alone in the file.
        program.run(&create).ok();
        let secret = std::fs::read_to_string(program.path("secret")).unwrap();
        assert!(server.introspect(secret.trim_end()).await.unwrap().active);
        assert_eq!(secret, format!("{}\n", secret.trim()));
    }
}

/// What is read for the output is read after the change.
#[tokio::test]
async fn a_change_whose_key_cannot_be_read_afterwards_was_made() {
    let program = Program::sqlite();
    let server = program.server().await;
    let id = server.create("ci").await.unwrap().id();
    server.shutdown().await.unwrap();
    let url = format!("sqlite:{}", program.path("keys.db").display());
    let mut tool = SqliteConnection::connect(&url).await.unwrap();
    let mut rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        sql.execute(&mut tool).await.unwrap();
    };
    rename("api_key_secret_uses", "aside").await;
    let update = ["keys", "update", id.as_str(), "--label", "new"];
    let disable = ["keys", "disable", id.as_str(), "--yes"];
    for change in [&update[..], &disable] {
        let ran = program.run(change);
        assert!(ran.code != 0, "{ran:?}");
        assert!(ran.stderr.contains("the change was made, and"), "{ran:?}");
    }
    rename("aside", "api_key_secret_uses").await;
    let record = program.server().await.get(id).await.unwrap();
    assert_eq!((record.label.as_str(), record.enabled), ("new", false));
}

/// A command that was interrupted leaves no file that looks finished, and one that another got meanwhile is not overwritten.
#[tokio::test]
async fn the_file_of_a_secret_has_its_name_only_with_the_secret() {
    let program = Program::sqlite();
    let server = program.server().await;
    server.create("ci").await.unwrap();
    let url = format!("sqlite:{}", program.path("keys.db").display());
    let mut tool = SqliteConnection::connect(&url).await.unwrap();
    let mut run_sql = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(&mut tool).await.unwrap();
    };
    let reserved = || {
        let names = fs::read_dir(program.folder.path()).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.find(|name| name.starts_with(".secret."))
    };
    let create = ["keys", "create", "new", "--secret-file", "secret"];
    let create = [&create[..], &["--timeout", "60s"]].concat();
    // While another writes, the key is not made.
    run_sql("BEGIN IMMEDIATE").await;
    let mut child = program.start(&create);
    let is_reserved = within(PATIENCE, async || reserved().is_some()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_reserved.is_some() && !program.path("secret").exists());
    fs::remove_file(program.path(&reserved().unwrap())).unwrap();

    let mut command = program.command(&create);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    within(PATIENCE, async || reserved().is_some())
        .await
        .unwrap();
    fs::write(program.path("secret"), "another").unwrap();
    run_sql("ROLLBACK").await;
    let ran = Ran::from(child.wait_with_output().unwrap());
    let name = reserved().unwrap();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains(&format!("its secret is in `{name}`")),
        "{ran:?}"
    );
    let text = |name: &str| fs::read_to_string(program.path(name)).unwrap();
    assert!(
        server
            .introspect(text(&name).trim_end())
            .await
            .unwrap()
            .active
    );
    assert_eq!(text("secret"), "another");
    // Control: alone, it leaves nothing else.
    fs::remove_file(program.path(&name)).unwrap();
    fs::remove_file(program.path("secret")).unwrap();
    program.run(&create).ok();
    assert_eq!(reserved(), None);
    assert!(
        server
            .introspect(text("secret").trim_end())
            .await
            .unwrap()
            .active
    );
}
