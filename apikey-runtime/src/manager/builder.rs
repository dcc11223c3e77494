//! Setting a manager up.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use tokio_util::task::TaskTracker;

use super::thread::Thread;
use super::{ApiKeyManager, Inner};
use crate::cache::{Cache, Reader};
use crate::clock::{Clock, SystemClock};
use crate::cluster::{ChangePoller, PollOutcome};
use crate::config::Config;
use crate::error::{BoxError, Error, StoreError};
use crate::events::EventSender;
use crate::failed_attempts::FailedAttempts;
use crate::key::{KeyHasher, Sha256Hasher};
use crate::limit::Limit;
use crate::limiter::{DEFAULT, LocalLimiter, Plan, Plans, Prefetch};
use crate::metrics::Metrics;
use crate::store::{KeyStore, NodeId};
use crate::usage::Usage;
use crate::verify::Verifier;

/// How often a node joins anew at its start that the store does not know.
const JOINS: usize = 10;

/// How long a task rests whose store panicked.
const AFTER_PANIC: Duration = Duration::from_millis(10);

/// Where secrets come from.
pub(super) trait Random: fmt::Debug + Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), BoxError>;
}

/// The system's generator; its failure is an error, never a weaker source.
#[derive(Debug)]
struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), BoxError> {
        SysRng.try_fill_bytes(bytes).map_err(Into::into)
    }
}

/// What a manager is made of; see [`ApiKeyManager::builder`].
pub struct ApiKeyManagerBuilder {
    config: Config,
    store: Option<Arc<dyn KeyStore>>,
    hasher: Arc<dyn KeyHasher>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    face: Option<Arc<dyn Any + Send + Sync>>,
}

impl ApiKeyManagerBuilder {
    pub(super) fn new() -> Self {
        Self {
            config: Config::default(),
            store: None,
            hasher: Arc::new(Sha256Hasher::new()),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            face: None,
        }
    }

    /// The settings. By default, [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where records are kept. There is no default.
    #[must_use]
    pub fn store(self, store: impl KeyStore) -> Self {
        self.shared_store(Arc::new(store))
    }

