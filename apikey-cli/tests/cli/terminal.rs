//! What people see on a terminal, and what scripts get without one.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use apikey_test_support::programs;

use crate::on_terminal::{PYTHON, Screen, Terminal};
use crate::program::Program;

pub(crate) fn is_plain(text: &str) -> bool {
    !text
        .chars()
        .any(|letter| letter.is_control() && letter != '\n')
}

/// The lists, and a thing by itself.
const LISTS: [&[&str]; 3] = [&["keys", "list"], &["owners", "list"], &["audit"]];

#[tokio::test]
async fn a_table_fits_a_terminal_of_80_columns_and_ids_stay_whole() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server
        .create("a label that is much longer than a label of a key has to be, in words")
        .owner("an owner with a long name, such as a department of a company")
        .scopes([
            "orders:read",
            "orders:write",
            "invoices:read",
            "invoices:write",
        ])
        .actor("somebody.with.a.long.address@department.example.com")
        .await
        .unwrap();
    let id = key.id().to_string();
    for list in LISTS {
        for columns in [80, 100] {
            let terminal = Terminal {
                columns,
                ..Terminal::default()
            };
            let Some(screen) =
                terminal.run("a_table_fits_a_terminal_of_80_columns", &program, list)
            else {
                return;
            };
            let text = screen.plain();
            assert_eq!(screen.code, 0, "{text}");
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(
                widest <= Some(usize::from(columns)),
                "{list:?} {columns}:\n{text}"
            );
            assert!(
                list[0] == "owners" || text.contains(&id),
                "{list:?} {columns}:\n{text}"
            );
        }
    }
    // Negative control, and a pipe: without a terminal, a row is a line, whatever its length.
    let piped = program.run(&["keys", "list"]).ok();
    assert_eq!(piped.lines().count(), 2, "{piped}");
    assert!(
        piped.lines().any(|line| line.chars().count() > 100),
        "{piped}"
    );
}

#[tokio::test]
async fn a_table_in_a_pipe_is_as_wide_as_columns_says() {
    let program = Program::sqlite();
    let server = program.server().await;
    let label = "a label that is much longer than a label of a key has to be, in words";
    let owner = "an owner with a long name, such as a department of a company";
    server.create(label).owner(owner).await.unwrap();
    let widest = |columns: &str, format: &str| {
        let mut command = program.command(&["keys", "list", "--output", format]);
        let output = command.env("COLUMNS", columns).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.chars().count()).max().unwrap()
    };
    let whole = widest("", "table");
    assert!(whole > 100, "{whole}");
    for columns in ["80", "100"] {
        let most: usize = columns.parse().unwrap();
        assert!(widest(columns, "table") <= most, "{columns}");
    }
    // What is no width is none, and programs get whole values.
    for columns in ["0", "-1", "wide", "99999"] {
        assert_eq!(widest(columns, "table"), whole, "{columns}");
    }
    widest("1", "table");
    assert!(widest("80", "csv") > 100);
}

#[tokio::test]
async fn colours_are_for_terminals_that_have_them_and_people_who_want_them() {
    let program = Program::sqlite();
    let _server = program.server().await;
    let run = |variables: &[&str], arguments: &[&str]| {
        let terminal = Terminal {
            variables,
            ..Terminal::default()
        };
        terminal.run(
            "colours_are_for_terminals_that_have_them",
            &program,
            arguments,
        )
    };
    let colourful = |screen: &Screen| screen.text.contains("\x1b[");
    let list = ["keys", "list"];
    let Some(screen) = run(&["TERM=xterm-256color"], &list) else {
        return;
    };
    assert!(colourful(&screen), "{screen:?}");
    for (variables, arguments) in [
        (&["TERM=xterm-256color", "NO_COLOR=1"][..], &list[..]),
        (&["TERM=dumb"], &list),
        (
            &["TERM=xterm-256color"],
            &["keys", "list", "--color", "never"],
        ),
        (
            &["TERM=xterm-256color", "NO_COLOR=1"],
            &["keys", "show", "0000000000000000000000"],
        ),
        (&["TERM=dumb"], &["keys", "unknown"]),
        (
            &["TERM=xterm-256color"],
            &["keys", "unknown", "--color", "never"],
        ),
        (
            &["TERM=xterm-256color"],
            &["keys", "list", "--help", "--color=never"],
        ),
    ] {
        let screen = run(variables, arguments).unwrap();
        assert!(
            is_plain(&screen.text),
            "{variables:?} {arguments:?} {screen:?}"
        );
    }
    assert!(is_plain(&program.run(&list).ok()));
    let asked_for = program.run(&["keys", "list", "--color", "always"]).ok();
    assert!(asked_for.contains("\x1b["), "{asked_for}");
}

