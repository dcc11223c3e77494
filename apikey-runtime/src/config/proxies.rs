//! Trusted proxies and their header.

use std::net::IpAddr;

use ipnet::IpNet;

use super::checks::fault;
use crate::error::Error;
use crate::util::network::is_mapped;

/// The header in which the trusted proxies name their clients.
///
/// Exactly one header is trusted: a proxy that writes one of them passes the other on as the client
/// wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardedHeader {
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`, and `X-Forwarded-Proto` for the scheme.
    XForwardedFor,
}

/// The word for the peers of Unix sockets among the trusted proxies.
const UNIX: &str = "unix";

/// The proxies that may name their clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TrustedProxies {
    pub(super) networks: Vec<IpNet>,
    /// Whether the peer of a Unix socket is trusted.
    pub(crate) unix: bool,
}

impl TrustedProxies {
    /// Returns whether a proxy at this address is trusted.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// Parses the trusted proxies and their header: both or neither.
pub(super) fn proxies(
    trusted: Option<&[String]>,
    header: Option<&str>,
) -> Result<(TrustedProxies, Option<ForwardedHeader>), Error> {
    let mut proxies = TrustedProxies::default();
    for text in trusted.unwrap_or_default() {
        if text.eq_ignore_ascii_case(UNIX) {
            proxies.unix = true;
        } else {
            proxies.networks.push(network(text)?);
        }
    }
    let header = match header.map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("forwarded") => Some(ForwardedHeader::Forwarded),
        Some("x-forwarded-for") => Some(ForwardedHeader::XForwardedFor),
        Some(_) => {
            return fault(
                "`forwarded_header` is not a known header; write `Forwarded` or `X-Forwarded-For`"
                    .to_owned(),
            );
        }
    };
    match (proxies == TrustedProxies::default(), header) {
        (false, None) => fault(
            "`trusted_proxies` are set and `forwarded_header` is not; \
             write the one that the proxies set, `Forwarded` or `X-Forwarded-For`"
                .to_owned(),
        ),
        (true, Some(_)) => fault(
            "`forwarded_header` is set and `trusted_proxies` are not; \
             write the proxies' networks, such as `10.0.0.0/8`, or `unix`"
                .to_owned(),
        ),
        _ => Ok((proxies, header)),
    }
}

/// Parses a network, or an address as a network of one.
fn network(text: &str) -> Result<IpNet, Error> {
    let address = || {
        text.parse()
            .ok()
            .map(|address: std::net::IpAddr| IpNet::from(address.to_canonical()))
    };
    let own = |network: &IpNet| !is_mapped(network);
    text.parse().ok().or_else(address).filter(own).ok_or_else(|| {
        Error::Config(
            "one of `trusted_proxies` is not a network; write networks or addresses, such as `10.0.0.0/8` or `192.0.2.1`, or `unix` for the peers of Unix sockets".to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigBuilder};

    fn message(builder: ConfigBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn proxies_and_their_header_go_together() {
        let proxied = |networks: &[&str], header: &str| {
            let builder = Config::builder().trusted_proxies(networks.iter().copied());
            builder.forwarded_header(header).build()
        };
        let config = proxied(&["10.0.0.0/8", "192.0.2.1", "fd00::/8"], "x-forwarded-for").unwrap();
        assert_eq!(config.trusted_proxies().len(), 3);
        assert_eq!(
            config.forwarded_header(),
            Some(ForwardedHeader::XForwardedFor)
        );
        assert!(
            message(Config::builder().trusted_proxies(["10.0.0.0/8"])).contains("forwarded_header")
        );
        assert!(
            message(Config::builder().forwarded_header("Forwarded")).contains("trusted_proxies")
        );
        assert!(!config.trusts_unix_sockets());
        for word in ["unix", "UNIX"] {
            let config = proxied(&[word], "Forwarded").unwrap();
            assert!(config.trusts_unix_sockets() && config.trusted_proxies().is_empty());
        }
        assert!(message(Config::builder().trusted_proxies(["unix"])).contains("forwarded_header"));
        assert!(proxied(&["unix:/run/app.sock"], "Forwarded").is_err());
        assert!(proxied(&["10.0.0.0/33"], "Forwarded").is_err());
        assert!(proxied(&["10.0.0.0/8"], "X-Real-IP").is_err());
    }
}
