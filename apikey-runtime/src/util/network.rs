//! Networks of clients and proxies.

use ipnet::IpNet;

/// Whether a network is one of IPv4 in IPv6's clothes. Addresses of requests are taken out of them,
/// so it would never match.
pub(crate) fn is_mapped(network: &IpNet) -> bool {
    match network {
        IpNet::V4(_) => false,
        IpNet::V6(network) => {
            network.prefix_len() >= 96 && network.addr().to_ipv4_mapped().is_some()
        }
    }
}
