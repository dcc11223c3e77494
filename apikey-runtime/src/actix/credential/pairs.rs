//! Finds keys in pairs of name and value: query strings, forms and cookies.

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderMap};

use super::Extracted;

/// Finds the key in a query string, which has the same syntax as a URL-encoded form.
pub(super) fn find_in_query<'r>(query: &'r str, name: &str) -> Extracted<'r> {
    find_in_form(query.as_bytes(), name)
}

/// Finds the key in a URL-encoded form: percent-encoded `name=value` pairs, separated by `&`
/// (WHATWG URL section 5.1). The value is decoded exactly once.
pub(super) fn find_in_form<'r>(form: &'r [u8], name: &str) -> Extracted<'r> {
    form.split(|byte| *byte == b'&')
        .filter(|pair| is_named(pair, name))
        .map(|pair| {
            let value = pair
                .iter()
                .position(|byte| *byte == b'=')
                .map_or(&[][..], |at| &pair[at + 1..]);
            decode(value).map_or(Extracted::Malformed, Extracted::One)
        })
        .fold(Extracted::Nothing, Extracted::and)
}

/// Returns `form` without the pairs of this name.
pub(in crate::actix) fn without_pair(form: &[u8], name: &str) -> Vec<u8> {
    let kept: Vec<&[u8]> = form
        .split(|byte| *byte == b'&')
        .filter(|pair| !is_named(pair, name))
        .collect();
    kept.join(&b'&')
}

/// Compares the decoded name, since a handler would decode `api%5Fkey` to `api_key`.
fn is_named(pair: &[u8], name: &str) -> bool {
    let raw = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    decode(raw).is_some_and(|decoded| *decoded == *name.as_bytes())
}

/// Decodes percent-encoding and `+`; returns `None` if the encoding is malformed.
fn decode(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        decoded.push(match first {
            b'+' => b' ',
            b'%' => {
                let [high, low, after @ ..] = rest else {
                    return None;
                };
                rest = after;
                hex(*high)? * 16 + hex(*low)?
            }
            plain => *plain,
        });
    }
    Some(Cow::Owned(decoded))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Finds the key in a cookie (RFC 6265 section 4.2.1). Its value is not decoded: a key's characters
/// do not need encoding in a cookie.
pub(super) fn find_in_cookies<'r>(headers: &'r HeaderMap, name: &str) -> Extracted<'r> {
    let value = |cookie: &'r [u8]| {
        let at = cookie.iter().position(|byte| *byte == b'=')?;
        Some(unquoted(cookie[at + 1..].trim_ascii()))
    };
    headers
        .get_all(header::COOKIE)
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter(|cookie| is_named_cookie(cookie, name))
        .filter_map(value)
        .map(|value| Extracted::One(Cow::Borrowed(value)))
        .fold(Extracted::Nothing, Extracted::and)
}

/// Returns whether a cookie of a `Cookie` header has this name, which actix decodes for its
/// handlers.
pub(in crate::actix) fn is_named_cookie(cookie: &[u8], name: &str) -> bool {
    let raw = cookie
        .split(|byte| *byte == b'=')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let decoded = || decode(raw).is_some_and(|decoded| *decoded == *name.as_bytes());
    raw == name.as_bytes() || (raw.contains(&b'%') && decoded())
}

/// Removes the quotes that RFC 6265 permits around a value.
fn unquoted(value: &[u8]) -> &[u8] {
    value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn one(key: &str) -> Extracted<'_> {
        Extracted::One(Cow::Borrowed(key.as_bytes()))
    }

    fn cookies(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_static(line));
        }
        headers
    }

    /// L-05.
    #[test]
    fn l05_a_repeated_parameter_is_several_and_another_case_is_none() {
        assert_eq!(
            find_in_query("api_key=a&api_key=b", "api_key"),
            Extracted::Multiple
        );
        assert_eq!(
            find_in_query("api_key=a&x=1&api%5Fkey=a", "api_key"),
            Extracted::Multiple
        );
        assert_eq!(find_in_query("API_KEY=a", "api_key"), Extracted::Nothing);
        assert_eq!(
            find_in_query("x=api_key&y=2", "api_key"),
            Extracted::Nothing
        );
        assert_eq!(find_in_query("", "api_key"), Extracted::Nothing);
        assert_eq!(find_in_query("api_key", "api_key"), one(""));
        assert_eq!(find_in_query("api_key=a=b", "api_key"), one("a=b"));
        assert_eq!(find_in_query("&&api_key=a&", "api_key"), one("a"));
    }

    /// L-06.
    #[test]
    fn l06_one_decoding_and_never_two() {
        assert_eq!(find_in_query("k=%61%2562", "k"), one("a%62"));
        for broken in ["k=%ZZ", "k=%", "k=%6", "k=a%4g"] {
            assert_eq!(find_in_query(broken, "k"), Extracted::Malformed, "{broken}");
        }
        assert_eq!(find_in_query("other=%ZZ&k=a", "k"), one("a"));
    }

    #[test]
    fn a_repeated_cookie_is_several() {
        assert_eq!(find_in_cookies(&cookies(&["a=1; k=x; b=2"]), "k"), one("x"));
        assert_eq!(find_in_cookies(&cookies(&["k=\"x\""]), "k"), one("x"));
        assert_eq!(
            find_in_cookies(&cookies(&["k=x;k=x"]), "k"),
            Extracted::Multiple
        );
        assert_eq!(
            find_in_cookies(&cookies(&["k=x", "k=y"]), "k"),
            Extracted::Multiple
        );
        assert_eq!(
            find_in_cookies(&cookies(&["K=x; kk=y; k"]), "k"),
            Extracted::Nothing
        );
        assert_eq!(find_in_cookies(&cookies(&["%6b=x"]), "k"), one("x"));
        assert_eq!(
            find_in_cookies(&cookies(&["%6b=x; k=y"]), "k"),
            Extracted::Multiple
        );
        assert_eq!(find_in_cookies(&cookies(&["k="]), "k"), one(""));
        assert_eq!(find_in_cookies(&cookies(&["k=%78"]), "k"), one("%78"));
    }

    #[test]
    fn a_pair_is_taken_out_whole_and_the_others_stay() {
        assert_eq!(
            without_pair(b"a=1&api%5fkey=x&b=2&api_key", "api_key"),
            b"a=1&b=2"
        );
        assert_eq!(without_pair(b"api_key=x", "api_key"), b"");
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parsers(text: String, bytes: Vec<u8>, name in "[a-z_]{1,8}") {
            let _ = find_in_query(&text, &name);
            let _ = find_in_form(&bytes, &name);
            let left = without_pair(&bytes, &name);
            prop_assert_eq!(find_in_form(&left, &name), Extracted::Nothing);
        }

        #[test]
        fn what_is_encoded_is_found(key: Vec<u8>, before in "[a-z]{0,5}", after in "[a-z]{0,5}") {
            let encoded: String = key.iter().map(|byte| format!("%{byte:02x}")).collect();
            let form = format!("{before}&k_y={encoded}&{after}");
            prop_assert_eq!(find_in_form(form.as_bytes(), "k_y"), Extracted::One(Cow::Owned(key)));
        }
    }
}
