//! Files and variables with settings: what cannot be used is an error, and never as if it were not there.

use std::fs;

use crate::program::Program;

/// Without its peppers, the program would make keys that its servers deny.
#[tokio::test]
async fn peppers_that_cannot_be_used_are_not_left_out() {
    let program = Program::sqlite();
    program.server().await;
    for text in ["", "\n \n"] {
        fs::write(program.path("empty"), text).unwrap();
        let error = program
            .run(&["keys", "list", "--pepper-file", "empty"])
            .failed(2);
        assert!(error.contains("has no peppers"), "{error}");
    }
    // Negative control: an empty variable is as none.
    let mut command = program.command(&["keys", "list"]);
    let output = command.env("APIKEYS_PEPPERS", "").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_variable_that_is_not_unicode_is_an_error() {
    use std::os::unix::ffi::OsStrExt;

    use crate::program::Ran;

    let program = Program::sqlite();
    program.server().await;
    let value = std::ffi::OsStr::from_bytes(b"v1:0123456789abcde\xff");
    for (variable, arguments) in [
        ("APIKEYS_PEPPERS", &["keys", "list"][..]),
        ("APIKEYS_STORE", &["keys", "list"]),
        ("NEW", &["store", "copy", "sqlite:keys.db", "env:NEW"]),
    ] {
        let mut command = program.command(arguments);
        let error = Ran::from(command.env(variable, value).output().unwrap()).failed(2);
        let told = format!("`{variable}` is not Unicode");
        assert!(error.contains(&told), "{error}");
        assert!(!error.contains("v1:"), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_usage_error() {
    let program = Program::sqlite();
    program.server().await;
    for option in ["--config", "--pepper-file", "--store-file"] {
        let error = program.run(&["keys", "list", option, "none"]).failed(2);
        assert!(
            error.contains("`none`") && error.contains("cannot be read"),
            "{error}"
        );
    }
    let copy = ["store", "copy", "sqlite:keys.db", "file:none"];
    program.run(&copy).failed(2);
}

#[tokio::test]
async fn a_time_that_cannot_be_used_is_told_in_words_of_the_program() {
    let program = Program::sqlite();
    let server = program.server().await;
    let id = server.create("ci").await.unwrap().id();
    for timeout in ["2m", "0s", "61s"] {
        let error = program
            .run(&["keys", "list", "--timeout", timeout])
            .failed(2);
        assert!(error.contains("10ms to 60s"), "{error}");
    }
    program.run(&["keys", "list", "--timeout", "60s"]).ok();
    let usage = ["keys", "usage", id.as_str(), "--from", "1d", "--to"];
    for (to, is_before) in [("2d", false), ("1d", false), ("1h", true)] {
        let ran = program.run(&[&usage[..], &[to]].concat());
        match is_before {
            true => drop(ran.ok()),
            false => {
                let error = ran.failed(2);
                assert!(error.contains("is not before `--to`"), "{error}");
            }
        }
    }
}
