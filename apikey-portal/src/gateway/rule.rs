//! Rules: what a gateway's route demands, by the rule's name.

use apikey_runtime::Policy;

/// What a gateway's route demands; see [`Gateway::rule`](super::Gateway::rule). A [`Policy`] alone is a rule, too.
///
/// ```
/// use apikey_portal::GatewayRule;
/// use apikey_runtime::{Policy, ScopeExpr};
///
/// const ORDERS: Policy = Policy::new().scopes(ScopeExpr::One("orders:write")).methods(&["POST"]);
///
/// // Behind Envoy, whose call has the method of the original request.
/// let rule = GatewayRule::new(ORDERS).own_method();
/// ```
#[derive(Debug, Clone, Copy)]
pub struct GatewayRule {
    pub(super) policy: Policy,
    pub(super) own_method: bool,
}

impl GatewayRule {
    /// Creates a rule. The key is found in the headers that the policy's
    /// [locations](Policy::locations) name, else in that of the manager's configuration.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            own_method: false,
        }
    }

    /// Takes the method of the gateway's call for that of the original request, as Envoy's `ext_authz` means it. By
    /// default, the method is that of `X-Forwarded-Method` or `X-Original-Method`.
    #[must_use]
    pub const fn own_method(mut self) -> Self {
        self.own_method = true;
        self
    }
}

impl From<Policy> for GatewayRule {
    fn from(policy: Policy) -> Self {
        Self::new(policy)
    }
}
