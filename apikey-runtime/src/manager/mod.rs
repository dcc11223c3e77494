//! The manager: issues, verifies, rotates and revokes keys, with one configuration.

mod audit;
mod background;
mod builder;
mod call;
mod check;
mod confirm;
mod core;
mod events;
mod expiry_notices;
mod global;
mod health;
mod hourly;
mod introspect;
mod keys;
mod limits;
mod members;
mod new_key;
mod notice_memory;
mod owners;
mod probe;
mod secret;
mod shared_secret;
mod start;
mod thread;
mod usage;
mod validate;
mod verify;

use std::any::Any;
use std::pin::Pin;
use std::sync::{Arc, Once};

pub use crate::cluster::Propagation;
pub use crate::error::PolicyViolation;
pub use crate::policy::{IssuePolicy, RequestFacts};
pub use audit::{AuditExport, AuditRequest};
pub use builder::ApiKeyManagerBuilder;
pub use check::CheckedKey;
pub use confirm::{Confirmed, ConfirmedCall};
pub use health::{Health, StoreHealth};
pub use introspect::{Introspection, KeyFacts};
pub use keys::{
    CreateKey, EndGrace, GetKey, KeyPage, ListKeys, PresentedRevocation, PurgeKeys, RevokeKey,
    RevokePresented, RotateKey, SetKeyEnabled, UpdateKey,
};
pub use new_key::{KeyExport, NewKey};
pub use owners::{ListOwners, RevokeAll, SetOwnerSuspended};
pub use usage::UsageRequest;

pub(crate) use global::installed;

use self::core::ManagerCore;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::Error;
use crate::key::KeyId;
use crate::verify::Verifier;
use thread::ManagerThread;

/// The future of a call. `IntoFuture` needs a type that can be named.
type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// Issues, verifies, rotates and revokes keys.
///
/// Create one at start-up ([`ApiKeyManager::builder`]) and pass it to the app
/// ([`init_app`](ApiKeyManager::init_app)) or to the whole process
/// ([`install`](ApiKeyManager::install)). Clones are cheap and refer to the same manager.
///
/// The manager owns one thread with its own runtime, which drives the store's connections. So a
/// worker that is busy or ends does not stall other workers, and a call completes even if its
/// future is dropped.
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
    random: Arc<dyn secret::RandomSource>,
    thread: ManagerThread,
    /// Data of the web framework's layer: its error handler.
    web_extension: Option<Arc<dyn Any + Send + Sync>>,
    /// Whether the web framework's layer has warned that an app has a second manager.
    repeated_init: Once,
}

impl ApiKeyManager {
    /// Returns a builder with the default settings.
    #[must_use]
    pub fn builder() -> ApiKeyManagerBuilder {
        ApiKeyManagerBuilder::new()
    }

