//! The check of a request: finds the credential, parses it once, and asks the verifier. The guard
//! in a handler's signature and the middleware both end here.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::web::Bytes;

use super::app_data;
use super::credential::{
    Extracted, GuardCredential, LendKey, Locations, OwnedCredential, find, find_in_body,
    is_of_type, needs_body, strip,
};
use super::key_notice::KeyNotice;
use super::payload::{self, BodyLimits};
use super::policy::{KeptRules, RouteRules};
use super::request_info::ActixRequestInfo;
use super::response::{DeniedResponse, deny};
use super::vary::GuardLocations;
use super::verified::{ManagerIdentity, Verified};
use crate::denied::{Denied, DenyReason};
use crate::key::{KeyId, ParsedKey};
use crate::manager::ApiKeyManager;
use crate::policy::{KeyLocation, RequestInfo as _};
use crate::verify::{
    Allowed, CheckRequest, Credential, DeferReason, EarlierGuard, FastPath, deny_unmanaged,
};

/// The decision of a guard.
pub(super) enum GuardDecision {
    Allow,
    Deny(DeniedResponse),
    /// The check waits for the store or for the body.
    Pending(PendingDecision),
}

/// A decision in progress. It holds the body, and returns it as the handler is to see it.
pub(super) type PendingDecision =
    Pin<Box<dyn Future<Output = (Result<(), DeniedResponse>, Payload)>>>;

/// Checks a request, at once if possible. Compiled once, for all routes.
pub(super) fn check(
    request: &HttpRequest,
    payload: &mut Payload,
    rules: &KeptRules,
) -> GuardDecision {
    #[cfg(feature = "test-util")]
    if let Some(decision) = super::testing::acting(request, rules) {
        return match decision {
            Ok(verified) => {
                verified.insert(request);
                GuardDecision::Allow
            }
            Err(denied) => GuardDecision::Deny(deny_request(denied, request, rules, None)),
        };
    }
    let Some(manager) = app_data::find(request, rules.manager) else {
        tracing::error!(
            path = request.match_pattern(),
            "a guarded handler was reached without a manager; \
             write `App::new().configure(|app| manager.init_app(app))`"
        );
        let denied = deny_unmanaged(DenyReason::NoManager);
        return GuardDecision::Deny(deny_request(denied, request, rules, None));
    };
    let locations = Locations::of(&rules.policy, manager.config());
    let extracted = find(request, locations.list());
    let needs_body = needs_body(request, locations.list());
    let earlier = Verified::earlier(request, ManagerIdentity::of(&manager));
    let route = RouteCheck::new(request, rules, &manager, earlier.as_ref());
    match route.extract(&extracted, needs_body) {
        Extraction::Anonymous => {
            route.allow_anonymous();
            GuardDecision::Allow
        }
        Extraction::Denied(denied) => GuardDecision::Deny(route.deny(denied)),
        Extraction::NeedsBody(credential) => {
            let credential = credential.map(GuardCredential::Presented);
            let credential = credential.map(GuardCredential::into_owned);
            let route = route.to_owned(rules);
            GuardDecision::Pending(Box::pin(check_body(route, payload.take(), credential)))
        }
        Extraction::Credential(credential) => match route.try_check(&credential) {
            FastPath::Decided(Ok(allowed)) => {
                route.allow(&credential, allowed);
                GuardDecision::Allow
            }
            FastPath::Decided(Err(denied)) => GuardDecision::Deny(route.deny(denied)),
            FastPath::Deferred(reason) => {
                let (route, credential) = (route.to_owned(rules), credential.into_owned());
                GuardDecision::Pending(check_deferred(route, payload.take(), credential, reason))
            }
        },
    }
}

/// Refunds what earlier guards charged, and makes the response. The request has no key then.
fn deny_request(
    denied: Denied,
    request: &HttpRequest,
    rules: &RouteRules,
    manager: Option<&ApiKeyManager>,
) -> DeniedResponse {
    Verified::remove_and_refund(request);
    deny(denied, request, rules, manager)
}

