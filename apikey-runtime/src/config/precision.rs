//! The precision of stored client addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The number of leading bits of a client's address that are kept; the other bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkPrecision {
    ipv4: u8,
    ipv6: u8,
}

impl NetworkPrecision {
    /// Returns the number of bits of an IPv4 address that are kept, 0 to 32.
    #[must_use]
    pub const fn ipv4(&self) -> u8 {
        self.ipv4
    }

    /// Returns the number of bits of an IPv6 address that are kept, 0 to 128.
    #[must_use]
    pub const fn ipv6(&self) -> u8 {
        self.ipv6
    }

    /// Returns the network of `address` that is kept. An IPv4-mapped IPv6 address
    /// (`::ffff:192.0.2.1`) counts as IPv4.
    #[must_use]
    #[inline]
    pub fn network(&self, address: IpAddr) -> IpNet {
        let (address, bits) = match address.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.unbounded_shl(32 - u32::from(self.ipv4));
                let kept = Ipv4Addr::from_bits(address.to_bits() & mask);
                (IpAddr::V4(kept), self.ipv4)
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.unbounded_shl(128 - u32::from(self.ipv6));
                let kept = Ipv6Addr::from_bits(address.to_bits() & mask);
                (IpAddr::V6(kept), self.ipv6)
            }
        };
        // Both numbers of bits are in range, as `parse` checks.
        IpNet::new(address, bits).unwrap_or_else(|_out_of_range| IpNet::from(address))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (ipv4, ipv6) = text.split_once('/')?;
        let bits = |text: &str, most: u8| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let bits = digits.then(|| text.parse().ok()).flatten();
            bits.filter(|bits| *bits <= most)
        };
        Some(Self {
            ipv4: bits(ipv4, 32)?,
            ipv6: bits(ipv6, 128)?,
        })
    }
}

impl Default for NetworkPrecision {
    fn default() -> Self {
        Self { ipv4: 24, ipv6: 48 }
    }
}

/// Formats it as configured: `24/48`.
impl fmt::Display for NetworkPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ipv4, self.ipv6)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_network_is_kept_as_precisely_as_is_said() {
        let precise = |text: &str| Config::builder().usage_network_precision(text).build();
        let kept = |text: &str, address: &str| {
            let precision = precise(text).unwrap().usage_network_precision().unwrap();
            assert_eq!(precision.to_string(), text);
            precision.network(address.parse().unwrap()).to_string()
        };
        assert_eq!(kept("24/48", "192.0.2.77"), "192.0.2.0/24");
        assert_eq!(kept("24/48", "::ffff:192.0.2.77"), "192.0.2.0/24");
        assert_eq!(kept("24/48", "2001:db8:1:2::3"), "2001:db8:1::/48");
        assert_eq!(kept("32/128", "2001:db8::3"), "2001:db8::3/128");
        assert_eq!(kept("0/0", "192.0.2.77"), "0.0.0.0/0");
        for text in [
            "", "24", "33/48", "24/129", "/", "24/", "+1/2", "24/48/1", "a/b", " 24/48",
        ] {
            let message = precise(text).unwrap_err().to_string();
            assert!(message.contains("as in `24/48`"), "{text}: {message}");
        }
    }
}
