//! Finds keys in headers: as the whole value, after a scheme, and as the user name of Basic.

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Extracted;

/// An empty credential: there is one, and it is not a key.
const NO_KEY: Extracted<'static> = Extracted::One(Cow::Borrowed(&[]));

/// Finds the key in the header `name`.
pub(super) fn find_in_header<'r>(
    headers: &'r HeaderMap,
    name: &str,
    scheme: Option<&str>,
) -> Extracted<'r> {
    let read = |value| match scheme {
        None => Extracted::One(Cow::Borrowed(value)),
        Some(scheme) => after_scheme(value, scheme)
            .map_or(Extracted::Nothing, |key| Extracted::One(Cow::Borrowed(key))),
    };
    // A lookup would copy the name if it is not a standard header, so the headers are searched
    // instead.
    if name == header::AUTHORIZATION.as_str() {
        return in_lines(headers.get_all(header::AUTHORIZATION), read);
    }
    in_lines(
        headers
            .iter()
            .filter(|(key, _)| key.as_str() == name)
            .map(|(_, value)| value),
        read,
    )
}

/// Finds the user name of `Authorization: Basic`.
pub(super) fn find_in_basic(headers: &HeaderMap) -> Extracted<'_> {
    in_lines(headers.get_all(header::AUTHORIZATION), |value| {
        after_scheme(value, "Basic").map_or(Extracted::Nothing, user_name)
    })
}

fn in_lines<'r>(
    values: impl Iterator<Item = &'r HeaderValue>,
    read: impl Fn(&'r [u8]) -> Extracted<'r>,
) -> Extracted<'r> {
    let mut lines = values.map(|value| read(value.as_bytes()));
    let Some(first) = lines.next() else {
        return Extracted::Nothing;
    };
    let Some(second) = lines.next() else {
        return first;
    };
    // These headers are not lists, so a second line must not occur (RFC 9110 section 5.3). Another
    // party may have added it.
    match lines.fold(first.and(second), Extracted::and) {
        Extracted::Nothing => Extracted::Nothing,
        _ => Extracted::Multiple,
    }
}

/// Returns the text after `scheme 1*SP` (RFC 9110 section 11.4); empty if another character ends
/// the scheme, and `None` for another scheme.
fn after_scheme<'r>(value: &'r [u8], scheme: &str) -> Option<&'r [u8]> {
    let (head, rest) = value.split_at_checked(scheme.len())?;
    // Most clients write a scheme as it is configured, which takes one comparison.
    if head != scheme.as_bytes() && !head.eq_ignore_ascii_case(scheme.as_bytes()) {
        return None;
    }
    match rest.first() {
        Some(b' ') => Some(&rest[rest.iter().take_while(|byte| **byte == b' ').count()..]),
        // Another scheme, whose name starts with this one.
        Some(next) if is_token(*next) => None,
        // The scheme without a key, or with another separator: this scheme, and malformed.
        _ => Some(&[]),
    }
}

/// Reads the user id of `base64(user-id ":" password)` (RFC 7617 section 2). The password is
/// ignored.
fn user_name(credentials: &[u8]) -> Extracted<'static> {
    let Ok(mut decoded) = BASE64_STANDARD.decode(credentials) else {
        return NO_KEY;
    };
    match decoded.iter().position(|byte| *byte == b':') {
        None => NO_KEY,
        Some(end) => {
            decoded.truncate(end);
            Extracted::One(Cow::Owned(decoded))
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// H-06, H-07.
    #[test]
    fn h06_h07_a_scheme_in_any_case_and_several_spaces() {
        for value in ["Bearer k", "bearer k", "BEARER    k"] {
            assert_eq!(
                after_scheme(value.as_bytes(), "Bearer"),
                Some(&b"k"[..]),
                "{value}"
            );
        }
        for value in ["Bearer", "Bearer ", "Bearer\tk", "Bearer,k"] {
            assert_eq!(
                after_scheme(value.as_bytes(), "Bearer"),
                Some(&b""[..]),
                "{value}"
            );
        }
        assert_eq!(after_scheme(b"Bearer \tk", "Bearer"), Some(&b"\tk"[..]));
    }

    #[test]
    fn another_scheme_is_no_key_of_ours() {
        for value in ["Basic k", "Bearerk", "Bearer-k", "Bear", "", "k"] {
            assert_eq!(after_scheme(value.as_bytes(), "Bearer"), None, "{value}");
        }
    }

    #[test]
    fn the_user_name_ends_at_the_first_colon() {
        let name = |text: &str| user_name(BASE64_STANDARD.encode(text).as_bytes());
        assert_eq!(name("key:"), Extracted::One(Cow::Borrowed(b"key")));
        assert_eq!(name("key:pass:word"), Extracted::One(Cow::Borrowed(b"key")));
        assert_eq!(name("key"), NO_KEY);
        for wrong in ["a2V5Og", "a2V5Og==\n", "!!!", "a2V5Og= =", ""] {
            assert_eq!(user_name(wrong.as_bytes()), NO_KEY, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_parsers(value: Vec<u8>, scheme in "[A-Za-z]{1,10}") {
            let _ = after_scheme(&value, &scheme);
            let _ = user_name(&value);
        }

        #[test]
        fn what_follows_the_scheme_is_found(
            scheme in "[A-Za-z]{1,10}", spaces in " {1,5}", key in "[!-~]{1,100}",
        ) {
            let value = format!("{}{spaces}{key}", scheme.to_uppercase());
            prop_assert_eq!(after_scheme(value.as_bytes(), &scheme), Some(key.as_bytes()));
        }
    }
}
