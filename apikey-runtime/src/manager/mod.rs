//! The manager: configured once, it issues, verifies, rotates and revokes keys.

mod background;
mod builder;
mod change;
mod checks;
mod confirm;
mod core;
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
mod verify;

use std::any::Any;
use std::sync::Arc;

pub use crate::cluster::Propagation;
pub use builder::ApiKeyManagerBuilder;
pub use change::{RotateKey, SetKeyEnabled, UpdateKey};
pub use confirm::{Confirmed, ConfirmedCall};
pub use create::CreateKey;
pub use health::{Health, StoreHealth};
pub use list::{KeyPage, ListKeys};
pub use new_key::{KeyExport, NewKey};
pub use purge::PurgeKeys;
pub use revoke::{RevokeAll, RevokeKey};
pub use usage::UsageRequest;

pub(crate) use global::installed;

use self::core::ManagerCore;
use crate::clock::{ClockReading, Timestamp};
use crate::config::Config;
use crate::error::Error;
use crate::key::KeyId;
use crate::record::KeyRecord;
use crate::verify::Verifier;
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
    core: Arc<ManagerCore>,
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
        &self.0.core.verifier.config
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
        self.on_thread(move |core| async move { core.find(id).await })
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

    /// Ends the manager: what is under way is finished (but for waiting for other nodes, which ends
    /// with [`Error::ShutDown`]: the change is made and not confirmed), checks that wait for the store
    /// among it, for as long as the store may take; the store is closed, and from then on every check
    /// answers that the store is unavailable.
    ///
    /// # Errors
    ///
    /// [`Error::ShutDown`] where it was ended before.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let core = Arc::clone(&self.0.core);
        // Changes that wait for other nodes would be waited for.
        core.poller.begin_to_stop();
        self.0
            .thread
            .finish(async move { background::stop(&core).await })
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
        Health::of(&self.0.core)
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
        &self.0.core.verifier
    }

    pub(crate) fn face(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.0.face.as_deref()
    }

    /// Whether both are the same manager.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn now(&self) -> ClockReading {
        self.0.core.shared.now()
    }

    /// Carries `work` out on the manager's own thread. It goes on where the caller goes away.
    async fn on_thread<W, F, T>(&self, work: W) -> Result<T, Error>
    where
        W: FnOnce(Arc<ManagerCore>) -> F,
        F: Future<Output = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        self.0.thread.run(work(Arc::clone(&self.0.core))).await
    }
}

impl std::fmt::Debug for ApiKeyManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeyManager")
            .field("config", self.config())
            .field("store", &self.0.core.shared.store)
            .finish_non_exhaustive()
    }
}