/// Decides with the store's help. The future of an `async fn` would have room for its arguments twice.
fn check_deferred(
    route: OwnedRouteCheck,
    payload: Payload,
    credential: OwnedCredential,
    reason: DeferReason,
) -> PendingDecision {
    Box::pin(async move {
        // Boxed, because it is large and rare.
        let earlier = route.earlier().map(Box::new);
        let route = route.borrow(earlier.as_deref());
        let decision = route.check_late(&credential, reason).await;
        (decision.map_err(|denied| route.deny(denied)), payload)
    })
}

/// Reads the body, in which the key may be, and decides. `presented` is the key that was found
/// elsewhere.
async fn check_body(
    route: OwnedRouteCheck,
    payload: Payload,
    presented: Option<OwnedCredential>,
) -> (Result<(), DeniedResponse>, Payload) {
    let earlier = route.earlier();
    let route = route.borrow(earlier.as_ref());
    let config = route.manager.config();
    let limits = BodyLimits {
        bytes: config.body_limit(),
        time: config.body_timeout(),
    };
    let (decision, payload) = match payload::read(route.request, payload, limits).await {
        Ok(body) => {
            let locations = Locations::of(&route.rules.policy, config);
            let decision = route
                .check_with_body(&body, locations.list(), presented)
                .await;
            let body = if decision.is_ok() && route.rules.strip {
                strip::body(route.request, body, locations.list())
            } else {
                body
            };
            (decision, payload::replay(body))
        }
        Err(reason) => (Err(route.record_denial(reason, None)), Payload::None),
    };
    (decision.map_err(|denied| route.deny(denied)), payload)
}

/// A request at a guarded route.
struct RouteCheck<'c> {
    request: &'c HttpRequest,
    rules: &'c RouteRules,
    manager: &'c ApiKeyManager,
    info: ActixRequestInfo<'c>,
    /// What an earlier guard of this request allowed.
    earlier: Option<&'c EarlierGuard>,
}

/// A [`RouteCheck`] that crosses an await.
struct OwnedRouteCheck {
    request: HttpRequest,
    rules: KeptRules,
    manager: ApiKeyManager,
}

impl OwnedRouteCheck {
    /// Reads again what an earlier guard allowed: actix starts all extractors of a handler before it
    /// polls one, so another guard may have decided since.
    fn earlier(&self) -> Option<EarlierGuard> {
        Verified::earlier(&self.request, ManagerIdentity::of(&self.manager))
    }

    fn borrow<'a>(&'a self, earlier: Option<&'a EarlierGuard>) -> RouteCheck<'a> {
        RouteCheck::new(&self.request, &self.rules, &self.manager, earlier)
    }
}

