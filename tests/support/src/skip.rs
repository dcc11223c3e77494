//! Tests that are skipped because a program is missing: said at once, past the harness, which hides
//! the output of tests that pass; and listed at the end of the run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A program that tests need, and what installs it.
#[derive(Debug)]
pub struct Requirement {
    pub program: &'static str,
    pub remedy: &'static str,
}

impl Requirement {
    /// Records that `test` is skipped, since this is not installed.
    ///
    /// # Panics
    ///
    /// If `CI` is `true`: there, nothing may be skipped.
    pub fn is_missing(&self, test: &str) {
        let Self { program, remedy } = self;
        assert!(
            std::env::var_os("CI").is_none_or(|value| value != "true"),
            "{test}: {program} is not installed"
        );
        let said = format!("skipped: {test}: {program} is not installed; {remedy}\n");
        let _ = std::io::stderr().write_all(said.as_bytes());
        let Some((path, binary)) = place() else {
            return;
        };
        let line = format!("{}\t{program}\t{remedy}\t{binary}\t{test}\n", run());
        let file = File::options().create(true).append(true).open(path);
        // A line is written at once, since other tests write too.
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

/// Returns the list of this run's skipped tests, and forgets it. Empty if there are none.
pub fn take_list() -> String {
    let Some((path, _)) = place() else {
        return String::new();
    };
    let list = list(&path, run());
    let _ = fs::remove_file(path);
    list
}

fn list(path: &Path, run: u32) -> String {
    let recorded = fs::read_to_string(path).unwrap_or_default();
    let mut missing: BTreeMap<_, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for line in recorded.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [of_run, program, remedy, binary, test] = fields[..] else {
            continue;
        };
        if of_run == run.to_string() {
            let tests = missing.entry((program, remedy)).or_default();
            tests.entry(binary).or_default().push(test);
        }
    }
    let mut text = String::new();
    for ((program, remedy), binaries) in &mut missing {
        text += &format!("\nskipped, because {program} is not installed; {remedy}:\n");
        for (binary, tests) in binaries {
            tests.sort_unstable();
            tests.dedup();
            text += &format!("  {binary}: {}\n", tests.join(", "));
        }
    }
    text
}

/// Returns the file of the records, beside the folder of the test binaries, and the name of this
/// binary.
fn place() -> Option<(PathBuf, String)> {
    let binary = std::env::current_exe().ok()?;
    let name = binary.file_stem()?.to_string_lossy().into_owned();
    // Without the hash that cargo adds.
    let name = name.rsplit_once('-').map_or(&*name, |(name, _)| name);
    let folder = binary.parent()?.parent()?;
    Some((folder.join("skipped-tests"), name.to_owned()))
}

/// Identifies a run: cargo is the parent of all test binaries.
#[cfg(unix)]
fn run() -> u32 {
    std::os::unix::process::parent_id()
}

/// Elsewhere, a run includes what earlier ones that did not come to their end have skipped.
#[cfg(not(unix))]
fn run() -> u32 {
    0
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;
    use crate::programs;
    use crate::servers::redis;

    const CHILD: &str = "skip::tests::child_without_programs";

    /// Marks the child process; without it the child's test does nothing.
    const MARK: &str = "APIKEY_TEST_WITHOUT_PROGRAMS";

    const CLIENT: Requirement = Requirement {
        program: "a-client",
        remedy: "on Debian, `apt-get install a-client`",
    };

    #[tokio::test]
    async fn child_without_programs() {
        if std::env::var_os(MARK).is_some() {
            eprintln!("this is captured");
            assert_eq!(
                programs::run("a test of a client", &CLIENT, &[]).await,
                None
            );
            assert!(!redis::is_installed("a test"));
        }
    }

    /// Runs the child's test as cargo does, with a path on which there are no programs.
    fn child(ci: &str) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", CHILD]);
        command.env("PATH", folder.path()).env(MARK, "1");
        command.env("CI", ci).output().unwrap()
    }

    #[test]
    fn a_skipped_test_is_named_though_it_passes_and_listed_with_its_remedy() {
        let output = child("");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        for said in [
            "skipped: a test: redis-server is not installed; ",
            "skipped: a test of a client: a-client is not installed; ",
        ] {
            assert!(errors.contains(said), "{errors}");
        }
        // Negative control.
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!errors.contains("captured") && !text.contains("captured"));

        let (path, binary) = place().unwrap();
        let list = list(&path, std::process::id());
        for (package, test) in [
            ("redis-server", "a test"),
            ("a-client", "a test of a client"),
        ] {
            let remedy = format!("apt-get install {package}`:\n  {binary}: {test}\n");
            assert!(list.contains(&remedy), "{list}");
        }
        // What another run has skipped is not listed.
        assert_eq!(super::list(&path, 1), "");
    }

    #[test]
    fn with_ci_a_skipped_test_fails() {
        assert!(!child("true").status.success());
    }
}
