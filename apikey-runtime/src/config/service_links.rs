//! The environment variables that Kubernetes adds for a service.
//!
//! A service named `actix-api-key` gives each container of its namespace `ACTIX_API_KEY_PORT` and
//! others, which are not settings. Their names and values follow Docker's links: see "Discovering
//! services" in the documentation of Kubernetes.

use std::net::IpAddr;

/// Returns whether a variable, without the namespace, has the name and the value of a service link.
pub(super) fn is_service_link(suffix: &str, value: &str) -> bool {
    // A service `actix-api-key-store` adds `STORE_` before each name.
    let mut starts = suffix.match_indices('_').map(|(at, _)| &suffix[at + 1..]);
    is_link(suffix, value) || starts.any(|rest| is_link(rest, value))
}

fn is_link(name: &str, value: &str) -> bool {
    match name {
        "SERVICE_HOST" => is_address(value),
        "SERVICE_PORT" => is_port(value),
        "PORT" => is_url(value),
        _ => match name.strip_prefix("SERVICE_PORT_") {
            Some(named) => !named.is_empty() && is_port(value),
            None => name
                .strip_prefix("PORT_")
                .is_some_and(|rest| is_port_of_link(rest, value)),
        },
    }
}

/// Returns whether a variable is one of `80_TCP`, `80_TCP_PROTO`, `80_TCP_PORT`, `80_TCP_ADDR`.
fn is_port_of_link(name: &str, value: &str) -> bool {
    let mut words = name.split('_');
    let (port, protocol) = (words.next(), words.next());
    let named = port.is_some_and(is_port) && protocol.is_some_and(is_protocol);
    let fits = match (words.next(), words.next()) {
        (None, None) => is_url(value),
        (Some("PROTO"), None) => is_protocol(value),
        (Some("PORT"), None) => is_port(value),
        (Some("ADDR"), None) => is_address(value),
        _ => false,
    };
    named && fits
}

fn is_protocol(text: &str) -> bool {
    ["tcp", "udp", "sctp"]
        .iter()
        .any(|known| text.eq_ignore_ascii_case(known))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Returns whether a text is as `tcp://10.0.0.11:80`, or `tcp://[fd00::11]:80`.
fn is_url(text: &str) -> bool {
    let parts = text
        .split_once("://")
        .and_then(|(protocol, rest)| Some((protocol, rest.rsplit_once(':')?)));
    parts.is_some_and(|(protocol, (host, port))| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        is_protocol(protocol) && is_address(host) && is_port(port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kubernetes adds for the service `actix-api-key`, and for `actix-api-key-store`.
    #[test]
    fn the_variables_of_a_service_are_links() {
        for (name, value) in [
            ("SERVICE_HOST", "10.0.0.11"),
            ("SERVICE_PORT", "80"),
            ("SERVICE_PORT_HTTP", "80"),
            ("SERVICE_PORT_GRPC_WEB", "81"),
            ("PORT", "tcp://10.0.0.11:80"),
            ("PORT_80_TCP", "tcp://10.0.0.11:80"),
            ("PORT_80_TCP_PROTO", "tcp"),
            ("PORT_80_TCP_PORT", "80"),
            ("PORT_80_TCP_ADDR", "10.0.0.11"),
            ("PORT_53_UDP", "udp://10.0.0.11:53"),
            ("PORT_53_UDP_ADDR", "fd00::11"),
            ("PORT", "tcp://[fd00::11]:80"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
            let name = format!("STORE_{name}");
            assert!(is_service_link(&name, value), "{name}={value}");
        }
    }

    #[test]
    fn a_slip_is_not_a_link() {
        for (name, value) in [
            ("PORT", "8080"),
            ("PORT", "http://10.0.0.11:80"),
            ("PORT", "tcp://"),
            ("PORT", ""),
            ("PORTS", "tcp://10.0.0.11:80"),
            ("SERVICE_HOST", "example.org"),
            ("SERVICE_PORT", "http"),
            ("SERVICE_PORT_", "80"),
            ("PORT_80_TCP_ADDR", "x"),
            ("PORT_80_HTTP", "tcp://10.0.0.11:80"),
            ("PORT_X_TCP", "tcp://10.0.0.11:80"),
            ("PORT_80_TCP_PORT_X", "80"),
            ("HEADER_NAM", "10.0.0.11"),
            ("STORE_TIMEOUT", "80"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}
