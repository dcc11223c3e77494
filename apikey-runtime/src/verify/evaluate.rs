//! The evaluation of a credential, a route's policy and a key's own restrictions.

use crate::cache::{CachedKey, KnownEnd, OwnerChanges, WatchEnd, WatchedRequest};
use crate::clock::{ClockReading, Timestamp};
use crate::denied::DenyReason;
use crate::policy::{Policy, RequestInfo, TemplateFault, allows_method};
use crate::record::KeyState;

/// A credential against a record, before the time is known.
pub(super) struct DigestMatch<'k> {
    pub(super) key: &'k CachedKey,
    /// Whether the current digest matches.
    pub(super) current: bool,
    /// The end of the grace of the digest before the last rotation, if that one matches.
    pub(super) previous: Option<Timestamp>,
    pub(super) policy: PolicyEvaluation,
}

impl DigestMatch<'_> {
    /// Returns the end of the grace, if the credential is the secret before the last rotation.
    pub(super) fn superseded(&self) -> Option<Timestamp> {
        self.previous.filter(|_| !self.current)
    }

    /// Decides at `now`. The secret comes first: a caller without the right secret learns nothing
    /// else. `changes` is the count of owners' changes, read after `now`.
    pub(super) fn decide(
        &self,
        now: ClockReading,
        changes: OwnerChanges,
    ) -> Result<(), DenyReason> {
        if !self.current && self.previous.is_none_or(|until| now.now >= until) {
            return Err(DenyReason::InvalidKey);
        }
        self.policy.decide(self.key, now, changes)
    }
}

/// The evaluation of a request by a route's policy and a key's own restrictions.
pub(super) struct PolicyEvaluation {
    requires_https: bool,
    environment: bool,
    address: bool,
    method: bool,
    scopes: Result<bool, TemplateFault>,
    /// The route's pattern, for the log; empty unless a template names a parameter that it lacks.
    lacking_route: String,
}

impl PolicyEvaluation {
    pub(super) fn new(key: &CachedKey, policy: &Policy, info: &dyn RequestInfo) -> Self {
        let route_permits =
            |methods: &[&'static str]| allows_method(methods.iter().copied(), info.method());
        let scopes = policy.scopes.map_or(Ok(true), |scopes| {
            scopes.met(&|scope| key.scopes.contains(scope), info)
        });
        let mut lacking_route = String::new();
        if matches!(scopes, Err(TemplateFault::NoSuchName(_))) {
            info.write_route(&mut |piece| lacking_route.push_str(piece));
        }
        Self {
            requires_https: policy.require_https && !info.is_encrypted(),
            environment: policy
                .environment
                .is_none_or(|only| key.environment() == Some(only)),
            address: permits_address(key, info),
            method: policy.methods.is_none_or(route_permits) && permits_method(key, info),
            scopes,
            lacking_route,
        }
    }

    /// Decides at `now`, in the order of the answers.
    pub(super) fn decide(
        &self,
        key: &CachedKey,
        now: ClockReading,
        changes: OwnerChanges,
    ) -> Result<(), DenyReason> {
        if self.requires_https {
            return Err(DenyReason::HttpsRequired);
        }
        if !self.environment {
            return Err(DenyReason::InvalidKey);
        }
        match key.validity(changes).state(now.now) {
            KeyState::Active => {}
            KeyState::Revoked => return Err(DenyReason::Revoked),
            KeyState::Suspended | KeyState::Disabled => return Err(DenyReason::Disabled),
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
                    route = self.lacking_route,
                    name,
                    "the scope of this route has a template for a parameter that the route's path does not have; \
                     write a name of the path between its braces"
                );
                Err(DenyReason::Misconfigured)
            }
        }
    }
}

/// Judges whether a request that was allowed may go on at `now`. Returns the next end that is known,
/// if there is one.
pub(super) fn judge(
    request: &WatchedRequest,
    key: &CachedKey,
    now: Timestamp,
    changes: OwnerChanges,
) -> Result<Option<KnownEnd>, WatchEnd> {
    match key.validity(changes).state(now) {
        KeyState::Active => {}
        KeyState::Revoked => return Err(WatchEnd::Revoked),
        KeyState::Suspended | KeyState::Disabled | KeyState::NotYetValid => {
            return Err(WatchEnd::Disabled);
        }
        KeyState::Expired => return Err(WatchEnd::Expired),
    }
    let expiry = (key.expires() < Timestamp::MAX).then_some((key.expires(), WatchEnd::Expired));
    let grace = if request.digest.is(&key.digest) {
        None
    } else {
        let previous = key.previous();
        let until = previous.filter(|(digest, until)| request.digest.is(digest) && now < *until);
        Some((until.ok_or(WatchEnd::GraceOver)?.1, WatchEnd::GraceOver))
    };
    if !request.required.met(&|scope| key.scopes.contains(scope)) {
        return Err(WatchEnd::ScopeLost);
    }
    Ok(expiry.into_iter().chain(grace).min_by_key(|(at, _)| *at))
}

/// Returns whether the key may be used from the client's address.
fn permits_address(key: &CachedKey, info: &dyn RequestInfo) -> bool {
    let networks = key.networks();
    // An unknown address is not in any network.
    networks.is_empty()
        || info
            .address()
            .is_some_and(|address| networks.iter().any(|network| network.contains(&address)))
}

/// Returns whether the key may be used for the request's method.
fn permits_method(key: &CachedKey, info: &dyn RequestInfo) -> bool {
    let methods = key.methods();
    methods.is_empty() || allows_method(methods.iter().map(|method| &**method), info.method())
}

/// Returns whether a newer record could overturn a denial. A revocation is never undone, and a
/// misconfigured route stays so.
pub(super) fn is_overturnable(reason: DenyReason) -> bool {
    !matches!(reason, DenyReason::Revoked | DenyReason::Misconfigured)
}
