//! A location in which a route expects the key.

use std::fmt;

/// A location in which a route expects the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyLocation<'a> {
    /// A header that contains the key, alone or after a scheme.
    Header {
        /// The header's name, in lower case.
        name: &'a str,
        /// The scheme before the key; case-insensitive (RFC 9110 section 11.1).
        scheme: Option<&'a str>,
    },
    /// The user name of `Authorization: Basic` (RFC 7617); the password is ignored.
    Basic,
    /// `Sec-WebSocket-Protocol: bearer, KEY`, the only header that a browser lets a page set on a
    /// WebSocket: `new WebSocket(url, ["bearer", key])`. See
    /// [`guide::where_keys_travel`](crate::guide::where_keys_travel).
    WebSocket,
    /// A parameter of the query string, percent-decoded once. Query strings end up in logs and
    /// browser histories; use it only for clients that cannot use another location.
    Query {
        /// The parameter's name; case-sensitive.
        name: &'a str,
    },
    /// A cookie.
    Cookie {
        /// The cookie's name; case-sensitive.
        name: &'a str,
    },
    /// A top-level member of a JSON object in the body.
    Json {
        /// The member's name; case-sensitive.
        name: &'a str,
    },
    /// A field of a URL-encoded form in the body.
    Form {
        /// The field's name; case-sensitive.
        name: &'a str,
    },
}

impl KeyLocation<'_> {
    /// `Authorization: Bearer KEY` (RFC 6750 section 2.1).
    pub const BEARER: KeyLocation<'static> = KeyLocation::Header {
        name: "authorization",
        scheme: Some("Bearer"),
    };

    /// Rejects, in const evaluation, a location that can never contain a key.
    pub(super) const fn check(&self) {
        match self {
            Self::Header { name, scheme } => {
                assert!(
                    is_word(name, false),
                    "the name of a header is letters, digits and `-`, in lower case"
                );
                if let Some(scheme) = scheme {
                    assert!(
                        is_word(scheme, true),
                        "a scheme is letters, digits and `-`, as in `Bearer`"
                    );
                }
            }
            Self::Query { name }
            | Self::Cookie { name }
            | Self::Json { name }
            | Self::Form { name } => {
                assert!(
                    !name.is_empty(),
                    "a parameter's name is empty; write one, as in `api_key`"
                );
            }
            Self::Basic | Self::WebSocket => {}
        }
    }

    /// Returns the name of the header that is read at this location, in lower case; `None` if it is
    /// not a header.
    pub(crate) fn header(&self) -> Option<&str> {
        match self {
            Self::Header { name, .. } => Some(name),
            Self::Basic => Some("authorization"),
            Self::WebSocket => Some("sec-websocket-protocol"),
            Self::Cookie { .. } => Some("cookie"),
            Self::Query { .. } | Self::Json { .. } | Self::Form { .. } => None,
        }
    }

    /// Returns whether the body has to be read to find the key.
    pub(crate) fn is_in_body(&self) -> bool {
        matches!(self, Self::Json { .. } | Self::Form { .. })
    }
}

/// Writes the location as the attribute has it: `bearer`, `header("x-api-key")`.
impl fmt::Display for KeyLocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { .. } if *self == KeyLocation::BEARER => f.write_str("bearer"),
            Self::Header { name, scheme: None } => write!(f, "header({name:?})"),
            Self::Header {
                name,
                scheme: Some(scheme),
            } => write!(f, "header({name:?}, scheme = {scheme:?})"),
            Self::Basic => f.write_str("basic"),
            Self::WebSocket => f.write_str("websocket"),
            Self::Query { name } => write!(f, "query({name:?})"),
            Self::Cookie { name } => write!(f, "cookie({name:?})"),
            Self::Json { name } => write!(f, "json({name:?})"),
            Self::Form { name } => write!(f, "form({name:?})"),
        }
    }
}

/// Returns whether `text` is a token (RFC 9110 section 5.6.2). Upper-case letters are accepted only
/// with `capitals`.
const fn is_word(text: &str, capitals: bool) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let fits = matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
            | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        if !(fits || (capitals && bytes[at].is_ascii_uppercase())) {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}
