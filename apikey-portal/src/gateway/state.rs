//! What the requests of mounted gateway endpoints share.

use std::sync::Once;

use apikey_runtime::ApiKeyManager;

use super::demands_cache::DemandsCache;
use super::fault_log::FaultLog;
use super::rule::GatewayRule;

/// What the requests of mounted gateway endpoints share.
pub(super) struct GatewayState {
    pub(super) manager: ApiKeyManager,
    /// The label of `/verify`, by which usage is counted.
    pub(super) verify_label: String,
    pub(super) demands: DemandsCache,
    pub(super) rules: Vec<NamedRule>,
    pub(super) faults: FaultLog,
    /// Whether it was logged that clients are not known.
    pub(super) unknown_clients: Once,
}

/// A rule and its names.
pub(super) struct NamedRule {
    pub(super) name: String,
    /// The label by which the rule's rate and usage are counted.
    pub(super) label: String,
    pub(super) rule: GatewayRule,
}
