//! The key that a guard allowed, in the extensions of its request.

use std::rc::Rc;

use actix_web::dev::Extensions;
use actix_web::{HttpMessage, HttpRequest};

use super::key_notice::KeyNotice;
use super::policy::RouteRules;
use super::vary::{GuardLocations, PassedGuards};
use crate::api_key::ApiKey;
use crate::cache::WatchersId;
use crate::manager::ApiKeyManager;
use crate::policy::{KeyLocation, ScopeExpr};
use crate::verify::{Allowed, EarlierGuard, VerifiedCredential};

/// A key that was checked. The type is private, so no other code can put one into the extensions.
pub(super) struct Verified {
    pub(super) allowed: Allowed,
    /// The scopes of the guard's policy.
    pub(super) scopes: Option<ScopeExpr>,
    /// The manager that checked it.
    pub(super) manager: ManagerIdentity,
    /// What remains of the key, if a middleware took it out of the request.
    pub(super) credential: Option<Rc<VerifiedCredential>>,
    /// The guards that the request passed.
    pub(super) guards: PassedGuards,
    /// What the response says of the end of the key; usually nothing.
    pub(super) notice: Option<Box<KeyNotice>>,
}

/// The guards that an anonymous request passed.
struct Anonymous(PassedGuards);

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
    /// If the route has its own locations, it counts only if the key was at one of them.
    pub(super) fn credential(
        request: &HttpRequest,
        manager: &ApiKeyManager,
        locations: Option<&[KeyLocation<'static>]>,
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

    /// Returns the guards that this request passed, and now this one.
    pub(super) fn guards(request: &HttpRequest, rules: &RouteRules) -> PassedGuards {
        PassedGuards::with(
            Self::passed(&request.extensions()),
            GuardLocations::of(rules),
        )
    }

    /// Returns the guards that this request passed, with a key or anonymously.
    pub(super) fn passed_guards(request: &HttpRequest) -> Option<PassedGuards> {
        Self::passed(&request.extensions()).cloned()
    }

    fn passed(extensions: &Extensions) -> Option<&PassedGuards> {
        let verified = extensions.get::<Self>().map(|verified| &verified.guards);
        let anonymous = || extensions.get::<Anonymous>().map(|passed| &passed.0);
        verified.or_else(anonymous)
    }

    /// Returns what the response says of the end of the key.
    pub(super) fn notice(request: &HttpRequest) -> Option<KeyNotice> {
        let extensions = request.extensions();
        extensions.get::<Self>()?.notice.as_deref().copied()
    }

    /// Removes the key of an earlier guard, because a later one found none.
    pub(super) fn remove_for_anonymous(request: &HttpRequest, rules: &RouteRules) {
        let guards = Self::guards(request, rules);
        Self::remove(request);
        request.extensions_mut().insert(Anonymous(guards));
    }

    /// Removes the key of an earlier guard.
    pub(super) fn remove(request: &HttpRequest) {
        request.extensions_mut().remove::<Self>();
    }
}
