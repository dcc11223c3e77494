//! One run of a command: the store, the manager, the output.

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::key::{KeyHasher, Sha256Hasher};
use apikey_runtime::{ApiKeyManager, KeyRecord, Timestamp};

use crate::actor;
use crate::args::Common;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings;
use crate::store_address::{Opening, StoreAddress};

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) manager: ApiKeyManager,
    pub(crate) common: Common,
    pub(crate) output: Output,
    /// Whether peppers were given.
    pub(crate) has_peppers: bool,
    hasher: Sha256Hasher,
}

impl Session {
    /// Does `work` with the store, which must exist in the layout of this release, and closes it.
    pub(crate) async fn with(
        common: Common,
        work: impl AsyncFnOnce(&Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let address = StoreAddress::of(&common)?;
        let done = match Self::open(common.clone(), &address).await {
            Ok(session) => {
                let done = work(&session).await;
                // The command is done, whatever comes of this.
                let _ = session.manager.shutdown().await;
                done
            }
            Err(failure) => Err(failure),
        };
        done.map_err(|failure| {
            let failure = address.explained(failure);
            failure.patient(&common, address.has_timeout(true))
        })
    }

    async fn open(common: Common, address: &StoreAddress) -> Result<Self, Failure> {
        let store = address.store(Opening::AsIs)?;
        let peppers = settings::peppers(&common)?;
        let has_peppers = !peppers.is_empty();
        let hasher = Sha256Hasher::with_peppers(peppers)?;
        let builder = ApiKeyManager::builder()
            .config(settings::config(&common)?)
            .hasher(hasher.clone())
            .shared_store(store)
            .detached();
        Ok(Self {
            manager: builder.start().await?,
            output: Output::new(&common),
            common,
            has_peppers,
            hasher,
        })
    }

    /// Returns who makes the changes of this run.
    pub(crate) fn origin(&self, reason: Option<&str>) -> ChangeOrigin {
        actor::origin(self.common.actor.as_deref(), reason)
    }

    /// Rejects a key whose digest needs a pepper that was not given: its secret can neither be checked nor replaced.
    pub(crate) fn check_pepper(&self, record: &KeyRecord) -> Result<(), Failure> {
        self.check_digest(record, &record.digest)
    }

    /// Rejects a key as [`check_pepper`](Self::check_pepper) does, also for the digest of the secret before in its grace.
    pub(crate) fn check_peppers(&self, record: &KeyRecord) -> Result<(), Failure> {
        settings::digests(record, self.now())
            .try_for_each(|digest| self.check_digest(record, digest))
    }

    fn check_digest(&self, record: &KeyRecord, digest: &str) -> Result<(), Failure> {
        match self.hasher.parse(digest) {
            Some(_) => Ok(()),
            None => Err(Failure::usage(format!(
                "a digest of the key `{}` was made with a pepper that is not given",
                record.id
            ))
            .remedy("add `--pepper-file FILE` with the server's peppers, a line `id:secret` each")),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.manager.now()
    }
}
