//! What restricts keys besides their scopes and their ends: environments, networks and methods.

use apikey_runtime::KeyRecord;
use ipnet::IpNet;

/// Returns whether a key is restricted at least as another one.
pub(super) fn is_as_restricted(key: &KeyRecord, model: &KeyRecord) -> bool {
    key.environment == model.environment
        && are_networks_within(&key.networks, &model.networks)
        && are_methods_within(&key.methods, &model.methods)
}

/// Returns whether all of these networks are parts of others; an empty list is of all networks.
fn are_networks_within(networks: &[IpNet], others: &[IpNet]) -> bool {
    let is_within = |network: &IpNet| others.iter().any(|other| other.contains(network));
    others.is_empty() || !networks.is_empty() && networks.iter().all(is_within)
}

/// Returns whether all of these methods are among others; an empty list is of all methods, and `GET` includes `HEAD`.
fn are_methods_within(methods: &[String], others: &[String]) -> bool {
    let has = |name: &str| others.iter().any(|other| other == name);
    let is_within = |method: &String| has(method) || method == "HEAD" && has("GET");
    others.is_empty() || !methods.is_empty() && methods.iter().all(is_within)
}