    /// Returns the time of the manager's clock, by which keys expire and states are told: that of the system, or the
    /// [`clock`](ApiKeyManagerBuilder::clock) that the builder was given.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, KeyState, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// # let id = manager.create("ci").await?.id();
    /// let record = manager.get(id).await?;
    /// assert_eq!(record.state_at(manager.now()), KeyState::Active);
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.core.shared.now().now
    }

    /// Returns the settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.core.verifier.config
    }

    /// Creates a key with this label (1 to 256 bytes, no control characters), which need not be
    /// unique.
    ///
    /// Nothing happens until the returned call is awaited, with or without more settings. The same
    /// is true of the other calls on keys.
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

    /// Reads the record of a key from the store. Its errors are [`Error::NotFound`], [`Error::Store`] and
    /// [`Error::ShutDown`].
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, Error, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// # let id = manager.create("ci").owner("acme").await?.id();
    /// let record = manager.get(id).await?;
    /// assert_eq!(record.owner.as_deref(), Some("acme"));
    /// // On behalf of an owner: the key of another one does not exist.
    /// let read = manager.get(id).owned_by("globex").await;
    /// assert!(matches!(read, Err(Error::NotFound(_))));
    /// # Ok::<(), Error>(())
    /// # }).unwrap();
    /// ```
    pub fn get(&self, id: KeyId) -> GetKey {
        GetKey::new(self.clone(), id)
    }

    /// Lists keys: all, or those of an owner, with a beginning of a label or an id, in a state, and so
    /// on. Resolves to the first page.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, KeyState, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// manager.create("CI: nightly").owner("acme").await?;
    /// let list = manager.list().owner("acme").label_prefix("ci").state(KeyState::Active);
    /// let page = list.with_usage().await?;
    /// assert_eq!((page.keys.len(), page.live_keys), (1, Some(1)));
    /// assert!(page.last_used.is_empty() && page.next.is_none());
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn list(&self) -> ListKeys {
        ListKeys::new(self.clone())
    }

    /// Changes the attributes of a key. Its errors are [`Error::NotFound`], [`Error::InvalidArgument`],
    /// [`Error::Policy`], [`Error::Conflict`], [`Error::Revoked`], [`Error::Unsupported`],
    /// [`Error::Store`] and [`Error::ShutDown`].
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, Error, MemoryStore, Scopes};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// # let id = manager.create("ci").owner("acme").await?.id();
    /// let shown = manager.get(id).await?;
    /// // On behalf of an owner, who holds these scopes, and has seen this version of the key.
    /// let held = Scopes::new(["orders:read"])?;
    /// let update = || manager.update(id).owned_by("acme").if_version(shown.version).granted_by(&held);
    /// let refused = update().scopes(["orders:write"]).await;
    /// assert!(matches!(refused, Err(Error::Policy(_))));
    /// update().scopes(["orders:read"]).await?;
    /// assert!(matches!(update().label("late").await, Err(Error::Conflict(_))));
    /// # Ok::<(), Error>(())
    /// # }).unwrap();
    /// ```
    pub fn update(&self, id: KeyId) -> UpdateKey {
        UpdateKey::new(self.clone(), id)
    }

    /// Gives a key a new secret, with or without a grace time for the old one. On behalf of a person,
    /// [`granted_by`](RotateKey::granted_by) keeps them from a secret of more than they hold.
    ///
    /// With a grace, the call returns [`Error::Conflict`] if another rotation comes between: a second one
    /// ends the grace of the secret that the clients have. After [`Error::Store`], the key may have been
    /// rotated, and its new secret is lost. So read the record before, and repeat the call with its
    /// [version](RotateKey::if_version): [`Error::Conflict`] tells that the key has changed. If its
    /// `rotations` are more, it was rotated: the secret that the clients have is valid until the end of
    /// its grace, and a further rotation ends that grace at once.
    pub fn rotate(&self, id: KeyId) -> RotateKey {
        RotateKey::new(self.clone(), id)
    }

    /// Ends the grace of a key's old secret before its time: the secret is denied at once with this manager,
    /// and the new secret stays valid. Other managers deny it as after [`revoke`](Self::revoke). The event
    /// is [`GraceEnded`](crate::events::EventKind::GraceEnded), with the origin's reason.
    ///
    /// Resolves to whether an old secret was in its grace; nothing is changed if not. Its errors are
    /// [`Error::NotFound`], [`Error::Revoked`], [`Error::InvalidArgument`], [`Error::Conflict`],
    /// [`Error::Store`] and [`Error::ShutDown`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let old = manager.create("ci").await?;
    /// let new = manager.rotate(old.id()).grace(Duration::from_secs(3600)).await?;
    /// assert!(manager.end_grace(old.id()).await?);
    /// assert!(manager.verify(old.expose_secret()).await.is_err());
    /// assert!(manager.verify(new.expose_secret()).await.is_ok());
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn end_grace(&self, id: KeyId) -> EndGrace {
        EndGrace::new(self.clone(), id)
    }

    /// Revokes a key permanently, with or without a reason.
    ///
    /// When it returns `Ok`, the revocation is durable in the store, and no check that starts later
    /// with this manager accepts the key. Other managers on the same store deny it when the store's
    /// push reaches them, and at the latest when their lease ends. With
    /// [`confirmed`](RevokeKey::confirmed), the call returns only when no manager accepts the key
    /// any more.
    pub fn revoke(&self, id: KeyId) -> RevokeKey {
        RevokeKey::new(self.clone(), id)
    }

    /// Enables a key. If it is enabled already, this restarts the time after which it is idle: see
    /// [`idle_expiry`](crate::ConfigBuilder::idle_expiry). Its errors are [`Error::NotFound`], [`Error::Revoked`], [`Error::Policy`],
    /// [`Error::Conflict`], [`Error::Store`] and [`Error::ShutDown`].
    pub fn enable(&self, id: KeyId) -> SetKeyEnabled {
        SetKeyEnabled::new(self.clone(), id, true)
    }

    /// Disables a key until it is enabled again. Its errors are those of [`enable`](Self::enable).
    pub fn disable(&self, id: KeyId) -> SetKeyEnabled {
        SetKeyEnabled::new(self.clone(), id, false)
    }

    /// Removes the records of keys that were revoked, or expired, before `before`, and resolves to
    /// their number. A removed key is then denied as unknown. `before` must not be later than [`now`](Self::now): a key
    /// that ends by then still works.
    ///
    /// The records are removed in steps, each of which commits by itself and leaves time for other
    /// users of the store. If the call fails or the manager shuts down, the records of the steps before
    /// stay removed, and the same call continues there. If the future is dropped, the steps continue.
    ///
    /// Its errors are [`Error::InvalidArgument`], [`Error::Incomplete`] and [`Error::ShutDown`].
    pub fn purge(&self, before: impl Into<Timestamp>) -> PurgeKeys {
        PurgeKeys::new(self.clone(), before.into())
    }

    /// Shuts the manager down: finishes what is in progress, and closes the store.
    ///
    /// Checks that wait for the store finish too, within the store's timeout. Calls that wait for
    /// other nodes end with [`Error::ShutDown`]: the change was made, and not confirmed. Calls of
    /// [`purge`](Self::purge), and of [`revoke_all`](Self::revoke_all) if it runs in steps, end after the
    /// current step, with [`Error::Incomplete`]. Afterwards each check is denied because the store is unavailable.
    ///
    /// # Errors
    ///
    /// Returns [`Error::ShutDown`] if the manager was shut down before.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let core = Arc::clone(&self.0.core);
        // Otherwise the shutdown would wait for calls that wait for other nodes.
        core.poller.begin_to_stop();
        self.0
            .thread
            .finish(async move { background::stop(&core).await })
            .await
    }

    /// Returns the manager's health, as of the last calls of the store, for a readiness probe. Does
    /// not wait.
    ///
    /// If the last read was more than a second ago, this asks for another in the background; the
    /// next report then has its result. While reads or writes are down, they are tried once a second.
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

    /// Makes this the manager of all apps in the process that do not have their own.
    ///
    /// # Errors
    ///
    /// Returns [`Error::AlreadyInstalled`] if a manager was installed before.
    pub fn install(&self) -> Result<(), Error> {
        global::install(self)
    }

    pub(crate) fn verifier(&self) -> &Arc<Verifier> {
        &self.0.core.verifier
    }

    pub(crate) fn web_extension(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.0.web_extension.as_deref()
    }

    /// Calls `warn` once in the life of the manager.
    pub(crate) fn warn_once_of_repeated_init(&self, warn: impl FnOnce()) {
        self.0.repeated_init.call_once(warn);
    }

    /// Returns whether both are the same manager.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Runs `work` on the manager's thread. It completes even if the caller is dropped.
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