/// What was extracted from a request.
enum Extraction<'f> {
    Credential(GuardCredential<ParsedKey<'f>>),
    /// The body has to be read first. A key may be elsewhere already.
    NeedsBody(Option<ParsedKey<'f>>),
    Anonymous,
    Denied(Denied),
}

impl<'c> RouteCheck<'c> {
    fn new(
        request: &'c HttpRequest,
        rules: &'c RouteRules,
        manager: &'c ApiKeyManager,
        earlier: Option<&'c EarlierGuard>,
    ) -> Self {
        let config = Some(manager.config());
        Self {
            request,
            rules,
            manager,
            info: ActixRequestInfo { request, config },
            earlier,
        }
    }

    fn to_owned(&self, rules: &KeptRules) -> OwnedRouteCheck {
        OwnedRouteCheck {
            request: self.request.clone(),
            rules: rules.clone(),
            manager: self.manager.clone(),
        }
    }

    /// Parses what was found, with no I/O and no hashing. A fault that does not depend on the body
    /// is denied before a byte of the body is read.
    fn extract<'f>(&self, extracted: &'f Extracted<'_>, needs_body: bool) -> Extraction<'f> {
        let denied = |reason, id| Extraction::Denied(self.record_denial(reason, id));
        match extracted {
            Extracted::Multiple => denied(DenyReason::MultipleKeys, None),
            Extracted::Malformed => denied(DenyReason::MalformedRequest, None),
            // The event names the key: it was readable on the way, and has to be replaced.
            Extracted::One(text) if self.lacks_https() => {
                let id = ParsedKey::parse(text).map(|key| key.id().to_id());
                denied(DenyReason::HttpsRequired, id)
            }
            Extracted::One(_) if self.has_stripped() => denied(DenyReason::MultipleKeys, None),
            Extracted::One(text) => {
                let verifier = self.manager.verifier();
                let policy = &self.rules.policy;
                let extraction = if needs_body {
                    let key = verifier.parse(text, policy);
                    key.map(|key| Extraction::NeedsBody(Some(key)))
                } else {
                    let key = verifier.parse_for_lookup(text, policy);
                    key.map(|key| Extraction::Credential(GuardCredential::Presented(key)))
                };
                extraction.unwrap_or_else(Extraction::Denied)
            }
            Extracted::Nothing if needs_body => Extraction::NeedsBody(None),
            Extracted::Nothing => self.extract_verified(),
        }
    }

    /// Extracts what a middleware left of the key that it took out of this request.
    fn extract_verified<'f>(&self) -> Extraction<'f> {
        let policy = &self.rules.policy;
        let denied = |reason, id| Extraction::Denied(self.record_denial(reason, id));
        match Verified::credential(self.request, self.manager, policy.locations) {
            Some(verified) if self.lacks_https() => {
                denied(DenyReason::HttpsRequired, Some(verified.id))
            }
            Some(verified) => {
                let verifier = self.manager.verifier();
                if verifier.accepts_prefix(&verified.prefix, policy) {
                    Extraction::Credential(GuardCredential::AlreadyVerified(verified))
                } else {
                    denied(DenyReason::InvalidKey, Some(verified.id))
                }
            }
            None if policy.optional => Extraction::Anonymous,
            None => denied(DenyReason::MissingKey, None),
        }
    }

    /// Returns whether a middleware took another key out of this request, at one of the route's locations.
    fn has_stripped(&self) -> bool {
        // A stripped key is that of an earlier guard, and most requests do not have one.
        self.earlier.is_some() && {
            let locations = Locations::of(&self.rules.policy, self.manager.config());
            Verified::credential(self.request, self.manager, Some(locations.list())).is_some()
        }
    }

    fn locations(&self) -> GuardLocations {
        GuardLocations::of(&self.rules.policy, Some(self.manager))
    }

    fn lacks_https(&self) -> bool {
        self.rules.policy.require_https && !self.info.is_encrypted()
    }

    fn check_request<'a, K: LendKey>(
        &'a self,
        credential: &'a GuardCredential<K>,
    ) -> CheckRequest<'a, ActixRequestInfo<'c>> {
        let credential = match credential {
            GuardCredential::Presented(key) => Credential::Presented(key.lend()),
            GuardCredential::AlreadyVerified(verified) => Credential::AlreadyVerified(verified),
        };
        CheckRequest {
            credential,
            policy: &self.rules.policy,
            info: &self.info,
            earlier: self.earlier,
        }
    }

    fn try_check<K: LendKey>(&self, credential: &GuardCredential<K>) -> FastPath {
        let request = self.check_request(credential);
        self.manager.verifier().try_check(&request)
    }

    /// Checks a credential, with the store's help if it is needed.
    async fn check<K: LendKey>(&self, credential: &GuardCredential<K>) -> Result<(), Denied> {
        match self.try_check(credential) {
            FastPath::Decided(decision) => {
                self.allow(credential, decision?);
                Ok(())
            }
            FastPath::Deferred(reason) => self.check_late(credential, reason).await,
        }
    }

    /// Finishes a check that was deferred.
    async fn check_late<K: LendKey>(
        &self,
        credential: &GuardCredential<K>,
        reason: DeferReason,
    ) -> Result<(), Denied> {
        let request = self.check_request(credential);
        let allowed = self.manager.verifier().check(&request, reason).await?;
        self.allow(credential, allowed);
        Ok(())
    }

    /// Checks a request whose body was read. A key in the body besides one elsewhere is one too
    /// many, even if both are the same.
    async fn check_with_body(
        &self,
        body: &Bytes,
        locations: &[KeyLocation<'_>],
        presented: Option<OwnedCredential>,
    ) -> Result<(), Denied> {
        let in_body = locations
            .iter()
            .filter(|location| is_of_type(self.request, location))
            .fold(Extracted::Nothing, |found, location| {
                found.and(find_in_body(body, location))
            });
        let Some(presented) = presented else {
            return match self.extract(&in_body, false) {
                Extraction::Credential(credential) => self.check(&credential).await,
                Extraction::Denied(denied) => Err(denied),
                Extraction::Anonymous | Extraction::NeedsBody(_) => {
                    self.allow_anonymous();
                    Ok(())
                }
            };
        };
        match in_body {
            Extracted::Nothing => self.check(&presented).await,
            Extracted::Malformed => Err(self.record_denial(DenyReason::MalformedRequest, None)),
            Extracted::One(_) | Extracted::Multiple => {
                Err(self.record_denial(DenyReason::MultipleKeys, None))
            }
        }
    }

    /// Leaves the key in the extensions, for extractors and later guards.
    fn allow<K: LendKey>(&self, credential: &GuardCredential<K>, allowed: Allowed) {
        let remains = match credential {
            GuardCredential::AlreadyVerified(verified) => Some(Rc::clone(verified)),
            GuardCredential::Presented(key) if self.rules.strip => {
                let verifier = self.manager.verifier();
                let (location, record) = (self.location(), allowed.key.record());
                let verified = verifier.verified_credential(&key.lend(), location, record);
                Some(Rc::new(verified))
            }
            GuardCredential::Presented(_) => None,
        };
        let manager = ManagerIdentity::of(self.manager);
        let key = Some((manager, allowed.key.id()));
        let verified = Verified {
            notice: KeyNotice::of(&allowed, self.manager.config()),
            allowed,
            scopes: self.rules.policy.scopes,
            manager,
            credential: remains,
            passed: Verified::passed(self.request, self.locations(), key),
        };
        verified.insert(self.request);
    }

    /// Allows a request without a key. A key that an earlier guard allowed was not checked against
    /// this route, so the handler does not see it.
    fn allow_anonymous(&self) {
        self.manager.verifier().allow_anonymous();
        Verified::remove_for_anonymous(self.request, self.locations());
    }

    fn deny(&self, denied: Denied) -> DeniedResponse {
        deny_request(denied, self.request, self.rules, Some(self.manager))
    }

    fn record_denial(&self, reason: DenyReason, id: Option<KeyId>) -> Denied {
        tracing::debug!(reason = reason.code(), "denied");
        let policy = &self.rules.policy;
        self.manager.verifier().record_denial(reason, policy, || id)
    }

    /// The location at which the one key of this request was found; `None` stands for the
    /// configured one.
    fn location(&self) -> Option<KeyLocation<'static>> {
        let locations = self.rules.policy.locations?;
        let in_head = |location: &&KeyLocation<'static>| {
            find(self.request, std::slice::from_ref(location)) != Extracted::Nothing
        };
        let in_body = |location: &&KeyLocation<'static>| is_of_type(self.request, location);
        locations
            .iter()
            .find(in_head)
            .or_else(|| locations.iter().find(in_body))
            .copied()
    }
}

#[cfg(test)]
mod tests;
