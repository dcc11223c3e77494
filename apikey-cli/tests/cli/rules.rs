//! `scan --rules`: what is written, and whether it finds keys.

use std::fs;
use std::path::Path;

use apikey_runtime::{ApiKeyManager, Config, MemoryStore};
use apikey_test_support::programs;
use apikey_test_support::skip::Requirement;

use crate::on_terminal::PYTHON;
use crate::program::Program;

const RIPGREP: Requirement = Requirement {
    program: "rg",
    remedy: "on Debian, `apt-get install ripgrep`",
};

const FORMATS: [&str; 5] = [
    "gitleaks",
    "trufflehog",
    "detect-secrets",
    "github",
    "regex",
];

/// Writes the rules of each format into a folder.
fn write_rules(program: &Program, config: &str, options: &[&str]) -> String {
    fs::write(program.path("server.json"), config).unwrap();
    let folder = program.path("rules");
    fs::create_dir_all(&folder).unwrap();
    for format in FORMATS {
        let arguments = [
            &["scan", "--config", "server.json", "--rules", format],
            options,
        ]
        .concat();
        fs::write(folder.join(format), program.run(&arguments).ok()).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

/// Generates keys under these settings.
async fn generate(count: usize, config: &str, prefixes: &[&str]) -> Vec<String> {
    let config: Config = serde_json::from_str(config).unwrap();
    let manager = ApiKeyManager::builder()
        .config(config)
        .store(MemoryStore::new())
        .start()
        .await
        .unwrap();
    let mut keys = Vec::new();
    for prefix in prefixes.iter().cycle().take(count) {
        let key = manager.create("generated").prefix(*prefix).await.unwrap();
        keys.push(key.expose_secret().to_owned());
    }
    keys
}

fn check_script() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/rules/check.py")
}

/// Returns what the rules of a folder miss.
async fn missed(test: &str, rules: &str, keys: &Path) -> Option<String> {
    let arguments = [check_script(), rules, "keys", keys.to_str().unwrap()];
    programs::run(test, &PYTHON, &arguments).await
}

#[test]
fn the_rules_of_the_default_prefix_are_those_that_were_tried_with_the_scanners() {
    let program = Program::sqlite();
    for (format, expected) in [
        ("gitleaks", include_str!("rules/gitleaks.toml")),
        ("trufflehog", include_str!("rules/trufflehog.yaml")),
        (
            "detect-secrets",
            include_str!("rules/apikey_detect_secrets.py"),
        ),
    ] {
        assert_eq!(
            program.run(&["scan", "--rules", format]).ok(),
            expected,
            "{format}"
        );
    }
    let expression = "my_api_[0-7][0-9A-Za-z]{21}_[0-9A-Za-z]{64}[0-4][0-9A-Za-z]{5}\n";
    assert_eq!(program.run(&["scan", "--rules", "regex"]).ok(), expression);
    let github = program.run(&["scan", "--rules", "github"]).ok();
    assert!(
        github.contains(expression) && github.contains("Before secret:            \\A|[^_]|_\n"),
        "{github}"
    );
    // The settings of the environment count too, and the store is not opened.
    let output = program
        .command(&["scan", "--rules", "regex"])
        .env("ACTIX_API_KEY_PREFIX", "acme")
        .output();
    let acme = String::from_utf8(output.unwrap().stdout).unwrap();
    assert_eq!(acme, expression.replace("my_api", "acme"));
    assert!(!program.path("keys.db").exists());
    program.run(&["scan"]).failed(2);
    program.run(&["scan", "--rules", "unknown"]).failed(2);
}

#[tokio::test]
async fn each_rule_finds_each_of_10_000_keys_wherever_it_stands() {
    let test = "each_rule_finds_each_of_10_000_keys_wherever_it_stands";
    let program = Program::sqlite();
    let rules = write_rules(&program, "{}", &[]);
    let keys = generate(10_000, "{}", &["my_api"]).await;
    fs::write(program.path("keys"), keys.join("\n")).unwrap();
    if let Some(found) = missed(test, &rules, &program.path("keys")).await {
        assert_eq!(found, "checked\n");
    }

    let line = |key: &String| format!("let x = \"first\\n{key}\"; // %22{key}%22 x{key}.\n");
    let text = program.path("text");
    fs::write(&text, keys.iter().map(line).collect::<String>()).unwrap();
    let expression = program.run(&["scan", "--rules", "regex"]).ok();
    let arguments = [
        "--only-matching",
        "--no-line-number",
        "--regexp",
        expression.trim(),
        text.to_str().unwrap(),
    ];
    if let Some(found) = programs::run(test, &RIPGREP, &arguments).await {
        let expected = keys.iter().flat_map(|key| [key.as_str(); 3]);
        assert!(
            found.lines().eq(expected),
            "{} lines",
            found.lines().count()
        );
    }
}

#[tokio::test]
async fn rules_follow_the_settings_of_keys() {
    for (config, prefixes, options) in [
        (
            r#"{"prefixes": ["acme", "a_2", "adm"], "secret_length": 43, "secret_charset": "ascii_50"}"#,
            &["acme", "a_2", "adm"][..],
            &["--earlier-secret-length", "64"][..],
        ),
        (r#"{"secret_length": 22}"#, &["my_api"], &[]),
        (
            r#"{"secret_charset": "hex", "secret_length": 32}"#,
            &["my_api"],
            &[],
        ),
        (
            r#"{"prefix": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "secret_charset": "01", "secret_length": 128}"#,
            &["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],
            &["--earlier-secret-length", "256"],
        ),
    ] {
        let program = Program::sqlite();
        let rules = write_rules(&program, config, options);
        let keys = generate(500, config, prefixes).await;
        fs::write(program.path("keys"), keys.join("\n")).unwrap();
        let Some(found) = missed(
            "rules_follow_the_settings_of_keys",
            &rules,
            &program.path("keys"),
        )
        .await
        else {
            return;
        };
        assert_eq!(found, "checked\n", "{config}");
    }
}

/// The negative control: a word boundary in front, GitHub's default, a checksum that is not compared, and an entropy that
/// keys do not have.
#[tokio::test]
async fn a_rule_that_misses_keys_is_found_out() {
    let program = Program::sqlite();
    let rules = write_rules(&program, "{}", &[]);
    let keys = &generate(1, "{}", &["my_api"]).await;
    fs::write(program.path("keys"), keys.join("\n")).unwrap();
    for (format, what, by, expected) in [
        ("regex", "my_api", r"\bmy_api", "regex: misses x%s"),
        (
            "gitleaks",
            "(my_api",
            r"(\bmy_api",
            "gitleaks: misses \"first\\n%s\"",
        ),
        (
            "github",
            r"\A|[^_]|_",
            r"\A|[^0-9A-Za-z]",
            "github: misses q=%%22%s%%22&x=1",
        ),
        ("trufflehog", "4.5", "6.5", "trufflehog: leaves out keys"),
        (
            "detect-secrets",
            "if checksum",
            "if True or checksum",
            "detect-secrets: reports a wrong checksum",
        ),
    ] {
        let path = Path::new(&rules).join(format);
        let right = fs::read_to_string(&path).unwrap();
        fs::write(&path, right.replace(what, by)).unwrap();
        let Some(found) = missed(
            "a_rule_that_misses_keys_is_found_out",
            &rules,
            &program.path("keys"),
        )
        .await
        else {
            return;
        };
        assert!(found.lines().any(|line| line == expected), "{found}");
        fs::write(&path, right).unwrap();
    }
}

#[tokio::test]
async fn the_source_of_this_project_has_no_key() {
    let test = "the_source_of_this_project_has_no_key";
    let program = Program::sqlite();
    let rules = write_rules(&program, "{}", &[]);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let check = async |tree: &Path| {
        let arguments = [check_script(), &rules, "tree", tree.to_str().unwrap()];
        programs::run(test, &PYTHON, &arguments).await
    };
    let Some(found) = check(source).await else {
        return;
    };
    assert_eq!(found, "checked\n");
    let expression = program.run(&["scan", "--rules", "regex"]).ok();
    let arguments = [
        "--hidden",
        "--glob",
        "!target",
        "--regexp",
        expression.trim(),
        source.to_str().unwrap(),
    ];
    if let Some(found) = programs::run(test, &RIPGREP, &arguments).await {
        assert_eq!(found, "");
    }
    // Negative control: a key in a tree is found.
    fs::create_dir(program.path("tree")).unwrap();
    let key = &generate(1, "{}", &["my_api"]).await[0];
    fs::write(
        program.path("tree/main.rs"),
        format!("\nconst KEY: &str = \"{key}\";\n"),
    )
    .unwrap();
    let found = check(&program.path("tree")).await.unwrap_or_default();
    assert!(found.contains("main.rs:2: a key\n"), "{found}");
}