/// The manager rejects such texts. A statement by hand does not.
#[tokio::test]
async fn a_terminal_obeys_nothing_that_a_store_holds() {
    let test = "a_terminal_obeys_nothing_that_a_store_holds";
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").owner("acme").await.unwrap();
    let id = key.id().to_string();
    let statement = r#"
import sqlite3, sys
hostile = 'a\x1b]0;title\x07\x1b[2J\x1b[31m\x9b5n\u202egnp\r\nnew\tline'
store = sqlite3.connect(sys.argv[1])
store.execute('UPDATE api_keys SET label = ?, description = ?, created_by = ?', [hostile] * 3)
store.execute('UPDATE api_keys SET owner = ?', ['b' + hostile])
store.commit()
print('done')
"#;
    let path = program.path("keys.db");
    let Some(done) = programs::run(test, &PYTHON, &["-c", statement, path.to_str().unwrap()]).await
    else {
        return;
    };
    assert_eq!(done, "done\n");
    let error = "a\u{1b}[31m\u{202e}";
    for arguments in [
        &["keys", "list"][..],
        &["keys", "show", &id],
        &["owners", "list"],
        &["audit"],
        &["owners", "suspend", error],
        &["keys", "list", "--owner", error, "--config", error],
        &["keys", "show", error],
        &["keys", "list", "--state", error],
        &["keys", "list", "--limit", error],
        &["keys", "list", &format!("--{error}")],
        &["keys", error],
        &["owners", "revoke", error],
        &["store", "copy", error, "sqlite:keys.db"],
        &["keys", "list", "--store-file", error],
        &["keys", "list", "--pepper-file", error],
        &["man", &format!("/dev/null/{error}")],
    ] {
        let Some(screen) = Terminal::default().run(test, &program, arguments) else {
            return;
        };
        let text = screen.plain();
        assert!(
            is_plain(&text) && !text.contains('\u{202e}'),
            "{arguments:?}\n{text:?}"
        );
        assert!(text.contains("\\u{1b}"), "{arguments:?}\n{text:?}");
    }
    // A program gets the exact value.
    let csv = program.run(&["keys", "list", "--output", "csv"]).ok();
    assert!(
        csv.contains("\u{1b}[2J") && csv.contains('\u{202e}'),
        "{csv:?}"
    );
}

#[tokio::test]
async fn a_question_is_asked_on_a_terminal_and_only_yes_is_yes() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").owner("acme").await.unwrap();
    let revoke = ["owners", "revoke", "acme", "--confirmed"];
    for (typed, is_done) in [
        ("n\n", false),
        ("\n", false),
        ("\u{4}", false),
        ("yess\n", false),
        ("y\n", true),
    ] {
        let terminal = Terminal {
            typed: ("[y/N]", typed),
            ..Terminal::default()
        };
        let Some(screen) = terminal.run("a_question_is_asked_on_a_terminal", &program, &revoke)
        else {
            return;
        };
        assert_eq!(screen.code, i32::from(!is_done), "{typed:?} {screen:?}");
        assert!(
            screen
                .plain()
                .contains("for ever? It has 1 live key. [y/N]"),
            "{screen:?}"
        );
        assert_eq!(
            server.verify(key.expose_secret()).await.is_err(),
            is_done,
            "{typed:?}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let program = Program::sqlite();
    for arguments in [
        &["completions", "bash"][..],
        &["scan", "--rules", "gitleaks"],
        &["keys", "list", "--help"],
    ] {
        let mut command = program.command(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(
            (child.wait().unwrap().code(), said.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_output_that_cannot_be_written_is_an_error() {
    let program = Program::sqlite();
    let server = program.server().await;
    server.create("ci").owner("acme").await.unwrap();
    for arguments in [
        &["keys", "list"][..],
        &["keys", "list", "--output", "json"],
        &["owners", "list", "--output", "csv"],
        &["audit", "--output", "jsonl"],
        &["scan", "--rules", "regex"],
        &["completions", "fish"],
        &["--help"],
        &["help", "keys"],
        &["--version"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ran = program.command(arguments).stdout(full).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1), "{arguments:?} {said}");
        assert!(
            said.contains("error: the output cannot be written"),
            "{arguments:?} {said}"
        );
    }
}

#[test]
fn a_store_that_does_not_exist_is_not_created() {
    let program = Program::sqlite();
    for list in LISTS {
        let error = program.run(list).failed(3);
        assert!(
            error.contains("keys.db") && error.contains("help:"),
            "{error}"
        );
    }
    assert!(!program.path("keys.db").exists());
}

#[test]
fn a_store_that_is_away_has_an_exit_code_of_its_own() {
    let mut program = Program::sqlite();
    // Port 1 of this machine is not open.
    for address in [
        "postgres://user:a-password@127.0.0.1:1/keys",
        "redis://:a-password@127.0.0.1:1",
    ] {
        address.clone_into(&mut program.address);
        for list in LISTS {
            let error = program
                .run(&[list, &["--timeout", "1s"]].concat())
                .failed(6);
            assert!(!error.contains("a-password"), "{error}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_text_changes_nothing_and_is_no_error_of_the_output() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").await.unwrap();
    let id = key.id();
    let revoke = ["keys", "revoke", id.as_str()];
    for (typed, said) in [
        (
            "y\u{e0ff}\n",
            "nothing was changed, and the answer cannot be read",
        ),
        ("n\n", "nothing was changed"),
    ] {
        let terminal = Terminal {
            typed: ("[y/N]", typed),
            ..Terminal::default()
        };
        let Some(screen) = terminal.run("an_answer_that_is_no_text", &program, &revoke) else {
            return;
        };
        assert_eq!(screen.code, 1, "{screen:?}");
        assert!(
            screen.plain().contains(said) && !screen.text.contains("output"),
            "{screen:?}"
        );
    }
    assert!(server.introspect(key.expose_secret()).await.unwrap().active);
}
