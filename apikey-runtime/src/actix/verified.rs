//! The key that a guard allowed, in the extensions of its request.

use std::rc::Rc;

use actix_web::{HttpMessage, HttpRequest};

use super::key_notice::KeyNotice;
use super::vary::{GuardLocations, PassedGuards};
use crate::api_key::ApiKey;
use crate::cache::WatchersId;
use crate::key::KeyId;
use crate::manager::ApiKeyManager;
use crate::policy::{KeyLocation, ScopeExpr};
use crate::verify::{Allowed, EarlierGuard, VerifiedCredential, Verifier};

/// A key that was checked. The type is private, so no other code can put one into the extensions.
pub(super) struct Verified {
    pub(super) allowed: Allowed,
    /// The scopes of the guard's policy.
    pub(super) scopes: Option<ScopeExpr>,
    /// The manager that checked it.
    pub(super) manager: ManagerIdentity,
    /// What remains of the key, if a middleware took it out of the request.
    pub(super) credential: Option<Rc<VerifiedCredential>>,
    /// The checks that the request passed.
    pub(super) passed: PassedChecks,
    /// What the response says of the end of the key; usually nothing.
    pub(super) notice: Option<Box<KeyNotice>>,
}

/// The checks that a request passed whose last guard found no key, or denied it.
struct WithoutKey(PassedChecks);

/// The checks that a request passed.
#[derive(Clone)]
pub(super) struct PassedChecks {
    guards: PassedGuards,
    /// What was charged by those whose keys later guards replaced.
    charged: Vec<ReplacedCharge>,
}

/// What a guard charged whose key a later guard replaced: that of another manager, another one, or none.
#[derive(Clone)]
struct ReplacedCharge {
    manager: ManagerIdentity,
    allowed: Allowed,
}

impl ReplacedCharge {
    /// Refunds it, unless the manager is gone, and its counts with it.
    fn refund(&self) {
        if let Some(verifier) = self.manager.0.and_then(Verifier::of) {
            verifier.refund(&self.allowed);
        }
    }
}

/// Identifies a manager, by its watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ManagerIdentity(Option<WatchersId>);

impl ManagerIdentity {
    pub(super) fn of(manager: &ApiKeyManager) -> Self {
        Self(Some(manager.verifier().watchers_id()))
    }

    /// The identity without a manager, for a key that a test acts as.
    #[cfg(feature = "test-util")]
    pub(super) const NONE: Self = Self(None);
}

impl Verified {
    /// Returns what an earlier guard with this manager allowed in this request.
    pub(super) fn earlier(request: &HttpRequest, manager: ManagerIdentity) -> Option<EarlierGuard> {
        let extensions = request.extensions();
        let verified = extensions.get::<Self>()?;
        (verified.manager == manager).then(|| EarlierGuard {
            allowed: verified.allowed.clone(),
            scopes: verified.scopes,
        })
    }

    /// Hands the key out.
    pub(super) fn api_key(&self) -> ApiKey {
        let key = self.allowed.key.clone();
        key.into_api_key(self.manager.0, self.scopes)
    }

    /// Returns what remains of a key that a middleware with this manager stripped from the request.
    /// With `locations`, it counts only if the key was at one of them.
    pub(super) fn credential(
        request: &HttpRequest,
        manager: &ApiKeyManager,
        locations: Option<&[KeyLocation<'_>]>,
    ) -> Option<Rc<VerifiedCredential>> {
        let extensions = request.extensions();
        let verified = extensions.get::<Self>()?;
        let credential = verified.credential.as_ref()?;
        let location = credential.location.unwrap_or(manager.config().location());
        let own = verified.manager == ManagerIdentity::of(manager);
        let permitted = locations.is_none_or(|locations| locations.contains(&location));
        (own && permitted).then(|| Rc::clone(credential))
    }

    /// Puts the key where extractors find it, in place of that of an earlier guard.
    pub(super) fn insert(self, request: &HttpRequest) {
        let mut extensions = request.extensions_mut();
        match extensions.get_mut::<Self>() {
            Some(earlier) => *earlier = self,
            None => drop(extensions.insert(self)),
        }
    }

    /// Returns the checks that this request passed, and now one at these locations. `key` is the one that
    /// it allowed: it carries on what an earlier guard of its manager charged to it.
    pub(super) fn passed(
        request: &HttpRequest,
        last: GuardLocations,
        key: Option<(ManagerIdentity, KeyId)>,
    ) -> PassedChecks {
        let extensions = request.extensions();
        let Some(verified) = extensions.get::<Self>() else {
            let earlier = extensions.get::<WithoutKey>().map(|passed| &passed.0);
            return PassedChecks::with(earlier, last);
        };
        let mut passed = PassedChecks::with(Some(&verified.passed), last);
        if key != Some((verified.manager, verified.allowed.key.id())) {
            passed.charged.extend(verified.charge());
        }
        passed
    }

    /// Returns the guards that this request passed, with a key or without.
    pub(super) fn passed_guards(request: &HttpRequest) -> Option<PassedGuards> {
        let extensions = request.extensions();
        let verified = extensions.get::<Self>().map(|verified| &verified.passed);
        let without = || extensions.get::<WithoutKey>().map(|passed| &passed.0);
        verified
            .or_else(without)
            .map(|passed| passed.guards.clone())
    }

    /// Returns what is to be refunded if a later guard denies the request.
    fn charge(&self) -> Option<ReplacedCharge> {
        let allowed = &self.allowed;
        let is_charged = !allowed.applied.is_empty() || allowed.usage_entry.is_some();
        is_charged.then(|| ReplacedCharge {
            manager: self.manager,
            allowed: allowed.clone(),
        })
    }

    /// Returns what the response says of the end of the key.
    pub(super) fn notice(request: &HttpRequest) -> Option<KeyNotice> {
        let extensions = request.extensions();
        extensions.get::<Self>()?.notice.as_deref().copied()
    }

    /// Removes the key of an earlier guard, because a later one, at these locations, found none.
    pub(super) fn remove_for_anonymous(request: &HttpRequest, locations: GuardLocations) {
        let passed = Self::passed(request, locations, None);
        let mut extensions = request.extensions_mut();
        extensions.remove::<Self>();
        extensions.insert(WithoutKey(passed));
    }

    /// Removes the key of an earlier guard, because a later one denied the request, and refunds what all
    /// earlier guards charged, once.
    pub(super) fn remove_and_refund(request: &HttpRequest) {
        let mut extensions = request.extensions_mut();
        let charged = match extensions.remove::<Self>() {
            Some(verified) => {
                let charge = verified.charge();
                let mut passed = verified.passed;
                let mut charged = std::mem::take(&mut passed.charged);
                charged.extend(charge);
                extensions.insert(WithoutKey(passed));
                charged
            }
            None => extensions
                .get_mut::<WithoutKey>()
                .map(|passed| std::mem::take(&mut passed.0.charged))
                .unwrap_or_default(),
        };
        charged.iter().for_each(ReplacedCharge::refund);
    }
}

impl PassedChecks {
    fn with(earlier: Option<&Self>, last: GuardLocations) -> Self {
        Self {
            guards: PassedGuards::with(earlier.map(|earlier| &earlier.guards), last),
            charged: earlier.map_or_else(Vec::new, |earlier| earlier.charged.clone()),
        }
    }
}
