//! Facts about a request: the path, the method, and the client's address, which only configured
//! proxies may state.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderName};
use actix_web::{FromRequest, HttpRequest, web};

use super::forwarded::{Hop, hops};
use super::route_pattern;
use crate::config::Config;
use crate::policy::{
    CountedClient, PathValues, RequestFacts, RequestInfo, TemplateFault, only_value,
};

/// A request, as [`RequestInfo`].
pub(super) struct ActixRequestInfo<'r> {
    pub(super) request: &'r HttpRequest,
    /// `None` without a manager: proxies are not trusted then.
    pub(super) config: Option<&'r Config>,
}

/// The client's connection, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ClientConnection {
    /// `None` if a proxy did not state it readably.
    address: Option<IpAddr>,
    encrypted: bool,
}

impl<'r> ActixRequestInfo<'r> {
    #[inline]
    fn socket(&self) -> Option<IpAddr> {
        let peer = self.request.peer_addr()?;
        Some(peer.ip().to_canonical())
    }

    /// Returns whether the request came over a Unix socket, whose peers do not have an address.
    ///
    /// A TCP connection that the client has reset does not have one either, and what it sent before
    /// is still served. So the listener counts, too: actix gives a Unix socket this address, and a
    /// TCP listener its own.
    fn is_over_unix_socket(&self) -> bool {
        let placeholder = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        self.request.peer_addr().is_none() && self.request.app_config().local_addr() == placeholder
    }

    /// Follows the proxies' entries from right to left. Each entry was added by the hop to its
    /// right, and is trusted if that hop is a configured proxy. Entries that the client forged are
    /// further left.
    fn connection(&self) -> ClientConnection {
        self.proxied_connection()
            .unwrap_or_else(|| ClientConnection {
                address: self.socket(),
                encrypted: self.request.app_config().secure(),
            })
    }

    /// Returns the connection that trusted proxies state; `None` if the request does not come from one.
    fn proxied_connection(&self) -> Option<ClientConnection> {
        let (header, proxies) = self.config.and_then(Config::proxies)?;
        let peer_trusted = match self.socket() {
            Some(address) => proxies.contains(address),
            None => proxies.unix && self.is_over_unix_socket(),
        };
        if !peer_trusted {
            return None;
        }
        // If a proxy does not state the client, it could be any client.
        let mut connection = ClientConnection {
            address: None,
            encrypted: false,
        };
        for Hop { address, encrypted } in hops(self.request.headers(), header).iter().rev() {
            connection = ClientConnection {
                address: *address,
                encrypted: *encrypted,
            };
            if !address.is_some_and(|address| proxies.contains(address)) {
                break;
            }
        }
        Some(connection)
    }

    /// Returns the facts of the request that a gateway asks about.
    pub(super) fn original(&self) -> RequestFacts<'r> {
        let facts = RequestFacts::new();
        let Some(connection) = self.proxied_connection() else {
            // The caller may be a gateway or not, and is not the client.
            return facts.counted_against(self.socket());
        };
        let mut facts = facts.with_https(connection.encrypted);
        if let Some(address) = connection.address {
            facts = facts.with_address(address);
        }
        match original_method(self.request) {
            Some(method) => facts.with_method(method),
            None => facts,
        }
    }
}

/// The headers in which gateways state the method of the original request.
static METHOD_HEADERS: [HeaderName; 2] = [
    HeaderName::from_static("x-forwarded-method"),
    HeaderName::from_static("x-original-method"),
];

/// Returns the method that a gateway states. A gateway writes one of the headers, and passes on the other as its client
/// wrote it, so the values have to agree.
fn original_method(request: &HttpRequest) -> Option<&str> {
    let mut values = METHOD_HEADERS
        .iter()
        .flat_map(|name| request.headers().get_all(name));
    let first = values.next()?;
    let agreed = values.all(|value| value == first);
    first.to_str().ok().filter(|_| agreed)
}

impl RequestInfo for ActixRequestInfo<'_> {
    /// Takes a short path if no proxies are configured, since each request that counts as usage
    /// calls this.
    #[inline]
    fn address(&self) -> Option<IpAddr> {
        match self.config.and_then(Config::proxies) {
            None => self.socket(),
            Some(_) => self.connection().address,
        }
    }

    fn counted_client(&self) -> CountedClient {
        let address = self.connection().address.or_else(|| self.socket());
        address.map_or(CountedClient::Unknown, CountedClient::Address)
    }

    fn method(&self) -> Option<&str> {
        Some(self.request.method().as_str())
    }

    /// As the socket is, or as a trusted proxy states. `ConnectionInfo` is not used, since it
    /// trusts the headers of any client.
    fn is_encrypted(&self) -> bool {
        self.connection().encrypted
    }

    fn write_route(&self, write: &mut dyn FnMut(&str)) {
        route_pattern::write_route(self.request, write);
    }
}

impl PathValues for ActixRequestInfo<'_> {
    /// Decodes the value with `web::Path`, so that the scope is evaluated with the same text that
    /// the handler gets: `match_info` does not decode `%2F`. Without a `%`, both are the same.
    ///
    /// actix rejects a name that stands twice in one pattern, and not one in the patterns of a scope and
    /// of a route in it.
    fn value(&self, name: &'static str) -> Result<Cow<'_, str>, TemplateFault> {
        let values = self.request.match_info().iter().enumerate();
        let values = values.map(|(at, (known, raw))| (known, (at, raw)));
        let (at, raw) = only_value(name, values)?;
        if !raw.contains('%') {
            return Ok(Cow::Borrowed(raw));
        }
        let decoded =
            web::Path::<Vec<String>>::from_request(self.request, &mut Payload::None).into_inner();
        let value = decoded
            .ok()
            .and_then(|values| values.into_inner().into_iter().nth(at));
        // A value that cannot be decoded never matches a segment.
        Ok(value.map_or(Cow::Borrowed(""), Cow::Owned))
    }
}

