//! Where a route looks for its key: how it is written, and what it may be.

use proc_macro2::Span;
use syn::{
    Ident, LitStr, Token, bracketed, ext::IdentExt, parenthesized, parse::ParseStream, token,
};

use crate::{
    diagnostics::{Errors, unknown},
    options::Written,
    values,
};

/// A location as written: `bearer`, `header("X-API-Key")`.
pub(crate) struct LocationSyntax {
    /// The word before the parentheses.
    word: Ident,
    /// What stands in the parentheses, where there are any.
    arguments: Option<Arguments>,
}

/// `"X-API-Key", scheme = "ApiKey"`
#[derive(Default)]
struct Arguments {
    positional: Vec<LitStr>,
    named: Vec<(Ident, LitStr)>,
}

/// A location that can hold a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A header, in lower case, and the scheme before the key.
    Header {
        name: String,
        scheme: Option<String>,
    },
}

/// One row of the table of locations.
struct LocationSpec {
    name: &'static str,
    usage: &'static str,
    check: fn(&'static LocationSpec, &LocationSyntax, &mut Errors) -> Option<Location>,
}

/// Every location there is.
const TABLE: &[LocationSpec] = &[
    LocationSpec {
        name: "bearer",
        usage: "bearer",
        check: |spec, syntax, errors| {
            check_bare(spec, syntax, errors).then(|| Location::Header {
                name: "authorization".to_owned(),
                scheme: Some("Bearer".to_owned()),
            })
        },
    },
    LocationSpec {
        name: "header",
        usage: r#"header("X-API-Key")"#,
        check: check_header,
    },
];

/// Reads one location.
///
/// # Errors
///
/// No word stands there, or its parentheses hold something else than strings and `name = ".."`.
pub(crate) fn read(written: &Written<'_>, input: ParseStream<'_>) -> syn::Result<LocationSyntax> {
    if let Some(name) = input.fork().parse::<LitStr>().ok().map(|name| name.value()) {
        let remedy = format!("write `header({name:?})`");
        return Err(input.error(format!("a location says what it is; {remedy}")));
    }
    if input.peek(token::Bracket) {
        let remedy = r#"write `locations = [bearer, header("X-API-Key")]`"#;
        return Err(input.error(format!("`{}` takes one; {remedy}", written.key)));
    }
    let word = input
        .call(Ident::parse_any)
        .map_err(|error| values::expected(written, "the name of a location", error))?;
    let arguments = input
        .peek(token::Paren)
        .then(|| {
            let content;
            parenthesized!(content in input);
            Arguments::read(&content)
        })
        .transpose()?;
    Ok(LocationSyntax { word, arguments })
}

/// Reads `[a, b]`.
///
/// # Errors
///
/// It is no list, it is empty, or one of its locations cannot be read.
pub(crate) fn read_list(
    written: &Written<'_>,
    input: ParseStream<'_>,
) -> syn::Result<Vec<LocationSyntax>> {
    if !input.peek(token::Bracket) {
        let problem = format!(
            "`{}` takes a list; write `{}`",
            written.key, written.spec.usage
        );
        return Err(input.error(problem));
    }
    let content;
    let brackets = bracketed!(content in input);
    if content.is_empty() {
        let problem = "`locations` is empty; write at least one, as in `locations = [bearer]`";
        return Err(syn::Error::new(brackets.span.join(), problem));
    }
    values::list(&content, |input| read(written, input))
}

impl Arguments {
    fn read(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Self::default();
        values::list(input, |input| {
            if input.peek(Ident::peek_any) && input.peek2(Token![=]) {
                let name = values::word(input)?;
                input.parse::<Token![=]>()?;
                arguments.named.push((name, Self::string(input)?));
            } else {
                arguments.positional.push(Self::string(input)?);
            }
            Ok(())
        })?;
        Ok(arguments)
    }

