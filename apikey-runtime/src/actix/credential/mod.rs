//! Finds the credential in a request, at all of the route's locations.

mod body;
mod guard_credential;
mod header;
mod locations;
mod pairs;
pub(super) mod strip;
mod websocket;

use std::borrow::Cow;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;

use crate::policy::KeyLocation;

pub(super) use body::{find_in_body, is_of_type};
pub(super) use guard_credential::{GuardCredential, LendKey, OwnedCredential};
pub(super) use locations::{Locations, needs_body};
pub(super) use pairs::{is_named_cookie, without_pair};

/// The credential that was found at a route's locations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Extracted<'r> {
    Nothing,
    /// A credential. It may be empty, and need not be text.
    One(Cow<'r, [u8]>),
    Multiple,
    /// A credential that cannot be read.
    Malformed,
}

impl Extracted<'_> {
    /// Combines the results of two locations. A second credential is one too many, even if it is
    /// the same.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Malformed, _) | (_, Self::Malformed) => Self::Malformed,
            (Self::Nothing, found) | (found, Self::Nothing) => found,
            _ => Self::Multiple,
        }
    }
}

/// Finds the credential at all locations that do not need the body. A credential at one location
/// does not hide another one.
pub(super) fn find<'r>(request: &'r HttpRequest, locations: &[KeyLocation<'_>]) -> Extracted<'r> {
    let find_at = |location: &KeyLocation<'_>| match location {
        KeyLocation::Query { name } => pairs::find_in_query(request.query_string(), name),
        KeyLocation::Cookie { name } => pairs::find_in_cookies(request.headers(), name),
        location => find_in_headers(request.headers(), location),
    };
    let found = locations.iter().map(find_at).reduce(Extracted::and);
    found.unwrap_or(Extracted::Nothing)
}

/// Finds the credential at a location that is a header; cookies are not.
pub(super) fn find_in_headers<'r>(
    headers: &'r HeaderMap,
    location: &KeyLocation<'_>,
) -> Extracted<'r> {
    match *location {
        KeyLocation::Header { name, scheme } => header::find_in_header(headers, name, scheme),
        KeyLocation::Basic => header::find_in_basic(headers),
        KeyLocation::WebSocket => websocket::find_in_protocols(headers),
        KeyLocation::Query { .. }
        | KeyLocation::Cookie { .. }
        | KeyLocation::Json { .. }
        | KeyLocation::Form { .. } => Extracted::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const BEARER: KeyLocation<'static> = KeyLocation::BEARER;
    const PLAIN: KeyLocation<'static> = KeyLocation::Header {
        name: "x-api-key",
        scheme: None,
    };
    const QUERY: KeyLocation<'static> = KeyLocation::Query { name: "k" };

    #[test]
    fn a_repeated_header_is_one_too_many() {
        let twice = TestRequest::default()
            .append_header(("X-API-Key", "a"))
            .append_header(("x-api-key", "a"))
            .append_header(("Authorization", "Basic x"))
            .append_header(("Authorization", "Bearer y"))
            .to_http_request();
        for location in [PLAIN, BEARER, KeyLocation::Basic] {
            assert_eq!(
                find(&twice, &[location]),
                Extracted::Multiple,
                "{location:?}"
            );
        }
        let basics = TestRequest::default()
            .append_header(("Authorization", "Basic x"))
            .append_header(("Authorization", "Basic y"))
            .to_http_request();
        assert_eq!(find(&basics, &[BEARER]), Extracted::Nothing);
    }

    /// L-03: even if it is the same key.
    #[test]
    fn l03_a_key_at_two_locations_is_one_too_many() {
        let both = TestRequest::with_uri("/?k=a")
            .append_header(("X-API-Key", "a"))
            .append_header(("Authorization", "Bearer a"))
            .to_http_request();
        for pair in [[PLAIN, BEARER], [BEARER, QUERY], [QUERY, PLAIN]] {
            assert_eq!(find(&both, &pair), Extracted::Multiple, "{pair:?}");
        }
        assert_eq!(find(&both, &[PLAIN]), Extracted::One(Cow::Borrowed(b"a")));
    }
}
