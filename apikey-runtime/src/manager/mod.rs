//! The manager: configured once, it issues, verifies, rotates and revokes keys.

mod builder;
mod change;
mod checks;
mod confirm;
mod create;
mod events;
mod global;
mod health;
mod limits;
mod list;
mod new_key;
mod purge;
mod revoke;
mod thread;
mod usage;

use std::any::Any;
use std::sync::Arc;

pub use builder::ApiKeyManagerBuilder;
pub use change::{RotateKey, SetKeyEnabled, UpdateKey};
pub use confirm::{Confirmed, ConfirmedCall, Propagation};
pub use create::CreateKey;
pub use health::{Health, StoreHealth};
pub use list::{KeyPage, ListKeys};
pub use new_key::{KeyExport, NewKey};
pub use purge::PurgeKeys;
pub use revoke::{RevokeAll, RevokeKey};
pub use usage::UsageRequest;

pub(crate) use global::installed;

use crate::api_key::ApiKey;
use crate::clock::{ClockReading, Timestamp};
use crate::config::Config;
use crate::denied::{Denied, DenyReason};
use crate::error::{Error, StoreError};
use crate::key::KeyId;
use crate::metrics::StoreCall;
use crate::policy::{PathValues, Policy, RequestInfo};
use crate::record::{KeyPatch, KeyRecord};
use crate::verify::{CheckRequest, Credential, FastPath, Verifier, no_earlier_check};
use thread::Thread;

/// Issues, verifies, rotates and revokes keys.
///
/// Make one at start-up ([`ApiKeyManager::builder`]) and hand it to the app
/// ([`init_app`](ApiKeyManager::init_app)) or to the whole process
/// ([`install`](ApiKeyManager::install)). A clone is cheap and is the same manager. It owns one
/// thread with a runtime of its own: the store's connections live there, so a worker that is busy
/// or ends stalls no one, and a call whose future is dropped is carried out all the same.
///
/// ```
/// use apikey_runtime::{ApiKeyManager, MemoryStore};
///
/// # actix_web::rt::System::new().block_on(async {
/// let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
/// let key = manager.create("MY_FIRST_KEY").await?;
/// assert!(manager.verify(key.expose_secret()).await.is_ok());
///
/// manager.revoke(key.id()).await?;
/// assert!(manager.verify(key.expose_secret()).await.is_err());
/// # Ok::<(), apikey_runtime::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct ApiKeyManager(Arc<Inner>);

struct Inner {
    verifier: Arc<Verifier>,
    random: Arc<dyn builder::Random>,
    thread: Thread,
    /// What the floor above keeps here: its error handler.
    face: Option<Arc<dyn Any + Send + Sync>>,
}

impl ApiKeyManager {
    /// The defaults, to be changed.
    #[must_use]
    pub fn builder() -> ApiKeyManagerBuilder {
        ApiKeyManagerBuilder::new()
    }

