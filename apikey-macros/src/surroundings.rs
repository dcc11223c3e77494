//! What stands around the annotated function in its source file.
//!
//! A macro receives the function and the attributes below its own. A routing attribute above it has
//! already run, and an `impl` around it is not shown at all. Both are read from the file, so that
//! mistakes there get one message. If the file cannot be read (an editor's buffer, a doc test),
//! these mistakes are found later: by rustc, or by the first request.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::SystemTime,
};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::{Attribute, parse::Parser};

/// Marks each attribute in a copy of its file, followed by its number.
const MARK: &str = "__apikey_mark_";

thread_local! {
    static FILES: RefCell<Files> = RefCell::default();
}

/// What stands around a function.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// The attributes above the macro's own.
    pub(crate) above: Vec<Attribute>,
    /// The attributes `#[scope("..")]` of the modules around it.
    pub(crate) scopes: Vec<Attribute>,
    /// Whether the function stands in an `impl` or a `trait`.
    pub(crate) in_impl: bool,
}

impl Surroundings {
    /// Reads the file of the attribute at `span`. Empty if it cannot be read.
    pub(crate) fn of(span: proc_macro::Span) -> Self {
        Self::read(span).unwrap_or_default()
    }

    fn read(span: proc_macro::Span) -> Option<Self> {
        let attribute = span.source_text()?;
        let path = span.local_file()?;
        FILES.with_borrow_mut(|files| {
            let file = files.get(&path)?;
            file.find((span.line(), span.column()), &attribute)
        })
    }
}

/// The files that were read. Each is parsed once, and not for each of its handlers.
#[derive(Default)]
struct Files {
    known: HashMap<PathBuf, SourceFile>,
    #[cfg(test)]
    parses: usize,
}

impl Files {
    /// Returns a file, which is read if it is not known or has changed.
    fn get(&mut self, path: &Path) -> Option<&SourceFile> {
        let metadata = fs::metadata(path).ok()?;
        let version = (metadata.len(), metadata.modified().ok());
        let is_current = |file: &SourceFile| file.version == version;
        if !self.known.get(path).is_some_and(is_current) {
            let file = SourceFile::parse(version, fs::read_to_string(path).ok()?);
            self.known.insert(path.to_owned(), file);
            #[cfg(test)]
            {
                self.parses += 1;
            }
        }
        self.known.get(path)
    }
}

/// A line and a column, both counted from 1, the column in characters.
type Position = (usize, usize);

/// A file as plain data, since tokens do not outlive the run of a macro.
struct SourceFile {
    /// The length in bytes, and the time of the last change.
    version: (u64, Option<SystemTime>),
    text: String,
    /// The attributes of the file. Empty if it cannot be parsed.
    places: HashMap<Position, Place>,
}

/// The place of an attribute.
struct Place {
    /// The byte of its `#`.
    at: usize,
    /// The attributes above it.
    above: String,
    /// The attributes `#[scope("..")]` of the modules around it.
    scopes: Rc<str>,
    in_impl: bool,
}

impl SourceFile {
    fn parse(version: (u64, Option<SystemTime>), text: String) -> Self {
        let (copy, marked) = mark(&text);
        let mut search = Search {
            marked,
            places: HashMap::new(),
        };
        if let Ok(file) = copy.parse() {
            search.group(file, &Around::default());
        }
        Self {
            version,
            text,
            places: search.places,
        }
    }

    /// Finds the surroundings of the attribute at a position.
    fn find(&self, position: Position, attribute: &str) -> Option<Surroundings> {
        let place = self.places.get(&position)?;
        // The file on disk may be newer than the one that is compiled.
        self.text
            .get(place.at..)?
            .starts_with(attribute)
            .then(|| Surroundings {
                above: attributes(&place.above),
                scopes: attributes(&place.scopes),
                in_impl: place.in_impl,
            })
    }
}

fn attributes(text: &str) -> Vec<Attribute> {
    Attribute::parse_outer.parse_str(text).unwrap_or_default()
}

/// Returns a copy of a file with a numbered mark in each `#[..]`, and the positions and bytes of
/// each `#`.
///
/// A mark in a comment is not a token, and [`without_marks`] removes those in strings.
fn mark(file: &str) -> (String, Vec<(Position, usize)>) {
    let (mut copy, mut marked) = (String::with_capacity(file.len()), Vec::new());
    let (mut line, mut column, mut hash) = (1, 1, None);
    for (at, letter) in file.char_indices() {
        copy.push(letter);
        match letter {
            '#' => hash = Some(((line, column), at)),
            '[' => {
                if let Some(hash) = hash.take() {
                    copy.push_str(&format!("{MARK}{} ", marked.len()));
                    marked.push(hash);
                }
            }
            _ if letter.is_whitespace() => {}
            _ => hash = None,
        }
        (line, column) = match letter {
            '\n' => (line + 1, 1),
            _ => (line, column + 1),
        };
    }
    (copy, marked)
}

