//! A route's policy as a type, so that a handler's signature carries it.

use actix_web::{HttpRequest, HttpResponse};

use crate::denied::Denied;
use crate::manager::ApiKeyManager;
use crate::policy::Policy;

/// A route's demands, and what it does otherwise than its manager says. The attribute writes one
/// for each handler with options.
pub trait RoutePolicy: 'static {
    /// What a key must meet.
    const POLICY: Policy;
    /// Makes the answer to a refusal. By default, the manager's.
    const ON_ERROR: Option<fn(&Denied, &HttpRequest) -> HttpResponse> = None;
    /// Finds the manager. By default, the nearest of the app's data, else the installed one.
    const MANAGER: Option<fn(&HttpRequest) -> Option<ApiKeyManager>> = None;
}

/// The policy of the plain `#[api_key_required]`: the manager's defaults.
#[derive(Debug, Clone, Copy)]
pub struct DefaultPolicy;

impl RoutePolicy for DefaultPolicy {
    const POLICY: Policy = Policy::new();
}

/// A [`RoutePolicy`] as a value, so that what works with it is compiled once and not for each
/// route.
#[derive(Clone, Copy)]
pub(super) struct RouteRules {
    pub(super) policy: Policy,
    pub(super) on_error: Option<fn(&Denied, &HttpRequest) -> HttpResponse>,
    pub(super) manager: Option<fn(&HttpRequest) -> Option<ApiKeyManager>>,
    /// Whether the credential is taken out of the request; a middleware's choice.
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
