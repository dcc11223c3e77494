//! The source files of a crate, without their unit tests.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of a crate's `src`.
pub struct SourceFile {
    /// The path below `src`, with `/`.
    pub path: String,
    /// The text up to the unit tests.
    pub text: String,
}

impl SourceFile {
    /// Returns the first component of the path, without `.rs`.
    pub fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.trim_end_matches(".rs")
    }

    /// Returns the lines that are not comments.
    pub fn code(&self) -> impl Iterator<Item = &str> {
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        self.text.lines().filter(is_code)
    }

    /// Returns the text of the comments, without examples.
    pub fn comments(&self) -> String {
        let mut in_example = false;
        let mut comments = String::new();
        for line in self.text.lines().map(str::trim_start) {
            let Some(comment) = line.strip_prefix("//") else {
                continue;
            };
            let comment = comment.trim_start_matches(['/', '!']).trim();
            if comment.starts_with("```") {
                in_example = !in_example;
            } else if !in_example {
                comments.push_str(comment);
                comments.push('\n');
            }
        }
        comments
    }
}

/// Returns the path of a file or folder of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Reads the source files of the crate in this folder of the repository.
pub fn files(krate: &str) -> Vec<SourceFile> {
    let root = repository(krate).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(&root).unwrap().to_str().unwrap();
            let relative = relative.replace('\\', "/");
            let is_test = relative.split('/').any(|part| part.starts_with("tests"))
                || relative.ends_with("_tests.rs");
            if is_test {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if relative.ends_with(".rs") {
                let text = fs::read_to_string(path).unwrap();
                files.push(SourceFile {
                    path: relative,
                    text: without_tests(&text),
                });
            }
        }
    }
    assert!(files.len() > 10, "no source was found in {krate}");
    files
}

/// Cuts off the unit tests, which are the last item of a file.
fn without_tests(text: &str) -> String {
    let tests = ["\n#[cfg(test)]\nmod ", "\n#[cfg(all(test,"];
    let end = tests.iter().filter_map(|tests| text.find(tests)).min();
    text[..end.unwrap_or(text.len())].to_owned()
}

#[test]
fn unit_tests_and_examples_are_not_read() {
    let file = SourceFile {
        path: "a/b.rs".to_owned(),
        text: without_tests(
            "//! One.\n//! ```\n//! example\n//! ```\nfn f() {} // no\n#[cfg(test)]\nmod tests {}\n",
        ),
    };
    assert_eq!(file.module(), "a");
    assert_eq!(file.comments(), "One.\n");
    assert_eq!(file.code().collect::<Vec<_>>(), ["fn f() {} // no"]);
}