    /// The settings, read-only.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.verifier.config
    }

    /// Starts making a key with this label (1 to 256 bytes, no control characters); need not be
    /// unique. Await it, with or without more settings.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # use std::time::Duration;
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let month = Duration::from_secs(30 * 24 * 3600);
    /// let key = manager.create("ci").owner("42").scopes(["orders:read"]).expires_in(month).await?;
    /// println!("{}", key.expose_secret());
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn create(&self, label: impl Into<String>) -> CreateKey {
        CreateKey::new(self.clone(), label.into())
    }

    /// The record of a key, as the store has it now.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Store`], [`Error::ShutDown`].
    pub async fn get(&self, id: KeyId) -> Result<KeyRecord, Error> {
        self.on_thread(move |verifier| async move { verifier.find(id).await })
            .await
    }

    /// Starts listing keys. Await it for the first page.
    pub fn list(&self) -> ListKeys {
        ListKeys::new(self.clone())
    }

    /// Starts changing a key. Await it to carry the changes out.
    pub fn update(&self, id: KeyId) -> UpdateKey {
        UpdateKey::new(self.clone(), id)
    }

    /// Starts giving a key a new secret. Await it, with or without a grace time for the old one.
    pub fn rotate(&self, id: KeyId) -> RotateKey {
        RotateKey::new(self.clone(), id)
    }

    /// Starts revoking a key, for good. Await it, with or without a reason.
    ///
    /// When it returns `Ok`, the revocation is durable in the store, and no check that starts with
    /// this manager accepts the key; other managers on the same store refuse it as soon as the
    /// store's push reaches them, and at the latest when the store's lease ends. With
    /// [`confirmed`](RevokeKey::confirmed) it returns only when none accepts it any more.
    pub fn revoke(&self, id: KeyId) -> RevokeKey {
        RevokeKey::new(self.clone(), id)
    }

    /// Starts revoking all keys of an owner, all or none.
    pub fn revoke_all(&self, owner: impl Into<String>) -> RevokeAll {
        RevokeAll::new(self.clone(), owner.into())
    }

    /// Starts switching a key on. Await it; its errors are [`Error::NotFound`], [`Error::Revoked`],
    /// [`Error::Store`] and [`Error::ShutDown`].
    pub fn enable(&self, id: KeyId) -> SetKeyEnabled {
        SetKeyEnabled::new(self.clone(), id, true)
    }

    /// Starts switching a key off, until it is switched on again. Await it; its errors are those of
    /// [`enable`](Self::enable).
    pub fn disable(&self, id: KeyId) -> SetKeyEnabled {
        SetKeyEnabled::new(self.clone(), id, false)
    }

    /// Starts removing the records of keys that were revoked, or expired, before `before`. Await it
    /// for which; its errors are [`Error::InvalidArgument`], [`Error::Store`] and [`Error::ShutDown`]. A
    /// removed key is answered as unknown.
    pub fn purge(&self, before: impl Into<Timestamp>) -> PurgeKeys {
        PurgeKeys::new(self.clone(), before.into())
    }

    /// Checks a key as an open route with no demands does.
    ///
    /// # Errors
    ///
    /// DeferReason it is refused.
    pub async fn verify(&self, key: &str) -> Result<ApiKey, Denied> {
        self.verify_for(key, &Policy::new()).await
    }

    /// Checks a key against the demands of a route. There is no request here: a template in a scope
    /// has no path to be filled from, an address and a method are not known, and what hangs on them
    /// is refused.
    ///
    /// # Errors
    ///
    /// DeferReason it is refused.
    pub async fn verify_for(&self, key: &str, policy: &Policy) -> Result<ApiKey, Denied> {
        let verifier = &self.0.verifier;
        let credential = Credential::Presented(verifier.screen(key.as_bytes(), policy)?);
        let question = CheckRequest {
            credential,
            policy,
            info: &NoRequest,
            earlier: no_earlier_check,
        };
        let decision = match verifier.try_check(&question) {
            FastPath::Decided(decision) => decision,
            FastPath::Deferred(why) => verifier.check(&question, why).await,
        };
        decision.map(|admitted| admitted.key)
    }

    /// Ends the manager: what is under way is finished (but for waiting for other nodes, which ends
    /// with [`Error::ShutDown`]: the change is made and not confirmed), checks that wait for the store
    /// among it, for as long as the store may take; the store is closed, and from then on every check
    /// answers that the store is unavailable.
    ///
    /// # Errors
    ///
    /// [`Error::ShutDown`] where it was ended before.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let verifier = Arc::clone(&self.0.verifier);
        // Whoever waits for other nodes would be waited for.
        verifier.poller.begin_to_stop();
        self.0
            .thread
            .finish(async move {
                // While it may still be believed what they are about.
                verifier.under_way.close();
                let under_way = verifier.under_way.wait();
                let _ = tokio::time::timeout(verifier.reader.deadline, under_way).await;
                verifier.reader.cache.lease.close();
                verifier.reader.cache.flush();
                verifier.poller.close();
                let given_up = verifier.refund_all_prefetched();
                let _ = tokio::time::timeout(verifier.reader.deadline, given_up).await;
                verifier.usage.finish(&verifier.reader).await;
                verifier.events.close();
                #[cfg(feature = "metrics")]
                verifier.reader.metrics.carry(&verifier.reader);
                let store = &verifier.reader.store;
                let end = async {
                    // Others strike it off by themselves, only later.
                    if let Err(error) = store.leave(&verifier.poller.node()).await {
                        tracing::debug!(%error, "this node stays on the key store's list");
                    }
                    store.stop().await;
                };
                // A store that does not stop holds no one up.
                let _ = tokio::time::timeout(verifier.reader.deadline, end).await;
            })
            .await
    }

    /// How the manager stands, as of its last poll: what a readiness probe asks. Asks nobody, and
    /// waits for nothing.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// assert!(manager.health().is_ready());
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn health(&self) -> Health {
        Health::of(&self.0.verifier)
    }

    /// Makes this the manager of all apps in the process that have no manager of their own.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyInstalled`] the second time.
    pub fn install(&self) -> Result<(), Error> {
        global::install(self)
    }

    pub(crate) fn verifier(&self) -> &Arc<Verifier> {
        &self.0.verifier
    }

    pub(crate) fn face(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.0.face.as_deref()
    }

    /// Whether both are the same manager.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn now(&self) -> ClockReading {
        self.0.verifier.reader.clock.read()
    }

    /// Carries `work` out on the manager's own thread. It goes on where the caller goes away.
    async fn on_thread<W, F, T>(&self, work: W) -> Result<T, Error>
    where
        W: FnOnce(Arc<Verifier>) -> F,
        F: Future<Output = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        self.0.thread.run(work(Arc::clone(&self.0.verifier))).await
    }
}

