//! `completions`, `man`, and the table of commands in README.

use std::collections::BTreeMap;
use std::fs;

use apikey_test_support::programs;
use apikey_test_support::skip::Requirement;
use serde_json::Value;

use crate::program::Program;

const BASH: Requirement = Requirement {
    program: "bash",
    remedy: "on Debian, `apt-get install bash`",
};

/// Returns the pages, by the names of their commands without `apikey`.
pub(crate) fn pages() -> BTreeMap<String, String> {
    let program = Program::sqlite();
    // Its parent is created too.
    let folder = program.path("share/man1");
    assert_eq!(program.run(&["man", folder.to_str().unwrap()]).ok(), "");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let page = |path: std::path::PathBuf| {
        let name = path
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .replace('-', " ");
        let name = name.strip_prefix("apikey").unwrap().trim_start().to_owned();
        (
            name,
            fs::read_to_string(path)
                .unwrap()
                .replace("\\-", "-")
                .replace("\\*(Aq", "'"),
        )
    };
    files.map(page).collect()
}

/// Returns whether this is a command that does something, and not the name of a group.
fn is_leaf(name: &str, pages: &BTreeMap<String, String>) -> bool {
    !name.is_empty()
        && !pages
            .keys()
            .any(|other| other.starts_with(&format!("{name} ")))
}

#[test]
fn each_command_has_a_manual_page_with_examples() {
    let pages = pages();
    for name in [
        "",
        "keys",
        "keys list",
        "owners revoke",
        "audit",
        "scan",
        "completions",
        "man",
    ] {
        assert!(pages.contains_key(name), "{name}: {:?}", pages.keys());
    }
    for (name, page) in &pages {
        assert!(page.contains(".SH NAME\n"), "{name}");
        assert!(
            !is_leaf(name, &pages) || page.contains("Examples:"),
            "{name}"
        );
    }
}

#[test]
fn readme_lists_each_command() {
    let pages = pages();
    let summary = |page: &str| {
        let (_, name) = page.split_once(".SH NAME\n").unwrap();
        name.lines()
            .next()
            .unwrap()
            .split_once(" - ")
            .unwrap()
            .1
            .replace('|', "\\|")
    };
    let rows = pages.iter().filter(|(name, _)| is_leaf(name, &pages));
    let rows: Vec<_> = rows
        .map(|(name, page)| format!("| `apikey {name}` | {} |", summary(page)))
        .collect();
    let table = format!(
        "| command | what it does |\n|---|---|\n{}\n",
        rows.join("\n")
    );
    let readme = include_str!("../../README.md");
    assert!(
        readme.contains(&table),
        "README.md has to have this table:\n\n{table}"
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let program = Program::sqlite();
    fs::write(program.path("file"), "").unwrap();
    let error = program.run(&["man", "file"]).failed(1);
    assert!(
        error.contains("the manual pages cannot be written to `file`") && error.contains("help:"),
        "{error}"
    );
}

#[tokio::test]
async fn bash_completes_commands_and_options() {
    let program = Program::sqlite();
    let script = program.path("apikey.bash");
    fs::write(&script, program.run(&["completions", "bash"]).ok()).unwrap();
    // The words before the one that is completed.
    let completed = async |before: &[&str], begun: &str| {
        let line = format!(
            "source \"$0\"; COMP_WORDS=({} {begun}); COMP_CWORD={}; _apikey apikey {begun} {}; echo \"${{COMPREPLY[@]}}\"",
            before.join(" "),
            before.len(),
            before[before.len() - 1],
        );
        let arguments = ["--norc", "-c", &line, script.to_str().unwrap()];
        programs::run("bash_completes_commands_and_options", &BASH, &arguments).await
    };
    let Some(found) = completed(&["apikey"], "ow").await else {
        return;
    };
    assert_eq!(found, "owners\n");
    assert_eq!(
        completed(&["apikey", "owners"], "re").await.unwrap(),
        "revoke resume\n"
    );
    assert_eq!(
        completed(&["apikey", "scan", "--rules"], "git")
            .await
            .unwrap(),
        "gitleaks github\n"
    );
    assert_eq!(
        completed(&["apikey", "audit"], "--si").await.unwrap(),
        "--since\n"
    );
}

#[test]
fn each_shell_has_completions() {
    let program = Program::sqlite();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = program.run(&["completions", shell]).ok();
        assert!(script.contains("owners"), "{shell}");
    }
    program.run(&["completions", "cmd.exe"]).failed(2);
}

/// An output that was begun and then fails is still one document.
#[tokio::test]
async fn json_is_whole_whatever_the_exit_code() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").await.unwrap();
    let (id, unknown) = (key.id().to_string(), "0".repeat(22));
    for command in ["revoke", "disable", "enable"] {
        for ids in [[&*id, &*unknown], [&*unknown, &*id]] {
            for more in ["--dry-run", "--yes"] {
                let command = ["keys", command, "--output", "json", more, ids[0], ids[1]];
                let ran = program.run(&command);
                // The first failure counts, and a revoked key is not switched.
                let is_refused = command[1] != "revoke" && more == "--yes";
                let code = if is_refused && ids[0] == id { 5 } else { 3 };
                assert_eq!(ran.code, code, "{command:?} {ran:?}");
                let rows: Value = serde_json::from_str(&ran.stdout).unwrap();
                let shown = rows.as_array().unwrap().len();
                assert_eq!(shown, usize::from(!is_refused), "{command:?} {ran:?}");
                assert!(ran.stderr.contains(&unknown), "{command:?} {ran:?}");
            }
        }
    }
}
