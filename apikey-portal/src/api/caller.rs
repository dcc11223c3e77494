//! Who calls the API: a person of the application, or a key.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::{Method, header};
use actix_web::{FromRequest, HttpRequest};
use apikey_runtime::audit::{ChangeChannel, ChangeOrigin};
use apikey_runtime::manager::RequestFacts;
use apikey_runtime::{
    ApiKey, ApiKeyManager, Denied, DenyReason, Error, KeyId, KeyLocation, KeyRecord, Policy,
    ScopeExpr, Scopes, Timestamp,
};

use super::problem::ApiError;
use super::restrictions::is_as_restricted;
use crate::error::PageError;
use crate::forgery::{RequestSource, is_safe, source_of};
use crate::may::{Action, may};
use crate::person::{Grants, KEY_ACTOR, Person, RESERVED, Role};
use crate::request_id;
use crate::state::PortalState;
use crate::visit;

/// Any key, for what its holder may know and do.
const ANY: Policy = Policy::new().locations(&[KeyLocation::BEARER]);
const FRESH: Policy = ANY.fresh();
const READ: Policy = ANY.scopes(ScopeExpr::One("apikeys:read"));
const CREATE: Policy = ANY.scopes(ScopeExpr::One("apikeys:create"));
const MANAGE: Policy = ANY.scopes(ScopeExpr::One("apikeys:manage"));

/// Who calls the API.
pub(super) struct Caller {
    pub(super) state: Arc<PortalState>,
    pub(super) person: Person,
    /// What changes of this request are logged with.
    pub(super) origin: ChangeOrigin,
    /// The key that a change is made with, if it is not a person's.
    own: Option<KeyRecord>,
}

/// A key that is presented by its holder.
pub(super) struct Holder {
    pub(super) state: Arc<PortalState>,
    pub(super) origin: ChangeOrigin,
    pub(super) key: String,
    request: HttpRequest,
}

impl Holder {
    /// Returns the answer for a key that ended since it was checked. The cache may not know that yet.
    pub(super) async fn ended(&self) -> ApiError {
        match check(&self.state, &self.request, &self.key, &FRESH).await {
            Ok(_) => denied(&self.state.manager, DenyReason::InvalidKey, &FRESH),
            Err(denied) => denied,
        }
    }
}

impl Caller {
    pub(super) fn manager(&self) -> &ApiKeyManager {
        &self.state.manager
    }

    pub(super) fn is_admin(&self) -> bool {
        self.person.role == Role::Admin
    }

    /// Returns the key with this id, if the caller may see it. A key that does not exist, one that is not the caller's and
    /// a text that is not an id have the same answer.
    pub(super) async fn key(&self, id: &str) -> Result<KeyRecord, ApiError> {
        let Ok(id) = id.parse::<KeyId>() else {
            return Err(ApiError::not_found());
        };
        let record = self.manager().get(id).await?;
        may(&self.person, &Action::See, &record)?;
        Ok(record)
    }

    /// Returns the key that makes a change; `None` for a person.
    pub(super) fn own(&self) -> Option<&KeyRecord> {
        self.own.as_ref()
    }

    /// Rejects that a key gives scopes, a longer life or a secret to one that ends later than itself, or is less
    /// restricted. `other` is that key as it would be.
    pub(super) fn check_gift(&self, other: &KeyRecord) -> Result<(), ApiError> {
        let Some(own) = self.own() else {
            return Ok(());
        };
        let end = |key: &KeyRecord| key.expires.unwrap_or(Timestamp::MAX);
        if end(other) > end(own) {
            return Err(ApiError::outlives());
        }
        match is_as_restricted(other, own) {
            true => Ok(()),
            false => Err(ApiError::less_restricted()),
        }
    }

    /// Returns the scopes that the runtime checks a change by; `None` if the person may give all but reserved ones.
    pub(super) fn held(&self) -> Option<&Scopes> {
        self.person.may_grant.only()
    }

    /// Returns the owner to which a changed key has to belong still; `None` for admins.
    pub(super) fn owner_of<'r>(&self, record: &'r KeyRecord) -> Option<&'r str> {
        record.owner.as_deref().filter(|_| !self.is_admin())
    }

    /// Rejects callers who are not admins.
    pub(super) fn admin_only(&self) -> Result<(), ApiError> {
        match self.is_admin() {
            true => Ok(()),
            false => Err(ApiError::forbidden("Only an administrator can do this.")),
        }
    }

    /// Rejects callers who change nothing.
    pub(super) fn changes(&self) -> Result<(), ApiError> {
        match self.person.role {
            Role::Own | Role::Admin => Ok(()),
            Role::ReadOnly => Err(ApiError::forbidden(
                "Your role does not allow changes. An administrator can make them.",
            )),
        }
    }
}

/// Returns the credential of `Authorization: Bearer`.
fn bearer(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ApiError::bad_request(
            "The request has more than one header `Authorization`. Send one.",
        ));
    }
    let scheme = value.as_bytes().get(..7);
    if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer ")) {
        return Ok(None);
    }
    // A text with other characters is not a key, and is denied as one.
    let token = String::from_utf8_lossy(&value.as_bytes()[7..]);
    Ok(Some(token.trim().to_owned()))
}

/// Returns whether a credential is meant for the manager, and not for the application.
fn is_key(token: &str, manager: &ApiKeyManager) -> bool {
    let prefixes = manager.config().prefixes().iter();
    let mut rest = prefixes.filter_map(|prefix| token.strip_prefix(prefix.as_str()));
    rest.any(|rest| rest.starts_with('_'))
}

