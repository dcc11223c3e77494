//! The checked key of a request.

use std::fmt;
use std::sync::Arc;

use crate::cache::{CachedKey, KeyWatch, WatchedRequest, WatchersId, known_end};
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::policy::{GuardScopes, RequiredScopes, ScopeExpr};
use crate::record::Metadata;
use crate::scope::Scopes;

/// A key that was checked and allowed.
///
/// A handler under `#[api_key_required]`, or an extractor that such a handler uses, takes it as an
/// argument and gets the key of the request. Extraction fails if a check has not run. Under
/// `optional`, an argument of type `Option<ApiKey>` is `None` for a request without a key. A clone
/// is cheap: it increments a reference count.
#[derive(Clone)]
pub struct ApiKey {
    record: Arc<CachedKey>,
    /// Where watches of the key are kept; `None` for a key that a test acts as.
    watchers: Option<WatchersId>,
    /// Whether the secret is the one before the last rotation.
    is_superseded: bool,
    required: RequiredScopes,
}

/// A key in the decision of a check. It becomes an [`ApiKey`] when it is handed out: a decision is moved
/// often, and is small for that.
#[derive(Debug, Clone)]
pub(crate) struct AllowedKey {
    record: Arc<CachedKey>,
    /// Whether the secret is the one before the last rotation.
    is_superseded: bool,
    /// `None` if the guards required the scopes of the last one's policy.
    scopes: Option<Arc<GuardScopes>>,
}

impl AllowedKey {
    #[inline]
    pub(crate) fn new(
        record: Arc<CachedKey>,
        is_superseded: bool,
        scopes: Option<Arc<GuardScopes>>,
    ) -> Self {
        Self {
            record,
            is_superseded,
            scopes,
        }
    }

    pub(crate) fn id(&self) -> KeyId {
        self.record.id
    }

    pub(crate) fn record(&self) -> &Arc<CachedKey> {
        &self.record
    }

    /// Returns whether the secret is the one before the last rotation.
    pub(crate) const fn is_superseded(&self) -> bool {
        self.is_superseded
    }

    /// Returns the end of the grace of the request's secret, if a rotation superseded it.
    pub(crate) fn superseded(&self) -> Option<Timestamp> {
        let previous = self.record.previous().filter(|_| self.is_superseded);
        previous.map(|(_, until)| *until)
    }

    /// Returns the scopes that the guards of the request required. `own` are those of the last one's
    /// policy.
    pub(crate) fn required_scopes(&self, own: Option<ScopeExpr>) -> RequiredScopes {
        RequiredScopes::new(own, self.scopes.clone())
    }

    /// Hands the key out, as a check with the scopes `own` allowed it. Without `watchers`, its watches do
    /// not end.
    #[inline]
    pub(crate) fn into_api_key(
        self,
        watchers: Option<WatchersId>,
        own: Option<ScopeExpr>,
    ) -> ApiKey {
        ApiKey {
            record: self.record,
            watchers,
            is_superseded: self.is_superseded,
            required: RequiredScopes::new(own, self.scopes),
        }
    }
}

impl ApiKey {
    /// Creates the key that a test acts as.
    #[cfg(feature = "test-util")]
    pub(crate) fn acting(record: CachedKey) -> Self {
        Self {
            record: Arc::new(record),
            watchers: None,
            is_superseded: false,
            required: RequiredScopes::None,
        }
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn record(&self) -> &Arc<CachedKey> {
        &self.record
    }

    /// Returns the key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.record.id
    }

    /// Returns the key's label.
    #[must_use]
    pub fn label(&self) -> &str {
        self.record.label()
    }

    /// Returns the key's owner.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.record.owner()
    }

    /// Returns the key's scopes.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.record.scopes
    }

    /// Returns whether the key has exactly `scope`.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.record.scopes.contains(scope)
    }

    /// Returns the application's data about the key named `name`.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&serde_json::Value> {
        self.all_metadata()?.get(name)
    }

    /// Returns all of the application's data about the key; `None` if it does not have any.
    #[must_use]
    pub fn all_metadata(&self) -> Option<&Metadata> {
        self.record
            .uncommon
            .as_ref()
            .map(|uncommon| &uncommon.metadata)
    }

    /// Returns the key's environment.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        self.record.environment()
    }

    /// Returns when the key was created.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.record.created
    }

    /// Returns the key's expiry (exclusive): it is denied at and after this time.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        let end = self.record.expires();
        (end < Timestamp::MAX).then_some(end)
    }

    /// Returns a future that ends when the key may not go on: for a stream or a WebSocket, which a
    /// check at its beginning does not stop. See [`guide::streams`](crate::guide::streams).
    ///
    /// It ends with the reason, and at once if that applies already. A rotation does not end it while
    /// the grace of the request's secret lasts, and never for a request with the new secret. The key's
    /// networks and methods, and the route's other conditions, are not judged again.
    ///
    /// A change by this manager or by another on the same store counts. The future is woken like checks
    /// are: by the store's push, and without it at the next poll. If the store cannot be polled, the key
    /// is read again when the lease ends. While the store does not answer at all, the future ends with
    /// [`WatchEnd::Unknown`](crate::WatchEnd::Unknown) after the configured
    /// [patience](crate::ConfigBuilder::watch_patience). Clocks are read again every 250 ms, so a step of the wall clock
    /// moves the key's expiry too.
    ///
    /// The watch begins with this call. It does not need a runtime of the caller: the manager's thread
    /// has the timers. Dropping the future ends the watch.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore, WatchEnd};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// # let created = manager.create("ci").await?;
    /// # let key = manager.verify(created.expose_secret()).await.unwrap();
    /// let watch = key.watch();
    /// manager.revoke(key.id()).await?;
    /// assert_eq!(watch.await, WatchEnd::Revoked);
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn watch(&self) -> KeyWatch {
        let Some(watchers) = self.watchers else {
            return KeyWatch::endless();
        };
        let previous = self.record.previous().filter(|_| self.is_superseded);
        let (digest, grace) = match previous {
            Some((digest, until)) => (digest, Some(*until)),
            None => (&self.record.digest, None),
        };
        let end = known_end(&self.record, grace);
        let request = WatchedRequest {
            digest: digest.clone(),
            required: self.required.clone(),
        };
        KeyWatch::start(watchers, self.id(), self.owner(), request, end)
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
