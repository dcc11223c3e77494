//! The compile time that the attribute adds: crates of 500 handlers, with and without it, and with what
//! the features `routes` and `openapi` add.
//!
//! `cargo bench` skips this bench, because it takes minutes; `cargo bench -p apikey-runtime --bench
//! compile_cost` runs it. The crates are written below the target folder, so their dependencies
//! stay built.

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::measure::{Work, in_turns};
use support::table::Table;
use support::{Outcome, clock};

const HANDLERS: usize = 500;

const ROUNDS: usize = 5;

/// A crate of handlers.
struct Package {
    name: &'static str,
    what: &'static str,
    /// Features of the runtime.
    features: &'static str,
    /// The attributes of each handler; `{n}` is its number.
    attributes: &'static str,
}

/// Packages whose first is compared with the others.
struct Comparison {
    title: &'static str,
    command: &'static str,
    /// The clock that measures: the elapsed time, or the processor's.
    clock: fn() -> u64,
    target: &'static str,
    packages: &'static [Package],
}

const ATTRIBUTE: [Package; 3] = [
    Package {
        name: "open",
        what: "no attribute",
        features: "",
        attributes: "#[get(\"/orders{n}/{id}\")]",
    },
    Package {
        name: "plain",
        what: "#[api_key_required]",
        features: "",
        attributes: "#[get(\"/orders{n}/{id}\")]\n#[apikey_runtime::api_key_required]",
    },
    Package {
        name: "scoped",
        what: "... with a scope of its own",
        features: "",
        attributes: "#[get(\"/orders{n}/{id}\")]
#[apikey_runtime::api_key_required(scope = \"orders{n}:read\")]",
    },
];

const ROUTES: [Package; 2] = [
    Package {
        name: "scoped",
        what: "an attribute with a scope of its own",
        features: "",
        attributes: ATTRIBUTE[2].attributes,
    },
    Package {
        name: "listed",
        what: "... with the feature `routes`",
        features: "\"routes\"",
        attributes: ATTRIBUTE[2].attributes,
    },
];

const DOCUMENTED: [Package; 4] = [
    Package {
        name: "documented",
        what: "a documented handler, without the feature",
        features: "",
        attributes: BELOW,
    },
    Package {
        name: "by_hand",
        what: "... with `security` and a type of responses written by hand",
        features: "",
        attributes:
            "#[utoipa::path(get, path = \"/orders{n}/{id}\", params((\"id\" = u32, Path)), \
                     responses(crate::Denials, (status = 200, body = String)), \
                     security((\"api_key\" = [\"orders{n}:read\"])))]
#[get(\"/orders{n}/{id}\")]
#[apikey_runtime::api_key_required(scope = \"orders{n}:read\")]",
    },
    Package {
        name: "above",
        what: "with `openapi`, the guard above `#[utoipa::path]`",
        features: "\"openapi\"",
        attributes: "#[apikey_runtime::api_key_required(scope = \"orders{n}:read\")]
#[utoipa::path(get, path = \"/orders{n}/{id}\", params((\"id\" = u32, Path)), \
               responses((status = 200, body = String)))]
#[get(\"/orders{n}/{id}\")]",
    },
    Package {
        name: "below",
        what: "... below it",
        features: "\"openapi\"",
        attributes: BELOW,
    },
];

const BELOW: &str =
    "#[utoipa::path(get, path = \"/orders{n}/{id}\", params((\"id\" = u32, Path)), \
                     responses((status = 200, body = String)))]
#[get(\"/orders{n}/{id}\")]
#[apikey_runtime::api_key_required(scope = \"orders{n}:read\")]";

const COMPARISONS: [Comparison; 4] = [
    Comparison {
        title: "cargo check of 500 handlers, per handler, added to one without the attribute",
        command: "check",
        clock: clock::wall,
        target: "0.50",
        packages: &ATTRIBUTE,
    },
    Comparison {
        title: "cargo build of 500 handlers, per handler, added to one without the attribute",
        command: "build",
        clock: clock::wall,
        target: "6.00",
        packages: &ATTRIBUTE,
    },
    Comparison {
        title: "cargo check with the feature `routes`, processor time per handler",
        command: "check",
        clock: clock::children,
        target: "",
        packages: &ROUTES,
    },
    Comparison {
        title: "cargo check with the feature `openapi`, processor time per handler",
        command: "check",
        clock: clock::children,
        target: "0.30",
        packages: &DOCUMENTED,
    },
];

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let root = write_workspace()?;
    for comparison in &COMPARISONS {
        compare(&root, comparison);
    }
    Ok(())
}

