//! The gate: from a request to a decision. The attribute and the middleware both end here, and it
//! ends in `verify`.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::web::Bytes;
use actix_web::{HttpMessage, HttpRequest};

use super::app_data;
use super::credential::strip;
use super::credential::{Extracted, in_body, is_of_type, locate};
use super::payload::{self, BodyLimits};
use super::policy::RouteRules;
use super::request_info::ActixRequestInfo;
use super::response::{DeniedResponse, refuse};
use crate::config::Config;
use crate::denied::{Denied, DenyReason};
use crate::key::{KeyId, ParsedKey};
use crate::manager::ApiKeyManager;
use crate::policy::{KeyLocation, Policy, RequestInfo as _};
use crate::verify::{
    Allowed, CheckRequest, Credential, DeferReason, FastPath, VerifiedCredential, deny_unmanaged,
};

/// What the gate says.
pub(super) enum GuardDecision {
    Allow,
    Deny(DeniedResponse),
    /// The store has to be asked, or the body to be read.
    Pending(PendingDecision),
}

/// A decision under way. It holds the body, and hands it back as the handler is to see it.
pub(super) type PendingDecision =
    Pin<Box<dyn Future<Output = (Result<(), DeniedResponse>, Payload)>>>;

/// A key that was checked, among a request's extensions. The type is private: nothing else can put
/// one there.
pub(super) struct Verified {
    pub(super) allowed: Allowed,
    /// Which manager's it is, by the address of what the manager shares.
    manager: usize,
    /// Where the key was taken out of the request.
    verified_credential: Option<Rc<VerifiedCredential>>,
}