/// Returns whether the request is a CORS preflight (Fetch section 3.2.2), which browsers send
/// without credentials.
pub(super) fn is_preflight(request: &HttpRequest) -> bool {
    request.method() == actix_web::http::Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn config(header: &str) -> Config {
        Config::builder()
            .trusted_proxies(["10.0.0.0/8", "fd00::/8"])
            .forwarded_header(header)
            .build()
            .unwrap()
    }

    fn connection(config: &Config, peer: &str, headers: &[(&str, &str)]) -> ClientConnection {
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for (name, value) in headers {
            request = request.append_header((*name, *value));
        }
        ActixRequestInfo {
            request: &request.to_http_request(),
            config: Some(config),
        }
        .connection()
    }

    fn address(config: &Config, peer: &str, headers: &[(&str, &str)]) -> Option<String> {
        connection(config, peer, headers)
            .address
            .map(|address| address.to_string())
    }

    fn is(address: &str) -> Option<String> {
        Some(address.to_owned())
    }

    /// N-01.
    #[test]
    fn n01_without_a_trusted_proxy_forwarded_headers_are_ignored() {
        let headers = [
            ("X-Forwarded-For", "1.1.1.1"),
            ("Forwarded", "for=1.1.1.1;proto=https"),
            ("X-Forwarded-Proto", "https"),
        ];
        let plain = Config::default();
        assert_eq!(address(&plain, "10.0.0.1:1", &headers), is("10.0.0.1"));
        for header in ["X-Forwarded-For", "Forwarded"] {
            let config = config(header);
            assert_eq!(address(&config, "192.0.2.1:1", &headers), is("192.0.2.1"));
            assert!(!connection(&config, "192.0.2.1:1", &headers).encrypted);
        }
    }

    /// N-02.
    #[test]
    fn n02_forged_leftmost_entries_are_not_reached() {
        let for_config = config("X-Forwarded-For");
        let forged = [("X-Forwarded-For", "6.6.6.6, 203.0.113.9, 10.1.1.1")];
        assert_eq!(
            address(&for_config, "10.0.0.1:1", &forged),
            is("203.0.113.9")
        );
        let lines = [
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Forwarded-For", "203.0.113.9"),
        ];
        assert_eq!(
            address(&for_config, "10.0.0.1:1", &lines),
            is("203.0.113.9")
        );
        let config = config("Forwarded");
        let forged = [(
            "Forwarded",
            "for=6.6.6.6, for=203.0.113.9;proto=http, for=10.1.1.1;proto=https",
        )];
        assert_eq!(
            connection(&config, "10.0.0.1:1", &forged),
            ClientConnection {
                address: "203.0.113.9".parse().ok(),
                encrypted: false
            }
        );
        // The other header is not trusted.
        assert_eq!(
            address(&config, "10.0.0.1:1", &[("X-Forwarded-For", "6.6.6.6")]),
            None
        );
    }

    /// N-04.
    #[test]
    fn n04_an_ipv4_address_in_ipv6_is_that_ipv4_address() {
        let config = config("X-Forwarded-For");
        assert_eq!(address(&config, "[::ffff:1.2.3.4]:1", &[]), is("1.2.3.4"));
        assert_eq!(
            address(
                &config,
                "[::ffff:10.0.0.1]:1",
                &[("X-Forwarded-For", "::ffff:1.2.3.4")]
            ),
            is("1.2.3.4")
        );
    }

    #[test]
    fn what_a_proxy_does_not_say_readably_is_not_known() {
        let for_config = config("X-Forwarded-For");
        for value in [
            "unknown",
            "",
            "1.2.3",
            "203.0.113.9, ",
            "203.0.113.9, _hidden",
        ] {
            assert_eq!(
                address(&for_config, "10.0.0.1:1", &[("X-Forwarded-For", value)]),
                None,
                "{value:?}"
            );
        }
        assert_eq!(address(&for_config, "10.0.0.1:1", &[]), None);
        let config = config("Forwarded");
        for value in [
            "for=unknown",
            "for=\"_x\"",
            "by=1.1.1.1",
            "for=1.1.1.1;for=2.2.2.2",
            "for=\"1.1.1.1",
            "garbage",
        ] {
            assert_eq!(
                address(&config, "10.0.0.1:1", &[("Forwarded", value)]),
                None,
                "{value:?}"
            );
        }
    }

    #[test]
    fn encryption_is_the_word_of_the_proxy_that_the_client_spoke_to() {
        let config_f = config("Forwarded");
        let said =
            |value: &str| connection(&config_f, "10.0.0.1:1", &[("Forwarded", value)]).encrypted;
        assert!(said("for=203.0.113.9;proto=https"));
        assert!(said("for=203.0.113.9;proto=https, for=10.1.1.1;proto=http"));
        assert!(!said(
            "for=203.0.113.9;proto=http, for=10.1.1.1;proto=https"
        ));
        assert!(!said("for=203.0.113.9"));
        let config_x = config("X-Forwarded-For");
        let said = |proto: &str| {
            let headers = [
                ("X-Forwarded-For", "203.0.113.9"),
                ("X-Forwarded-Proto", proto),
            ];
            connection(&config_x, "10.0.0.1:1", &headers).encrypted
        };
        assert!(said("https") && said("HTTPS") && said("https, https"));
        assert!(!said("http") && !said("https, http") && !said("http, https") && !said(""));
    }
}
