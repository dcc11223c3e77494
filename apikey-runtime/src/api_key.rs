//! A key that was checked.

use std::fmt;
use std::sync::Arc;

use crate::cache::CachedKey;
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::record::Metadata;
use crate::scope::Scopes;

/// A key that was checked and let through: what a guarded handler knows of its caller.
///
/// As an argument of a handler under `#[api_key_required]`, or of an extractor that such a handler
/// uses, it is the key of the request; where no check has run, extracting it fails. Under
/// `optional` an argument of type `Option<ApiKey>` is `None` for a request without a key. A clone
/// is cheap: one count.
#[derive(Clone)]
pub struct ApiKey(Arc<CachedKey>);

impl ApiKey {
    pub(crate) fn new(key: Arc<CachedKey>) -> Self {
        Self(key)
    }

    pub(crate) fn record(&self) -> &Arc<CachedKey> {
        &self.0
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.0.id
    }

    /// The key's label.
    #[must_use]
    pub fn label(&self) -> &str {
        self.0.label()
    }

    /// Whom the key belongs to.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.0.owner()
    }

    /// What the key may do.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// Whether the key holds exactly `scope`.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.contains(scope)
    }

    /// The application's own data about the key, by name.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&serde_json::Value> {
        self.all_metadata()?.get(name)
    }

    /// All of the application's own data about the key; `None` where there is none.
    #[must_use]
    pub fn all_metadata(&self) -> Option<&Metadata> {
        self.0.uncommon.as_ref().map(|uncommon| &uncommon.metadata)
    }

    /// The family of keys that this one belongs to.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        self.0.environment()
    }

    /// When the key was made.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.0.created
    }

    /// From when on the key is refused.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        let end = self.0.validity.expires;
        (end < Timestamp::MAX).then_some(end)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id())
            .field("label", &self.label())
            .field("owner", &self.owner())
            .field("scopes", self.scopes())
            .finish_non_exhaustive()
    }
}