/// Where the route looks for the key.
enum Locations<'m> {
    OfRoute(&'static [KeyLocation<'static>]),
    OfConfig([KeyLocation<'m>; 1]),
}

impl<'m> Locations<'m> {
    fn of(policy: &Policy, config: &'m Config) -> Self {
        policy
            .locations
            .map_or_else(|| Self::OfConfig([config.location()]), Self::OfRoute)
    }

    fn list(&self) -> &[KeyLocation<'m>] {
        match self {
            Self::OfRoute(locations) => locations,
            Self::OfConfig(location) => location,
        }
    }
}

/// Decides, where that can be done at once. Compiled once, for all routes.
pub(super) fn check(
    request: &HttpRequest,
    payload: &mut Payload,
    rules: &RouteRules,
) -> GuardDecision {
    let shut = |denied, manager| GuardDecision::Deny(refuse(denied, request, rules, manager));
    #[cfg(feature = "test-util")]
    if let Some(decision) = super::testing::acting(request, rules) {
        return match decision {
            Ok(allowed) => enter(
                request,
                Verified {
                    allowed,
                    manager: 0,
                    verified_credential: None,
                },
            ),
            Err(denied) => shut(denied, None),
        };
    }
    let Some(manager) = app_data::find(request, rules) else {
        tracing::error!(
            path = request.match_pattern(),
            "a guarded handler was reached and there is no manager; \
             write `App::new().configure(|app| manager.init_app(app))`"
        );
        return shut(deny_unmanaged(DenyReason::NoManager), None);
    };
    let locations = Locations::of(&rules.policy, manager.config());
    let found = locate(request, locations.list());
    let checkpoint = RouteCheck {
        request,
        rules,
        manager: &manager,
    };
    match checkpoint.extract(&found, needs_body(request, locations.list())) {
        Extraction::Anonymous => {
            leave_anonymous(request, &manager);
            GuardDecision::Allow
        }
        Extraction::DeniedResponse(denied) => {
            checkpoint.refund();
            shut(denied, Some(&manager))
        }
        Extraction::Body => wait(request, payload, rules, &manager, None),
        Extraction::Credential(credential) => {
            let request_info = checkpoint.request_info();
            let check_request = CheckRequest {
                credential: credential.borrow(),
                policy: &rules.policy,
                info: &request_info,
                earlier,
            };
            match manager.verifier().try_check(&check_request) {
                FastPath::Decided(Ok(allowed)) => {
                    enter(request, checkpoint.verified(&credential, allowed))
                }
                FastPath::Decided(Err(denied)) => {
                    checkpoint.refund();
                    shut(denied, Some(&manager))
                }
                FastPath::Deferred(why) => wait(request, payload, rules, &manager, Some(why)),
            }
        }
    }
}

/// `why` is what memory said, where the body does not have to be read first.
fn wait(
    request: &HttpRequest,
    payload: &mut Payload,
    rules: &RouteRules,
    manager: &ApiKeyManager,
    why: Option<DeferReason>,
) -> GuardDecision {
    let late = check_deferred(
        request.clone(),
        payload.take(),
        *rules,
        manager.clone(),
        why,
    );
    GuardDecision::Pending(Box::pin(late))
}

/// Leaves the key where extractors find it.
fn enter(request: &HttpRequest, verified: Verified) -> GuardDecision {
    request.extensions_mut().insert(verified);
    GuardDecision::Allow
}

/// A key that another gate let in was never judged by this route, and is not the handler's to see.
fn leave_anonymous(request: &HttpRequest, manager: &ApiKeyManager) {
    manager.verifier().allow_anonymous();
    request.extensions_mut().remove::<Verified>();
}

/// Decides with the store's help, and after reading the body where the key may stand there.
async fn check_deferred(
    request: HttpRequest,
    mut payload: Payload,
    rules: RouteRules,
    manager: ApiKeyManager,
    why: Option<DeferReason>,
) -> (Result<(), DeniedResponse>, Payload) {
    let locations = Locations::of(&rules.policy, manager.config());
    let decision = if needs_body(&request, locations.list()) {
        let config = manager.config();
        let bounds = BodyLimits {
            bytes: config.body_limit(),
            time: config.body_timeout(),
        };
        match payload::read(&request, payload.take(), bounds).await {
            Ok(read) => {
                let decision = decide(
                    &request,
                    Some(&read),
                    locations.list(),
                    &rules,
                    &manager,
                    None,
                )
                .await;
                let allowed = decision.is_ok() && rules.strip;
                let left = if allowed {
                    strip::body(&request, read, locations.list())
                } else {
                    read
                };
                payload = payload::replay(left);
                decision
            }
            Err(reason) => {
                tracing::debug!(reason = reason.code(), "refused");
                let verifier = manager.verifier();
                Err(verifier.deny(reason, &rules.policy, || None))
            }
        }
    } else {
        decide(&request, None, locations.list(), &rules, &manager, why).await
    };
    let verdict = decision.map_err(|denied| {
        let checkpoint = RouteCheck {
            request: &request,
            rules: &rules,
            manager: &manager,
        };
        checkpoint.refund();
        refuse(denied, &request, &rules, Some(&manager))
    });
    (verdict, payload)
}

async fn decide(
    request: &HttpRequest,
    body: Option<&Bytes>,
    locations: &[KeyLocation<'_>],
    rules: &RouteRules,
    manager: &ApiKeyManager,
    why: Option<DeferReason>,
) -> Result<(), Denied> {
    let checkpoint = RouteCheck {
        request,
        rules,
        manager,
    };
    let found = body.iter().fold(locate(request, locations), |found, body| {
        locations
            .iter()
            .filter(|location| is_of_type(request, location))
            .fold(found, |found, location| found.and(in_body(body, location)))
    });
    let credential = match checkpoint.extract(&found, false) {
        Extraction::Credential(credential) => credential,
        Extraction::DeniedResponse(denied) => return Err(denied),
        Extraction::Anonymous | Extraction::Body => {
            leave_anonymous(request, manager);
            return Ok(());
        }
    };
    let request_info = checkpoint.request_info();
    let check_request = CheckRequest {
        credential: credential.borrow(),
        policy: &rules.policy,
        info: &request_info,
        earlier,
    };
    let verifier = manager.verifier();
    let now = why.map_or_else(|| verifier.try_check(&check_request), FastPath::Deferred);
    let allowed = match now {
        FastPath::Decided(decision) => decision?,
        FastPath::Deferred(why) => verifier.check(&check_request, why).await?,
    };
    enter(request, checkpoint.verified(&credential, allowed));
    Ok(())
}

/// Whether the key may stand in the body.
fn needs_body(request: &HttpRequest, locations: &[KeyLocation<'_>]) -> bool {
    locations
        .iter()
        .any(|location| location.is_in_body() && is_of_type(request, location))
}

/// A request before a route.
struct RouteCheck<'c> {
    request: &'c HttpRequest,
    rules: &'c RouteRules,
    manager: &'c ApiKeyManager,
}

/// What a request asks of the manager.
enum Extraction<'f> {
    Credential(OwnedCredential<'f>),
    /// The body has to be read first.
    Body,
    Anonymous,
    DeniedResponse(Denied),
}

/// A claim, and what it was made of.
enum OwnedCredential<'f> {
    Presented(ParsedKey<'f>),
    AlreadyVerified(Rc<VerifiedCredential>),
}

impl OwnedCredential<'_> {
    fn borrow(&self) -> Credential<'_> {
        match self {
            Self::Presented(key) => Credential::Presented(*key),
            Self::AlreadyVerified(verified_credential) => {
                Credential::AlreadyVerified(verified_credential)
            }
        }
    }
}

