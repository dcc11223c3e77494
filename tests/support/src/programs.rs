//! Clients that are programs of their own, for tests with what other people use.

use std::io::ErrorKind;
use std::process::Stdio;

use tokio::process::Command;

use super::skip::Requirement;
use super::soon;

/// Runs a program; returns what it wrote to its standard output. Returns `None` if it is not
/// installed, and records that `test` is skipped.
///
/// # Panics
///
/// If the program is installed and cannot be started, or if it is missing and `CI` is `true`.
pub async fn run(test: &str, program: &Requirement, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program.program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match soon(output).await {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            program.is_missing(test);
            None
        }
        Err(error) => panic!("{test}: {} was not started: {error}", program.program),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic = "was not started"]
    async fn a_program_that_cannot_be_started_is_not_called_missing() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Requirement {
            program: folder.path().to_str().unwrap().to_owned().leak(),
            remedy: "on Debian, `apt-get install a-program`",
        };
        run("a test", &folder, &[]).await;
    }
}
