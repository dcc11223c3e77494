//! The locations at which a route looks for the credential.

use actix_web::HttpRequest;

use super::is_of_type;
use crate::config::Config;
use crate::policy::{KeyLocation, Policy};

/// The locations at which a route's key may be.
pub(in crate::actix) enum Locations<'m> {
    OfRoute(&'static [KeyLocation<'static>]),
    OfConfig([KeyLocation<'m>; 1]),
}

impl<'m> Locations<'m> {
    /// Returns the route's locations, else the configured one. Without a manager, that is the
    /// default.
    pub(in crate::actix) fn of(policy: &Policy, config: impl Into<Option<&'m Config>>) -> Self {
        let configured = || config.into().map_or(KeyLocation::BEARER, Config::location);
        policy
            .locations
            .map_or_else(|| Self::OfConfig([configured()]), Self::OfRoute)
    }

    pub(in crate::actix) fn list(&self) -> &[KeyLocation<'m>] {
        match self {
            Self::OfRoute(locations) => locations,
            Self::OfConfig(location) => location,
        }
    }
}

/// Returns whether the key may be in the body.
pub(in crate::actix) fn needs_body(request: &HttpRequest, locations: &[KeyLocation<'_>]) -> bool {
    locations
        .iter()
        .any(|location| location.is_in_body() && is_of_type(request, location))
}
