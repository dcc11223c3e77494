//! Runs the program on a terminal, which Python makes.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use apikey_test_support::skip::Requirement;

use crate::program::Program;

pub(crate) const PYTHON: Requirement = Requirement {
    program: "python3",
    remedy: "on Debian, `apt-get install python3`",
};

/// A terminal, and what is typed into it.
pub(crate) struct Terminal<'a> {
    pub(crate) columns: u16,
    /// Variables besides the store's address.
    pub(crate) variables: &'a [&'a str],
    /// What is typed when the first text is seen.
    pub(crate) typed: (&'a str, &'a str),
}

impl Default for Terminal<'_> {
    fn default() -> Self {
        Self {
            columns: 80,
            variables: &["TERM=xterm-256color"],
            typed: ("", ""),
        }
    }
}

/// What a terminal got, with its line ends as `\n`.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) code: i32,
    pub(crate) text: String,
}

impl Terminal<'_> {
    /// Runs the program. Returns `None` without Python, and records that `test` is skipped.
    pub(crate) fn run(&self, test: &str, program: &Program, arguments: &[&str]) -> Option<Screen> {
        let columns = self.columns.to_string();
        let store = format!("APIKEYS_STORE={}", program.address);
        let output = Command::new(PYTHON.program)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/cli/terminal.py"
            ))
            .args([&columns, self.typed.0, self.typed.1])
            .args(["/usr/bin/env", "-i", &store])
            .args(self.variables)
            .arg(env!("CARGO_BIN_EXE_apikey"))
            .args(arguments)
            .current_dir(program.folder.path())
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) => {
                assert!(
                    output.stderr.is_empty(),
                    "{}",
                    String::from_utf8_lossy(&output.stderr)
                );
                let text = String::from_utf8(output.stdout).unwrap();
                assert!(!text.contains("without an echo"), "{text}");
                Some(Screen {
                    code: output.status.code().unwrap_or(-1),
                    text: text.replace("\r\n", "\n"),
                })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                PYTHON.is_missing(test);
                None
            }
            Err(error) => panic!("{test}: {error}"),
        }
    }
}

impl Screen {
    /// Returns the text without colours and other attributes of letters (ECMA-48, SGR).
    pub(crate) fn plain(&self) -> String {
        let mut plain = String::new();
        let mut rest = self.text.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            plain.push_str(before);
            let end = after.find('m').unwrap();
            assert!(
                after[..end]
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b';'),
                "{}",
                self.text
            );
            rest = &after[end + 1..];
        }
        plain + rest
    }
}
