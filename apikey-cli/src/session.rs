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
    hasher: Sha256Hasher,
}

impl Session {
    /// Opens the store, which must exist in the layout of this release.
    pub(crate) async fn open(common: Common) -> Result<Self, Failure> {
        let store = StoreAddress::of(&common)?.store(Opening::AsIs)?;
        let hasher = settings::hasher(&common)?;
        let builder = ApiKeyManager::builder()
            .config(settings::config(&common)?)
            .hasher(hasher.clone())
            .shared_store(store)
            .detached();
        Ok(Self {
            manager: builder.start().await?,
            output: Output::new(&common),
            common,
            hasher,
        })
    }

    /// Returns who makes the changes of this run.
    pub(crate) fn origin(&self, reason: Option<&str>) -> ChangeOrigin {
        actor::origin(self.common.actor.as_deref(), reason)
    }

    /// Rejects a key whose digest needs a pepper that was not given: its secret can neither be checked nor replaced.
    pub(crate) fn check_pepper(&self, record: &KeyRecord) -> Result<(), Failure> {
        match self.hasher.parse(&record.digest) {
            Some(_) => Ok(()),
            None => Err(Failure::usage(format!(
                "the digest of the key `{}` was made with a pepper that is not given",
                record.id
            ))
            .remedy("add `--pepper-file FILE` with the server's peppers, a line `id:secret` each")),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.manager.now()
    }

    /// Closes the store.
    pub(crate) async fn close(&self) {
        // The command is done, whatever comes of this.
        let _ = self.manager.shutdown().await;
    }
}
