//! The caller of an endpoint itself, which need not be the client of a gateway.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use apikey_runtime::audit::{ChangeChannel, ChangeOrigin};
use apikey_runtime::manager::RequestFacts;

/// Returns the facts of a caller's request, without its route.
pub(super) fn facts(request: &HttpRequest) -> RequestFacts<'_> {
    let facts = RequestFacts::of_request(request);
    match facts.address().or_else(|| own_address(request)) {
        Some(address) => facts.with_address(address),
        None => facts,
    }
}

/// Returns the origin of a change that a caller asks for.
pub(super) fn origin(request: &HttpRequest) -> ChangeOrigin {
    let mut origin = ChangeOrigin::of_request(request).with_channel(ChangeChannel::Api);
    origin.address = origin.address.or_else(|| own_address(request));
    origin
}

/// Returns the address of the connection if the request does not say that it is another's.
///
/// A trusted proxy names its clients, so their address is unknown if it does not. A gateway that calls by itself has none to
/// name.
fn own_address(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    (!is_forwarded(request.headers())).then_some(peer)
}

/// Returns whether a proxy wrote anything of a client: with `Connection`, a client makes some proxies drop one of these
/// headers, but not all.
fn is_forwarded(headers: &HeaderMap) -> bool {
    let is_of_proxies =
        |name: &str| name.starts_with("x-forwarded-") || ["x-real-ip", "via"].contains(&name);
    headers.contains_key(header::FORWARDED)
        || headers.keys().any(|name| is_of_proxies(name.as_str()))
}
