//! The headers of the portal's answers.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// The headers of each answer. A handler's own value of a header stays.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (X_FRAME_OPTIONS, "DENY"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CACHE_CONTROL, "private, no-store"),
    // `no-referrer` makes browsers send `Origin: null` with forms.
    (REFERRER_POLICY, "same-origin"),
];

/// The `Cache-Control` of assets, whose names change with their content.
pub(crate) const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Adds the headers that an answer does not have.
pub(crate) fn secure(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}
