//! Finding the credential in a request.

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderValue};

use crate::policy::Location;

/// What a request carries at a route's locations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'r> {
    Nothing,
    /// A text that claims to be a key. It may be empty, or no text at all.
    One(&'r [u8]),
    Several,
}

impl<'r> Found<'r> {
    /// A second credential is one too many, even where it says the same.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, found) | (found, Self::Nothing) => found,
            _ => Self::Several,
        }
    }
}

/// Looks at every location: the first that has something does not hide another.
pub(super) fn locate<'r>(request: &'r HttpRequest, locations: &[Location<'_>]) -> Found<'r> {
    locations.iter().fold(Found::Nothing, |found, location| {
        found.and(match *location {
            Location::Header { name, scheme } => in_header(request, name, scheme),
        })
    })
}

fn in_header<'r>(request: &'r HttpRequest, name: &str, scheme: Option<&str>) -> Found<'r> {
    let headers = request.headers();
    // The name of a header that is not a standard one would be copied to be looked up, so it is
    // searched for instead.
    if name == header::AUTHORIZATION.as_str() {
        return in_values(headers.get_all(header::AUTHORIZATION), scheme);
    }
    in_values(
        headers
            .iter()
            .filter(|(key, _)| key.as_str() == name)
            .map(|(_, value)| value),
        scheme,
    )
}

fn in_values<'r>(values: impl Iterator<Item = &'r HeaderValue>, scheme: Option<&str>) -> Found<'r> {
    let mut lines = 0;
    let mut found = Found::Nothing;
    for value in values {
        lines += 1;
        found = found.and(credential(value.as_bytes(), scheme));
    }
    // Neither header is a list: a second line is another party's word (RFC 9110 section 5.3).
    if lines > 1 && found != Found::Nothing {
        Found::Several
    } else {
        found
    }
}

/// Reads `scheme 1*SP key` (RFC 9110 section 11.4), or the whole value where there is no scheme.
fn credential<'r>(value: &'r [u8], scheme: Option<&str>) -> Found<'r> {
    let Some(scheme) = scheme else {
        return Found::One(value);
    };
    let Some((head, rest)) = value.split_at_checked(scheme.len()) else {
        return Found::Nothing;
    };
    if !head.eq_ignore_ascii_case(scheme.as_bytes()) {
        return Found::Nothing;
    }
    match rest.first() {
        // Another scheme whose name starts alike.
        Some(next) if is_token(*next) => Found::Nothing,
        Some(b' ') => Found::One(rest.trim_ascii_start_spaces()),
        // The scheme and no key, or a key that is set off by something else: ours, and malformed.
        _ => Found::One(&[]),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

trait TrimSpaces {
    /// Without the spaces, and nothing but spaces, at its start.
    fn trim_ascii_start_spaces(&self) -> &Self;
}

impl TrimSpaces for [u8] {
    fn trim_ascii_start_spaces(&self) -> &Self {
        let spaces = self.iter().take_while(|byte| **byte == b' ').count();
        &self[spaces..]
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    const BEARER: &[Location<'static>] = &[Location::BEARER];
    const PLAIN: &[Location<'static>] = &[Location::Header {
        name: "x-api-key",
        scheme: None,
    }];

    fn at<'a>(value: &'a [u8], scheme: &str) -> Found<'a> {
        credential(value, Some(scheme))
    }

    /// H-06, H-07.
    #[test]
    fn h06_h07_a_scheme_in_any_case_and_several_spaces() {
        for value in ["Bearer k", "bearer k", "BEARER    k"] {
            assert_eq!(at(value.as_bytes(), "Bearer"), Found::One(b"k"), "{value}");
        }
        for value in ["Bearer", "Bearer ", "Bearer\tk", "Bearer,k"] {
            assert_eq!(
                at(value.as_bytes(), "Bearer"),
                if value == "Bearer " {
                    Found::One(b"")
                } else {
                    Found::One(&[])
                }
            );
        }
        assert_eq!(at(b"Bearer \tk", "Bearer"), Found::One(b"\tk"));
    }

    #[test]
    fn another_scheme_is_no_key_of_ours() {
        for value in ["Basic k", "Bearerk", "Bearer-k", "Bear", "", "k"] {
            assert_eq!(at(value.as_bytes(), "Bearer"), Found::Nothing, "{value}");
        }
    }

    #[test]
    fn a_repeated_header_is_one_too_many() {
        let twice = TestRequest::default()
            .append_header(("X-API-Key", "a"))
            .append_header(("x-api-key", "a"))
            .append_header(("Authorization", "Basic x"))
            .append_header(("Authorization", "Bearer y"))
            .to_http_request();
        assert_eq!(locate(&twice, PLAIN), Found::Several);
        assert_eq!(locate(&twice, BEARER), Found::Several);
        let basics = TestRequest::default()
            .append_header(("Authorization", "Basic x"))
            .append_header(("Authorization", "Basic y"))
            .to_http_request();
        assert_eq!(locate(&basics, BEARER), Found::Nothing);
    }

    #[test]
    fn a_key_at_two_locations_is_one_too_many() {
        let both = TestRequest::default()
            .append_header(("X-API-Key", "a"))
            .append_header(("Authorization", "Bearer a"))
            .to_http_request();
        assert_eq!(locate(&both, &[PLAIN[0], BEARER[0]]), Found::Several);
        assert_eq!(locate(&both, PLAIN), Found::One(b"a"));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_parser(value: Vec<u8>, scheme in "[A-Za-z]{1,10}") {
            let _ = credential(&value, Some(&scheme));
        }

        #[test]
        fn what_follows_the_scheme_is_found(scheme in "[A-Za-z]{1,10}", spaces in " {1,5}", key in "[!-~]{1,100}") {
            let value = format!("{}{spaces}{key}", scheme.to_uppercase());
            prop_assert_eq!(credential(value.as_bytes(), Some(&scheme)), Found::One(key.as_bytes()));
        }
    }
}
