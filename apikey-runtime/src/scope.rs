//! Scopes: what a key may do, named as in `orders:read`.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::util::text::quote;

/// The maximum length of a scope, in bytes.
pub(crate) const MAX_SCOPE_LEN: usize = 128;

/// The maximum number of scopes of a key.
pub(crate) const MAX_SCOPES: usize = 256;

/// Why a text is not a scope. Every place that reports it uses these messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScopeFault {
    Empty,
    TooLong,
    EmptySegment,
    Character,
    Template,
}

impl ScopeFault {
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Empty => "a scope is empty; write a name such as `orders:read`",
            Self::TooLong => "a scope is longer than 128 bytes; shorten it",
            Self::EmptySegment => {
                "a scope has an empty segment; write a name on each side of every `:`, as in `orders:read`"
            }
            Self::Character => {
                "a scope has an invalid character; write ASCII letters, digits, `.`, `_`, `-`, \
                 in segments separated by `:`"
            }
            Self::Template => {
                "a scope has a malformed template; a segment may be `{name}`, with a name of letters, digits and `_`"
            }
        }
    }
}

/// Checks the grammar of a scope: 1 to 128 bytes, and segments separated by `:`, each one or more
/// of `A-Z a-z 0-9 . _ -`.
///
/// Wildcards do not exist: `*` is not allowed, and a scope does not imply another. In the policy of
/// a route, a segment may be a template, `{name}`.
///
/// It is `const`, so that a policy is checked when the route is compiled. All bytes are in RFC
/// 6749's `scope-token`.
pub(crate) const fn check_scope(text: &str, templates: bool) -> Result<(), ScopeFault> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(ScopeFault::Empty);
    }
    if bytes.len() > MAX_SCOPE_LEN {
        return Err(ScopeFault::TooLong);
    }
    let mut at = 0;
    loop {
        let start = at;
        while at < bytes.len() && bytes[at] != b':' {
            at += 1;
        }
        if let Err(fault) = check_segment(bytes, start, at, templates) {
            return Err(fault);
        }
        if at == bytes.len() {
            return Ok(());
        }
        at += 1;
    }
}

/// Checks the bytes of `start..end`, which do not contain `:`.
const fn check_segment(
    bytes: &[u8],
    start: usize,
    end: usize,
    templates: bool,
) -> Result<(), ScopeFault> {
    if start == end {
        return Err(ScopeFault::EmptySegment);
    }
    if templates && bytes[start] == b'{' {
        return check_template(bytes, start, end);
    }
    let mut at = start;
    while at < end {
        if !matches!(bytes[at], b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-') {
            return Err(ScopeFault::Character);
        }
        at += 1;
    }
    Ok(())
}

const fn check_template(bytes: &[u8], start: usize, end: usize) -> Result<(), ScopeFault> {
    if end - start < 3 || bytes[end - 1] != b'}' || bytes[start + 1].is_ascii_digit() {
        return Err(ScopeFault::Template);
    }
    let mut at = start + 1;
    while at < end - 1 {
        if !bytes[at].is_ascii_alphanumeric() && bytes[at] != b'_' {
            return Err(ScopeFault::Template);
        }
        at += 1;
    }
    Ok(())
}

/// Returns whether `text` can fill one segment of a scope.
pub(crate) fn is_segment(text: &str) -> bool {
    !text.contains(':') && check_scope(text, false).is_ok()
}

/// The scopes of a key: sorted, without duplicates.
///
/// ```
/// use apikey_runtime::Scopes;
///
/// let scopes = Scopes::new(["orders:write", "orders:read"])?;
/// assert!(scopes.contains("orders:read"));
/// assert!(!scopes.contains("orders"), "a scope implies no other");
/// assert_eq!(scopes.to_string(), "orders:read orders:write");
/// # Ok::<(), apikey_runtime::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Scopes(
    /// One text, separated by spaces as in RFC 6749 section 3.3: a single allocation for any number
    /// of scopes.
    Box<str>,
);

