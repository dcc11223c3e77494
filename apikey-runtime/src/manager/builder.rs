//! Setting a manager up.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use rand::TryRng;
use rand::rngs::SysRng;

use super::thread::Thread;
use super::{ApiKeyManager, Inner};
use crate::cache::{Cache, Feed, Reader};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::error::{BoxError, Error, StoreError};
use crate::key::{FastHasher, KeyHasher};
use crate::store::{Cursor, KeyStore};
use crate::verify::Verifier;

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
            hasher: Arc::new(FastHasher::new()),
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

    /// Where records are kept, for a store that others use too.
    #[must_use]
    pub fn shared_store(mut self, store: Arc<dyn KeyStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// How digests are made. By default, SHA-256 ([`FastHasher`]); with peppers,
    /// [`FastHasher::with_peppers`].
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
            runtime: thread.runtime().clone(),
            deadline: self.config.store_timeout(),
        });
        let verifier = Arc::new(Verifier {
            config: self.config,
            reader,
            feed: Feed::new(),
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

/// Starts the store, takes the first lease, and leaves the poller running.
async fn begin(verifier: Arc<Verifier>) -> Result<(), Error> {
    verifier.reader.store.start().await?;
    let mut cursor = None;
    if !verifier.feed.poll(&verifier.reader, &mut cursor).await {
        return Err(StoreError::unavailable(
            "its history could not be read at the start; the log says why",
        )
        .into());
    }
    tokio::spawn(keep_polling(verifier, cursor));
    Ok(())
}

/// Polls for as long as the thread lives. A store whose code panics ends a poll, and not the
/// polling.
async fn keep_polling(verifier: Arc<Verifier>, mut cursor: Option<Cursor>) {
    loop {
        let (polling, from) = (Arc::clone(&verifier), cursor.take());
        let polls = tokio::spawn(async move { polling.feed.run(&polling.reader, from).await });
        match polls.await {
            Err(error) if error.is_panic() => {
                tracing::error!(
                    "the key store panicked while its history was read; it is read anew"
                );
            }
            _ => return,
        }
    }
}

/// The digest of a text that no key is, for the comparison on a miss.
fn dummy_digest(hasher: &dyn KeyHasher) -> Result<crate::key::PreparedDigest, Error> {
    let stored = hasher.hash("no key has this text").map_err(Error::Hasher)?;
    hasher.prepare(&stored).ok_or_else(|| {
        Error::Hasher("`prepare` does not know the tag that `hash` writes; make both agree".into())
    })
}
