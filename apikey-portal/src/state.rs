//! What the requests of a mounted portal share.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use apikey_runtime::{ApiKeyManager, Error, Scopes, Timestamp};

use crate::auth::AnyAuth;
use crate::brand::Brand;
use crate::form_token::FormKey;
use crate::public_url::PortalLocation;

/// The name of the store's secret that is the key of form tokens.
const FORM_KEY: &str = "apikey-portal:forms";

/// What a request to a mounted portal knows of it.
pub(crate) struct PortalState {
    settings: Arc<PortalSettings>,
    /// Where the visitor of the request sees the portal.
    pub(crate) location: PortalLocation,
}

/// What the requests of a mounted portal share.
pub(crate) struct PortalSettings {
    pub(crate) manager: ApiKeyManager,
    pub(crate) auth: Arc<dyn AnyAuth>,
    /// The scopes that the picker offers.
    pub(crate) catalogue: Scopes,
    /// The text by which the portal's forms are told from those of others.
    pub(crate) place: String,
    /// The page for signing in; the path of the page that a person wanted is added.
    pub(crate) sign_in: Option<String>,
    /// The application's path for signing out, by a form without fields.
    pub(crate) sign_out: Option<String>,
    pub(crate) brand: Brand,
    /// The configured key of form tokens, or that of the store once it was read.
    pub(crate) form_key: OnceLock<FormKey>,
    /// What is wrong with the settings. The portal then answers each request with 500.
    pub(crate) fault: Option<String>,
}

impl PortalState {
    pub(crate) fn new(settings: PortalSettings, location: PortalLocation) -> Self {
        let settings = Arc::new(settings);
        Self { settings, location }
    }

    /// Returns the same portal at another location.
    pub(crate) fn at(&self, location: PortalLocation) -> Self {
        let settings = Arc::clone(&self.settings);
        Self { settings, location }
    }
}

impl Deref for PortalState {
    type Target = PortalSettings;

    fn deref(&self) -> &PortalSettings {
        &self.settings
    }
}

impl PortalSettings {
    /// Returns the time by which states are judged.
    pub(crate) fn now(&self) -> Timestamp {
        self.manager.now()
    }

    /// Returns the key of form tokens.
    ///
    /// # Errors
    ///
    /// Returns an error if the store does not answer, or does not keep shared secrets.
    pub(crate) async fn form_key(&self) -> Result<FormKey, Error> {
        if let Some(key) = self.form_key.get() {
            return Ok(key.clone());
        }
        let secret = self.manager.shared_secret(FORM_KEY).await;
        let shared = FormKey::new(secret.map_err(|error| match error {
            Error::Unsupported(why) => Error::Unsupported(format!(
                "forms of the portal need a key, and {why}; for the portal, that is `Portal::form_key([u8; 32])`"
            )),
            error => error,
        })?);
        let key = shared.of_portal(&self.place);
        Ok(self.form_key.get_or_init(|| key).clone())
    }
}
