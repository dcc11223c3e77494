//! Builds a manager.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Once};

use tokio::sync::{Mutex, Notify, Semaphore};
use tokio_util::task::TaskTracker;

use super::background;
use super::core::ManagerCore;
use super::notice_memory::NoticeMemory;
use super::secret::{RandomSource, SystemRandom};
use super::thread::ManagerThread;
use super::{ApiKeyManager, Inner};
use crate::cache::{Cache, IdleExpiry, Loader, SINGLE_READS};
use crate::clock::{Clock, SystemClock};
use crate::cluster::ChangePoller;
use crate::config::Config;
use crate::error::Error;
use crate::events::EventSender;
use crate::failed_attempts::FailedAttempts;
use crate::key::{KeyHasher, ParsedDigest, Sha256Hasher};
use crate::limiter::{LocalLimiter, Plan, Plans, Prefetch};
use crate::shared::{Shared, UnflushedUses};
use crate::store::{KeyStore, NodeId};
use crate::usage::Usage;
use crate::verify::Verifier;

/// Builds an [`ApiKeyManager`]; see [`ApiKeyManager::builder`].
pub struct ApiKeyManagerBuilder {
    config: Config,
    store: Option<Arc<dyn KeyStore>>,
    hasher: Arc<dyn KeyHasher>,
    clock: Option<Arc<dyn Clock>>,
    random: Arc<dyn RandomSource>,
    web_extension: Option<Arc<dyn Any + Send + Sync>>,
    detached: bool,
}

impl ApiKeyManagerBuilder {
    pub(super) fn new() -> Self {
        Self {
            config: Config::default(),
            store: None,
            hasher: Arc::new(Sha256Hasher::new()),
            clock: None,
            random: Arc::new(SystemRandom),
            web_extension: None,
            detached: false,
        }
    }

    /// Sets the configuration. By default, [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets the store that keeps the records, which is required.
    #[must_use]
    pub fn store(self, store: impl KeyStore) -> Self {
        self.shared_store(Arc::new(store))
    }

