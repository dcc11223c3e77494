//! Challenges: the values of `WWW-Authenticate`.

use std::iter;

use actix_web::http::header::{self, HeaderMap, HeaderValue};

use crate::denied::{Denied, DenyReason};
use crate::policy::KeyLocation;

/// The scheme in a challenge if none of a route's locations has one.
const OWN_SCHEME: &str = "ApiKey";

/// The bytes that most challenges fit into.
const USUAL_LEN: usize = 64;

const BEARER: &str = "Bearer";
const BASIC: &str = "Basic";

/// Adds the challenges of a denial (RFC 6750 section 3): to each 401, and to the other denials that are due to the
/// credential. Without a credential, they do not contain an error code.
pub(super) fn add(
    headers: &mut HeaderMap,
    denied: &Denied,
    locations: &[KeyLocation<'_>],
    realm: Option<&str>,
) {
    let error = match denied.status() {
        400 => Some("invalid_request"),
        401 if denied.reason() == DenyReason::MissingKey => None,
        401 => Some("invalid_token"),
        403 if denied.reason() == DenyReason::InsufficientScope => Some("insufficient_scope"),
        _ => return,
    };
    let scope = denied.required_scopes().join(" ");
    let parameters = [
        ("error", error),
        ("scope", (!scope.is_empty()).then_some(scope.as_str())),
    ];
    add_each(headers, locations, realm, &parameters);
}

/// Adds the challenges without an error code.
pub(super) fn add_bare(
    headers: &mut HeaderMap,
    locations: &[KeyLocation<'_>],
    realm: Option<&str>,
) {
    add_each(headers, locations, realm, &[]);
}

/// Adds one challenge for each scheme: a client sends its key only if its own is challenged (RFC
/// 9110 section 11.6.1).
fn add_each(
    headers: &mut HeaderMap,
    locations: &[KeyLocation<'_>],
    realm: Option<&str>,
    parameters: &[(&str, Option<&str>)],
) {
    for scheme in schemes(locations) {
        if let Some(challenge) = challenge(scheme, realm, parameters) {
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
    }
}

fn challenge(
    scheme: &str,
    realm: Option<&str>,
    parameters: &[(&str, Option<&str>)],
) -> Option<HeaderValue> {
    let basic = scheme.eq_ignore_ascii_case(BASIC);
    // Basic requires a realm, and new parameters are not permitted (RFC 7617 section 2). The error
    // codes are those of Bearer (RFC 6750 section 3.1); schemes without a specification have them
    // too.
    let realm = ("realm", realm.or(basic.then_some("api")));
    let parameters = if basic { &[] } else { parameters };
    let mut text = String::with_capacity(USUAL_LEN);
    text.push_str(scheme);
    let mut separator = " ";
    for (name, value) in iter::once(&realm).chain(parameters) {
        if let Some(value) = value {
            text.extend([separator, name, "=\"", value, "\""]);
            separator = ", ";
        }
    }
    HeaderValue::try_from(text).ok()
}

/// Returns the schemes of `Authorization` among the locations, each once, `Bearer` first and `Basic`
/// last. Without one, returns what stands before the key at the first location, or [`OWN_SCHEME`]: each 401 has a
/// challenge (RFC 9110 section 15.5.2).
fn schemes<'l>(locations: &'l [KeyLocation<'_>]) -> Vec<&'l str> {
    let mut schemes: Vec<&str> = Vec::new();
    for location in locations {
        let scheme = match location {
            KeyLocation::Header {
                name: "authorization",
                scheme: Some(scheme),
            } => scheme,
            KeyLocation::Basic => BASIC,
            _ => continue,
        };
        if !schemes
            .iter()
            .any(|known| known.eq_ignore_ascii_case(scheme))
        {
            schemes.push(scheme);
        }
    }
    if schemes.is_empty() {
        schemes.push(match locations.first() {
            Some(KeyLocation::Header {
                scheme: Some(scheme),
                ..
            }) => scheme,
            _ => OWN_SCHEME,
        });
    }
    // Stable: the others keep their order. `Basic` comes last: wget 1.21 does not answer it if a
    // scheme that it does not know follows.
    schemes.sort_by_key(|scheme| match scheme {
        scheme if scheme.eq_ignore_ascii_case(BEARER) => 0,
        scheme if scheme.eq_ignore_ascii_case(BASIC) => 2,
        _ => 1,
    });
    schemes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: KeyLocation<'static> = KeyLocation::Header {
        name: "x-api-key",
        scheme: None,
    };

    const fn authorization(scheme: &'static str) -> KeyLocation<'static> {
        KeyLocation::Header {
            name: "authorization",
            scheme: Some(scheme),
        }
    }

    #[test]
    fn each_scheme_once_bearer_first_and_basic_last() {
        let other = KeyLocation::Header {
            name: "x-auth",
            scheme: Some("Token"),
        };
        for (locations, expected) in [
            (&[KeyLocation::BEARER][..], &["Bearer"][..]),
            (
                &[
                    KeyLocation::Basic,
                    authorization("ApiKey"),
                    KeyLocation::BEARER,
                ],
                &["Bearer", "ApiKey", "Basic"],
            ),
            (&[PLAIN, KeyLocation::Basic], &["Basic"]),
            (
                &[authorization("Token"), authorization("TOKEN")],
                &["Token"],
            ),
            (&[PLAIN, KeyLocation::Query { name: "k" }], &["ApiKey"]),
            // A scheme of another header is not one of HTTP's, and so only better than nothing.
            (&[other], &["Token"]),
            (&[other, KeyLocation::BEARER], &["Bearer"]),
            (&[], &["ApiKey"]),
        ] {
            assert_eq!(schemes(locations), expected, "{locations:?}");
        }
    }

    #[test]
    fn basic_has_a_realm_and_no_error_code() {
        let locations = [KeyLocation::Basic, KeyLocation::BEARER];
        let denied = Denied::new(DenyReason::InvalidKey);
        for (realm, expected) in [
            (
                None,
                ["Bearer error=\"invalid_token\"", "Basic realm=\"api\""],
            ),
            (
                Some("orders"),
                [
                    "Bearer realm=\"orders\", error=\"invalid_token\"",
                    "Basic realm=\"orders\"",
                ],
            ),
        ] {
            let mut headers = HeaderMap::new();
            add(&mut headers, &denied, &locations, realm);
            let added: Vec<_> = headers.get_all(header::WWW_AUTHENTICATE).collect();
            assert_eq!(added, expected, "{realm:?}");
        }
    }
}
