//! The compile time that the attribute adds: crates of 500 handlers, with and without it.
//!
//! `cargo bench` skips this bench, because it takes minutes; `cargo bench -p apikey-runtime --bench
//! compile_cost` runs it. The crates are written below the target folder, so their dependencies
//! stay built.

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::measure::{Work, in_turns};
use support::table::Table;
use support::{Outcome, clock};

const HANDLERS: usize = 500;

const ROUNDS: usize = 5;

/// Packages, their descriptions, and the attribute on each of their handlers; `{n}` is the
/// handler's number.
const PACKAGES: [(&str, &str, &str); 3] = [
    ("open", "no attribute", ""),
    (
        "plain",
        "#[api_key_required]",
        "#[apikey_runtime::api_key_required]",
    ),
    (
        "scoped",
        "... with a scope of its own",
        "#[apikey_runtime::api_key_required(scope = \"orders{n}:read\")]",
    ),
];

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let root = write_workspace()?;
    for (command, targets) in [("check", "0.50"), ("build", "6.00")] {
        // Builds the dependencies first.
        for (package, ..) in PACKAGES {
            cargo(&root, command, package);
        }
        let mut subjects: Vec<Work<'_>> = Vec::new();
        for (package, ..) in PACKAGES {
            let root = &root;
            subjects.push(Box::new(move |_| cargo(root, command, package)));
        }
        let rounds = in_turns(ROUNDS, HANDLERS, &mut subjects);
        let mut table = Table::new(match command {
            "check" => {
                "cargo check of 500 handlers, per handler, added to one without the attribute"
            }
            _ => "cargo build of 500 handlers, per handler, added to one without the attribute",
        });
        for (subject, (_, what, _)) in PACKAGES.iter().enumerate() {
            let millis = if subject == 0 {
                rounds.median(0)
            } else {
                rounds.added(subject, 0)
            };
            let (ratio, target) = if subject == 0 {
                (String::new(), "")
            } else {
                (format!("{:.2}", rounds.ratio(subject, 0)), targets)
            };
            table.row(*what, format!("{:.2} ms", millis / 1e6), ratio, target);
        }
        table.print();
    }
    Ok(())
}

/// Rebuilds one package without its dependencies, and returns the time in nanoseconds.
fn cargo(root: &Path, command: &str, package: &str) -> u64 {
    let source = root.join(package).join("src/main.rs");
    let touched =
        fs::File::open(&source).and_then(|file| file.set_modified(std::time::SystemTime::now()));
    assert!(touched.is_ok(), "{} cannot be touched", source.display());
    let start = clock::wall();
    let status = Command::new(env!("CARGO"))
        .args([command, "--quiet", "--package", package])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", root.join("target"))
        // Nothing changed, so incremental compilation would measure how fast that is detected.
        .env("CARGO_INCREMENTAL", "0")
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "`cargo {command}` failed"
    );
    clock::wall() - start
}

fn write_workspace() -> Outcome<PathBuf> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_cost");
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = PACKAGES
        .map(|(package, ..)| format!("{package:?}"))
        .join(", ");
    fs::create_dir_all(&root)?;
    fs::write(
        root.join("Cargo.toml"),
        format!("[workspace]\nmembers = [{names}]\nresolver = \"3\"\n"),
    )?;
    // The versions that the workspace uses.
    fs::copy(own.join("../Cargo.lock"), root.join("Cargo.lock"))?;
    for (package, _, attribute) in PACKAGES {
        fs::create_dir_all(root.join(package).join("src"))?;
        fs::write(
            root.join(package).join("Cargo.toml"),
            manifest(package, own),
        )?;
        fs::write(root.join(package).join("src/main.rs"), handlers(attribute))?;
    }
    Ok(root)
}

fn manifest(package: &str, own: &Path) -> String {
    format!(
        r#"[package]
name = "{package}"
version = "0.0.0"
edition = "2024"

[dependencies]
actix-web = {{ version = "4.18", default-features = false, features = ["macros"] }}
apikey-runtime = {{ path = {own:?}, default-features = false }}
"#
    )
}

/// Returns a program of [`HANDLERS`] handlers, each with two extractors and a fallible response.
fn handlers(attribute: &str) -> String {
    let mut text = String::from("use actix_web::{Responder, Result, get, web};\n");
    let mut services = String::new();
    for n in 0..HANDLERS {
        let attribute = attribute.replace("{n}", &n.to_string());
        // Writing to a `String` cannot fail.
        let _ = write!(
            text,
            r#"
#[get("/orders{n}/{{id}}")]
{attribute}
async fn orders{n}(id: web::Path<u32>, body: web::Bytes) -> Result<impl Responder> {{
    Ok(format!("{{id}} {{}}", body.len()))
}}
"#
        );
        let _ = writeln!(services, "    app.service(orders{n});");
    }
    let _ = write!(
        text,
        r#"
fn routes(app: &mut web::ServiceConfig) {{
{services}}}

fn main() {{
    let _ = actix_web::App::new().configure(routes);
}}
"#
    );
    text
}
