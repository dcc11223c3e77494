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
    /// The attributes `#[scope("..")]` of the module around it.
    pub(crate) scopes: Vec<Attribute>,
    /// Whether the function stands in an `impl` or a `trait`.
    pub(crate) in_impl: bool,
    /// Whether the attribute was imported under another name: a guard above cannot tell that it is one.
    pub(crate) is_renamed: bool,
    /// Whether these are all of them: the file was read, and the function does not come from a macro.
    pub(crate) is_complete: bool,
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
    /// The attributes `#[scope("..")]` of the module around it.
    scopes: Rc<str>,
    in_impl: bool,
    in_macro: bool,
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
                is_renamed: is_renamed(attribute),
                is_complete: !place.in_macro,
            })
    }
}

fn is_renamed(attribute: &str) -> bool {
    let is_guard = |attribute: &Attribute| crate::attributes::is_guard(attribute.path());
    attributes(attribute)
        .first()
        .is_some_and(|own| !is_guard(own))
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
                            in_macro: around.in_macro,
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
        // `#[scope]` changes the functions directly in its module.
        let scopes = match word.as_deref() {
            Some("mod") => scopes_of(item),
            _ => String::new(),
        };
        Self {
            scopes: scopes.into(),
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
mod tests;
