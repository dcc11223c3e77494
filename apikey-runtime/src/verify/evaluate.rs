//! The evaluation of a credential, a route's policy and a key's own restrictions.

use crate::cache::{CachedKey, KnownEnd, OwnerChanges, WatchEnd, WatchedRequest, known_end};
use crate::clock::{ClockReading, Timestamp};
use crate::denied::DenyReason;
use crate::policy::{FilledTemplates, Policy, RequestInfo, TemplateFault, allows_method};
use crate::record::KeyState;

/// The digest of a record that a credential matches. It holds for as long as the record is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DigestMatch {
    Current,
    /// The digest before the last rotation, whose grace ends at this time.
    Previous(Timestamp),
    Nothing,
}

impl DigestMatch {
    /// Returns whether the credential is a secret of the key at `now`.
    #[inline]
    pub(super) fn is_secret(self, now: Timestamp) -> bool {
        match self {
            Self::Current => true,
            Self::Previous(until) => now < until,
            Self::Nothing => false,
        }
    }
}

/// Why a key is denied.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyDenial {
    pub(super) reason: DenyReason,
    /// Whether the credential is a secret of the key nevertheless.
    pub(super) is_secret: bool,
}

impl KeyDenial {
    /// Creates that of a credential which is not a secret.
    pub(super) fn invalid() -> Self {
        Self {
            reason: DenyReason::InvalidKey,
            is_secret: false,
        }
    }
}

/// A request against a record, before the time is known.
pub(super) struct Evaluation<'k> {
    pub(super) key: &'k CachedKey,
    pub(super) matched: DigestMatch,
    pub(super) policy: PolicyEvaluation,
}

impl<'k> Evaluation<'k> {
    /// Evaluates what does not depend on the time.
    #[inline]
    pub(super) fn new(
        key: &'k CachedKey,
        matched: DigestMatch,
        policy: &Policy,
        info: &dyn RequestInfo,
    ) -> Self {
        Self {
            key,
            matched,
            policy: PolicyEvaluation::new(key, policy, info),
        }
    }

    /// Decides at `now`. The secret comes first: a caller without the right secret learns nothing
    /// else. `changes` is the count of owners' changes, read after `now`.
    #[inline]
    pub(super) fn decide(
        &self,
        now: ClockReading,
        changes: OwnerChanges,
    ) -> Result<(), DenyReason> {
        if !self.matched.is_secret(now.now) {
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
    scopes: ScopeEvaluation,
}

/// The evaluation of a key by a route's scopes.
enum ScopeEvaluation {
    Met(FilledTemplates),
    Unmet,
    /// A template names a parameter that the route's pattern does not have, or has more than once.
    Misconfigured {
        name: &'static str,
        route: String,
        is_ambiguous: bool,
    },
}

impl ScopeEvaluation {
    fn new(key: &CachedKey, policy: &Policy, info: &dyn RequestInfo) -> Self {
        let given = info.required_scopes();
        if given.is_some_and(|given| !given.iter().all(|scope| key.scopes.contains(scope))) {
            return Self::Unmet;
        }
        let Some(scopes) = policy.scopes else {
            return Self::Met(FilledTemplates::default());
        };
        let filled = if policy.has_template {
            scopes.fill(info)
        } else {
            Ok(FilledTemplates::default())
        };
        match filled {
            Ok(filled) if scopes.met(&filled, &|scope| key.scopes.contains(scope)) => {
                Self::Met(filled)
            }
            Ok(_) | Err(TemplateFault::NotASegment) => Self::Unmet,
            Err(fault @ (TemplateFault::NoSuchName(name) | TemplateFault::AmbiguousName(name))) => {
                let mut route = String::new();
                info.write_route(&mut |piece| route.push_str(piece));
                Self::Misconfigured {
                    name,
                    route,
                    is_ambiguous: fault != TemplateFault::NoSuchName(name),
                }
            }
        }
    }
}

impl PolicyEvaluation {
    pub(super) fn new(key: &CachedKey, policy: &Policy, info: &dyn RequestInfo) -> Self {
        let route_permits =
            |methods: &[&'static str]| allows_method(methods.iter().copied(), info.method());
        Self {
            requires_https: policy.require_https && !info.is_encrypted(),
            environment: policy
                .environment
                .is_none_or(|only| key.environment() == Some(only)),
            address: permits_address(key, info),
            method: policy.methods.is_none_or(route_permits) && permits_method(key, info),
            scopes: ScopeEvaluation::new(key, policy, info),
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
            KeyState::Idle => return Err(DenyReason::Idle),
        }
        if !self.address {
            return Err(DenyReason::AddressNotPermitted);
        }
        if !self.method {
            return Err(DenyReason::MethodNotPermitted);
        }
        match &self.scopes {
            ScopeEvaluation::Met(_) => Ok(()),
            ScopeEvaluation::Unmet => Err(DenyReason::InsufficientScope),
            ScopeEvaluation::Misconfigured {
                name,
                route,
                is_ambiguous,
            } => {
                if *is_ambiguous {
                    tracing::error!(
                        route,
                        name,
                        "the scope of this route has a template for a parameter that stands more than once in the \
                         route's path; give each parameter a name of its own"
                    );
                } else {
                    tracing::error!(
                        route,
                        name,
                        "the scope of this route has a template for a parameter that the route's path does not have; \
                         write a name of the path between its braces"
                    );
                }
                Err(DenyReason::Misconfigured)
            }
        }
    }

    /// Returns the templates of the route's scopes as this evaluation filled them.
    #[inline]
    pub(super) fn into_filled(self) -> FilledTemplates {
        match self.scopes {
            ScopeEvaluation::Met(filled) => filled,
            ScopeEvaluation::Unmet | ScopeEvaluation::Misconfigured { .. } => {
                FilledTemplates::default()
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
        KeyState::Idle => return Err(WatchEnd::Idle),
    }
    let grace = if request.digest.is(&key.digest) {
        None
    } else {
        let previous = key.previous();
        let until = previous.filter(|(digest, until)| request.digest.is(digest) && now < *until);
        Some(until.ok_or(WatchEnd::GraceOver)?.1)
    };
    if !request.required.met(&|scope| key.scopes.contains(scope)) {
        return Err(WatchEnd::ScopeLost);
    }
    Ok(known_end(key, grace))
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
