//! A type name occurs once in a crate.

use std::collections::BTreeMap;

use crate::source::{SourceFile, files};

/// Returns the names of the types of a file's modules. Associated types are indented, and do not
/// count.
fn type_names(file: &SourceFile) -> impl Iterator<Item = String> {
    file.code().filter_map(|line| {
        let line = match line.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
            Some(rest) => rest.trim_start(),
            None => line,
        };
        let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
        let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
        let is_name = |letter: &char| letter.is_alphanumeric() || *letter == '_';
        Some(rest.chars().take_while(is_name).collect())
    })
}

fn repeated(files: &[SourceFile]) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for file in files {
        for name in type_names(file) {
            places.entry(name).or_default().push(&file.path);
        }
    }
    let repeated = places.iter().filter(|(_, places)| places.len() > 1);
    repeated
        .map(|(name, places)| format!("{name} in {}", places.join(", ")))
        .collect()
}

#[test]
fn a_type_name_stands_once_in_a_crate() {
    for krate in [
        "apikey-cli",
        "apikey-macros",
        "apikey-portal",
        "apikey-runtime",
    ] {
        assert_eq!(repeated(&files(krate)), [""; 0], "{krate}");
    }
}

/// Negative control.
#[test]
fn a_repeated_name_is_found() {
    let file = |path: &str, text: &str| SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let files = [
        file(
            "a.rs",
            "pub(crate) struct Twice {\n    type Own = u8;\nenum Once {",
        ),
        file("b.rs", "type Twice<T> = Vec<T>;\n    type Own = u8;"),
    ];
    assert_eq!(repeated(&files), ["Twice in a.rs, b.rs"]);
}
