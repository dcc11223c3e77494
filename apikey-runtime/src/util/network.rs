//! Networks of clients and proxies.

use ipnet::IpNet;

/// Returns whether `network` is IPv4-mapped (within `::ffff:0:0/96`). Addresses of requests are
/// converted to IPv4, so such a network would never match.
pub(crate) fn is_mapped(network: &IpNet) -> bool {
    match network {
        IpNet::V4(_) => false,
        IpNet::V6(network) => {
            network.prefix_len() >= 96 && network.addr().to_ipv4_mapped().is_some()
        }
    }
}
