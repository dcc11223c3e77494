//! The options `location` and `locations`: their syntax and the locations that they accept.

mod arguments;
mod names;

use proc_macro2::Span;
use syn::{Ident, LitStr, bracketed, ext::IdentExt, parenthesized, parse::ParseStream, token};

use self::arguments::LocationArguments;

use crate::{
    diagnostics::{Errors, unknown},
    values::{self, WrittenOption},
};

/// A location as written, such as `bearer` or `header("X-API-Key")`; not yet validated.
pub(crate) struct LocationSyntax {
    /// The name of the location.
    word: Ident,
    /// The arguments in parentheses, if there are any.
    arguments: Option<LocationArguments>,
}

/// A validated location.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeyLocation {
    /// A header, in lower case, with the scheme before the key.
    Header {
        name: String,
        scheme: Option<String>,
    },
    /// The user name of `Authorization: Basic`.
    Basic,
    /// The subprotocol after `bearer` in `Sec-WebSocket-Protocol`.
    WebSocket,
    /// A query parameter.
    Query { name: String },
    /// A cookie.
    Cookie { name: String },
    /// A member of a JSON object in the body.
    Json { name: String },
    /// A field of a form in the body.
    Form { name: String },
}

impl KeyLocation {
    /// Returns the header that this location reads, with the scheme before the key.
    ///
    /// Returns `None` for a cookie, because cookies in one header are distinguished by their names.
    fn header(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::Header { name, scheme } => Some((name, scheme.as_deref())),
            Self::Basic => Some(("authorization", Some("Basic"))),
            Self::WebSocket => Some(("sec-websocket-protocol", Some("bearer"))),
            Self::Query { .. } | Self::Cookie { .. } | Self::Json { .. } | Self::Form { .. } => {
                None
            }
        }
    }
}