    fn string(input: ParseStream<'_>) -> syn::Result<LitStr> {
        let problem =
            r#"a location takes strings, as in `header("Authorization", scheme = "ApiKey")`"#;
        input
            .parse()
            .map_err(|error| syn::Error::new(error.span(), problem))
    }
}

/// Judges every location, and whether two of them are one.
pub(crate) fn check(written: Vec<LocationSyntax>, errors: &mut Errors) -> Vec<Location> {
    let mut locations = Vec::new();
    for syntax in &written {
        let Some(location) = check_one(syntax, errors) else {
            continue;
        };
        match locations
            .iter()
            .find_map(|earlier| overlap(earlier, &location))
        {
            Some(problem) => errors.at(syntax.span(), problem),
            None => locations.push(location),
        }
    }
    locations
}

fn check_one(syntax: &LocationSyntax, errors: &mut Errors) -> Option<Location> {
    let word = &syntax.word;
    match TABLE.iter().find(|spec| word == spec.name) {
        Some(spec) => (spec.check)(spec, syntax, errors),
        None => {
            let known = TABLE.iter().map(|spec| spec.name);
            errors.on(word, unknown("location", word, known));
            None
        }
    }
}

/// Why two locations cannot stand on one route, or nothing.
///
/// A credential that is found twice is refused at run time, so a header that is read whole and by its
/// scheme would refuse every request.
fn overlap(earlier: &Location, later: &Location) -> Option<String> {
    let Location::Header { name, scheme } = earlier;
    let Location::Header {
        name: later_name,
        scheme: later_scheme,
    } = later;
    if name != later_name {
        return None;
    }
    match (scheme, later_scheme) {
        (Some(scheme), Some(later)) if !scheme.eq_ignore_ascii_case(later) => None,
        (None, Some(_)) | (Some(_), None) => Some(format!(
            "the header `{name}` is read with a scheme and without; keep one of the two"
        )),
        _ => Some("this location is given twice; keep one".to_owned()),
    }
}

impl LocationSyntax {
    fn span(&self) -> Span {
        self.word.span()
    }
}

/// Whether a location that takes nothing has nothing.
fn check_bare(spec: &LocationSpec, syntax: &LocationSyntax, errors: &mut Errors) -> bool {
    let bare = syntax.arguments.is_none();
    if !bare {
        let problem = format!("`{}` takes no arguments; write `{}`", spec.name, spec.usage);
        errors.at(syntax.span(), problem);
    }
    bare
}

fn check_header(
    spec: &'static LocationSpec,
    syntax: &LocationSyntax,
    errors: &mut Errors,
) -> Option<Location> {
    let name = only_positional(spec, syntax, errors);
    let scheme = named(syntax, "scheme", errors);
    let name = name.and_then(|name| token(name, "header name", errors));
    let scheme = match scheme {
        Ok(None) => Some(None),
        Ok(Some(scheme)) => token(scheme, "scheme", errors).map(Some),
        Err(()) => None,
    };
    Some(Location::Header {
        // Field names are case-insensitive (RFC 9110, 5.1), and actix stores them in lower case.
        name: name?.to_ascii_lowercase(),
        scheme: scheme?,
    })
}

/// The one string that a location takes without a name.
fn only_positional<'a>(
    spec: &LocationSpec,
    syntax: &'a LocationSyntax,
    errors: &mut Errors,
) -> Option<&'a LitStr> {
    let positional = syntax
        .arguments
        .as_ref()
        .map(|arguments| arguments.positional.as_slice())
        .unwrap_or_default();
    match positional {
        [name] => Some(name),
        [] => {
            let problem = format!("`{}` needs a name; write `{}`", spec.name, spec.usage);
            errors.at(syntax.span(), problem);
            None
        }
        [_, second, ..] => {
            let remedy = format!("write `{}`, and a second one of its own", spec.usage);
            errors.on(second, format!("`{}` takes one name; {remedy}", spec.name));
            None
        }
    }
}

/// The one argument that has a name, where it was written; `Err` after an error was added.
fn named<'a>(
    syntax: &'a LocationSyntax,
    known: &'static str,
    errors: &mut Errors,
) -> Result<Option<&'a LitStr>, ()> {
    let mut found = Ok(None);
    for (name, value) in syntax
        .arguments
        .iter()
        .flat_map(|arguments| &arguments.named)
    {
        let problem = if name != known {
            unknown("argument", name, [known].into_iter())
        } else if !matches!(found, Ok(None)) {
            format!("`{known}` is given twice; keep one")
        } else {
            found = Ok(Some(value));
            continue;
        };
        errors.on(name, problem);
        found = Err(());
    }
    found
}

/// The text of `literal` if it is a token of HTTP (RFC 9110, 5.6.2), as field names and
/// authentication schemes are.
fn token(literal: &LitStr, what: &str, errors: &mut Errors) -> Option<String> {
    let text = literal.value();
    let wrong = text.chars().find(|letter| !is_token_letter(*letter));
    match wrong {
        None if text.is_empty() => errors.on(literal, format!("the {what} is empty; write one")),
        None => return Some(text),
        Some(wrong) => {
            let allowed = "write letters, digits and `-` (RFC 9110 allows a few signs more)";
            let wrong = wrong.escape_debug();
            errors.on(
                literal,
                format!("a {what} cannot hold `{wrong}`; {allowed}"),
            );
        }
    }
    None
}

fn is_token_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, scheme: Option<&str>) -> Location {
        Location::Header {
            name: name.to_owned(),
            scheme: scheme.map(str::to_owned),
        }
    }

    #[test]
    fn one_header_with_two_schemes_is_two_locations() {
        let bearer = header("authorization", Some("Bearer"));
        assert_eq!(
            overlap(&bearer, &header("authorization", Some("ApiKey"))),
            None
        );
        assert_eq!(overlap(&bearer, &header("x-api-key", Some("Bearer"))), None);
    }

    #[test]
    fn one_header_read_twice_is_an_error() {
        let bearer = header("authorization", Some("Bearer"));
        assert!(overlap(&bearer, &header("authorization", Some("bearer"))).is_some());
        assert!(overlap(&bearer, &header("authorization", None)).is_some());
        assert!(overlap(&header("authorization", None), &bearer).is_some());
    }

    #[test]
    fn every_usage_starts_with_its_location() {
        for spec in TABLE {
            assert_eq!(spec.usage.split('(').next(), Some(spec.name));
        }
    }
}