fn compare(root: &Path, comparison: &Comparison) {
    let packages = comparison.packages;
    // Builds the dependencies first.
    for package in packages {
        cargo(root, comparison, package);
    }
    let mut subjects: Vec<Work<'_>> = Vec::new();
    for package in packages {
        subjects.push(Box::new(move |_| cargo(root, comparison, package)));
    }
    let rounds = in_turns(ROUNDS, HANDLERS, &mut subjects);
    let mut table = Table::new(comparison.title);
    for (subject, package) in packages.iter().enumerate() {
        let millis = if subject == 0 {
            rounds.median(0)
        } else {
            rounds.added(subject, 0)
        };
        let (ratio, target) = if subject == 0 {
            (String::new(), "")
        } else {
            (
                format!("{:.2}", rounds.ratio(subject, 0)),
                comparison.target,
            )
        };
        table.row(
            package.what,
            format!("{:.2} ms", millis / 1e6),
            ratio,
            target,
        );
    }
    table.print();
}

/// Rebuilds one package without its dependencies, and returns the time in nanoseconds.
fn cargo(root: &Path, comparison: &Comparison, package: &Package) -> u64 {
    let (command, clock) = (comparison.command, comparison.clock);
    let source = root.join(package.name).join("src/main.rs");
    let touched =
        fs::File::open(&source).and_then(|file| file.set_modified(std::time::SystemTime::now()));
    assert!(touched.is_ok(), "{} cannot be touched", source.display());
    let start = clock();
    let status = Command::new(env!("CARGO"))
        .args([command, "--quiet", "--package", package.name])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", root.join("target"))
        // Nothing changed, so incremental compilation would measure how fast that is detected.
        .env("CARGO_INCREMENTAL", "0")
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "`cargo {command}` failed"
    );
    clock() - start
}

fn write_workspace() -> Outcome<PathBuf> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_cost");
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = COMPARISONS
        .iter()
        .flat_map(|comparison| comparison.packages);
    let names: BTreeSet<_> = packages.clone().map(|package| package.name).collect();
    let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    let names = names.join(", ");
    fs::create_dir_all(&root)?;
    fs::write(
        root.join("Cargo.toml"),
        format!("[workspace]\nmembers = [{names}]\nresolver = \"3\"\n"),
    )?;
    // The versions that the workspace uses.
    fs::copy(own.join("../Cargo.lock"), root.join("Cargo.lock"))?;
    for package in packages {
        fs::create_dir_all(root.join(package.name).join("src"))?;
        let files = [
            ("Cargo.toml", manifest(package, own)),
            ("src/main.rs", handlers(package)),
        ];
        for (file, text) in files {
            fs::write(root.join(package.name).join(file), text)?;
        }
    }
    Ok(root)
}

fn manifest(package: &Package, own: &Path) -> String {
    let Package { name, features, .. } = package;
    let utoipa = if package.is_documented() {
        "utoipa = { version = \"6\", features = [\"actix_extras\"] }"
    } else {
        ""
    };
    format!(
        r#"[package]
name = "{name}"
version = "0.0.0"
edition = "2024"

[dependencies]
actix-web = {{ version = "4.18", default-features = false, features = ["macros"] }}
apikey-runtime = {{ path = {own:?}, default-features = false, features = [{features}] }}
{utoipa}
"#
    )
}

impl Package {
    fn is_documented(&self) -> bool {
        self.attributes.contains("utoipa")
    }
}

/// A type of responses that a user would write.
const DENIALS: &str = r#"
use std::collections::BTreeMap;
use utoipa::openapi::{RefOr, Response};

pub struct Denials;

impl utoipa::IntoResponses for Denials {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        BTreeMap::new()
    }
}
"#;

/// Returns a program of [`HANDLERS`] handlers, each with two extractors and a fallible response.
fn handlers(package: &Package) -> String {
    let mut text = String::from("use actix_web::{Responder, Result, get, web};\n");
    if package.is_documented() {
        text.push_str(DENIALS);
    }
    let mut services = String::new();
    for n in 0..HANDLERS {
        let attributes = package.attributes.replace("{n}", &n.to_string());
        // Writing to a `String` cannot fail.
        let _ = write!(
            text,
            r#"
{attributes}
async fn orders{n}(id: web::Path<u32>, body: String) -> Result<impl Responder> {{
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