/// A row of the table of locations.
struct LocationSpec {
    name: &'static str,
    usage: &'static str,
    check: fn(&'static LocationSpec, &LocationSyntax, &mut Errors) -> Option<KeyLocation>,
}

/// All locations. `OPTIONS.md` documents the same ones; a test compares the two.
const TABLE: &[LocationSpec] = &[
    LocationSpec {
        name: "bearer",
        usage: "bearer",
        check: |spec, syntax, errors| {
            check_bare(spec, syntax, errors).then(|| KeyLocation::Header {
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
        check: |spec, syntax, errors| {
            check_bare(spec, syntax, errors).then_some(KeyLocation::Basic)
        },
    },
    LocationSpec {
        name: "websocket",
        usage: "websocket",
        check: |spec, syntax, errors| {
            check_bare(spec, syntax, errors).then_some(KeyLocation::WebSocket)
        },
    },
    LocationSpec {
        name: "query",
        usage: r#"query("api_key")"#,
        check: |spec, syntax, errors| {
            check_parameter(spec, syntax, errors).map(|name| KeyLocation::Query { name })
        },
    },
    LocationSpec {
        name: "cookie",
        usage: r#"cookie("api_key")"#,
        check: |spec, syntax, errors| {
            check_parameter(spec, syntax, errors).map(|name| KeyLocation::Cookie { name })
        },
    },
    LocationSpec {
        name: "json",
        usage: r#"json("api_key")"#,
        check: |spec, syntax, errors| {
            check_parameter(spec, syntax, errors).map(|name| KeyLocation::Json { name })
        },
    },
    LocationSpec {
        name: "form",
        usage: r#"form("api_key")"#,
        check: |spec, syntax, errors| {
            check_parameter(spec, syntax, errors).map(|name| KeyLocation::Form { name })
        },
    },
];

/// Parses one location.
///
/// # Errors
///
/// Returns an error if the location does not start with a name, or if its arguments are anything
/// other than strings and `name = ".."`.
pub(crate) fn parse(
    written: &WrittenOption<'_>,
    input: ParseStream<'_>,
) -> syn::Result<LocationSyntax> {
    if let Some(name) = input.fork().parse::<LitStr>().ok().map(|name| name.value()) {
        let remedy = format!("write `header({name:?})`");
        return Err(input.error(format!("expected a location, found a string; {remedy}")));
    }
    if input.peek(token::Bracket) {
        let remedy = r#"write `locations = [bearer, header("X-API-Key")]`"#;
        return Err(input.error(format!("expected one location, found a list; {remedy}")));
    }
    let word = input
        .call(Ident::parse_any)
        .map_err(|error| values::expected(written, "the name of a location", error))?;
    let arguments = input
        .peek(token::Paren)
        .then(|| {
            let content;
            parenthesized!(content in input);
            LocationArguments::parse(&content)
        })
        .transpose()?;
    Ok(LocationSyntax { word, arguments })
}

/// Parses a list of locations: `[a, b]`.
///
/// # Errors
///
/// Returns an error if the value is not a list, if the list is empty, or if a location is invalid.
pub(crate) fn parse_list(
    written: &WrittenOption<'_>,
    input: ParseStream<'_>,
) -> syn::Result<Vec<LocationSyntax>> {
    if !input.peek(token::Bracket) {
        let problem = format!("`{}` takes a list; write `{}`", written.key, written.usage);
        return Err(input.error(problem));
    }
    let content;
    let brackets = bracketed!(content in input);
    if content.is_empty() {
        let problem =
            "`locations` is empty; write at least one location, as in `locations = [bearer]`";
        return Err(syn::Error::new(brackets.span.join(), problem));
    }
    values::list(&content, |input| parse(written, input))
}

/// Validates every location and rejects duplicates.
pub(crate) fn check(written: Vec<LocationSyntax>, errors: &mut Errors) -> Vec<KeyLocation> {
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

fn check_one(syntax: &LocationSyntax, errors: &mut Errors) -> Option<KeyLocation> {
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

/// Returns the problem with using two locations on one route, if there is one.
///
/// At run time, a request with credentials in two locations is denied. If a header were read both
/// with and without a scheme, every request would therefore be denied.
fn overlap(earlier: &KeyLocation, later: &KeyLocation) -> Option<String> {
    let twice = || Some("duplicate location; remove one of them".to_owned());
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
        (Some(_), Some(_)) if *earlier == KeyLocation::Basic || *later == KeyLocation::Basic => {
            let problem = "two locations read the header `authorization` with the scheme `Basic`";
            Some(format!("{problem}; keep `basic`, which decodes the key"))
        }
        (None, Some(_)) | (Some(_), None) => Some(format!(
            "the header `{name}` is read with and without a scheme; remove one of the locations"
        )),
        _ => twice(),
    }
}

impl LocationSyntax {
    fn span(&self) -> Span {
        self.word.span()
    }
}

/// Returns whether a location without parameters has no arguments.
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
) -> Option<KeyLocation> {
    let name = arguments::only_positional(spec, syntax, errors);
    let scheme = arguments::named(syntax, "scheme", errors);
    let name = name.and_then(|name| names::token(name, "header name", errors));
    let scheme = match scheme {
        Ok(None) => Some(None),
        Ok(Some(scheme)) => names::token(scheme, "scheme", errors).map(Some),
        Err(()) => None,
    };
    Some(KeyLocation::Header {
        // Field names are case-insensitive (RFC 9110 section 5.1), and actix stores them in lower case.
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

    fn header(name: &str, scheme: Option<&str>) -> KeyLocation {
        KeyLocation::Header {
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
            assert!(
                overlap(&header, &KeyLocation::Basic).is_some(),
                "{scheme:?}"
            );
            assert!(
                overlap(&KeyLocation::Basic, &header).is_some(),
                "{scheme:?}"
            );
        }
        let bearer = header("authorization", Some("Bearer"));
        assert_eq!(overlap(&bearer, &KeyLocation::Basic), None);
        assert_eq!(
            overlap(&KeyLocation::Basic, &header("x-api-key", None)),
            None
        );
        assert!(overlap(&KeyLocation::Basic, &KeyLocation::Basic).is_some());
    }

    #[test]
    fn websocket_reads_a_header_too() {
        for scheme in [None, Some("bearer")] {
            let header = header("sec-websocket-protocol", scheme);
            assert!(overlap(&header, &KeyLocation::WebSocket).is_some());
            assert!(overlap(&KeyLocation::WebSocket, &header).is_some());
        }
        let bearer = header("authorization", Some("Bearer"));
        assert_eq!(overlap(&bearer, &KeyLocation::WebSocket), None);
        assert!(overlap(&KeyLocation::WebSocket, &KeyLocation::WebSocket).is_some());
    }

    #[test]
    fn parameters_are_the_same_only_with_the_same_name_in_the_same_place() {
        let places = |name: &str| {
            let name = name.to_owned();
            [
                KeyLocation::Query { name: name.clone() },
                KeyLocation::Cookie { name: name.clone() },
                KeyLocation::Json { name: name.clone() },
                KeyLocation::Form { name },
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
