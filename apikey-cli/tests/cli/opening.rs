//! Stores that are not there, not ours, of another release, or away.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use apikey_test_support::servers::free_port;
use sqlx::{Connection, SqliteConnection};

use crate::program::{Program, Ran};

#[tokio::test]
async fn a_file_that_is_missing_is_not_created() {
    let program = Program::sqlite();
    let error = program.run(&["keys", "list"]).failed(3);
    assert!(
        error.contains("keys.db") && error.contains("does not exist"),
        "{error}"
    );
    assert!(!error.contains("must_exist"), "{error}");
    assert!(!program.path("keys.db").exists());
    assert_eq!(fs::read_dir(program.folder.path()).unwrap().count(), 0);
    let unnamed = program
        .command(&["keys", "list"])
        .env_remove("APIKEYS_STORE")
        .status();
    assert_eq!(unnamed.unwrap().code(), Some(2));
}

#[tokio::test]
async fn a_store_of_another_release_is_told_from_something_else() {
    let program = Program::sqlite();
    fs::write(program.path("keys.db"), "text".repeat(100)).unwrap();
    let error = program.run(&["keys", "list"]).failed(1);
    assert!(error.contains("not an SQLite database"), "{error}");
    fs::remove_file(program.path("keys.db")).unwrap();
    program.server().await.shutdown().await.unwrap();
    let url = format!("sqlite:{}", program.path("keys.db").display());
    for (version, told) in [(106, "store migrate"), (9_999, "newer release")] {
        let mut tool = SqliteConnection::connect(&url).await.unwrap();
        let set = format!("UPDATE api_key_meta SET schema_version = {version}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(set))
            .execute(&mut tool)
            .await
            .unwrap();
        let error = program.run(&["keys", "list"]).failed(1);
        assert!(
            error.contains(told) && !error.contains("migrate(false)"),
            "{error}"
        );
        let now: i64 = sqlx::query_scalar("SELECT schema_version FROM api_key_meta")
            .fetch_one(&mut tool)
            .await
            .unwrap();
        assert_eq!(now, version, "left as it is");
    }
}

/// Neither the password of an address nor the address is repeated in an error.
#[tokio::test]
async fn a_store_that_is_away_has_its_own_exit_code() {
    // A port that nothing listens on.
    let port = free_port();
    let mut program = Program::sqlite();
    for scheme in ["postgres", "redis"] {
        program.address = format!("{scheme}://user:p4ssw0rd@127.0.0.1:{port}/0");
        let error = program.run(&["keys", "list", "--timeout", "2s"]).failed(6);
        // A longer wait would end in the same refusal.
        assert!(
            error.contains("help:") && !error.contains("--timeout"),
            "{error}"
        );
        assert!(!error.contains("p4ssw0rd"), "{error}");
    }
    for wrong in ["mysql://user:p4ssw0rd@127.0.0.1/x", ""] {
        program.address = wrong.to_owned();
        let error = program.run(&["keys", "list"]).failed(2);
        assert!(!error.contains("p4ssw0rd"), "{error}");
    }
}

#[tokio::test]
async fn the_address_may_stand_in_a_file() {
    let program = Program::sqlite();
    program.server().await.create("ci").await.unwrap();
    fs::write(program.path("address"), format!("{}\n", program.address)).unwrap();
    for named in [["--store-file", "address"], ["--sqlite", "keys.db"]] {
        let list = [&["keys", "list", "--output", "id"][..], &named].concat();
        let mut command = program.command(&list);
        let output = command.env_remove("APIKEYS_STORE").output().unwrap();
        assert_eq!(output.stdout.len(), 23, "{output:?}");
    }
}

/// The help names `--timeout` where the store waits for that long.
#[test]
fn a_timeout_counts_for_each_command() {
    // It accepts connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = silent.local_addr().unwrap();
    let mut program = Program::sqlite();
    for (scheme, is_waiting) in [("postgres", true), ("redis", false)] {
        program.address = format!("{scheme}://user:p4ssw0rd@{place}/0");
        for command in [
            &["keys", "list"][..],
            &["store", "check"],
            &["store", "migrate"],
            &["store", "copy", "env:APIKEYS_STORE", "sqlite:other.db"],
        ] {
            let run = |timeout| {
                let arguments = [command, &["--timeout", timeout]].concat();
                program.run(&arguments).failed(6)
            };
            let error = run("200ms");
            let waited = error.contains("within 200ms");
            assert!(waited || !is_waiting, "{command:?} {error}");
            let hint = error.contains("`--timeout 30s` waits longer");
            assert_eq!(hint, is_waiting, "{command:?} {error}");
        }
    }
}

/// Runs the program as a user that only has the rights of others.
fn as_another_user(program: &Program, arguments: &[&str]) -> Ran {
    let copy = program.path("apikey");
    // The folder of the tests may be closed to that user.
    if !copy.exists() {
        let own = env!("CARGO_BIN_EXE_apikey");
        // Not by this process: another thread's child could have the copy open for writing when it is run.
        let is_linked = fs::hard_link(own, &copy).is_ok();
        let is_there = is_linked
            || Command::new("cp")
                .arg(own)
                .arg(&copy)
                .status()
                .unwrap()
                .success();
        assert!(is_there);
    }
    let mut command = match rustix::process::geteuid().is_root() {
        false => Command::new(copy),
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
            command.arg(copy);
            command
        }
    };
    command.args(arguments).current_dir(program.folder.path());
    command.env("APIKEYS_STORE", &program.address);
    command.output().unwrap().into()
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_file_that_may_not_be_used_is_named_and_the_user_of_the_server_may() {
    let program = Program::sqlite();
    let server = program.server().await;
    let id = server.create("ci").await.unwrap().id();
    server.shutdown().await.unwrap();
    let (folder, file) = (program.folder.path(), program.path("keys.db"));
    let disable = ["keys", "disable", id.as_str(), "--yes", "--output", "id"];
    set(folder, 0o777);
    as_another_user(&program, &["--version"]).ok();
    // Neither read nor written; read alone; written, but not the files beside it.
    for (of_folder, of_file) in [(0o777, 0o000), (0o777, 0o444), (0o555, 0o666)] {
        set(&file, of_file);
        set(folder, of_folder);
        let error = as_another_user(&program, &disable).failed(6);
        set(folder, 0o777);
        // That user may have made them, with the rights of the file.
        for beside in ["keys.db-wal", "keys.db-shm"] {
            let _ = fs::remove_file(program.path(beside));
        }
        for part in ["keys.db", "as the user of the server", "mounted read-only"] {
            assert!(error.contains(part), "{of_folder:o} {of_file:o} {error}");
        }
        assert!(!error.contains("see that the server runs"), "{error}");
    }
    // Negative control.
    set(&file, 0o666);
    as_another_user(&program, &disable).ok();
}

/// The socket of a server is not the file of a store.
#[test]
fn a_socket_that_may_not_be_used_has_no_remedy_of_files() {
    let mut program = Program::sqlite();
    let folder = program.folder.path().display().to_string();
    set(program.folder.path(), 0o777);
    let socket = program.path(".s.PGSQL.5432");
    let _listening = UnixListener::bind(&socket).unwrap();
    set(&socket, 0o000);
    for address in [
        format!("unix://{}", socket.display()),
        format!("postgres://user@localhost/keys?host={folder}"),
    ] {
        program.address = address;
        let error = as_another_user(&program, &["keys", "list"]).failed(6);
        assert!(error.contains("ermission denied"), "{error}");
        assert!(error.contains("see that the server runs"), "{error}");
        assert!(!error.contains("the store's file"), "{error}");
    }
}

/// An empty store in place of a mistyped FROM would be copied.
#[tokio::test]
async fn a_copy_does_not_advise_to_create_the_store_that_it_reads() {
    let program = Program::sqlite();
    for name in ["empty.db", "keys.db"] {
        let create = ["store", "migrate", "--create", "--sqlite", name];
        program.run(&create).ok();
    }
    let copy = |from, to| program.run(&["store", "copy", from, to]);
    let error = copy("sqlite:none.db", "sqlite:keys.db").failed(3);
    assert!(error.contains("correct FROM"), "{error}");
    assert!(!error.contains("--create"), "{error}");
    let error = copy("sqlite:keys.db", "sqlite:none.db").failed(3);
    assert!(error.contains("store migrate --create"), "{error}");
    let empty = "FROM has neither keys nor owners";
    let ran = copy("sqlite:empty.db", "sqlite:keys.db");
    assert!(ran.code == 0 && ran.stderr.contains(empty), "{ran:?}");
    // Negative control.
    program.server().await.create("ci").await.unwrap();
    let ran = copy("sqlite:keys.db", "sqlite:empty.db");
    assert!(ran.code == 0 && !ran.stderr.contains(empty), "{ran:?}");
}
