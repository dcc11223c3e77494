//! Parses the headers of proxies: `Forwarded` (RFC 7239) and `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{self, HeaderMap};

use crate::config::ForwardedHeader;

/// What a proxy states about the hop before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hop {
    /// `None` if it is not stated, or not readable.
    pub(super) address: Option<IpAddr>,
    pub(super) encrypted: bool,
}

const UNREADABLE: Hop = Hop {
    address: None,
    encrypted: false,
};

/// Returns the hops in the configured header, the nearest last.
pub(super) fn hops(headers: &HeaderMap, header: ForwardedHeader) -> Vec<Hop> {
    match header {
        ForwardedHeader::Forwarded => headers
            .get_all(header::FORWARDED)
            .flat_map(|line| forwarded(line.as_bytes()))
            .collect(),
        ForwardedHeader::XForwardedFor => x_forwarded_for(headers),
    }
}

/// Parses `X-Forwarded-For`. All hops count as encrypted if each value of `X-Forwarded-Proto` is
/// `https`.
fn x_forwarded_for(headers: &HeaderMap) -> Vec<Hop> {
    let items = |name: &'static str| {
        headers
            .get_all(name)
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
    };
    let mut protos = items("x-forwarded-proto")
        .map(<[u8]>::trim_ascii)
        .peekable();
    let encrypted =
        protos.peek().is_some() && protos.all(|proto| proto.eq_ignore_ascii_case(b"https"));
    items("x-forwarded-for")
        .map(|item| Hop {
            address: std::str::from_utf8(item.trim_ascii()).ok().and_then(node),
            encrypted,
        })
        .collect()
}

/// Parses a line of `Forwarded`. If any part of the line is malformed, all of it is unreadable.
fn forwarded(line: &[u8]) -> Vec<Hop> {
    let text = std::str::from_utf8(line).ok();
    text.and_then(|text| split(text, ',')).map_or_else(
        || vec![UNREADABLE],
        |elements| {
            elements
                .into_iter()
                .map(|element| hop(element).unwrap_or(UNREADABLE))
                .collect()
        },
    )
}

/// Parses an element: `[ forwarded-pair ] *( ";" [ forwarded-pair ] )`, RFC 7239 section 4.
fn hop(element: &str) -> Option<Hop> {
    let (mut address, mut proto) = (None, None);
    for pair in split(element, ';')? {
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=')?;
        let parameter = match name.to_ascii_lowercase().as_str() {
            "for" => &mut address,
            "proto" => &mut proto,
            _ => continue,
        };
        // A parameter must not occur twice (section 4).
        if parameter.replace(unquoted(value)?).is_some() {
            return None;
        }
    }
    let encrypted = proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
    Some(Hop {
        address: address.as_deref().and_then(node),
        encrypted,
    })
}

/// Splits `text` at each `separator` outside quotes; returns `None` if a quote is left open.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                parts.push(text[start..at].trim_matches([' ', '\t']));
                start = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim_matches([' ', '\t']));
    (!quoted).then_some(parts)
}

/// Returns a token, or the content of a quoted string (RFC 9110 section 5.6.4).
fn unquoted(value: &str) -> Option<String> {
    let Some(inside) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let inside = inside.strip_suffix('"')?;
    let mut text = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => text.push(characters.next()?),
            plain => text.push(plain),
        }
    }
    Some(text)
}

/// Parses an address with or without a port. IPv6 is in brackets, or bare as some proxies write it.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    address
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> Option<String> {
        node(text).map(|address| address.to_string())
    }

    #[test]
    fn a_node_is_an_address_with_or_without_a_port() {
        for (text, expected) in [
            ("192.0.2.43", "192.0.2.43"),
            ("192.0.2.43:47011", "192.0.2.43"),
            ("[2001:db8:cafe::17]", "2001:db8:cafe::17"),
            ("[2001:db8:cafe::17]:4711", "2001:db8:cafe::17"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
        ] {
            assert_eq!(address(text), Some(expected.to_owned()), "{text}");
        }
        for text in [
            "",
            "unknown",
            "_gazonk",
            "1.2.3",
            "1.2.3.4:",
            "1.2.3.4:x",
            "[1.2.3.4",
            "[::1]:",
            "1.2.3.4 5",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    /// The examples of RFC 7239 section 4.
    #[test]
    fn the_examples_of_rfc_7239() {
        let read = |line: &str| forwarded(line.as_bytes());
        let hop = |address: &str, encrypted| Hop {
            address: address.parse().ok(),
            encrypted,
        };
        assert_eq!(read("for=\"_gazonk\""), [UNREADABLE]);
        assert_eq!(
            read("For=\"[2001:db8:cafe::17]:4711\""),
            [hop("2001:db8:cafe::17", false)]
        );
        assert_eq!(
            read("for=192.0.2.60;proto=http;by=203.0.113.43"),
            [hop("192.0.2.60", false)]
        );
        assert_eq!(
            read("for=192.0.2.43, for=198.51.100.17"),
            [hop("192.0.2.43", false), hop("198.51.100.17", false)]
        );
        assert_eq!(
            read("for=192.0.2.43;proto=HTTPS"),
            [hop("192.0.2.43", true)]
        );
        assert_eq!(read("for=\"1.1.1.1, for=2.2.2.2\""), [UNREADABLE]);
        assert_eq!(read("for=\"1.1.1.1"), [UNREADABLE]);
        assert_eq!(read("for=\"1.1.1\\.1\""), [hop("1.1.1.1", false)]);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_parsers(line: Vec<u8>, text: String) {
            let _ = forwarded(&line);
            let _ = forwarded(text.as_bytes());
            let _ = node(&text);
        }

        #[test]
        fn what_is_written_is_read(first: std::net::Ipv4Addr, second: std::net::Ipv6Addr, port: u16) {
            let line = format!("for={first};proto=https , by=x;For=\"[{second}]:{port}\"");
            let read: Vec<_> = forwarded(line.as_bytes()).iter().map(|hop| hop.address).collect();
            prop_assert_eq!(read, [Some(IpAddr::V4(first)), Some(IpAddr::V6(second).to_canonical())]);
        }
    }
}
