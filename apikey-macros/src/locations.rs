//! Where a route looks for its key: how it is written, and what it may be.

mod arguments;
mod names;

use proc_macro2::Span;
use syn::{Ident, LitStr, bracketed, ext::IdentExt, parenthesized, parse::ParseStream, token};

use self::arguments::Arguments;

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

/// A location that can hold a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A header, in lower case, and the scheme before the key.
    Header {
        name: String,
        scheme: Option<String>,
    },
    /// The user name of `Authorization: Basic`.
    Basic,
    /// A parameter of the query string.
    Query { name: String },
    /// A cookie.
    Cookie { name: String },
    /// A member of a JSON object in the body.
    Json { name: String },
    /// A field of a form in the body.
    Form { name: String },
}

impl Location {
    /// The header that is read for it, with the scheme before the key.
    ///
    /// None for a cookie: two of them are told apart by their names.
    fn header(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::Header { name, scheme } => Some((name, scheme.as_deref())),
            Self::Basic => Some(("authorization", Some("Basic"))),
            Self::Query { .. } | Self::Cookie { .. } | Self::Json { .. } | Self::Form { .. } => {
                None
            }
        }
    }
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
    LocationSpec {
        name: "basic",
        usage: "basic",
        check: |spec, syntax, errors| check_bare(spec, syntax, errors).then_some(Location::Basic),
    },
    LocationSpec {
        name: "query",
        usage: r#"query("api_key")"#,
        check: |spec, syntax, errors| {
            check_parameter(spec, syntax, errors).map(|name| Location::Query { name })
        },
    },
    LocationSpec {
        name: "cookie",
        usage: r#"cookie("api_key")"#,
        check: |spec, syntax, errors| {
            check_parameter(spec, syntax, errors).map(|name| Location::Cookie { name })
        },
    },
    LocationSpec {
        name: "json",
        usage: r#"json("api_key")"#,
        check: |spec, syntax, errors| {
            check_parameter(spec, syntax, errors).map(|name| Location::Json { name })
        },
    },
    LocationSpec {
        name: "form",
        usage: r#"form("api_key")"#,
        check: |spec, syntax, errors| {
            check_parameter(spec, syntax, errors).map(|name| Location::Form { name })
        },
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
    let twice = || Some("this location is given twice; keep one".to_owned());
    if earlier == later {
        return twice();
    }
    let (name, scheme) = earlier.header()?;
    let (later_name, later_scheme) = later.header()?;
    if name != later_name {
        return None;
    }
    match (scheme, later_scheme) {
        (Some(scheme), Some(later)) if !scheme.eq_ignore_ascii_case(later) => None,
        (Some(_), Some(_)) if *earlier == Location::Basic || *later == Location::Basic => {
            let problem = "the header `authorization` is read with the scheme `Basic` twice";
            Some(format!("{problem}; keep `basic`, which decodes the key"))
        }
        (None, Some(_)) | (Some(_), None) => Some(format!(
            "the header `{name}` is read with a scheme and without; keep one of the two"
        )),
        _ => twice(),
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
    let name = arguments::only_positional(spec, syntax, errors);
    let scheme = arguments::named(syntax, "scheme", errors);
    let name = name.and_then(|name| names::token(name, "header name", errors));
    let scheme = match scheme {
        Ok(None) => Some(None),
        Ok(Some(scheme)) => names::token(scheme, "scheme", errors).map(Some),
        Err(()) => None,
    };
    Some(Location::Header {
        // Field names are case-insensitive (RFC 9110, 5.1), and actix stores them in lower case.
        name: name?.to_ascii_lowercase(),
        scheme: scheme?,
    })
}

fn check_parameter(
    spec: &LocationSpec,
    syntax: &LocationSyntax,
    errors: &mut Errors,
) -> Option<String> {
    let name = arguments::only_positional(spec, syntax, errors);
    let alone = arguments::none_named(spec, syntax, errors);
    name.and_then(|name| names::parameter(spec, name, errors))
        .filter(|_| alone)
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
    fn basic_reads_a_header_too() {
        for scheme in [None, Some("Basic"), Some("BASIC")] {
            let header = header("authorization", scheme);
            assert!(overlap(&header, &Location::Basic).is_some(), "{scheme:?}");
            assert!(overlap(&Location::Basic, &header).is_some(), "{scheme:?}");
        }
        let bearer = header("authorization", Some("Bearer"));
        assert_eq!(overlap(&bearer, &Location::Basic), None);
        assert_eq!(overlap(&Location::Basic, &header("x-api-key", None)), None);
        assert!(overlap(&Location::Basic, &Location::Basic).is_some());
    }

    #[test]
    fn parameters_are_the_same_only_with_the_same_name_in_the_same_place() {
        let places = |name: &str| {
            let name = name.to_owned();
            [
                Location::Query { name: name.clone() },
                Location::Cookie { name: name.clone() },
                Location::Json { name: name.clone() },
                Location::Form { name },
            ]
        };
        for (index, earlier) in places("k").iter().enumerate() {
            for (later_index, later) in places("k").iter().enumerate() {
                assert_eq!(overlap(earlier, later).is_some(), index == later_index);
            }
            for later in places("K") {
                assert_eq!(overlap(earlier, &later), None);
            }
        }
    }

    #[test]
    fn the_documented_locations_are_those_of_the_parser() {
        let documented: Vec<_> = include_str!("../OPTIONS.md")
            .lines()
            .filter_map(|line| line.strip_prefix("- `")?.split(['`', '(']).next())
            .collect();
        let parsed: Vec<_> = TABLE.iter().map(|spec| spec.name).collect();
        assert_eq!(documented, parsed);
    }

    #[test]
    fn every_usage_starts_with_its_location() {
        for spec in TABLE {
            assert_eq!(spec.usage.split('(').next(), Some(spec.name));
        }
    }
}