impl Scopes {
    /// Creates an empty set.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Creates a set of scopes; duplicates are removed.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if a scope does not have the form `segment(:segment)*`, with
    /// segments of ASCII letters, digits, `.`, `_` and `-` and at most 128 bytes, or if there are
    /// more than 256.
    pub fn new<I>(scopes: I) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut names = Vec::new();
        for scope in scopes {
            let scope = scope.as_ref();
            check_scope(scope, false).map_err(|fault| {
                let message = fault.message();
                Error::InvalidArgument(format!("{message}; the scope is {}", quote(scope)))
            })?;
            names.push(scope.to_owned());
        }
        names.sort_unstable();
        names.dedup();
        if names.len() > MAX_SCOPES {
            return Err(Error::InvalidArgument(format!(
                "the key has {} scopes; write at most {MAX_SCOPES}, and group some under one name",
                names.len()
            )));
        }
        Ok(Self(names.join(" ").into()))
    }

    /// Parses the output of `to_string`: scopes separated by single spaces.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Scopes::new`].
    pub fn from_text(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            Ok(Self::none())
        } else {
            Self::new(text.split(' '))
        }
    }

    /// Returns whether the set contains exactly `scope`. The comparison is case-sensitive, and a
    /// scope does not imply another.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.iter().any(|held| held == scope)
    }

    /// Returns the scopes in byte order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ').filter(|scope| !scope.is_empty())
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<Vec<String>> for Scopes {
    type Error = Error;

    fn try_from(scopes: Vec<String>) -> Result<Self, Error> {
        Self::new(scopes)
    }
}

impl From<Scopes> for Vec<String> {
    fn from(scopes: Scopes) -> Self {
        scopes.iter().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// K-01: the tests of the attribute's parser use the same vectors.
    #[test]
    fn k01_the_grammar_of_a_scope() {
        let long = "a".repeat(128);
        for right in ["a", "orders:read", "a.b_c-d:0", "A:b:C", long.as_str()] {
            assert_eq!(check_scope(right, false), Ok(()), "{right}");
        }
        let too_long = "a".repeat(129);
        for wrong in [
            "",
            ":",
            "a:",
            ":a",
            "a::b",
            "a b",
            "a,b",
            "*",
            "a:*",
            "ä",
            "a\n",
            "a\0",
            "{id}",
            "a/b",
            "\"",
            "a:{id}",
            too_long.as_str(),
        ] {
            assert!(check_scope(wrong, false).is_err(), "{wrong:?}");
        }
        for right in ["{id}", "project:{project_id}:read", "{a}:{b}"] {
            assert_eq!(check_scope(right, true), Ok(()), "{right}");
        }
        for wrong in [
            "{}", "{1}", "{a", "a}", "x{a}", "{a}x", "{a:b}", "{a-b}", "{a}{b}", "{",
        ] {
            assert!(check_scope(wrong, true).is_err(), "{wrong:?}");
        }
    }

    /// K-02.
    #[test]
    fn k02_a_scope_implies_no_other() {
        let scopes = Scopes::new(["read", "a:b"]).unwrap();
        for missing in [
            "read:all", "rea", "ead", "a", "b", "a:b:c", "READ", "read a:b", "",
        ] {
            assert!(!scopes.contains(missing), "{missing:?}");
        }
        assert!(scopes.contains("read") && scopes.contains("a:b"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(names in prop::collection::vec("[a-z.]{1,5}(:[A-Z0-9_-]{1,5}){0,3}", 0..20)) {
            let scopes = Scopes::new(&names).unwrap();
            prop_assert_eq!(&Scopes::from_text(&scopes.to_string()).unwrap(), &scopes);
            for name in &names {
                prop_assert!(scopes.contains(name));
            }
        }

        #[test]
        fn no_text_breaks_the_grammar(text: String) {
            let plain = check_scope(&text, false).is_ok();
            prop_assert!(!plain || check_scope(&text, true).is_ok());
            prop_assert_eq!(is_segment(&text), plain && !text.contains(':'));
        }
    }
}
