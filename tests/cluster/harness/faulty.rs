//! This test, built with protections that can be disabled.
//!
//! The cfg is not a feature, which any crate in a dependency tree could enable. The published crate
//! can set it only through the compiler's own flags. Cargo runs the wrapper for the workspace's
//! crates only, and shares all other crates with the usual build.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the program, which is built once.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(build)
}

fn build() -> PathBuf {
    // `TARGET/PROFILE/deps/cluster-HASH`; the wrapper changes the hash.
    let own = std::env::current_exe().unwrap();
    let [_, _, profile, target] = *own.ancestors().take(4).collect::<Vec<_>>() else {
        panic!("not built by Cargo: {}", own.display());
    };
    let profile = match profile.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        name => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in std::env::vars_os() {
        // Cargo sets variables that name the test's package; a build script that watches them would
        // run again.
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    let output = command
        .args(["test", "--no-run", "--test", "cluster", "--locked"])
        // The options of the command in README, so that builds of dependencies are reused.
        .args(["--workspace", "--all-features"])
        .args(["--message-format", "json-render-diagnostics"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(ROOT)
        .env(
            "RUSTC_WORKSPACE_WRAPPER",
            Path::new(ROOT).join("tests/cluster/rustc-with-faults"),
        )
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the build with faults fails");
    let program = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|message| {
            message["target"]["name"] == "cluster" && message["profile"]["test"] == true
        })
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("Cargo names the program");
    assert_ne!(program, own, "the wrapper did not run");
    program
}
