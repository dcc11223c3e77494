//! The floors of `apikey-runtime`: a file uses floors below its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::source::{SourceFile, files, repository};

/// Reads the table of CONTRIBUTING: the floor of each module.
fn floors(contributing: &str) -> BTreeMap<String, usize> {
    let mut floors = BTreeMap::new();
    for row in contributing.lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, number, modules, ..] = cells[..] else {
            continue;
        };
        let Ok(floor) = number.parse() else { continue };
        for name in modules.split('`').skip(1).step_by(2) {
            let module = name.trim_end_matches('/').trim_end_matches(".rs");
            let before = floors.insert(module.to_owned(), floor);
            assert_eq!(before, None, "`{module}` is on two floors");
        }
    }
    floors
}

/// Returns the modules that a file names after `crate::`, in `use crate::{..}` too.
fn used_modules(file: &SourceFile) -> BTreeSet<String> {
    let mut used = names_after("crate::", file);
    used.retain(|module| module != file.module());
    used
}

/// Returns the first names of the paths that begin with `start`.
fn names_after(start: &str, file: &SourceFile) -> BTreeSet<String> {
    let code: String = file.code().flat_map(|line| [line, " "]).collect();
    let paths = code.split(start).skip(1);
    let names = paths.flat_map(|rest| match rest.strip_prefix('{') {
        Some(list) => first_names(list),
        None => vec![name(rest)],
    });
    names.filter(|name| !name.is_empty()).collect()
}

/// Returns the first name of each path in a list up to its closing brace.
fn first_names(list: &str) -> Vec<String> {
    let (mut names, mut depth, mut begins) = (Vec::new(), 0, true);
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if letter.is_whitespace() => {}
            _ if begins => {
                names.push(name(&list[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn name(text: &str) -> String {
    let is_name = |letter: &char| letter.is_alphanumeric() || *letter == '_';
    text.chars().take_while(is_name).collect()
}

/// Returns the uses that do not point to a lower floor, as text.
fn wrong_arrows(files: &[SourceFile], floors: &BTreeMap<String, usize>) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files {
        let own = floors.get(file.module());
        for used in used_modules(file) {
            let floor = floors.get(&used);
            if own.is_none() || floor.is_none() || floor >= own {
                wrong.push(format!("{} uses `{used}`: {own:?} to {floor:?}", file.path));
            }
        }
    }
    wrong
}

#[test]
fn no_file_uses_its_own_floor_or_one_above() {
    let table = fs::read_to_string(repository("CONTRIBUTING.md")).unwrap();
    let (floors, files) = (floors(&table), files("apikey-runtime"));
    assert_eq!(wrong_arrows(&files, &floors), [""; 0]);
    let modules: BTreeSet<&str> = files.iter().map(SourceFile::module).collect();
    let listed: BTreeSet<&str> = floors.keys().map(String::as_str).collect();
    assert_eq!(modules, listed, "the table lists what `src` has");
}

/// Negative control.
#[test]
fn an_arrow_up_is_found() {
    let floors = floors("| 1 | `upper/`, `side.rs` |\n| 0 | `lower.rs` |\n| floor | `x` |");
    let file = |path: &str, text: &str| SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let sound = [file(
        "upper/mod.rs",
        "use crate::lower::A;\nuse crate::upper::B;",
    )];
    assert_eq!(wrong_arrows(&sound, &floors), [""; 0]);
    for text in [
        "use crate::upper::A;",
        "f(crate::side::g())",
        "use crate::unknown::A;",
    ] {
        let arrows = wrong_arrows(&[file("lower.rs", text)], &floors);
        assert_eq!(arrows.len(), 1, "{text}");
    }
    let sideways = [file("side.rs", "use crate::upper::A;")];
    assert_eq!(wrong_arrows(&sideways, &floors).len(), 1);
}

/// Returns the files that use each other in a cycle, by their `super::` and `crate::` paths.
fn circles(files: &[SourceFile]) -> Vec<String> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in files {
        let siblings = names_after("super::", file);
        let siblings = siblings.iter().map(|name| folder_of(&file.path) + name);
        let modules = names_after("crate::", file).into_iter();
        for used in siblings.chain(modules) {
            let candidates = [format!("{used}.rs"), format!("{used}/mod.rs")];
            let used = candidates.iter().find_map(|path| paths.get(path.as_str()));
            let used = used.filter(|used| **used != file.path);
            uses.entry(&file.path).or_default().extend(used.copied());
        }
    }
    let mut found = Vec::new();
    for start in uses.keys() {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&str> = uses[start].iter().copied().collect();
        while let Some(file) = open.pop() {
            if seen.insert(file) {
                open.extend(uses.get(file).into_iter().flatten().copied());
            }
        }
        if seen.contains(start) {
            found.push((*start).to_owned());
        }
    }
    found
}

/// Returns the folder that `super::` means in this file, with a `/` at its end.
fn folder_of(path: &str) -> String {
    let parent = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let folder = match path.ends_with("/mod.rs") {
        true => parent.rsplit_once('/').map_or("", |(folder, _)| folder),
        false => parent,
    };
    match folder {
        "" => String::new(),
        folder => format!("{folder}/"),
    }
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    for krate in [
        "apikey-cli",
        "apikey-macros",
        "apikey-portal",
        "apikey-runtime",
    ] {
        assert_eq!(circles(&files(krate)), [""; 0], "{krate}");
    }
}

/// Negative control.
#[test]
fn a_circle_is_found() {
    let file = |path: &str, text: &str| SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let mut files = vec![
        file("m/a.rs", "use super::b::B;"),
        file("m/b.rs", "use super::c::C;"),
        file("m/c.rs", "use super::Other;"),
    ];
    assert_eq!(circles(&files), [""; 0]);
    files[2].text = "use super::a::A;".to_owned();
    assert_eq!(circles(&files), ["m/a.rs", "m/b.rs", "m/c.rs"]);
    let files = [
        file("a.rs", "use crate::{b::{A, B}, c::C};"),
        file("b.rs", "use crate::a::A;"),
        file("c.rs", ""),
    ];
    assert_eq!(circles(&files), ["a.rs", "b.rs"]);
}

/// One place finds and parses a credential in a request, one checks a key without a request, and no
/// other file asks the verifier.
#[test]
fn two_files_ask_the_verifier() {
    let asks = |file: &SourceFile| {
        let text: String = file.code().flat_map(|line| [line, "\n"]).collect();
        text.contains(".try_check(") || text.contains("verifier().check(&")
    };
    let files = files("apikey-runtime");
    let outside = files.iter().filter(|file| file.module() != "verify");
    let mut asking: Vec<_> = outside.filter(|file| asks(file)).collect();
    asking.sort_by(|one, other| one.path.cmp(&other.path));
    let paths: Vec<&str> = asking.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["actix/check.rs", "manager/verify.rs"]);
}