    /// Where records are kept, for a store that others use too. The first manager's end
    /// ([`shutdown`](ApiKeyManager::shutdown)) stops the store for all of them: managers that end at
    /// different times need a store each.
    #[must_use]
    pub fn shared_store(mut self, store: Arc<dyn KeyStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// How digests are made. By default, SHA-256 ([`Sha256Hasher`]); with peppers,
    /// [`Sha256Hasher::with_peppers`].
    #[must_use]
    pub fn hasher(mut self, hasher: impl KeyHasher) -> Self {
        self.hasher = Arc::new(hasher);
        self
    }

    /// What time it is. By default, the machine's clocks; a test hands in a
    /// [`ManualClock`](crate::ManualClock).
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Keeps something for the floor above.
    pub(crate) fn face(mut self, face: Arc<dyn Any + Send + Sync>) -> Self {
        self.face = Some(face);
        self
    }

    #[cfg(test)]
    pub(super) fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Starts the manager's thread, and the store on it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without a store; [`Error::Store`] where it does not start or answer;
    /// [`Error::Hasher`] where the hasher cannot read what it makes.
    pub async fn start(self) -> Result<ApiKeyManager, Error> {
        let store = self.store.ok_or_else(|| {
            Error::Config(
                "the manager has no store; write `.store(SqliteStore::new(\"apikeys.db\"))`"
                    .to_owned(),
            )
        })?;
        let thread = Thread::start()?;
        let dummy = dummy_digest(&*self.hasher)?;
        let reader = Arc::new(Reader {
            store,
            hasher: self.hasher,
            clock: self.clock,
            cache: Arc::new(Cache::new(self.config.cache_capacity())),
            plans: Plans::default(),
            metrics: Metrics::new(),
            runtime: thread.runtime().clone(),
            deadline: self.config.store_timeout(),
        });
        let default = self
            .config
            .default_rate_limit()
            .map(|rate| Limit::new(DEFAULT, rate));
        let default_plan = Plan::of(default.as_slice());
        let prefetch = Arc::new(Prefetch::new(self.config.limit_prefetch()));
        let node = node_id(&*self.random)?;
        let usage = Usage::new(&*reader.store, &self.config, node);
        let failed_attempts = self.config.failed_attempts().map(FailedAttempts::new);
        let verifier = Arc::new(Verifier {
            config: self.config,
            reader,
            poller: ChangePoller::new(node),
            usage,
            events: EventSender::default(),
            failed_attempts,
            local_limiter: LocalLimiter::new(),
            default_plan,
            prefetch,
            under_way: TaskTracker::new(),
            dummy,
        });
        thread.run(begin(Arc::clone(&verifier))).await?;
        Ok(ApiKeyManager(Arc::new(Inner {
            verifier,
            random: self.random,
            thread,
            face: self.face,
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

fn node_id(random: &dyn Random) -> Result<NodeId, Error> {
    let mut bits = [0; 16];
    random.fill(&mut bits).map_err(Error::Random)?;
    Ok(NodeId::from_u128(u128::from_ne_bytes(bits)))
}

/// Starts the store, joins its nodes, takes the first lease, and leaves the poller running.
async fn begin(verifier: Arc<Verifier>) -> Result<(), Error> {
    verifier.reader.store.start().await?;
    let mut polled = verifier.poller.poll(&verifier.reader, &mut None).await;
    for _ in 0..JOINS {
        // Whoever is slow may be taken for gone between joining and asking.
        if polled == PollOutcome::NotMember {
            polled = verifier.poller.poll(&verifier.reader, &mut None).await;
        }
    }
    if polled != PollOutcome::Answered {
        let reason = verifier.poller.status().failing.map(|(_, reason)| reason);
        return Err(StoreError::unavailable(format!(
            "its history could not be read at the start: {}",
            reason.unwrap_or_else(|| "it does not list this node".to_owned())
        ))
        .into());
    }
    let Verifier { reader, .. } = &*verifier;
    reader
        .runtime
        .spawn(keep(Arc::clone(&verifier), |verifier| async move {
            verifier.poller.run(&verifier.reader).await;
        }));
    reader
        .runtime
        .spawn(keep(Arc::clone(&verifier), |verifier| async move {
            verifier.poller.acknowledge(&verifier.reader).await;
        }));
    reader
        .runtime
        .spawn(keep(Arc::clone(&verifier), |verifier| async move {
            verifier.poller.watch_members(&verifier.reader).await;
        }));
    if verifier.prefetch.is_on() {
        reader
            .runtime
            .spawn(keep(Arc::clone(&verifier), |verifier| async move {
                verifier.refund_expired_prefetch().await;
            }));
    }
    reader
        .runtime
        .spawn(keep(Arc::clone(&verifier), |verifier| async move {
            verifier.usage.run(&verifier.reader).await;
        }));
    #[cfg(feature = "metrics")]
    reader
        .runtime
        .spawn(keep(Arc::clone(&verifier), |verifier| async move {
            crate::metrics::publish(&verifier.reader).await;
        }));
    Ok(())
}

/// Keeps `task` going for as long as the thread lives. A store whose code panics ends one turn of
/// it, and not the whole.
async fn keep<T, F>(verifier: Arc<Verifier>, task: T)
where
    T: Fn(Arc<Verifier>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match tokio::spawn(task(Arc::clone(&verifier))).await {
            Err(error) if error.is_panic() => {
                tracing::error!("the key store panicked in the background; it is asked anew");
                // It may do so every time.
                tokio::time::sleep(AFTER_PANIC).await;
            }
            _ => return,
        }
    }
}

/// The digest of a text that no key is, for the comparison on a miss.
fn dummy_digest(hasher: &dyn KeyHasher) -> Result<crate::key::ParsedDigest, Error> {
    let stored = hasher.hash("no key has this text").map_err(Error::Hasher)?;
    hasher.prepare(&stored).ok_or_else(|| {
        Error::Hasher("`prepare` does not know the tag that `hash` writes; make both agree".into())
    })
}