impl<'c> RouteCheck<'c> {
    fn request_info(&self) -> ActixRequestInfo<'c> {
        ActixRequestInfo {
            request: self.request,
            config: Some(self.manager.config()),
            manager: Some(self.identity()),
        }
    }

    /// Reads what was found: no I/O, no hashing. What is wrong without the body is refused before a
    /// byte of it is read.
    fn extract<'f>(&self, found: &'f Extracted<'_>, needs_body: bool) -> Extraction<'f> {
        let policy = &self.rules.policy;
        let named = |reason: DenyReason, id: Option<KeyId>| {
            tracing::debug!(reason = reason.code(), "refused");
            Extraction::DeniedResponse(self.manager.verifier().deny(reason, policy, || id))
        };
        let refused = |reason| named(reason, None);
        let in_clear = || policy.require_https && !self.request_info().is_encrypted();
        match found {
            Extracted::Several => refused(DenyReason::MultipleKeys),
            Extracted::Malformed => refused(DenyReason::MalformedRequest),
            // Whose key it is: it was read on the way, and has to be replaced.
            Extracted::One(text) if in_clear() => named(
                DenyReason::HttpsRequired,
                ParsedKey::parse(text).map(|key| key.id().to_id()),
            ),
            Extracted::One(text) => match self.manager.verifier().screen(text, policy) {
                Err(denied) => Extraction::DeniedResponse(denied),
                Ok(_) if needs_body => Extraction::Body,
                Ok(key) => Extraction::Credential(OwnedCredential::Presented(key)),
            },
            Extracted::Nothing if needs_body => Extraction::Body,
            Extracted::Nothing => match self.verified_credential() {
                Some(verified_credential) if in_clear() => {
                    named(DenyReason::HttpsRequired, Some(verified_credential.id))
                }
                Some(verified_credential)
                    if self
                        .manager
                        .verifier()
                        .accepts_prefix(&verified_credential.prefix, policy) =>
                {
                    Extraction::Credential(OwnedCredential::AlreadyVerified(verified_credential))
                }
                Some(verified_credential) => {
                    named(DenyReason::InvalidKey, Some(verified_credential.id))
                }
                None if policy.optional => Extraction::Anonymous,
                None => refused(DenyReason::MissingKey),
            },
        }
    }

    fn identity(&self) -> usize {
        Arc::as_ptr(self.manager.verifier()) as usize
    }

    /// What a middleware left of the key that it took out of this request.
    /// It does not count on a route that says where to look, and does not look there.
    fn verified_credential(&self) -> Option<Rc<VerifiedCredential>> {
        let extensions = self.request.extensions();
        let verified = extensions.get::<Verified>()?;
        let config = self.manager.config();
        let looked_for = |verified_credential: &Rc<VerifiedCredential>| {
            let location = verified_credential.place.unwrap_or(config.location());
            let says = self.rules.policy.locations;
            says.is_none_or(|locations| locations.contains(&location))
        };
        let own = verified.manager == self.identity();
        verified
            .verified_credential
            .clone()
            .filter(|verified_credential| own && looked_for(verified_credential))
    }

    /// Where the one key of this request was found; `None` for where the configuration says.
    fn location(&self) -> Option<KeyLocation<'static>> {
        let locations = self.rules.policy.locations?;
        let in_head = |location: &&KeyLocation<'static>| {
            locate(self.request, std::slice::from_ref(location)) != Extracted::Nothing
        };
        let in_body = |location: &&KeyLocation<'static>| is_of_type(self.request, location);
        locations
            .iter()
            .find(in_head)
            .or_else(|| locations.iter().find(in_body))
            .copied()
    }

    /// Takes back what the request was charged at an earlier gate: it is refused.
    fn refund(&self) {
        let earlier = earlier(&self.request_info());
        let counted =
            |earlier: &Allowed| !earlier.applied.is_empty() || earlier.usage_entry.is_some();
        if let Some(earlier) = earlier.filter(counted) {
            self.request.extensions_mut().remove::<Verified>();
            self.manager.verifier().refund(&earlier);
        }
    }

    fn verified(&self, credential: &OwnedCredential<'_>, allowed: Allowed) -> Verified {
        let verified_credential = match credential {
            OwnedCredential::AlreadyVerified(verified_credential) => {
                Some(Rc::clone(verified_credential))
            }
            OwnedCredential::Presented(key) if self.rules.strip => Some(Rc::new(
                self.manager
                    .verifier()
                    .proof(key, self.location(), &allowed.key),
            )),
            OwnedCredential::Presented(_) => None,
        };
        Verified {
            allowed,
            manager: self.identity(),
            verified_credential,
        }
    }
}

/// What the store said earlier in this request.
fn earlier(request_info: &ActixRequestInfo<'_>) -> Option<Allowed> {
    let extensions = request_info.request.extensions();
    let verified = extensions.get::<Verified>()?;
    (Some(verified.manager) == request_info.manager).then(|| verified.allowed.clone())
}
