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
use super::credential::{Found, in_body, is_of_type, locate};
use super::payload::{self, Bounds};
use super::policy::Rules;
use super::request_info::Client;
use super::response::{Refused, refuse};
use crate::config::Config;
use crate::denied::{Denied, DenyReason};
use crate::key::{KeyId, ParsedKey};
use crate::manager::ApiKeyManager;
use crate::policy::{Caller as _, KeyLocation, Policy};
use crate::verify::{Admitted, Claim, Now, Proof, Question, Why, deny_unmanaged};

/// What the gate says.
pub(super) enum Gate {
    Open,
    Shut(Refused),
    /// The store has to be asked, or the body to be read.
    Wait(Waiting),
}

/// A decision under way. It holds the body, and hands it back as the handler is to see it.
pub(super) type Waiting = Pin<Box<dyn Future<Output = (Result<(), Refused>, Payload)>>>;

/// A key that was checked, among a request's extensions. The type is private: nothing else can put
/// one there.
pub(super) struct Verified {
    pub(super) admitted: Admitted,
    /// Which manager's it is, by the address of what the manager shares.
    manager: usize,
    /// Where the key was taken out of the request.
    proof: Option<Rc<Proof>>,
}

/// Where the route looks for the key.
enum Places<'m> {
    OfRoute(&'static [KeyLocation<'static>]),
    OfConfig([KeyLocation<'m>; 1]),
}

impl<'m> Places<'m> {
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
pub(super) fn gate(request: &HttpRequest, payload: &mut Payload, rules: &Rules) -> Gate {
    let shut = |denied, manager| Gate::Shut(refuse(denied, request, rules, manager));
    #[cfg(feature = "test-util")]
    if let Some(decision) = super::testing::acting(request, rules) {
        return match decision {
            Ok(admitted) => enter(
                request,
                Verified {
                    admitted,
                    manager: 0,
                    proof: None,
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
    let places = Places::of(&rules.policy, manager.config());
    let found = locate(request, places.list());
    let checkpoint = Checkpoint {
        request,
        rules,
        manager: &manager,
    };
    match checkpoint.ask(&found, needs_body(request, places.list())) {
        Asked::Anonymous => {
            leave_anonymous(request, &manager);
            Gate::Open
        }
        Asked::Refused(denied) => {
            checkpoint.give_back();
            shut(denied, Some(&manager))
        }
        Asked::Body => wait(request, payload, rules, &manager, None),
        Asked::Claim(claim) => {
            let client = checkpoint.client();
            let question = Question {
                claim: claim.borrow(),
                policy: &rules.policy,
                caller: &client,
                known,
            };
            match manager.verifier().decide_now(&question) {
                Now::Decided(Ok(admitted)) => enter(request, checkpoint.verified(&claim, admitted)),
                Now::Decided(Err(denied)) => {
                    checkpoint.give_back();
                    shut(denied, Some(&manager))
                }
                Now::Ask(why) => wait(request, payload, rules, &manager, Some(why)),
            }
        }
    }
}

/// `why` is what memory said, where the body does not have to be read first.
fn wait(
    request: &HttpRequest,
    payload: &mut Payload,
    rules: &Rules,
    manager: &ApiKeyManager,
    why: Option<Why>,
) -> Gate {
    let late = decide_late(
        request.clone(),
        payload.take(),
        *rules,
        manager.clone(),
        why,
    );
    Gate::Wait(Box::pin(late))
}

/// Leaves the key where extractors find it.
fn enter(request: &HttpRequest, verified: Verified) -> Gate {
    request.extensions_mut().insert(verified);
    Gate::Open
}

/// A key that another gate let in was never judged by this route, and is not the handler's to see.
fn leave_anonymous(request: &HttpRequest, manager: &ApiKeyManager) {
    manager.verifier().admit_anonymous();
    request.extensions_mut().remove::<Verified>();
}

/// Decides with the store's help, and after reading the body where the key may stand there.
async fn decide_late(
    request: HttpRequest,
    mut payload: Payload,
    rules: Rules,
    manager: ApiKeyManager,
    why: Option<Why>,
) -> (Result<(), Refused>, Payload) {
    let places = Places::of(&rules.policy, manager.config());
    let decision = if needs_body(&request, places.list()) {
        let config = manager.config();
        let bounds = Bounds {
            bytes: config.body_limit(),
            time: config.body_timeout(),
        };
        match payload::read(&request, payload.take(), bounds).await {
            Ok(read) => {
                let decision =
                    decide(&request, Some(&read), places.list(), &rules, &manager, None).await;
                let admitted = decision.is_ok() && rules.strip;
                let left = if admitted {
                    strip::body(&request, read, places.list())
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
        decide(&request, None, places.list(), &rules, &manager, why).await
    };
    let verdict = decision.map_err(|denied| {
        let checkpoint = Checkpoint {
            request: &request,
            rules: &rules,
            manager: &manager,
        };
        checkpoint.give_back();
        refuse(denied, &request, &rules, Some(&manager))
    });
    (verdict, payload)
}

async fn decide(
    request: &HttpRequest,
    body: Option<&Bytes>,
    places: &[KeyLocation<'_>],
    rules: &Rules,
    manager: &ApiKeyManager,
    why: Option<Why>,
) -> Result<(), Denied> {
    let checkpoint = Checkpoint {
        request,
        rules,
        manager,
    };
    let found = body.iter().fold(locate(request, places), |found, body| {
        places
            .iter()
            .filter(|place| is_of_type(request, place))
            .fold(found, |found, place| found.and(in_body(body, place)))
    });
    let claim = match checkpoint.ask(&found, false) {
        Asked::Claim(claim) => claim,
        Asked::Refused(denied) => return Err(denied),
        Asked::Anonymous | Asked::Body => {
            leave_anonymous(request, manager);
            return Ok(());
        }
    };
    let client = checkpoint.client();
    let question = Question {
        claim: claim.borrow(),
        policy: &rules.policy,
        caller: &client,
        known,
    };
    let verifier = manager.verifier();
    let now = why.map_or_else(|| verifier.decide_now(&question), Now::Ask);
    let admitted = match now {
        Now::Decided(decision) => decision?,
        Now::Ask(why) => verifier.decide_late(&question, why).await?,
    };
    enter(request, checkpoint.verified(&claim, admitted));
    Ok(())
}

/// Whether the key may stand in the body.
fn needs_body(request: &HttpRequest, places: &[KeyLocation<'_>]) -> bool {
    places
        .iter()
        .any(|place| place.is_in_body() && is_of_type(request, place))
}

/// A request before a route.
struct Checkpoint<'c> {
    request: &'c HttpRequest,
    rules: &'c Rules,
    manager: &'c ApiKeyManager,
}

/// What a request asks of the manager.
enum Asked<'f> {
    Claim(Claimed<'f>),
    /// The body has to be read first.
    Body,
    Anonymous,
    Refused(Denied),
}

/// A claim, and what it was made of.
enum Claimed<'f> {
    Text(ParsedKey<'f>),
    Proven(Rc<Proof>),
}

impl Claimed<'_> {
    fn borrow(&self) -> Claim<'_> {
        match self {
            Self::Text(key) => Claim::Text(*key),
            Self::Proven(proof) => Claim::Proven(proof),
        }
    }
}

impl<'c> Checkpoint<'c> {
    fn client(&self) -> Client<'c> {
        Client {
            request: self.request,
            config: Some(self.manager.config()),
            manager: Some(self.identity()),
        }
    }

    /// Reads what was found: no I/O, no hashing. What is wrong without the body is refused before a
    /// byte of it is read.
    fn ask<'f>(&self, found: &'f Found<'_>, needs_body: bool) -> Asked<'f> {
        let policy = &self.rules.policy;
        let named = |reason: DenyReason, id: Option<KeyId>| {
            tracing::debug!(reason = reason.code(), "refused");
            Asked::Refused(self.manager.verifier().deny(reason, policy, || id))
        };
        let refused = |reason| named(reason, None);
        let in_clear = || policy.require_https && !self.client().is_encrypted();
        match found {
            Found::Several => refused(DenyReason::MultipleKeys),
            Found::Malformed => refused(DenyReason::MalformedRequest),
            // Whose key it is: it was read on the way, and has to be replaced.
            Found::One(text) if in_clear() => named(
                DenyReason::HttpsRequired,
                ParsedKey::parse(text).map(|key| key.id().to_id()),
            ),
            Found::One(text) => match self.manager.verifier().screen(text, policy) {
                Err(denied) => Asked::Refused(denied),
                Ok(_) if needs_body => Asked::Body,
                Ok(key) => Asked::Claim(Claimed::Text(key)),
            },
            Found::Nothing if needs_body => Asked::Body,
            Found::Nothing => match self.proof() {
                Some(proof) if in_clear() => named(DenyReason::HttpsRequired, Some(proof.id)),
                Some(proof)
                    if self
                        .manager
                        .verifier()
                        .accepts_prefix(&proof.prefix, policy) =>
                {
                    Asked::Claim(Claimed::Proven(proof))
                }
                Some(proof) => named(DenyReason::InvalidKey, Some(proof.id)),
                None if policy.optional => Asked::Anonymous,
                None => refused(DenyReason::MissingKey),
            },
        }
    }

    fn identity(&self) -> usize {
        Arc::as_ptr(self.manager.verifier()) as usize
    }

    /// What a middleware left of the key that it took out of this request.
    /// It does not count on a route that says where to look, and does not look there.
    fn proof(&self) -> Option<Rc<Proof>> {
        let extensions = self.request.extensions();
        let verified = extensions.get::<Verified>()?;
        let config = self.manager.config();
        let looked_for = |proof: &Rc<Proof>| {
            let place = proof.place.unwrap_or(config.location());
            let says = self.rules.policy.locations;
            says.is_none_or(|places| places.contains(&place))
        };
        let own = verified.manager == self.identity();
        verified
            .proof
            .clone()
            .filter(|proof| own && looked_for(proof))
    }

    /// Where the one key of this request was found; `None` for where the configuration says.
    fn place(&self) -> Option<KeyLocation<'static>> {
        let places = self.rules.policy.locations?;
        let in_head = |place: &&KeyLocation<'static>| {
            locate(self.request, std::slice::from_ref(place)) != Found::Nothing
        };
        let in_body = |place: &&KeyLocation<'static>| is_of_type(self.request, place);
        places
            .iter()
            .find(in_head)
            .or_else(|| places.iter().find(in_body))
            .copied()
    }

    /// Takes back what the request was charged at an earlier gate: it is refused.
    fn give_back(&self) {
        let known = known(&self.client());
        let counted = |known: &Admitted| !known.bill.is_empty() || known.noted.is_some();
        if let Some(known) = known.filter(counted) {
            self.request.extensions_mut().remove::<Verified>();
            self.manager.verifier().give_back(&known);
        }
    }

    fn verified(&self, claim: &Claimed<'_>, admitted: Admitted) -> Verified {
        let proof = match claim {
            Claimed::Proven(proof) => Some(Rc::clone(proof)),
            Claimed::Text(key) if self.rules.strip => Some(Rc::new(self.manager.verifier().proof(
                key,
                self.place(),
                &admitted.key,
            ))),
            Claimed::Text(_) => None,
        };
        Verified {
            admitted,
            manager: self.identity(),
            proof,
        }
    }
}

/// What the store said earlier in this request.
fn known(client: &Client<'_>) -> Option<Admitted> {
    let extensions = client.request.extensions();
    let verified = extensions.get::<Verified>()?;
    (Some(verified.manager) == client.manager).then(|| verified.admitted.clone())
}
