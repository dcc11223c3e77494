//! The checked key of a request.

use std::fmt;
use std::sync::Arc;

use crate::cache::CachedKey;
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::record::Metadata;
use crate::scope::Scopes;

/// A key that was checked and allowed.
///
/// A handler under `#[api_key_required]`, or an extractor that such a handler uses, takes it as an
/// argument and gets the key of the request. Extraction fails if a check has not run. Under
/// `optional`, an argument of type `Option<ApiKey>` is `None` for a request without a key. A clone
/// is cheap: it increments a reference count.
#[derive(Clone)]
pub struct ApiKey(Arc<CachedKey>);

impl ApiKey {
    pub(crate) fn new(key: Arc<CachedKey>) -> Self {
        Self(key)
    }

    pub(crate) fn record(&self) -> &Arc<CachedKey> {
        &self.0
    }

    /// Returns the key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.0.id
    }

    /// Returns the key's label.
    #[must_use]
    pub fn label(&self) -> &str {
        self.0.label()
    }

    /// Returns the key's owner.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.0.owner()
    }

    /// Returns the key's scopes.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// Returns whether the key has exactly `scope`.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.contains(scope)
    }

    /// Returns the application's data about the key named `name`.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&serde_json::Value> {
        self.all_metadata()?.get(name)
    }

    /// Returns all of the application's data about the key; `None` if it does not have any.
    #[must_use]
    pub fn all_metadata(&self) -> Option<&Metadata> {
        self.0.uncommon.as_ref().map(|uncommon| &uncommon.metadata)
    }

    /// Returns the key's environment.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        self.0.environment()
    }

    /// Returns when the key was created.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.0.created
    }

    /// Returns the key's expiry (exclusive): it is denied at and after this time.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        let end = self.0.expires();
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
