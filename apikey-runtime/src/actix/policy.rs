//! Policies of routes as types, which a handler's signature can carry.

use std::ops::Deref;
use std::rc::Rc;

use actix_web::{HttpRequest, HttpResponse};

use crate::denied::Denied;
use crate::manager::ApiKeyManager;
use crate::policy::Policy;

/// A route's policy as a type, and what the route overrides of its manager. The attribute generates
/// one for each handler with options.
pub trait RoutePolicy: 'static {
    /// The policy that a key must meet.
    const POLICY: Policy;
    /// Makes the response to a denied request. By default, the manager makes it.
    const ON_ERROR: Option<fn(&Denied, &HttpRequest) -> HttpResponse> = None;
    /// Finds the manager. By default, the nearest one in the app data is used, else the installed
    /// one.
    const MANAGER: Option<fn(&HttpRequest) -> Option<ApiKeyManager>> = None;
}

/// Returns the function of `on_error = path`. The attribute calls this, so that rustc names the type
/// that the function must have.
pub const fn on_error(
    function: fn(&Denied, &HttpRequest) -> HttpResponse,
) -> fn(&Denied, &HttpRequest) -> HttpResponse {
    function
}

/// Returns the function of `manager = path`, as [`on_error`] does.
pub const fn manager(
    function: fn(&HttpRequest) -> Option<ApiKeyManager>,
) -> fn(&HttpRequest) -> Option<ApiKeyManager> {
    function
}

/// The policy of the plain `#[api_key_required]`: the manager's defaults.
#[derive(Debug, Clone, Copy)]
pub struct DefaultPolicy;

impl RoutePolicy for DefaultPolicy {
    const POLICY: Policy = Policy::new();
}

/// A [`RoutePolicy`] as a value, so that code that uses it is compiled once, and not for each
/// route.
#[derive(Clone, Copy)]
pub(super) struct RouteRules {
    pub(super) policy: Policy,
    pub(super) on_error: Option<fn(&Denied, &HttpRequest) -> HttpResponse>,
    pub(super) manager: Option<fn(&HttpRequest) -> Option<ApiKeyManager>>,
    /// Whether the credential is stripped from the request, which only middleware can do.
    pub(super) strip: bool,
}

impl RouteRules {
    pub(super) const fn of<P: RoutePolicy>() -> Self {
        Self {
            policy: P::POLICY,
            on_error: P::ON_ERROR,
            manager: P::MANAGER,
            strip: false,
        }
    }
}

/// Rules that a check may keep while it waits, without a copy: those of a type, or those that middleware was given.
#[derive(Clone)]
pub(super) enum KeptRules {
    OfType(&'static RouteRules),
    Shared(Rc<RouteRules>),
}

impl Deref for KeptRules {
    type Target = RouteRules;

    fn deref(&self) -> &RouteRules {
        match self {
            Self::OfType(rules) => rules,
            Self::Shared(rules) => rules,
        }
    }
}
