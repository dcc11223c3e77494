//! What a claim, a route and a key's own limits say, and the decision that follows.

use crate::cache::CachedKey;
use crate::clock::{ClockReading, Timestamp};
use crate::denied::DenyReason;
use crate::policy::{Policy, RequestInfo, TemplateFault, allows_method};
use crate::record::KeyState;

/// A claim against a record.
pub(super) struct DigestMatch<'k> {
    pub(super) key: &'k CachedKey,
    pub(super) current: bool,
    /// Until when the digest before the last rotation is good, where it is the one that matches.
    pub(super) previous: Option<Timestamp>,
    pub(super) policy: PolicyEvaluation,
}

impl DigestMatch<'_> {
    /// The decision at `now`. The order is that of the answers: who has not the right secret learns
    /// nothing else.
    pub(super) fn at(&self, now: ClockReading) -> Result<(), DenyReason> {
        if !self.current && self.previous.is_none_or(|until| now.now >= until) {
            return Err(DenyReason::InvalidKey);
        }
        self.policy.at(self.key, now)
    }
}

/// What a route and a key's own limits say of a caller who has the right secret.
pub(super) struct PolicyEvaluation {
    clear_text: bool,
    family: bool,
    address: bool,
    method: bool,
    scopes: Result<bool, TemplateFault>,
}

impl PolicyEvaluation {
    pub(super) fn of(key: &CachedKey, policy: &Policy, info: &dyn RequestInfo) -> Self {
        let route_admits =
            |methods: &[&'static str]| allows_method(methods.iter().copied(), info.method());
        Self {
            clear_text: policy.require_https && !info.is_encrypted(),
            family: policy
                .environment
                .is_none_or(|only| key.environment() == Some(only)),
            address: key.admits_address(info),
            method: policy.methods.is_none_or(route_admits) && key.admits_method(info),
            scopes: policy.scopes.map_or(Ok(true), |scopes| {
                scopes.met(&|scope| key.scopes.contains(scope), info)
            }),
        }
    }

    pub(super) fn at(&self, key: &CachedKey, now: ClockReading) -> Result<(), DenyReason> {
        if self.clear_text {
            return Err(DenyReason::HttpsRequired);
        }
        if !self.family {
            return Err(DenyReason::InvalidKey);
        }
        match key.validity.state(now.now) {
            KeyState::Active => {}
            KeyState::Revoked => return Err(DenyReason::Revoked),
            KeyState::Disabled => return Err(DenyReason::Disabled),
            KeyState::Expired => return Err(DenyReason::Expired),
            KeyState::NotYetValid => return Err(DenyReason::NotYetValid),
        }
        if !self.address {
            return Err(DenyReason::AddressNotPermitted);
        }
        if !self.method {
            return Err(DenyReason::MethodNotPermitted);
        }
        match self.scopes {
            Ok(true) => Ok(()),
            Ok(false) | Err(TemplateFault::NotASegment) => Err(DenyReason::InsufficientScope),
            Err(TemplateFault::NoSuchName(name)) => {
                tracing::error!(
                    name,
                    "a scope's template names a part that the route's path lacks; \
                     write a name of the path between its braces"
                );
                Err(DenyReason::Misconfigured)
            }
        }
    }
}