fn without_marks(text: &str) -> String {
    let mut parts = text.split(MARK);
    let before = parts.next().unwrap_or_default().to_owned();
    parts.fold(before, |text, part| {
        let part = part.trim_start_matches(|letter: char| letter.is_ascii_digit());
        text + part.strip_prefix(' ').unwrap_or(part)
    })
}

/// A search for the marks of a file.
struct Search {
    marked: Vec<(Position, usize)>,
    places: HashMap<Position, Place>,
}

impl Search {
    fn group(&mut self, group: TokenStream, around: &Around) {
        let mut before = Vec::new();
        for token in group {
            if let TokenTree::Group(inner) = &token {
                match number(inner).and_then(|number| self.marked.get(number)) {
                    Some(&(position, at)) => {
                        let place = Place {
                            at,
                            // Without the `#` of the mark.
                            above: attributes_at_end(&before[..before.len().saturating_sub(1)]),
                            scopes: around.scopes.clone(),
                            in_impl: around.in_impl,
                        };
                        self.places.insert(position, place);
                    }
                    None => self.group(inner.stream(), &around.inside(&before, inner)),
                }
            }
            before.push(token);
        }
    }
}

/// Returns the number of the mark at the start of an attribute.
fn number(group: &Group) -> Option<usize> {
    if group.delimiter() != Delimiter::Bracket {
        return None;
    }
    let first = group.stream().into_iter().next()?.to_string();
    first.strip_prefix(MARK)?.parse().ok()
}

/// What stands around a group of tokens.
#[derive(Default)]
struct Around {
    scopes: Rc<str>,
    in_impl: bool,
    /// Whether the group is in the tokens of a macro, which may put them elsewhere.
    in_macro: bool,
}

impl Around {
    /// Returns what stands around a group inside this one, after the tokens `before`.
    fn inside(&self, before: &[TokenTree], group: &Group) -> Self {
        let in_macro = self.in_macro || is_macro(before);
        // Not for lists, which can have many groups without the end of an item.
        let item = match group.delimiter() {
            Delimiter::Brace => last_item(before),
            _ => &[],
        };
        let word = first_word(item);
        let scopes = match word.as_deref() {
            Some("mod") => format!("{}{}", self.scopes, scopes_of(item)).into(),
            _ => self.scopes.clone(),
        };
        Self {
            scopes,
            in_impl: !in_macro && matches!(word.as_deref(), Some("impl" | "trait")),
            in_macro,
        }
    }
}

/// Returns whether tokens end with the start of a macro: `name!`, or `macro_rules! name`.
fn is_macro(before: &[TokenTree]) -> bool {
    let is_bang =
        |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == '!');
    match before {
        [.., TokenTree::Ident(_), bang] if is_bang(bang) => true,
        [.., TokenTree::Ident(_), bang, TokenTree::Ident(_)] => is_bang(bang),
        _ => false,
    }
}

/// Returns the attributes directly before a mark, without their marks.
fn attributes_at_end(before: &[TokenTree]) -> String {
    let mut start = before.len();
    while start >= 2 && is_attribute(&before[start - 2..start]) {
        start -= 2;
    }
    text(&before[start..])
}

fn is_attribute(pair: &[TokenTree]) -> bool {
    match pair {
        [TokenTree::Punct(hash), TokenTree::Group(group)] => {
            hash.as_char() == '#' && group.delimiter() == Delimiter::Bracket
        }
        _ => false,
    }
}

/// Returns the attributes of a module whose path contains `scope`.
fn scopes_of(item: &[TokenTree]) -> String {
    let is_scope = |pair: &&[TokenTree]| match pair {
        [_, TokenTree::Group(group)] if is_attribute(pair) => {
            let mut tokens = group.stream().into_iter();
            tokens.any(|token| matches!(token, TokenTree::Ident(word) if word == "scope"))
        }
        _ => false,
    };
    item.windows(2).filter(is_scope).map(text).collect()
}

fn text(tokens: &[TokenTree]) -> String {
    let tokens: TokenStream = tokens.iter().cloned().collect();
    without_marks(&tokens.to_string())
}

/// Returns the tokens of the item that `before` ends with, up to its brace.
fn last_item(before: &[TokenTree]) -> &[TokenTree] {
    let ends_item = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let start = before.iter().rposition(ends_item).map_or(0, |end| end + 1);
    &before[start..]
}

