//! Finds keys in `Sec-WebSocket-Protocol: bearer, KEY`: a list of subprotocols, which is the only
//! header of a WebSocket that a page in a browser can set (RFC 6455 section 11.3.4).

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderMap, HeaderValue};

use super::Extracted;

/// The subprotocol before the key. It is also the one that the server may select, since a browser
/// ends a connection if none of those that it offered is selected.
const MARKER: &[u8] = b"bearer";

/// Finds the key: the entry after `bearer`. Without an entry after it, `bearer` is a subprotocol
/// like others.
pub(super) fn find_in_protocols(headers: &HeaderMap) -> Extracted<'_> {
    let (mut entries, mut found) = (entries(headers), Extracted::Nothing);
    while let Some(entry) = entries.next() {
        if entry == MARKER
            && let Some(key) = entries.next()
        {
            found = found.and(Extracted::One(Cow::Borrowed(key)));
        }
    }
    found
}

/// Returns the header without keys; `None` if it would be empty. `bearer` moves to the end, so that
/// the entry after it does not pass for a key. If the entry after `bearer` is empty or `bearer`, the
/// next may be a key too.
pub(super) fn without_keys(headers: &HeaderMap) -> Option<HeaderValue> {
    let (mut entries, mut kept, mut marked) = (entries(headers), Vec::new(), false);
    while let Some(entry) = entries.next() {
        if entry == MARKER {
            marked = true;
            while entries
                .next()
                .is_some_and(|key| key.is_empty() || key == MARKER)
            {}
        } else {
            kept.push(entry);
        }
    }
    kept.extend(marked.then_some(MARKER));
    let line = kept.join(&b", "[..]);
    (!line.is_empty()).then(|| HeaderValue::from_bytes(&line).ok())?
}

/// Returns the entries of all lines, which are one list. Empty entries count, so that the one after
/// an empty key is not taken for it.
fn entries(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(line),
            );
        }
        headers
    }

    #[test]
    fn the_entry_after_bearer_is_the_key_and_only_the_key_is_taken_out() {
        let one = |key: &'static str| Extracted::One(Cow::Borrowed(key.as_bytes()));
        for (lines, found, left) in [
            (&["bearer, K"][..], one("K"), Some("bearer")),
            (&["bearer,K,chat"], one("K"), Some("chat, bearer")),
            (
                &["v2.chat, bearer, K , chat"],
                one("K"),
                Some("v2.chat, chat, bearer"),
            ),
            (&["bearer", "K"], one("K"), Some("bearer")),
            (&["bearer, bearer"], one("bearer"), Some("bearer")),
            (&["bearer, "], one(""), Some("bearer")),
            (&["bearer, , K"], one(""), Some("bearer")),
            (&["bearer, , , K, chat"], one(""), Some("chat, bearer")),
            (&["bearer, bearer, K"], one("bearer"), Some("bearer")),
            (&["bearer", "bearer, K"], one("bearer"), Some("bearer")),
            (&["bearer"], Extracted::Nothing, Some("bearer")),
            (&["chat, bearer"], Extracted::Nothing, Some("chat, bearer")),
            (&["chat, K"], Extracted::Nothing, Some("chat, K")),
            (&["Bearer, K"], Extracted::Nothing, Some("Bearer, K")),
            (
                &["bearer, K, bearer, K"],
                Extracted::Multiple,
                Some("bearer"),
            ),
            (
                &["bearer, K", "bearer, L"],
                Extracted::Multiple,
                Some("bearer"),
            ),
            (&[], Extracted::Nothing, None),
        ] {
            let headers = headers(lines);
            assert_eq!(find_in_protocols(&headers), found, "{lines:?}");
            let stripped = without_keys(&headers);
            let text = stripped.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(text, left, "{lines:?}");
            // What is left has no key.
            let mut again = HeaderMap::new();
            if let Some(value) = stripped {
                again.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
            }
            assert_eq!(find_in_protocols(&again), Extracted::Nothing, "{lines:?}");
        }
    }
}