impl std::fmt::Debug for ApiKeyManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeyManager")
            .field("config", self.config())
            .field("store", &self.0.verifier.reader.store)
            .finish_non_exhaustive()
    }
}

/// No request at all.
struct NoRequest;

impl PathValues for NoRequest {
    fn value(&self, _name: &str) -> Option<std::borrow::Cow<'_, str>> {
        None
    }
}

impl RequestInfo for NoRequest {
    fn address(&self) -> Option<std::net::IpAddr> {
        None
    }

    fn counted_address(&self) -> Option<std::net::IpAddr> {
        None
    }

    fn method(&self) -> Option<&str> {
        None
    }

    fn is_encrypted(&self) -> bool {
        false
    }

    fn write_route(&self, _write: &mut dyn FnMut(&str)) {}
}

/// What the manager's calls do with the store, on its thread.
impl Verifier {
    /// The store's answer, or that it is unavailable where none comes in time.
    async fn within<T>(
        &self,
        what: StoreCall,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let deadline = self.reader.deadline;
        let answer = tokio::time::timeout(deadline, call).await;
        self.reader.metrics.called(what, answer.as_ref().ok());
        answer.unwrap_or_else(|_| {
            Err(StoreError::unavailable(format!(
                "no answer within {deadline:?}; whether a write took effect is not known"
            )))
        })
    }

    async fn find(&self, id: KeyId) -> Result<KeyRecord, Error> {
        self.within(StoreCall::Find, self.reader.store.find(&id))
            .await?
            .ok_or(Error::NotFound(id))
    }

    /// The record of a key that is not revoked.
    async fn live(&self, id: KeyId) -> Result<KeyRecord, Error> {
        let record = self.find(id).await?;
        if record.revoked.is_some() {
            Err(Error::Revoked(id))
        } else {
            Ok(record)
        }
    }

    async fn patch(&self, id: KeyId, patch: &KeyPatch) -> Result<(), Error> {
        let update = self.reader.store.update(&id, patch);
        let outcome = self.within(StoreCall::Update, update).await;
        // Whatever came of it: where the answer was lost, the change may have been made.
        self.reader.cache.evict(&id);
        outcome.map_err(|error| missing(error, id))
    }
}

/// Says which record is missing.
fn missing(error: StoreError, id: KeyId) -> Error {
    match error {
        StoreError::NotFound => Error::NotFound(id),
        other => Error::Store(other),
    }
}

/// A refusal that no route had a part in.
impl From<DenyReason> for Denied {
    fn from(reason: DenyReason) -> Self {
        Self::new(reason)
    }
}
