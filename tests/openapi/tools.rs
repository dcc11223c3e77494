//! Other people's tools, in the versions that `tools/` locks: a validator, a generator of clients, and
//! a tester of servers. They read a document, and talk to the server of the test only.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use apikey_test_support::skip::Requirement;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

const TOOLS: Requirement = Requirement {
    program: "target/openapi-tools",
    remedy: "run `bash tests/openapi/tools/install`",
};

/// A tool works for some seconds; on a busy machine for a minute.
const PATIENCE: Duration = Duration::from_secs(600);

/// Returns a path in the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A folder with a document, and the tools that work in it.
pub(crate) struct Bench {
    tools: PathBuf,
    /// Where programs are found: Node, which is among the tools, and the system's.
    path: OsString,
    folder: TempDir,
}

/// What a tool printed, and whether it succeeded.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) success: bool,
    pub(crate) text: String,
}

impl Bench {
    /// Returns `None` if the tools are not installed in the versions of `tools/`, and records that
    /// the running test is skipped.
    pub(crate) fn of(document: &Value) -> Option<Self> {
        let tools = repository(TOOLS.program);
        let is_installed = |lock: &str| {
            let wanted = fs::read(repository("tests/openapi/tools").join(lock)).unwrap();
            fs::read(tools.join(lock)).is_ok_and(|installed| installed == wanted)
        };
        if !is_installed("package-lock.json") || !is_installed("requirements.txt") {
            TOOLS.is_missing(std::thread::current().name().unwrap_or("a test"));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let system = std::env::var_os("PATH").unwrap_or_default();
        let own = [tools.join("python/bin")];
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&system)));
        let bench = Self {
            path: path.unwrap(),
            tools,
            folder,
        };
        bench.write("openapi.json", &document.to_string());
        Some(bench)
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// Copies the files of `folder` into this one.
    pub(crate) fn copy(&self, folder: &str) {
        for file in fs::read_dir(repository(folder)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), self.folder.path().join(file.file_name())).unwrap();
        }
    }

    /// Runs a tool in the folder.
    pub(crate) async fn run(
        &self,
        tool: &str,
        arguments: &str,
        variables: &[(&str, &str)],
    ) -> Report {
        let program = [
            self.tools.join("node_modules/.bin").join(tool),
            self.tools.join("python/bin").join(tool),
        ];
        let program = program.into_iter().find(|path| path.exists());
        let mut command = Command::new(program.unwrap_or_else(|| tool.into()));
        command
            .args(arguments.split_whitespace())
            .envs(variables.iter().copied())
            .env("PATH", &self.path)
            .env("NO_COLOR", "1")
            .env("REDOCLY_TELEMETRY", "off")
            .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output: Output = output
            .unwrap_or_else(|_| panic!("{tool} does not end"))
            .unwrap_or_else(|error| panic!("{tool} was not started: {error}"));
        let text = [output.stdout, output.stderr].concat();
        Report {
            success: output.status.success(),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }
}

impl Report {
    /// Asserts that the tool found nothing.
    #[track_caller]
    pub(crate) fn finds_nothing(&self) {
        assert!(self.success, "{}", self.text);
    }

    /// Asserts that the tool found faults, and names these.
    #[track_caller]
    pub(crate) fn finds(&self, faults: &[&str]) {
        assert!(!self.success, "{}", self.text);
        for fault in faults {
            assert!(
                self.text.contains(fault),
                "`{fault}` is not in: {}",
                self.text
            );
        }
    }
}