    /// Sets a store that other managers in the process use too.
    ///
    /// The first manager that is [shut down](ApiKeyManager::shutdown) stops the store for all of
    /// them. If managers are shut down at different times, give each its own store.
    #[must_use]
    pub fn shared_store(mut self, store: Arc<dyn KeyStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets the hasher that makes digests. By default, SHA-256 ([`Sha256Hasher`]). For peppers, use
    /// [`Sha256Hasher::with_peppers`].
    #[must_use]
    pub fn hasher(mut self, hasher: impl KeyHasher) -> Self {
        self.hasher = Arc::new(hasher);
        self
    }

    /// Sets the clock, of the manager and of a store that counts by a clock of the process
    /// ([`KeyStore::offer_clock`]). By default, the machine's clocks; tests can use a
    /// [`ManualClock`](crate::clock::ManualClock).
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Makes the manager detached: a tool that is used beside servers, such as a command line, and not a node of the store.
    ///
    /// It neither joins the [members](ApiKeyManager::members) nor takes a lease, it caches nothing, and nothing runs in its
    /// background. So it costs the store nothing between its calls, and if it is killed, no other node waits for it. What it
    /// changes is a change like any other: it is in the change log and the audit log, and the store's push evicts it from
    /// the caches of all nodes at once. A call with `confirmed` tells which nodes have acknowledged the change, and always
    /// waits out the longest lease: a manager that has not followed the change log cannot tell whether the member list
    /// is complete.
    ///
    /// Each check reads the store. Usage that it counts is flushed when it is shut down. Watches, notices before the end of
    /// keys, and [`health`](ApiKeyManager::health) are for nodes.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use apikey_runtime::{ApiKeyManager, KeyStore, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// let store: Arc<dyn KeyStore> = Arc::new(MemoryStore::new());
    /// let server = ApiKeyManager::builder().shared_store(store.clone()).start().await?;
    /// let key = server.create("ci").await?;
    ///
    /// let tool = ApiKeyManager::builder().shared_store(store).detached().start().await?;
    /// assert_eq!(tool.members().await?.len(), 1, "the server");
    /// let change = tool.revoke(key.id()).confirmed().await?;
    /// assert_eq!(change.propagation.acknowledged.len(), 1);
    /// assert!(server.verify(key.expose_secret()).await.is_err());
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Keeps data for the web framework's layer.
    pub(crate) fn web_extension(mut self, web_extension: Arc<dyn Any + Send + Sync>) -> Self {
        self.web_extension = Some(web_extension);
        self
    }

    #[cfg(test)]
    pub(super) fn random(mut self, random: impl RandomSource) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Starts the manager's thread, and the store on that thread.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] if no store was set or the thread cannot be started,
    /// [`Error::Unsupported`] if the store cannot keep a rule for issuing keys or does not keep the usage
    /// that [`idle_expiry`](crate::ConfigBuilder::idle_expiry) needs, [`Error::Store`] if
    /// the store does not start or answer, [`Error::Hasher`] if the hasher
    /// cannot parse its own digests, and [`Error::Random`] if the system's random generator fails.
    pub async fn start(self) -> Result<ApiKeyManager, Error> {
        let store = self.store.ok_or_else(|| {
            Error::Config(
                "the manager has no store; write `.store(SqliteStore::new(\"apikeys.db\"))`"
                    .to_owned(),
            )
        })?;
        let thread = ManagerThread::start()?;
        let (runtime, deadline) = (thread.runtime().clone(), self.config.store_timeout());
        if let Some(clock) = &self.clock {
            store.offer_clock(clock);
        }
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let shared = Arc::new(Shared::new(store, clock, runtime, deadline));
        let node = node_id(&*self.random)?;
        let core = Arc::new(core(shared, self.config, self.hasher, node, self.detached)?);
        core.check_countable(core.verifier.config.issue_policy())?;
        core.check_idle_expiry()?;
        thread.run(background::start(Arc::clone(&core))).await?;
        Ok(ApiKeyManager(Arc::new(Inner {
            core,
            random: self.random,
            thread,
            web_extension: self.web_extension,
            repeated_init: Once::new(),
        })))
    }
}

impl fmt::Debug for ApiKeyManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyManagerBuilder")
            .field("config", &self.config)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

fn node_id(random: &dyn RandomSource) -> Result<NodeId, Error> {
    let mut bits = [0; 16];
    random.fill(&mut bits).map_err(Error::Random)?;
    Ok(NodeId::from_u128(u128::from_ne_bytes(bits)))
}

/// Assembles the parts of a manager.
fn core(
    shared: Arc<Shared>,
    config: Config,
    hasher: Arc<dyn KeyHasher>,
    node: NodeId,
    detached: bool,
) -> Result<ManagerCore, Error> {
    let dummy = dummy_digest(&*hasher)?;
    let cache = Arc::new(Cache::new(config.cache_capacity()));
    let mut poller = ChangePoller::new(node, Arc::clone(&shared), Arc::clone(&cache));
    let mut prefetch = config.limit_prefetch();
    if detached {
        // What was taken ahead would be lost with a process that is killed.
        (poller, prefetch) = (poller.detached(), 1);
    }
    let (poller, events) = (Arc::new(poller), Arc::new(EventSender::default()));
    let usage = Arc::new(Usage::new(Arc::clone(&shared), &config, node));
    let default_rate = config.default_rate_limit();
    let default_plan = default_rate.map(|rate| Plan::of_default(rate, config.counter_namespace()));
    let verifier = Verifier {
        shared: Arc::clone(&shared),
        loader: Arc::new(Loader {
            shared: Arc::clone(&shared),
            cache: Arc::clone(&cache),
            hasher: Arc::clone(&hasher),
            plans: Plans::default(),
            idle: config.idle_expiry().map(|after| IdleExpiry {
                after,
                own: Arc::clone(&usage) as Arc<dyn UnflushedUses>,
            }),
            queue: Loader::queue_of(&*shared.store),
            single_reads: Semaphore::new(SINGLE_READS),
        }),
        poller: Arc::clone(&poller),
        events: Arc::clone(&events),
        usage: Arc::clone(&usage),
        failed_attempts: config.failed_attempts().map(FailedAttempts::new),
        local_limiter: LocalLimiter::new(),
        prefetch: Arc::new(Prefetch::new(prefetch)),
        deferred: TaskTracker::new(),
        default_plan,
        dummy,
        sha256: (&*hasher as &dyn Any).downcast_ref().cloned(),
        marks: foldhash::fast::RandomState::default(),
        config,
    };
    let notice_memory = NoticeMemory::new(shared.now());
    Ok(ManagerCore {
        shared,
        cache,
        hasher,
        poller,
        events,
        usage,
        verifier: verifier.registered(),
        probe_request: Notify::new(),
        sending_notices: Mutex::new(()),
        notice_memory: Mutex::new(notice_memory),
    })
}

/// Returns the digest of a text that cannot be a key, for the dummy comparison on a miss.
fn dummy_digest(hasher: &dyn KeyHasher) -> Result<ParsedDigest, Error> {
    let stored = hasher.hash("no key has this text").map_err(Error::Hasher)?;
    hasher.parse(&stored).ok_or_else(|| {
        Error::Hasher("`parse` does not know the tag that `hash` writes; make both agree".into())
    })
}
