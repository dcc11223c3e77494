//! What all pages have around their content.

use crate::assets::ASSETS;
use crate::brand::Brand;
use crate::person::{Person, Role};
use crate::state::PortalState;

/// What the layout of each page shows.
pub(crate) struct Frame<'a> {
    pub(crate) brand: &'a Brand,
    /// The beginning of the portal's links.
    pub(crate) base: &'a str,
    pub(crate) person: Option<&'a Person>,
    /// The target of the form for signing out.
    pub(crate) sign_out: Option<&'a str>,
    pub(crate) style: &'a str,
    pub(crate) script: &'a str,
    pub(crate) icon: &'a str,
}

impl<'a> Frame<'a> {
    pub(crate) fn new(state: &'a PortalState, person: Option<&'a Person>) -> Self {
        let assets = &*ASSETS;
        Self {
            brand: &state.brand,
            base: &state.location.base,
            person,
            sign_out: state.sign_out.as_deref(),
            style: &assets.style.name,
            script: &assets.script.name,
            icon: &assets.icon.name,
        }
    }

    /// Returns the link to the list: the base, or `/` at the root.
    pub(crate) fn list(&self) -> &str {
        if self.base.is_empty() { "/" } else { self.base }
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.person.is_some_and(|person| person.role == Role::Admin)
    }

    /// Returns whether the program lists its guarded handlers.
    pub(crate) fn has_routes(&self) -> bool {
        cfg!(feature = "routes")
    }

    pub(crate) fn may_change(&self) -> bool {
        self.person
            .is_some_and(|person| matches!(person.role, Role::Own | Role::Admin))
    }
}