/// Returns the word that says which kind an item has.
fn first_word(item: &[TokenTree]) -> Option<String> {
    let words = item.iter().filter_map(|token| match token {
        TokenTree::Ident(word) => Some(word.to_string()),
        _ => None,
    });
    let mut words = words.skip_while(|word| ["pub", "unsafe", "auto"].contains(&word.as_str()));
    words.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> SourceFile {
        SourceFile::parse((0, None), text.to_owned())
    }

    /// Returns the surroundings of `#[here]`.
    fn surroundings(file: &str) -> Surroundings {
        let before = &file[..file.find("#[here]").unwrap()];
        let line = before.split('\n').count();
        let column = before.split('\n').next_back().unwrap().chars().count() + 1;
        parse(file).find((line, column), "#[here]").unwrap()
    }

    /// Returns the paths of the attributes above `#[here]`, and whether an `impl` is around it.
    fn found(file: &str) -> (Vec<String>, bool) {
        let found = surroundings(file);
        let above = found.above.iter();
        let above = above.map(|one| one.path().segments[0].ident.to_string());
        (above.collect(), found.in_impl)
    }

    #[test]
    fn attributes_above_are_found_and_those_of_other_items_are_not() {
        let file = r##"
            #![allow(unused)]
            #[post("/other")] async fn other() {}
            /// Docs: #[put("/docs")]
            // #[put("/comment")]
            #[routes]
            #[get("/{a:[0-9]{2}}")] #[get(r#"/"]"#)]
            #[here]
            #[head("/below")]
            async fn list() {}
        "##;
        let (above, in_impl) = found(file);
        assert_eq!(above, ["doc", "routes", "get", "get"]);
        assert!(!in_impl);
    }

    #[test]
    fn only_the_nearest_item_around_it_counts() {
        for (file, expected) in [
            ("#[here] fn f() {}", false),
            ("impl A { #[here] fn f() {} }", true),
            (
                "#[x] pub unsafe trait A { const X: u8; #[here] fn f() {} }",
                true,
            ),
            (
                "struct S; impl<T> A<T> for S where T: X { fn g() {} #[get] #[here] fn f() {} }",
                true,
            ),
            ("impl A { fn g() { #[here] fn f() {} } }", false),
            ("fn g() -> impl A { #[here] fn f() {} }", false),
            ("impl A {} mod m { #[here] fn f() {} }", false),
            ("pub(crate) mod m { impl A { #[here] fn f() {} } }", true),
            ("impl A { m!(); #[here] fn f() {} }", true),
            // A macro may put the function elsewhere.
            ("m! { impl A { #[here] fn f() {} } }", false),
            ("a::m!(mod b { impl A { #[here] fn f() {} } });", false),
            (
                "macro_rules! m { () => { impl A { #[here] fn f() {} } } }",
                false,
            ),
            ("m! { #[here] fn f() {} }", false),
        ] {
            assert_eq!(found(file).1, expected, "{file}");
        }
    }

    #[test]
    fn a_position_in_a_file() {
        let file = "ä\r\n\u{2003}#[x]\n# [y] struct S;";
        let parsed = parse(file);
        let found = |line, column, text| parsed.find((line, column), text).is_some();
        assert!(found(2, 2, "#[x]"));
        assert!(found(3, 1, "# [y]"));
        // The text of another version of the file.
        assert!(!found(2, 2, "#[z]"));
        for outside in [(0, 1), (1, 0), (1, 1), (2, 1), (2, 99), (9, 1)] {
            assert!(!found(outside.0, outside.1, "#[x]"), "{outside:?}");
        }
        // A file that cannot be parsed.
        assert!(parse("#[x] (").places.is_empty());
    }

    #[test]
    fn texts_of_attributes_are_as_written() {
        let file = r##"#[get("/#[{a}#[")] #[get(r#"b"#)] /* #[c] */ #[d([e])] #[here] fn f() {}"##;
        let above = surroundings(file).above;
        let written = quote::quote!(#(#above)*).to_string();
        let expected: TokenStream = r##"#[get("/#[{a}#[")] #[get(r#"b"#)] #[d([e])]"##
            .parse()
            .unwrap();
        assert_eq!(written, expected.to_string());
    }

    #[test]
    fn scopes_of_the_modules_around_it() {
        for (file, expected) in [
            ("#[here] fn f() {}", 0),
            ("#[scope(\"/a\")] mod m { #[here] fn f() {} }", 1),
            (
                "#[x] #[actix_web::scope(\"/a\")] #[y] pub(crate) mod m { #[scope(\"/b\")] mod n { \
                 fn g() {} #[here] fn f() {} } }",
                2,
            ),
            (
                "#[scope(\"/a\")] mod m { fn g() {} } mod n { #[here] fn f() {} }",
                0,
            ),
            ("#[scope(\"/a\")] mod m; mod n { #[here] fn f() {} }", 0),
        ] {
            assert_eq!(surroundings(file).scopes.len(), expected, "{file}");
        }
    }

    #[test]
    fn a_file_is_parsed_once_for_all_its_handlers() {
        let path = std::env::temp_dir().join(format!("apikey-macros-{}.rs", std::process::id()));
        let handlers = |count| "#[get(\"/\")]\n#[here]\nfn f() {}\n".repeat(count);
        let mut files = Files::default();
        for (parses, count) in [(1, 500), (2, 3)] {
            fs::write(&path, handlers(count)).unwrap();
            for handler in 0..count {
                let file = files.get(&path).unwrap();
                let found = file.find((3 * handler + 2, 1), "#[here]").unwrap();
                assert_eq!(found.above.len(), 1);
            }
            assert_eq!(files.parses, parses);
        }
        fs::remove_file(&path).unwrap();
        assert!(files.get(&path).is_none());
    }
}