/// Returns the scopes that a key needs for a request.
fn policy_of(request: &HttpRequest) -> &'static Policy {
    if is_safe(request.method()) {
        return &READ;
    }
    let pattern = request.match_pattern();
    let creates = pattern.is_some_and(|pattern| pattern.ends_with("/v1/keys"));
    match creates && *request.method() == Method::POST {
        true => &CREATE,
        false => &MANAGE,
    }
}

fn denied(manager: &ApiKeyManager, reason: DenyReason, policy: &Policy) -> ApiError {
    ApiError::denied(&Denied::from(reason), manager, policy)
}

async fn check(
    state: &PortalState,
    request: &HttpRequest,
    key: &str,
    policy: &'static Policy,
) -> Result<ApiKey, ApiError> {
    let pattern = request.match_pattern().unwrap_or_default();
    let facts = RequestFacts::of_request(request).with_route(&pattern);
    match state.manager.check(key, policy, &facts).await {
        Ok(checked) => Ok(checked.key().clone()),
        Err(denial) => Err(ApiError::denied(&denial, &state.manager, policy)),
    }
}

/// Returns the record of a key that makes a change. Rejects a secret that a rotation superseded: it may have leaked.
async fn changing(
    state: &PortalState,
    key: &str,
    policy: &'static Policy,
) -> Result<KeyRecord, ApiError> {
    match state.manager.introspect(key).await?.key {
        Some(facts) if facts.superseded_until.is_some() => Err(ApiError::superseded()),
        Some(facts) => Ok(state.manager.get(facts.id).await?),
        // It ended since it was checked.
        None => Err(denied(&state.manager, DenyReason::InvalidKey, policy)),
    }
}

/// Returns the person that a key acts as. A key without an owner does not see any key.
fn person_of(key: &ApiKey) -> Result<Person, Error> {
    let scopes = key.scopes().iter();
    let granted = Scopes::new(scopes.filter(|scope| !scope.starts_with(RESERVED)))?;
    let mut person = Person::new(format!("{KEY_ACTOR}{}", key.id())).with_name(key.label());
    person.owners = key.owner().map(str::to_owned).into_iter().collect();
    Ok(person.with_grants(Grants::Only(granted)))
}

fn origin(request: &HttpRequest, actor: &str) -> ChangeOrigin {
    ChangeOrigin::of_request(request)
        .with_channel(ChangeChannel::Api)
        .with_actor(actor)
        .with_request_id(request_id::of(request))
}

fn state(request: &HttpRequest) -> Result<Arc<PortalState>, ApiError> {
    let state = request.app_data::<Arc<PortalState>>();
    state.map(Arc::clone).ok_or_else(ApiError::not_found)
}

/// Asks the application who is signed in. Its sessions do not matter to a request that presents a key.
async fn signed_in(
    state: &PortalState,
    request: &HttpRequest,
    has_key: bool,
) -> Result<Option<Person>, ApiError> {
    match visit::signed_in(state, request).await {
        Err(PageError::PersonUnknown) if has_key => Ok(None),
        person => person.map_err(|error| ApiError::from(&error)),
    }
}

async fn call(request: HttpRequest) -> Result<Caller, ApiError> {
    let state = state(&request)?;
    let policy = policy_of(&request);
    let token = bearer(&request)?;
    let has_key = token
        .as_ref()
        .is_some_and(|token| is_key(token, &state.manager));
    let person = signed_in(&state, &request, has_key).await?;
    let (person, own) = match (person, token) {
        (Some(_), Some(_)) if has_key => {
            return Err(ApiError::bad_request(
                "The request has a key, and is also a signed-in person's. Send either.",
            ));
        }
        // A Bearer credential that is not a key does not prove that another site did not send this.
        (Some(_), _)
            if source_of(&request, state.location.origin.as_ref()) != RequestSource::Same =>
        {
            return Err(ApiError::from(&PageError::Forged));
        }
        // Another Bearer credential is the application's own.
        (Some(person), _) => (person, None),
        (None, Some(token)) => {
            let key = check(&state, &request, &token, policy).await?;
            let own = match is_safe(request.method()) {
                true => None,
                false => Some(changing(&state, &token, policy).await?),
            };
            (person_of(&key)?, own)
        }
        (None, None) => return Err(denied(&state.manager, DenyReason::MissingKey, policy)),
    };
    Ok(Caller {
        origin: origin(&request, &person.id),
        state,
        person,
        own,
    })
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        Box::pin(call(request.clone()))
    }
}

async fn hold(request: HttpRequest) -> Result<Holder, ApiError> {
    let state = state(&request)?;
    let Some(token) = bearer(&request)? else {
        return Err(denied(&state.manager, DenyReason::MissingKey, &ANY));
    };
    let has_key = is_key(&token, &state.manager);
    if has_key && signed_in(&state, &request, has_key).await?.is_some() {
        return Err(ApiError::bad_request(
            "The request has a key, and is also a signed-in person's. Send the key alone.",
        ));
    }
    let key = check(&state, &request, &token, &ANY).await?;
    Ok(Holder {
        origin: origin(&request, &format!("{KEY_ACTOR}{}", key.id())),
        state,
        key: token,
        request,
    })
}

impl FromRequest for Holder {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        Box::pin(hold(request.clone()))
    }
}
