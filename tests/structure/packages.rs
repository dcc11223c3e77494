//! What a published package carries: its licences, its README, and where its documentation is.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::source::repository;

fn cargo(arguments: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).arg("--offline");
    let output = cargo.current_dir(repository("")).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{cargo:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the packages of the workspace that can be published.
fn published() -> Vec<Value> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    // `publish = false` is an empty list of registries.
    let published = packages.filter(|package| package["publish"].is_null());
    published.cloned().collect()
}

/// Returns what a package lacks, given the files in its archive.
fn lacks(package: &Value, files: &BTreeSet<&str>) -> Vec<String> {
    let mut lacks = Vec::new();
    for file in ["LICENSE-MIT", "LICENSE-APACHE", "README.md"] {
        if !files.contains(file) {
            lacks.push(file.to_owned());
        }
    }
    let name = package["name"].as_str().unwrap();
    for (field, value) in [
        ("documentation", format!("https://docs.rs/{name}")),
        ("license", "MIT OR Apache-2.0".to_owned()),
    ] {
        if package[field] != value.as_str() {
            lacks.push(format!("{field} = {value}"));
        }
    }
    if package["description"].as_str().is_none_or(str::is_empty) {
        lacks.push("description".to_owned());
    }
    lacks
}

#[test]
fn a_published_package_carries_its_licences_and_its_documentation() {
    let published = published();
    let names: Vec<_> = published.iter().map(|package| &package["name"]).collect();
    assert!(names.contains(&&Value::from("apikey-macros")), "{names:?}");
    assert!(names.contains(&&Value::from("apikey-runtime")), "{names:?}");
    for package in &published {
        let name = package["name"].as_str().unwrap();
        let files = cargo(&["package", "--list", "--allow-dirty", "--package", name]);
        let files: BTreeSet<&str> = files.lines().collect();
        assert_eq!(lacks(package, &files), [""; 0], "{name}");
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            let carried = fs::read(repository(&format!("{name}/{licence}"))).unwrap();
            let own = fs::read(repository(licence)).unwrap();
            assert!(carried == own, "{name}/{licence} has another text");
        }
    }
}

/// Negative control.
#[test]
fn a_package_without_licences_is_found() {
    let bare = serde_json::json!({ "name": "bare", "license": "MIT", "description": "" });
    assert_eq!(lacks(&bare, &BTreeSet::from(["README.md"])).len(), 5);
}
