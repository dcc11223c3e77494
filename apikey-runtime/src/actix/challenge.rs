//! Challenges: the values of `WWW-Authenticate`.

use std::fmt::Write as _;

use actix_web::http::header::HeaderValue;

use crate::denied::{Denied, DenyReason};
use crate::policy::KeyLocation;

/// The scheme in a challenge if none of a route's locations has one.
const OWN_SCHEME: &str = "ApiKey";

const BEARER: &str = "Bearer";
const BASIC: &str = "Basic";

/// Returns the challenges of a denial (RFC 6750 section 3): for each 401, and for the other denials
/// that are due to the credential. Without a credential, they do not contain an error code.
pub(super) fn challenges(
    denied: &Denied,
    locations: &[KeyLocation<'_>],
    realm: Option<&str>,
) -> Vec<HeaderValue> {
    let error = match denied.status() {
        400 => Some("invalid_request"),
        401 if denied.reason() == DenyReason::MissingKey => None,
        401 => Some("invalid_token"),
        403 if denied.reason() == DenyReason::InsufficientScope => Some("insufficient_scope"),
        _ => return Vec::new(),
    };
    let scope = denied.required_scopes().join(" ");
    let parameters = [
        ("error", error),
        ("scope", (!scope.is_empty()).then_some(scope.as_str())),
    ];
    challenge_each(locations, realm, &parameters)
}

/// Returns the challenges without an error code.
pub(super) fn bare_challenges(
    locations: &[KeyLocation<'_>],
    realm: Option<&str>,
) -> Vec<HeaderValue> {
    challenge_each(locations, realm, &[])
}

/// Returns one challenge for each scheme: a client sends its key only if its own is challenged (RFC
/// 9110 section 11.6.1).
fn challenge_each(
    locations: &[KeyLocation<'_>],
    realm: Option<&str>,
    parameters: &[(&str, Option<&str>)],
) -> Vec<HeaderValue> {
    schemes(locations)
        .into_iter()
        .filter_map(|scheme| challenge(scheme, realm, parameters))
        .collect()
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
    let mut text = scheme.to_owned();
    let mut separator = " ";
    for (name, value) in [&[realm], parameters].concat() {
        if let Some(value) = value {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{separator}{name}=\"{value}\"");
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
        assert_eq!(
            challenges(&denied, &locations, None),
            ["Bearer error=\"invalid_token\"", "Basic realm=\"api\""]
        );
        assert_eq!(
            challenges(&denied, &locations, Some("orders")),
            [
                "Bearer realm=\"orders\", error=\"invalid_token\"",
                "Basic realm=\"orders\""
            ]
        );
    }
}
